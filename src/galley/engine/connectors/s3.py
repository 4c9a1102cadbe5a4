"""Files in a bucket of S3, or of what speaks like it. Source: contract 2.7."""

from pathlib import Path
from typing import Any

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors.base import Batch, Place, Result
from galley.engine.connectors.file import STORE, fetched, media_type, shaped
from galley.engine.connectors.s3bucket import Bucket
from galley.engine.connectors.wildcards import Wildcard
from galley.engine.faults import StepError
from galley.engine.outbound import OutboundClient


class S3Connector:
    """Reads and writes objects.

    Configuration: `bucket`; `access-key` and `secret-key` (and `aws-session-token`) unless
    `public-bucket` is true; `region` (us-east-1); `endpoint-url` for a service other than Amazon's.
    Options of a key: `delimiter`, `encoding` (CSV), `null`.
    """

    capabilities = STORE

    def __init__(self, place: Place) -> None:
        self._place = place
        self._client = OutboundClient(place.outbound)

    def test(self, config: dict[str, Any]) -> None:
        """The bucket is there and shows its list."""
        self._bucket(config).check()

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """The keys that match; `*` stays within a folder, `**` crosses folders."""
        wildcard = Wildcard(pattern)
        keys = self._bucket(config).keys(wildcard.prefix)
        return wildcard.chosen(key for key in keys if not key.endswith("/"))

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """Fetch the object; its format comes from the key, or from its name."""
        path = _path(key)
        target = into / "content"
        with target.open("x+b") as file:
            self._bucket(config).read(path, file)
        return fetched(target, path, key)

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
