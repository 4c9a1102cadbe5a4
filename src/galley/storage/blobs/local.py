"""Blobs in a local folder."""

import contextlib
import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from galley.kit.failpoints import failpoint
from galley.kit.files import fsync_folder
from galley.storage.blobs.base import (
    CHUNK_BYTES,
    BlobDamaged,
    BlobInfo,
    BlobMissing,
    checked,
    is_hash,
    name_of,
)

_TEMPORARY = "tmp-"
_TEMPORARY_AGE = timedelta(days=1)
_ASIDE = "old-"


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
            return checked(sha256, file.read())

    def exists(self, sha256: str) -> bool:
        """Whether there is such a blob."""
        return self.path_of(sha256).is_file()

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is fine."""
        self.path_of(sha256).unlink(missing_ok=True)

    def delete_old(self, sha256: str, *, before: datetime) -> bool:
        """Remove a blob that was not put since that moment; whether it was removed.

        It is set aside first: who puts it meanwhile either made it young, which is seen then, or
        does not find it and writes it again.
        """
        path = self.path_of(sha256)
        aside = path.with_name(f"{_ASIDE}{sha256}")
        try:
            if _put_at(path) >= before:
                return False
            path.rename(aside)
            failpoint("blobs.set_aside")
            is_old = _put_at(aside) < before
        except FileNotFoundError:
            return False
        if not is_old:
            aside.rename(path)
            return False
        aside.unlink(missing_ok=True)
        return True

    def list(self) -> Iterator[BlobInfo]:
        """All blobs, in no order."""
        for path in self._folder.glob("??/*"):
            if not is_hash(path.name):
                continue
            try:
                stat = path.stat()
            except FileNotFoundError:  # deleted a moment ago
                continue
            yield BlobInfo(path.name, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def sweep(self, *, now: datetime) -> int:
        """Remove the temporary files of killed writers; put back what killed sweepers set aside."""
        for path in self._folder.glob(f"??/{_ASIDE}*"):
            with contextlib.suppress(FileNotFoundError):
                path.rename(path.with_name(path.name.removeprefix(_ASIDE)))
        swept = 0
        for path in self._folder.glob(f"??/{_TEMPORARY}*"):
            if datetime.fromtimestamp(path.stat().st_mtime, UTC) < now - _TEMPORARY_AGE:
                path.unlink(missing_ok=True)
                swept += 1
        return swept

    def path_of(self, sha256: str) -> Path:
        """Where the blob lies, or would lie."""
        return self._folder / name_of(sha256)

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


def _put_at(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _copy_checked(source: BinaryIO, into: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with into.open("xb") as file:
        into.chmod(0o440)
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != sha256:
        raise BlobDamaged(sha256, digest.hexdigest())
