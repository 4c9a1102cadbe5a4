"""Values that the steps of a run share by a bucket's name, kept in the run's folder."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors.base import Batch, ConnectorCapabilities, Place, Result
from galley.engine.connectors.tables import format_of
from galley.engine.faults import StepError
from galley.kit.files import write_atomically

MAX_BYTES = 1024 * 1024
_DEFAULT_BUCKET = "default"


class DictionaryConnector:
    """A small dictionary per bucket, at most 1 MB. Configuration: `bucket-name`.

    A source's key gives its own `value`, or what a sink put there; `path` renames the entry.
    """

    capabilities = ConnectorCapabilities(
        reads=frozenset({"value", "read_file"}),
        writes=frozenset({"value", "write_file"}),
        wildcard=True,
    )

    def __init__(self, place: Place) -> None:
        self._place = place

    def test(self, config: dict[str, Any]) -> None:
        """The bucket opens."""
        with self._bucket(config):
            return

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """The entries whose names match."""
        from fnmatch import fnmatchcase

        with self._bucket(config) as entries:
            return sorted(name for name in entries if fnmatchcase(name, pattern))

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """The entry, as text or JSON in a file; an own value is also kept for others."""
        entry = key.path or key.name
        with self._bucket(config) as entries:
            if key.value is not None:
                entries[entry] = key.value
            if entry not in entries:
                known = ", ".join(sorted(entries)) or "nothing"
                raise StepError(
                    f"The dictionary has no entry {entry}; it holds {known}. A step before this"
                    " one must put it there."
                )
            value = entries[entry]
        target = into / "content"
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        target.write_text(text, encoding="utf-8")
        layout = key.format or ("json" if isinstance(value, dict | list) else "binary")
        return Batch(target, layout, is_file=True, value=value)

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Keep the batch as the entry: rows of JSON as data, anything else as text."""
        entry = key.path or key.name
        value = key.value if key.value is not None else self._content(batch, key)
        with self._bucket(config) as entries:
            entries[entry] = value
        return batch

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Refuse: a dictionary has nothing to run."""
        del config
        raise StepError(f"The operation {key.operation} does not go with a dictionary.")

    def _content(self, batch: Batch, key: KeySpec) -> Any:
        from galley.engine.connectors.file import shaped

        if batch.value is not None:
            return batch.value
        written = shaped(self._place, batch, key, "")
        if written.path.stat().st_size > MAX_BYTES:
            raise StepError(f"The data is larger than {MAX_BYTES} bytes; put it into a file.")
        content = written.path.read_bytes()
        try:
            if format_of("", key.format or written.format) == "json":
                return msgspec.json.decode(content)
            return content.decode("utf-8")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StepError(
                "The data is neither JSON nor UTF-8 text; a dictionary keeps only those."
            ) from error

    @contextmanager
    def _bucket(self, config: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The bucket's entries, alone; what changed in them is kept at the end."""
        name = str(config.get("bucket-name") or _DEFAULT_BUCKET)
        folder = self._place.work / ".dictionary"
        folder.mkdir(exist_ok=True)
        path = folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = path.read_bytes() if path.exists() else b"{}"
            entries: dict[str, Any] = msgspec.json.decode(before)
            yield entries
            after = msgspec.json.encode(entries)
            if len(after) > MAX_BYTES:
                raise StepError(
                    f"The dictionary {name} would be larger than {MAX_BYTES} bytes; put large"
                    " values into files."
                )
            if after != before:
                write_atomically(path, after)
        finally:
            os.close(lock)
