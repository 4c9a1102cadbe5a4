"""Files on this machine: in the run's folder, among the source's files, or in the file areas."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import paths, tables
from galley.engine.connectors.base import Batch, ConnectorCapabilities, Place, Result
from galley.engine.faults import StepError

FORMATS_BY_MEDIA_TYPE = {
    "text/csv": "csv",
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/vnd.apache.parquet": "parquet",
}
_MEDIA_TYPES = {layout: media for media, layout in FORMATS_BY_MEDIA_TYPE.items()}
_MAX_KEYS = 10_000


class FileConnector:
    """Reads and writes files. Configuration: `folder` (relative to the run's folder) or nothing.

    Options of a key: `delimiter`, `encoding` (CSV), `null` (a text in a CSV source that means no
    value, such as `NA`), `append` (add to an existing file).
    """

    capabilities = ConnectorCapabilities(
        reads=frozenset({"read_file"}),
        writes=frozenset({"write_file"}),
        wildcard=True,
        options=frozenset({"delimiter", "encoding", "null", "append"}),
    )

    def __init__(self, place: Place) -> None:
        self._place = place

    def test(self, config: dict[str, Any]) -> None:
        """The folder is there and may be read."""
        folder = paths.base_folder(self._place, config.get("folder"))
        if folder is not None and not folder.is_dir():
            raise StepError(f"The folder {folder} was not found. Check `folder`.")

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """Relative paths of the files that match; `**` crosses folders."""
        base = paths.base_folder(self._place, config.get("folder"))
        areas = [base] if base else [self._place.work, self._place.tree, *self._place.roots]
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise StepError(f"The wildcard {pattern} must be a pattern below the folder.")
        found: dict[str, None] = {}
        allowed = paths.readable(self._place)
        for area in filter(None, areas):
            for path in sorted(area.glob(pattern)) if area.is_dir() else ():
                real = path.resolve()
                if real.is_file() and any(real.is_relative_to(folder) for folder in allowed):
                    found.setdefault(str(path.relative_to(area)))
                if len(found) > _MAX_KEYS:
                    raise StepError(f"The wildcard {pattern} matches more than {_MAX_KEYS} files.")
        return sorted(found)

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """Copy the file into the attempt's folder."""
        path = self._path(key)
        source = paths.find(self._place, path, config.get("folder"), setting=_setting(key))
        target = into / "content"
        paths.fetch(self._place, source, target)
        return fetched(target, path, key)

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Put the batch there in the key's format, the file's own by its name, or as it comes."""
        path = self._path(key)
        target = paths.destination(self._place, path, config.get("folder"))
        written = shaped(self._place, batch, key, path)
        append = bool(key.options.get("append"))
        if append and written.format in {"parquet", "json"}:
            raise StepError(f"A {written.format} file cannot be appended to; use csv or jsonl.")
        paths.put(self._place, written.path, target, append=append)
        return replace(written, path=target, is_file=True)

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Refuse: files have nothing to run."""
        del config
        raise StepError(f"The operation {key.operation} does not go with files.")

    def _path(self, key: KeySpec) -> str:
        if not key.path:
            raise StepError("The key names no file; give it a `path`.")
        return key.path


def _setting(key: KeySpec) -> str:
    """Where a key's path is written, and what of it the key's own name is."""
    if key.path == key.name:
        return "`file-key`, without which the name of the key is the file's"
    if str(key.path).startswith(f"{key.name}/"):
        return "`file-key`; with `use-only-file-key` the name of the key is no folder before it"
    return "`file-key`"


STORE = ConnectorCapabilities(
    reads=frozenset({"read_file"}),
    writes=frozenset({"write_file"}),
    wildcard=True,
    options=frozenset({"delimiter", "encoding", "null"}),
)
"""What systems offer that keep files elsewhere."""


def fetched(target: Path, path: str, key: KeySpec) -> Batch:
    """The file that was fetched to `target`; its format comes from the key, or from `path`."""
    layout = tables.format_of(path, key.format)
    style = tables.csv_style(key.options, path, key.header)
    return Batch(target, layout, csv=style, is_file=True, wish_header=key.header)


def media_type(layout: str) -> str:
    """The media type of files in this format."""
    return _MEDIA_TYPES.get(layout, "application/octet-stream")


def shaped(place: Place, batch: Batch, key: KeySpec, path: str) -> Batch:
    """The batch in the form that a file sink's key wants, converted only where it must be.

    Plain bytes go as they come. Rows take the key's format, else that of the file's name, else
    the form that their source wishes.
    """
    named = tables.format_of(path, key.format)
    if batch.format == "binary":
        return replace(batch, format=named)
    layout = (batch.wish or batch.format) if named == "binary" else named
    wishes = (key.header, batch.wish_header, batch.csv.header)
    header = next(wish for wish in wishes if wish is not None)
    style = tables.csv_style(key.options, path, header)
    if layout == batch.format and (layout != "csv" or style == batch.csv):
        return batch
    return tables.convert(place, batch, batch.path.with_name("shaped"), layout, style)
