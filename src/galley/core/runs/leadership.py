"""Who writes the ledger when several servers share one Postgres: a lease row with an epoch.

Every ledger transaction renews the lease under its epoch, so a leader that froze past its lease
and wakes up cannot write: another one has raised the epoch. Time is the database's own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from galley.core.runs import models

LEADER = "leader"
_WORKER = "worker:"
_NOW = sa.text("extract(epoch from clock_timestamp())")


class LeadershipLostError(Exception):
    """Another server leads; nothing of the transaction may stand."""


@dataclass(frozen=True, slots=True)
class WorkerLease:
    """A worker as it last reported: its room, its tags, and whether its lease has run out."""

    name: str
    slots: int
    tags: frozenset[str]
    is_alive: bool


def acquire(connection: Connection, holder: str, ttl_s: float) -> int | None:
    """Become the leader if nobody is, or the lease ran out; the epoch, or None."""
    row: dict[str, Any] = {"name": LEADER, "holder": holder, "ttl": ttl_s}
    statement = sa.text(
        "insert into lease (name, holder, epoch, until)"
        " values (:name, :holder, 1, extract(epoch from clock_timestamp()) + :ttl)"
        " on conflict (name) do update set holder = excluded.holder, epoch = lease.epoch + 1,"
        " until = excluded.until"
        " where lease.until < extract(epoch from clock_timestamp()) or lease.holder = :holder"
        " returning epoch"
    )
    epoch: int | None = connection.scalar(statement, row)
    return epoch


def hold(connection: Connection, holder: str, epoch: int, ttl_s: float) -> None:
    """Renew the lease in a ledger transaction, and lock it until the commit.

    Raises:
        LeadershipLostError: somebody else has led since.
    """
    statement = sa.text(
        "update lease set until = extract(epoch from clock_timestamp()) + :ttl"
        " where name = :name and holder = :holder and epoch = :epoch"
    )
    values = {"name": LEADER, "holder": holder, "epoch": epoch, "ttl": ttl_s}
    if connection.execute(statement, values).rowcount != 1:
        raise LeadershipLostError(f"epoch {epoch} of {holder} is over")


def release(connection: Connection, holder: str, epoch: int) -> None:
    """Let another server lead at once; harmless if one already does."""
    leases = models.leases
    mine = (leases.c.name == LEADER) & (leases.c.holder == holder) & (leases.c.epoch == epoch)
    connection.execute(leases.update().where(mine).values(until=0))


def is_led(connection: Connection) -> bool:
    """Whether some server's lease to lead still runs."""
    leases = models.leases.c
    query = sa.select(leases.until >= sa.literal_column(_NOW.text)).where(leases.name == LEADER)
    return bool(connection.scalar(query))


def report_worker(
    connection: Connection, name: str, slots: int, tags: Iterable[str], ttl_s: float
) -> None:
    """A worker is alive, with this much room."""
    statement = sa.text(
        "insert into lease (name, holder, epoch, until, body)"
        " values (:name, :holder, 1, extract(epoch from clock_timestamp()) + :ttl, :body)"
        " on conflict (name) do update set until = excluded.until, body = excluded.body"
    ).bindparams(sa.bindparam("body", type_=models.leases.c.body.type))
    body = {"slots": slots, "tags": sorted(tags)}
    values = {"name": _WORKER + name, "holder": name, "ttl": ttl_s, "body": body}
    connection.execute(statement, values)


def retire_worker(connection: Connection, name: str, ttl_s: float) -> None:
    """A worker leaves in good order: it gets nothing more, and loses nothing if it is soon back.

    Its steps go on without it. The row stays, with no room, for `ttl_s` seconds; only then is the
    worker dead and what it held lost.
    """
    statement = sa.text(
        "update lease set until = extract(epoch from clock_timestamp()) + :ttl, body = :body"
        " where name = :name"
    ).bindparams(sa.bindparam("body", type_=models.leases.c.body.type))
    body = {"slots": 0, "tags": []}
    connection.execute(statement, {"name": _WORKER + name, "ttl": ttl_s, "body": body})


def list_workers(connection: Connection) -> list[WorkerLease]:
    """Every worker that reported, alive or not."""
    leases = models.leases
    is_alive = leases.c.until >= sa.literal_column(_NOW.text)
    query = (
        sa.select(leases.c.holder, leases.c.body, is_alive.label("is_alive"))
        .where(leases.c.name.startswith(_WORKER))
        .order_by(leases.c.name)
    )
    return [
        WorkerLease(row.holder, row.body["slots"], frozenset(row.body["tags"]), row.is_alive)
        for row in connection.execute(query)
    ]
