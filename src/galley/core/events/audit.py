"""The audit chain: append-only rows, each bound to the one before by its hash.

An entry is written in the transaction of the change that it tells of. Altering, removing or
reordering rows breaks the chain; cutting off its end is seen by the head row and by the anchors
that are printed to the log each day.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.events.models import audit_entries, audit_heads
from galley.storage import rows

GENESIS = "0" * 64
RETENTION = timedelta(days=400)
_HEAD = "main"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_TEXT = 500
_CHAINED = (
    "actor_id",
    "actor",
    "token_id",
    "token_kind",
    "address",
    "request_id",
    "action",
    "object_kind",
    "object_id",
    "outcome",
    "before_digest",
    "after_digest",
)
_BATCH = 1_000

_END = (
    sa.select(audit_heads.c.last_id, audit_heads.c.last_hash)
    .where(audit_heads.c.name == _HEAD)
    .with_for_update()
)


@dataclass(frozen=True, slots=True)
class AuditFault:
    """Where the chain is broken: the first entry that does not fit, and why."""

    entry_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class AuditAnchor:
    """The chain's end at one moment; whoever keeps it outside can prove a later change."""

    last_id: int
    last_hash: str
    at: datetime

    def __str__(self) -> str:
        return f"audit anchor {self.at:%Y-%m-%d} entry={self.last_id} sha256={self.last_hash}"


def digest_of(document: Any) -> str | None:
    """The SHA-256 of a JSON-like document in canonical form; None stays None."""
    if document is None:
        return None
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def entry(
    caller: Caller,
    action: str,
    object_kind: str,
    object_id: object,
    *,
    before: Any = None,
    after: Any = None,
    at: datetime,
    outcome: str = "done",
) -> dict[str, Any]:
    """What one act leaves behind, as plain JSON values (so it can travel inside a message).

    `before` and `after` are kept as digests only. Give the result to `append`, or to the ledger
    as the companion `("audit", entry)`.
    """
    return {
        "at_us": (at - _EPOCH) // _MICROSECOND,
        "actor_id": caller.user_id,
        "actor": _plain(caller.login or "anonymous"),
        "token_id": caller.token_id,
        "token_kind": caller.token_kind,
        "address": _plain(caller.address),
        "request_id": _plain(caller.request_id),
        "action": action,
        "object_kind": object_kind,
        "object_id": _plain(str(object_id)),
        "outcome": outcome,
        "before_digest": digest_of(before),
        "after_digest": digest_of(after),
    }


def append(target: Connection | Session, entries: Sequence[dict[str, Any]]) -> None:
    """Write entries at the chain's end, in this transaction.

    The head row stays locked until the transaction ends (on SQLite the whole file is): call this
    after a change's other writes.
    """
    if entries:
        connection = _connection(target)
        rows.write(connection, *chained(connection, entries))


def chained(
    connection: Connection, entries: Sequence[dict[str, Any]]
) -> tuple[rows.Inserts, rows.Updates]:
    """The rows that put entries at the chain's end, to be written with others in this transaction.

    The head row is locked from now on. Who asks for it before the other writes may wait for it with
    fewer locks of their own, not more: nobody who holds it waits for rows of the ledger.
    """
    last_id, previous = _locked_head(connection)
    links = []
    for given in entries:
        last_id += 1
        row = {name: given.get(name) for name in _CHAINED}
        row |= {"id": last_id, "at": _EPOCH + given["at_us"] * _MICROSECOND, "previous": previous}
        row["hash"] = previous = _hash(row)
        links.append(row)
    head = {"last_id": last_id, "last_hash": previous}
    return [(audit_entries, links)], [(audit_heads, {_HEAD: head})]


def verify(target: Connection | Session) -> AuditFault | None:
    """Walk the whole chain; None means that every entry is there and as it was written.

    Entries that others write meanwhile are walked too.
    """
    connection = _connection(target)
    head = _head(connection)
    if head is None:
        stray = _first_after(connection, 0)
        lost = stray is not None and _head(connection) is None
        return AuditFault(stray or 1, "the chain has entries but no head") if lost else None
    last_id, last_hash = head.base_id, head.base_hash
    while True:
        fault, last_id, last_hash = _verified(connection, last_id, last_hash, head)
        later = _head(connection)
        if later is None:
            return AuditFault(last_id, "the chain's head is gone")
        if later.base_id > head.base_id:  # retention removed entries under our feet
            return verify(connection)
        if fault is not None:
            return fault
        if later.last_id == head.last_id:
            return _fault_beyond(connection, last_id)
        head = later


def anchor(target: Connection | Session, *, at: datetime) -> AuditAnchor:
    """The chain's present end, to be printed to the log once a day."""
    head = _head(_connection(target))
    return AuditAnchor(head.last_id, head.last_hash, at) if head else AuditAnchor(0, GENESIS, at)


