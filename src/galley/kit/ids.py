"""Identifiers: a ULID is a row's public name; its 128 bits also read as a UUID."""

import uuid
from functools import lru_cache

from ulid import ULID


def new_uid() -> str:
    """A fresh ULID: 26 characters, sorted by time of making."""
    return str(ULID())


@lru_cache(4096)
def uuid_of(uid: str) -> str:
    """The same 128 bits in the 8-4-4-4-12 text form of a UUID."""
    return str(uuid.UUID(bytes=ULID.from_str(uid).bytes))


def uid_of(text: str) -> str | None:
    """The ULID whose UUID text this is (any letter case), or None if it is not a UUID."""
    try:
        return str(ULID.from_bytes(uuid.UUID(text).bytes))
    except ValueError:
        return None
