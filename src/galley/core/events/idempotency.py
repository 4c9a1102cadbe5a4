"""Idempotency keys: a repeated write gets the first one's answer, and does nothing.

The row of a key is written in the transaction of the change that it guards, so a crash leaves both
or neither. A key lives until `purge` removes it, 24 hours or more after its first use.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Conflict, ErrorKind, GalleyError, Invalid
from galley.core.events.models import idempotency_keys

TABLE = str(idempotency_keys.name)  # a plain str: rows travel inside messages
KEPT = timedelta(hours=24)
MAX_KEY_LENGTH = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_VISIBLE = range(0x21, 0x7F)


class Seals(Protocol):
    """What can seal an answer that holds a credential (`core.secrets.sealing.Sealer`)."""

    def seal(self, content: bytes, aad: str) -> str:
        """Encrypt, bound to `aad`."""
        ...

    def open(self, sealed: str, aad: str) -> bytes:
        """Decrypt what `seal` made for the same `aad`."""
        ...


class KeyReused(GalleyError):
    """The same idempotency key came with another body: one of the two is a mistake."""

    kind = ErrorKind.INVALID
    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The idempotency key {key!r} was used before with a different request body; "
            "send a new key with a new request."
        )


class StillRunning(Conflict):
    """The first request with this key has not ended yet."""

    code = "idempotency_key_busy"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"A request with the idempotency key {key!r} is still running; ask again shortly.",
            retry_after_s=1,
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """What a key belongs to: nobody else's, no other route's."""

    principal: str
    method: str
    route: str
    key: str

    @property
    def aad(self) -> str:
        """What a sealed answer is bound to."""
        return json.dumps([TABLE, self.principal, self.method, self.route, self.key])


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first request was answered. `answer` is the body's bytes."""

    body_sha256: str
    status: int
    media_type: str
    answer: bytes
    created_at: datetime


def principal_of(caller: Caller) -> str:
    """Whose keys these are: a user's through all of the user's tokens, else an address's."""
    return f"user:{caller.user_id}" if caller.is_known else f"address:{caller.address or ''}"


def checked_key(text: str) -> str:
    """The key, if it can be one.

    Raises:
        Invalid: empty, longer than 255 characters, or not visible ASCII.
    """
    if 1 <= len(text) <= MAX_KEY_LENGTH and all(ord(c) in _VISIBLE for c in text):
        return text
    raise Invalid(
        f"An Idempotency-Key has 1 to {MAX_KEY_LENGTH} visible ASCII characters; "
        "a random UUID is a good one."
    )


def body_digest(body: bytes) -> str:
    """The SHA-256 of a request's body: canonical if it is JSON, so spacing does not matter."""
    with suppress(ValueError, RecursionError):
        document = json.loads(body, parse_float=Decimal)
        body = json.dumps(
            document, sort_keys=True, separators=(",", ":"), default=_exact_number
        ).encode()
    return hashlib.sha256(body).hexdigest()


def find(
    target: Connection | Session, scope: Scope, *, sealer: Seals | None = None
) -> StoredAnswer | None:
    """What the first request of this scope was answered, or None if there was none."""
    table = idempotency_keys.c
    row = target.execute(
        sa.select(idempotency_keys).where(
            table.principal == scope.principal,
            table.method == scope.method,
            table.route == scope.route,
            table.key == scope.key,
        )
    ).one_or_none()
    if row is None:
        return None
    return StoredAnswer(
        body_sha256=row.body_sha256,
        status=row.status,
        media_type=row.media_type,
        answer=_opened(row.answer, scope, sealer if row.is_sealed else None, row.is_sealed),
        created_at=_EPOCH + row.created_us * _MICROSECOND,
    )


def replay(
    target: Connection | Session, scope: Scope, body_sha256: str, *, sealer: Seals | None = None
) -> StoredAnswer | None:
    """The answer to send again, or None if this request is the first.

    Raises:
        KeyReused: the key was used with another body.
    """
    stored = find(target, scope, sealer=sealer)
    if stored is not None and stored.body_sha256 != body_sha256:
        raise KeyReused(scope.key)
    return stored


def row(
    scope: Scope,
    *,
    body_sha256: str,
    status: int,
    answer: bytes,
    media_type: str = "application/json",
    at: datetime,
    sealer: Seals | None = None,
) -> tuple[str, dict[str, Any]]:
    """The companion row (table name, plain JSON values) that remembers an answer.

    Give the `sealer` always, and certainly where the answer holds a credential: then a copy of the
    database does not.
    """
    kept = sealer.seal(answer, scope.aad) if sealer else base64.b64encode(answer).decode()
    return TABLE, {
        "principal": scope.principal,
        "method": scope.method,
        "route": scope.route,
        "key": scope.key,
        "body_sha256": body_sha256,
        "status": status,
        "media_type": media_type,
        "answer": kept,
        "is_sealed": sealer is not None,
        "created_us": (at - _EPOCH) // _MICROSECOND,
    }


def store(target: Connection | Session, companion: tuple[str, dict[str, Any]]) -> None:
    """Write a companion made by `row` in this transaction.

    Raises:
        sqlalchemy.exc.IntegrityError: another request with the key committed first; roll back and
            `replay`.
    """
    target.execute(idempotency_keys.insert(), companion[1])


def purge(target: Connection | Session, *, now: datetime, kept: timedelta = KEPT) -> int:
    """Forget the keys older than `kept`; returns how many."""
    oldest_us = (now - kept - _EPOCH) // _MICROSECOND
    table = idempotency_keys
    gone = target.execute(table.delete().where(table.c.created_us < oldest_us))
    return int(gone.rowcount)  # type: ignore[attr-defined]


class RunningKeys:
    """The keys whose first request is under way in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[Scope] = set()

    @contextmanager
    def hold(self, scope: Scope) -> Iterator[None]:
        """Keep the key for the length of a request.

        Raises:
            StillRunning: another request holds it.
        """
        with self._lock:
            if scope in self._held:
                raise StillRunning(scope.key)
            self._held.add(scope)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(scope)


def _exact_number(number: Decimal) -> dict[str, str]:
    """A fraction with all its digits, where a float would round different bodies into one."""
    return {"\x00number": str(number)}


def _opened(answer: str, scope: Scope, sealer: Seals | None, is_sealed: bool) -> bytes:
    if not is_sealed:
        return base64.b64decode(answer)
    if sealer is None:
        raise ValueError("a sealed answer is read with the sealer that it was written with")
    return sealer.open(answer, scope.aad)
