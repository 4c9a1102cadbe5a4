"""Files by their SHA-256: a local folder, or a bucket of an S3-like service.

A blob is whole or absent, is never changed, and is checked against its name whenever it is put
and whenever it is read as a whole.
"""

import hashlib
import io
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from galley.kit.failpoints import failpoint
from galley.kit.files import fsync_folder

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_CHUNK_BYTES = 1 << 20
_TEMPORARY = "tmp-"
_TEMPORARY_AGE = timedelta(days=1)


class BlobMissing(KeyError):
    """There is no blob of that hash."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"there is no blob {sha256}")

    def __str__(self) -> str:
        """The text, without the quotes that a KeyError puts around it."""
        return str(self.args[0])


class BlobDamaged(Exception):
    """The content is not what its hash says."""

    def __init__(self, wanted: str, found: str) -> None:
        super().__init__(f"blob {wanted} has the content of {found}; it is damaged")


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One blob in a listing."""

    sha256: str
    size_bytes: int
    modified_at: datetime


class BlobStore(Protocol):
    """Where blobs live. Safe to use from several threads and processes at once."""

    def put_file(self, path: Path, sha256: str) -> None:
        """Store a copy of the file; one that is there is left alone.

        Raises:
            BlobDamaged: the file's content has another hash; nothing is stored.
        """
        ...

    def put(self, content: bytes) -> str:
        """Store the content and give its hash."""
        ...

    def open(self, sha256: str) -> BinaryIO:
        """A file to read the blob from; the caller closes it. The hash is not checked.

        Raises:
            BlobMissing: there is none.
        """
        ...

    def read(self, sha256: str) -> bytes:
        """The whole content, checked.

        Raises:
            BlobMissing: there is none.
            BlobDamaged: the content is not what it was.
        """
        ...

    def exists(self, sha256: str) -> bool:
        """Whether there is such a blob."""
        ...

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is fine."""
        ...

    def list(self) -> Iterator[BlobInfo]:
        """All blobs, in no order."""
        ...

    def sweep(self, *, now: datetime) -> int:
        """Remove what killed writers left behind a day ago or earlier; gives how many files."""
        ...


def blob_store(address: str | Path, options: Mapping[str, str] | None = None) -> BlobStore:
    """The store at a folder's path, or at `s3://bucket/prefix` with the service's options.

    Raises:
        ValueError: an address of another kind.
    """
    text = str(address)
    if text.startswith("s3://"):
        return S3Blobs(text, options)
    if "://" in text:
        raise ValueError(f"blobs cannot be kept at {text!r}; give a folder or s3://bucket/prefix")
    return LocalBlobs(Path(address))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class LocalBlobs:
    """Blobs in a folder: `ab/abcdef...`, written by temporary name, fsync and rename."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put_file(self, path: Path, sha256: str) -> None:
        """Store a copy of the file (see `BlobStore.put_file`)."""
        with path.open("rb") as file:
            self.put_stream(file, sha256)

    def put_stream(self, source: BinaryIO, sha256: str) -> None:
        """Store what the open file gives (see `BlobStore.put_file`)."""
        if not self._touch(sha256):
            self._write(sha256, source)

    def put(self, content: bytes) -> str:
        """Store the content and give its hash."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.put_stream(io.BytesIO(content), sha256)
        return sha256

    def open(self, sha256: str) -> BinaryIO:
        """A file to read the blob from."""
        try:
            return self.path_of(sha256).open("rb")
        except FileNotFoundError as error:
            raise BlobMissing(sha256) from error

    def read(self, sha256: str) -> bytes:
        """The whole content, checked."""
        with self.open(sha256) as file:
            return _checked(sha256, file.read())

    def exists(self, sha256: str) -> bool:
        """Whether there is such a blob."""
        return self.path_of(sha256).is_file()

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is fine."""
        self.path_of(sha256).unlink(missing_ok=True)

    def list(self) -> Iterator[BlobInfo]:
        """All blobs, in no order."""
        for path in self._folder.glob("??/*"):
            if not _SHA256.match(path.name):
                continue
            try:
                stat = path.stat()
            except FileNotFoundError:  # deleted a moment ago
                continue
            yield BlobInfo(path.name, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def sweep(self, *, now: datetime) -> int:
        """Remove the temporary files of killed writers."""
        swept = 0
        for path in self._folder.glob(f"??/{_TEMPORARY}*"):
            if datetime.fromtimestamp(path.stat().st_mtime, UTC) < now - _TEMPORARY_AGE:
                path.unlink(missing_ok=True)
                swept += 1
        return swept

    def path_of(self, sha256: str) -> Path:
        """Where the blob lies, or would lie."""
        return self._folder / _name(sha256)

    def _touch(self, sha256: str) -> bool:
        """Whether the blob is there; then it is young again, so that no sweep takes it now."""
        try:
            os.utime(self.path_of(sha256))
        except FileNotFoundError:
            return False
        return True

    def _write(self, sha256: str, source: BinaryIO) -> None:
        path = self.path_of(sha256)
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fsync_folder(path.parent.parent)
        temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            _copy_checked(source, temporary, sha256)
            failpoint("blobs.written")
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)
        failpoint("blobs.named")


