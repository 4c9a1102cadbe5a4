"""Files by their SHA-256: a local folder, or a bucket of an S3-like service."""

from collections.abc import Mapping
from pathlib import Path

from galley.storage.blobs.base import (
    BlobDamaged,
    BlobInfo,
    BlobMissing,
    BlobsAway,
    BlobStore,
    sha256_of,
)
from galley.storage.blobs.local import LocalBlobs
from galley.storage.blobs.s3 import S3Blobs

__all__ = [
    "BlobDamaged",
    "BlobInfo",
    "BlobMissing",
    "BlobStore",
    "BlobsAway",
    "LocalBlobs",
    "S3Blobs",
    "blob_store",
    "sha256_of",
]


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
