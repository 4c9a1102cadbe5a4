"""What a store of blobs is: files by their SHA-256, whole or absent, never changed.

A blob is checked against its name whenever it is put and whenever it is read as a whole.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


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


class BlobsAway(OSError):
    """The store does not answer, or does not let us in; the same may succeed later."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One blob in a listing."""

    sha256: str
    size_bytes: int
    modified_at: datetime


class BlobStore(Protocol):
    """Where blobs live. Safe to use from several threads and processes at once."""

    def put_file(self, path: Path, sha256: str) -> None:
        """Store a copy of the file; one that is there is left alone, but counts as put now.

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

    def delete_old(self, sha256: str, *, before: datetime) -> bool:
        """Remove a blob that was not put since that moment; whether it was removed."""
        ...

    def list(self) -> Iterator[BlobInfo]:
        """All blobs, in no order."""
        ...

    def sweep(self, *, now: datetime) -> int:
        """Remove what killed writers left behind a day ago or earlier; gives how many files."""
        ...


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def is_hash(text: str) -> bool:
    """Whether this can be a blob's name."""
    return _SHA256.match(text) is not None


def name_of(sha256: str) -> str:
    """Where a blob lies below its store.

    Raises:
        BlobMissing: no blob can have this name.
    """
    if not is_hash(sha256):
        raise BlobMissing(sha256)
    return f"{sha256[:2]}/{sha256}"


def checked(sha256: str, content: bytes) -> bytes:
    """The content, if it is what its name says.

    Raises:
        BlobDamaged: it is not.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BlobDamaged(sha256, found)
    return content