def agrees(target: Connection | Session, kept: AuditAnchor) -> bool:
    """Whether the chain still holds the entry that an anchor kept outside names.

    Entries that retention has removed since cannot be compared and count as agreeing only where
    they were the last to be removed.
    """
    connection = _connection(target)
    if kept.last_id == 0:
        return kept.last_hash == GENESIS
    known = connection.scalar(
        sa.select(audit_entries.c.hash).where(audit_entries.c.id == kept.last_id)
    )
    if known is None:
        known = connection.scalar(
            sa.select(audit_heads.c.base_hash).where(audit_heads.c.base_id == kept.last_id)
        )
    return known == kept.last_hash


def purge(target: Connection | Session, *, before: datetime) -> int:
    """Remove the entries older than `before` from the chain's start; returns how many.

    What is removed is a prefix by sequence, so a clock that went back never makes a hole.
    """
    connection = _connection(target)
    _locked_head(connection)
    first_kept = connection.scalar(
        sa.select(sa.func.min(audit_entries.c.id)).where(audit_entries.c.at >= before)
    )
    doomed = sa.select(audit_entries.c.id, audit_entries.c.hash)
    if first_kept is not None:
        doomed = doomed.where(audit_entries.c.id < first_kept)
    base = connection.execute(doomed.order_by(audit_entries.c.id.desc()).limit(1)).one_or_none()
    if base is None:
        return 0
    connection.execute(
        audit_heads.update()
        .where(audit_heads.c.name == _HEAD)
        .values(base_id=base.id, base_hash=base.hash)
    )
    gone = connection.execute(audit_entries.delete().where(audit_entries.c.id <= base.id))
    return gone.rowcount


def _connection(target: Connection | Session) -> Connection:
    if isinstance(target, Session):
        target.flush()
        return target.connection()
    return target


def _locked_head(connection: Connection) -> tuple[int, str]:
    head = connection.execute(_END).one_or_none()
    if head is None:
        _make_head(connection)
        head = connection.execute(_END).one()
    return head.last_id, head.last_hash


def _make_head(connection: Connection) -> None:
    """Insert the head of an empty chain; of two at once the second waits and does nothing."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    connection.execute(
        insert(audit_heads)
        .values(name=_HEAD, last_id=0, last_hash=GENESIS, base_id=0, base_hash=GENESIS)
        .on_conflict_do_nothing()
    )


def _head(connection: Connection) -> Row[*tuple[Any, ...]] | None:
    return connection.execute(
        sa.select(audit_heads).where(audit_heads.c.name == _HEAD)
    ).one_or_none()


def _verified(
    connection: Connection, last_id: int, last_hash: str, head: Row[*tuple[Any, ...]]
) -> tuple[AuditFault | None, int, str]:
    """Walk from an entry that is known to be good to where the head says that the end is."""
    for row in _walk(connection, last_id, head.last_id):
        fault = _fault_of(row, last_id, last_hash)
        if fault is not None:
            return fault, last_id, last_hash
        last_id, last_hash = row["id"], row["hash"]
    if last_id < head.last_id:
        return AuditFault(last_id + 1, "the chain's end is missing"), last_id, last_hash
    if last_hash != head.last_hash:
        return AuditFault(last_id, "the chain's head names another end"), last_id, last_hash
    return None, last_id, last_hash


def _walk(connection: Connection, after_id: int, until_id: int) -> Iterator[dict[str, Any]]:
    """The entries in order, in batches, so that a long chain does not fill the memory."""
    while True:
        batch = connection.execute(
            sa.select(audit_entries)
            .where(audit_entries.c.id > after_id, audit_entries.c.id <= until_id)
            .order_by(audit_entries.c.id)
            .limit(_BATCH)
        ).mappings()
        rows = [dict(row) for row in batch]
        yield from rows
        if len(rows) < _BATCH:
            return
        after_id = rows[-1]["id"]


def _first_after(connection: Connection, entry_id: int) -> int | None:
    following = sa.select(audit_entries.c.id).where(audit_entries.c.id > entry_id)
    found: int | None = connection.scalar(following.order_by(audit_entries.c.id).limit(1))
    return found


def _fault_beyond(connection: Connection, last_id: int) -> AuditFault | None:
    """An entry after the end that the head names; none was under way, for they come together."""
    stray = _first_after(connection, last_id)
    head = _head(connection)
    if stray is None or (head is not None and head.last_id >= stray):
        return None
    return AuditFault(stray, "the chain's head names another end")


def _fault_of(row: dict[str, Any], last_id: int, last_hash: str) -> AuditFault | None:
    if row["id"] != last_id + 1:
        return AuditFault(last_id + 1, "the entry is missing")
    if row["previous"] != last_hash:
        return AuditFault(row["id"], "the entry does not follow the one before it")
    if row["hash"] != _hash(row):
        return AuditFault(row["id"], "the entry was altered")
    return None


def _hash(row: dict[str, Any]) -> str:
    at_us = (row["at"] - _EPOCH) // _MICROSECOND
    told = [row["previous"], row["id"], at_us, *(row[name] for name in _CHAINED)]
    text = json.dumps(told, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(text: str | None) -> str | None:
    """Text that both databases store alike: printable, short, no lone surrogates."""
    if text is None:
        return None
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_MAX_TEXT])
