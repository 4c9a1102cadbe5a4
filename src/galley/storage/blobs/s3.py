"""Blobs in a bucket of an S3-like service."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from galley.kit.failpoints import failpoint
from galley.storage.blobs.base import (
    CHUNK_BYTES,
    BlobDamaged,
    BlobInfo,
    BlobMissing,
    BlobsAway,
    checked,
    is_hash,
    name_of,
    sha256_of,
)

_FRESH = timedelta(hours=12)
_SAID = 400
_CONNECT_S, _ANSWER_S = "5s", "60s"
_RETRIES = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=3),
        "base": 3,
    },
}


class S3Blobs:
    """Blobs in a bucket, under `prefix/ab/abcdef...`.

    `options` are obstore's (`endpoint`, `region`, `access_key_id`, ...); what is left out comes
    from the environment (`AWS_...`) or the machine's role. Put is atomic at the service. Every
    method raises BlobsAway when the service does not answer within its retries, or refuses.
    """

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        import obstore
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        self._url = url
        self._obstore: Any = obstore
        self._faults: type[Exception] = BaseError
        given = dict(options or {})
        client = {
            "allow_http": given.get("endpoint", "").startswith("http://"),
            "connect_timeout": _CONNECT_S,
            "timeout": _ANSWER_S,
        }
        connect: Any = from_url
        self._store: Any = connect(url, config=given, client_options=client, retry_config=_RETRIES)

    def put_file(self, path: Path, sha256: str) -> None:
        """Store a copy of the file (see `BlobStore.put_file`)."""
        found = sha256_of(path)
        if found != sha256:
            raise BlobDamaged(sha256, found)
        self._put(sha256, path, path.stat().st_size)

    def put(self, content: bytes) -> str:
        """Store the content and give its hash."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._put(sha256, content, len(content))
        return sha256

    def open(self, sha256: str) -> BinaryIO:
        """A file to read the blob from; it fetches as it is read."""
        with self._asking(sha256):
            reader = self._obstore.open_reader(self._store, name_of(sha256))
        return io.BufferedReader(_RemoteFile(reader, self._faulty), CHUNK_BYTES)

    def read(self, sha256: str) -> bytes:
        """The whole content, checked."""
        with self._asking(sha256):
            content = bytes(self._obstore.get(self._store, name_of(sha256)).bytes())
        return checked(sha256, content)

    def exists(self, sha256: str) -> bool:
        """Whether there is such a blob."""
        return self._head(sha256) is not None

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is fine."""
        try:
            with self._asking(sha256):
                self._obstore.delete(self._store, name_of(sha256))
        except BlobMissing:
            return

    def delete_old(self, sha256: str, *, before: datetime) -> bool:
        """Remove a blob that was not put since that moment; whether it was removed.

        The service cannot do both in one step: between the look and the deletion lies one request.
        """
        head = self._head(sha256)
        if head is None or head["last_modified"] >= before:
            return False
        self.delete(sha256)
        return True

    def list(self) -> Iterator[BlobInfo]:
        """All blobs, in no order."""
        pages = iter(self._obstore.list(self._store))
        while True:
            with self._asking():
                page = next(pages, None)
            if page is None:
                return
            for found in page:
                name = str(found["path"]).rsplit("/", 1)[-1]
                if is_hash(name):
                    yield BlobInfo(name, int(found["size"]), found["last_modified"])

    def sweep(self, *, now: datetime) -> int:
        """Nothing: the service itself drops uploads that were not finished."""
        del now
        return 0

    def _put(self, sha256: str, content: bytes | Path, size_bytes: int) -> None:
        """Send the content, unless it is there; send it again before it counts as old."""
        head = self._head(sha256)
        if head is not None and head["last_modified"] > datetime.now(UTC) - _FRESH:
            return
        try:
            with self._asking(sha256):
                self._obstore.put(self._store, name_of(sha256), content)
        except BlobMissing as error:
            raise BlobsAway(f"There is no bucket {self._url}; make it.") from error
        failpoint("blobs.sent")
        stored = self._head(sha256)
        if stored is None or int(stored["size"]) != size_bytes:
            self.delete(sha256)
            there = stored["size"] if stored else 0
            raise BlobDamaged(sha256, f"{there} of {size_bytes} bytes")

    def _head(self, sha256: str) -> Any:
        """Size and age of a blob, or None."""
        try:
            with self._asking(sha256):
                return self._obstore.head(self._store, name_of(sha256))
        except BlobMissing:
            return None

    @contextmanager
    def _asking(self, sha256: str = "") -> Iterator[None]:
        """Faults of the service, in this store's own words."""
        try:
            yield
        except FileNotFoundError as error:
            raise BlobMissing(sha256) from error
        except self._faults as error:
            raise self._faulty(error) from error

    def _faulty(self, error: Exception) -> BlobsAway:
        said = " ".join(str(error).partition("Debug source")[0].split())
        return BlobsAway(f"The blob store {self._url} cannot be used: {said[:_SAID]}")


class _RemoteFile(io.RawIOBase):
    """A remote object as a file to read and seek in."""

    def __init__(self, reader: Any, faulty: Callable[[Exception], BlobsAway]) -> None:
        self._reader = reader
        self._faulty = faulty

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = bytes(self._reader.read(len(buffer)))
        except Exception as error:
            raise self._faulty(error) from error
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def close(self) -> None:
        if not self.closed:
            self._reader.close()
        super().close()