class S3Blobs:
    """Blobs in a bucket, under `prefix/ab/abcdef...`.

    `options` are obstore's (`endpoint`, `region`, `access_key_id`, ...); what is left out comes
    from the environment (`AWS_...`) or the machine's role. Put is atomic at the service.
    """

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        import obstore
        from obstore.store import from_url

        self._obstore: Any = obstore
        given = dict(options or {})
        client = {"allow_http": given.get("endpoint", "").startswith("http://")}
        connect: Any = from_url
        self._store: Any = connect(url, config=given, client_options=client)

    def put_file(self, path: Path, sha256: str) -> None:
        """Store a copy of the file (see `BlobStore.put_file`)."""
        found = sha256_of(path)
        if found != sha256:
            raise BlobDamaged(sha256, found)
        if not self.exists(sha256):
            self._obstore.put(self._store, _name(sha256), path)
            self._check_size(sha256, path.stat().st_size)

    def put(self, content: bytes) -> str:
        """Store the content and give its hash."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.exists(sha256):
            self._obstore.put(self._store, _name(sha256), content)
        return sha256

    def open(self, sha256: str) -> BinaryIO:
        """A file to read the blob from; it fetches as it is read."""
        try:
            reader = self._obstore.open_reader(self._store, _name(sha256))
        except FileNotFoundError as error:
            raise BlobMissing(sha256) from error
        return io.BufferedReader(_RemoteFile(reader), _CHUNK_BYTES)

    def read(self, sha256: str) -> bytes:
        """The whole content, checked."""
        try:
            content = bytes(self._obstore.get(self._store, _name(sha256)).bytes())
        except FileNotFoundError as error:
            raise BlobMissing(sha256) from error
        return _checked(sha256, content)

    def exists(self, sha256: str) -> bool:
        """Whether there is such a blob."""
        try:
            self._obstore.head(self._store, _name(sha256))
        except FileNotFoundError:
            return False
        return True

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is fine."""
        try:
            self._obstore.delete(self._store, _name(sha256))
        except FileNotFoundError:
            return

    def list(self) -> Iterator[BlobInfo]:
        """All blobs, in no order."""
        for page in self._obstore.list(self._store):
            for found in page:
                name = str(found["path"]).rsplit("/", 1)[-1]
                if _SHA256.match(name):
                    yield BlobInfo(name, int(found["size"]), found["last_modified"])

    def sweep(self, *, now: datetime) -> int:
        """Nothing: the service itself drops uploads that were not finished."""
        del now
        return 0

    def _check_size(self, sha256: str, size_bytes: int) -> None:
        stored = int(self._obstore.head(self._store, _name(sha256))["size"])
        if stored != size_bytes:
            self.delete(sha256)
            raise BlobDamaged(sha256, f"{stored} of {size_bytes} bytes")


class _RemoteFile(io.RawIOBase):
    """A remote object as a file to read and seek in."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = bytes(self._reader.read(len(buffer)))
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


def _name(sha256: str) -> str:
    if not _SHA256.match(sha256):
        raise BlobMissing(sha256)
    return f"{sha256[:2]}/{sha256}"


def _checked(sha256: str, content: bytes) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BlobDamaged(sha256, found)
    return content


def _copy_checked(source: BinaryIO, into: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with into.open("xb") as file:
        into.chmod(0o440)
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != sha256:
        raise BlobDamaged(sha256, digest.hexdigest())
