"""Files in a bucket of S3, or of what speaks like it. Source: contract 2.7."""

from pathlib import Path
from typing import Any

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import tables
from galley.engine.connectors.base import Batch, ConnectorCapabilities, Place, Result
from galley.engine.connectors.file import media_type, shaped
from galley.engine.connectors.s3bucket import Bucket
from galley.engine.connectors.wildcards import Wildcard
from galley.engine.faults import StepError
from galley.engine.outbound import OutboundClient

_MAX_KEYS = 10_000
_MAX_SEEN = 1_000_000


class S3Connector:
    """Reads and writes objects.

    Configuration: `bucket`; `access-key` and `secret-key` (and `aws-session-token`) unless
    `public-bucket` is true; `region` (us-east-1); `endpoint-url` for a service other than Amazon's.
    Options of a key: `delimiter`, `encoding` (CSV), `null`.
    """

    capabilities = ConnectorCapabilities(
        reads=frozenset({"read_file"}),
        writes=frozenset({"write_file"}),
        wildcard=True,
        options=frozenset({"delimiter", "encoding", "null"}),
    )

    def __init__(self, place: Place) -> None:
        self._place = place
        self._client = OutboundClient(place.outbound)

    def test(self, config: dict[str, Any]) -> None:
        """The bucket is there and shows its list."""
        self._bucket(config).check()

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """The keys that match; `*` stays within a folder, `**` crosses folders."""
        wildcard = Wildcard(pattern)
        found: list[str] = []
        for seen, key in enumerate(self._bucket(config).keys(wildcard.prefix)):
            if seen >= _MAX_SEEN:
                raise StepError(
                    f"More than {_MAX_SEEN} objects begin with {wildcard.prefix!r}; begin the"
                    f" wildcard {pattern} with more of a path."
                )
            if wildcard.matches(key) and not key.endswith("/"):
                found.append(key)
            if len(found) > _MAX_KEYS:
                raise StepError(f"The wildcard {pattern} matches more than {_MAX_KEYS} objects.")
        return sorted(found)

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """Fetch the object; its format comes from the key, or from its name."""
        path = _path(key)
        target = into / "content"
        with target.open("x+b") as file:
            self._bucket(config).read(path, file)
        layout = tables.format_of(path, key.format)
        style = tables.csv_style(key.options, path, key.header)
        return Batch(target, layout, csv=style, is_file=True, wish_header=key.header)

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Put the batch there in the key's format, the object's own by its name, or as it comes."""
        path = _path(key)
        written = shaped(self._place, batch, key, path)
        self._bucket(config).write(path, written.path, media_type(written.format))
        return written

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Refuse: a bucket has nothing to run."""
        del config
        raise StepError(f"The operation {key.operation} does not go with S3.")

    def _bucket(self, config: dict[str, Any]) -> Bucket:
        return Bucket(config, self._client)


def _path(key: KeySpec) -> str:
    """The object's key.

    Raises:
        StepError: the step's key names none that can be called.
    """
    path = (key.path or "").removeprefix("/")
    if not path or any(part in {".", ".."} for part in path.split("/")):
        raise StepError(f"{key.path or ''!r} names no object; give the key a `file-key`.")
    return path
