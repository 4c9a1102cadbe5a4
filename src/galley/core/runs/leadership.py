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
from galley.storage import rows

LEADER = "leader"
RETIRED = "retired"
"""Instead of a process: the worker that had this name has left in good order."""
_WORKER = "worker:"
_HOLD = (
    "update lease set until = extract(epoch from clock_timestamp()) + %s"
    " where name = %s and holder = %s and epoch = %s"
)
_NOW = sa.text("extract(epoch from clock_timestamp())")


class LeadershipLostError(Exception):
    """Another server leads, or did meanwhile; nothing of the transaction may stand."""


@dataclass(frozen=True, slots=True)
class WorkerLease:
    """A worker as it last reported: its room, its tags, and whether its lease has run out.

    `memory_mb` and `disk_mb` were free on its machine then.
    """

    name: str
    slots: int
    tags: frozenset[str]
    is_alive: bool
    host: str = ""
    memory_mb: int = 0
    disk_mb: int = 0


def acquire(connection: Connection, holder: str, ttl_s: float) -> int | None:
    """Become the leader if nobody is, or the lease ran out; the epoch, or None.

    The row is locked while a leader writes. Nobody waits for that: who may not lead only reads, and
    a transaction in whose midst a leader froze is ended twice `ttl_s` after its lease. What a dead
    process of this `holder` left there is ended at once.
    """
    leases = models.leases.c
    is_led = leases.until >= sa.literal_column(_NOW.text)
    state = sa.select(leases.holder, is_led.label("is_led"))
    found = connection.execute(state.where(leases.name == LEADER)).first()
    is_own = found is not None and found.holder == holder
    if found is not None and found.is_led and not is_own:
        return None
    if found is not None and not _is_unlocked(connection):
        ended = _end_writer(connection, older_than_s=0 if is_own else 3 * ttl_s)
        if not ended and not is_own:
            return None
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


def _is_unlocked(connection: Connection) -> bool:
    """Whether nobody writes under the lease; then this transaction has it locked from now on."""
    look = sa.text("select 1 from lease where name = :name for update skip locked")
    return connection.scalar(look, {"name": LEADER}) is not None


def _end_writer(connection: Connection, *, older_than_s: float) -> bool:
    """End the database's process that has the lease locked for so long; whether there was one."""
    end = sa.text(
        "select pg_terminate_backend(a.pid) from lease"
        " join pg_stat_activity a on a.backend_xid = lease.xmax"
        " where lease.name = :name"
        " and a.xact_start <= clock_timestamp() - make_interval(secs => :age)"
    )
    values = {"name": LEADER, "age": float(older_than_s)}
    return bool(connection.scalars(end, values).all())


def hold(connection: Connection, holder: str, epoch: int, ttl_s: float) -> None:
    """Begin a ledger transaction: renew the lease, and lock it until the commit.

    Raises:
        LeadershipLostError: somebody else has led since.
    """
    if rows.change_first(connection, _HOLD, (ttl_s, LEADER, holder, epoch)) != 1:
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
    connection: Connection,
    name: str,
    slots: int,
    tags: Iterable[str],
    ttl_s: float,
    *,
    process: str = "",
    instead_of: str | None = None,
    machine: tuple[str, int, int] = ("", 0, 0),
) -> bool:
    """A worker is alive, with this much room; False if another process works under its name.

    `machine` is its host's name, and the MB of memory and disk that are free there.

    `process` tells the processes of one name apart. A name is free once its lease has run out; the
    process `instead_of` is known to be gone, so that its successor need not wait for that.
    """
    statement = sa.text(
        "insert into lease (name, holder, epoch, until, body)"
        " values (:name, :process, 1, extract(epoch from clock_timestamp()) + :ttl, :body)"
        " on conflict (name) do update set holder = excluded.holder, until = excluded.until,"
        " body = excluded.body"
        " where lease.holder in (:process, :gone, :retired)"
        " or lease.until < extract(epoch from clock_timestamp())"
    ).bindparams(sa.bindparam("body", type_=models.leases.c.body.type))
    host, memory_mb, disk_mb = machine
    body: dict[str, Any] = {"slots": slots, "tags": sorted(tags)}
    body |= {"host": host, "memory_mb": memory_mb, "disk_mb": disk_mb}
    gone = process if instead_of is None else instead_of
    values = {"name": _WORKER + name, "process": process, "ttl": ttl_s, "body": body}
    values |= {"gone": gone, "retired": RETIRED}
    return connection.execute(statement, values).rowcount == 1


def worker_process(connection: Connection, name: str) -> tuple[str, float] | None:
    """Which process works under that name, as far as is known, and until when; None if it is free.

    The moment is in seconds since 1970 by the database's clock; every report moves it.
    """
    leases = models.leases.c
    query = sa.select(leases.holder, leases.until).where(
        leases.name == _WORKER + name, leases.until >= sa.literal_column(_NOW.text)
    )
    row = connection.execute(query).first()
    return None if row is None else (row.holder, row.until)


def retire_worker(connection: Connection, name: str, ttl_s: float, *, process: str = "") -> None:
    """A worker leaves in good order: it gets nothing more, and loses nothing if it is soon back.

    Its steps go on without it. The row stays, with no room, for `ttl_s` seconds; only then is the
    worker dead and what it held lost. Another process of its name may take over at once.
    """
    statement = sa.text(
        "update lease set until = extract(epoch from clock_timestamp()) + :ttl, body = :body,"
        " holder = :nobody where name = :name and holder = :process"
    ).bindparams(sa.bindparam("body", type_=models.leases.c.body.type))
    body: dict[str, Any] = {"slots": 0, "tags": []}
    values = {"name": _WORKER + name, "process": process, "ttl": ttl_s, "body": body}
    connection.execute(statement, values | {"nobody": RETIRED})


def list_workers(connection: Connection) -> list[WorkerLease]:
    """Every worker that reported, alive or not."""
    leases = models.leases
    is_alive = leases.c.until >= sa.literal_column(_NOW.text)
    query = (
        sa.select(leases.c.name, leases.c.body, is_alive.label("is_alive"))
        .where(leases.c.name.startswith(_WORKER))
        .order_by(leases.c.name)
    )
    return [
        WorkerLease(
            row.name.removeprefix(_WORKER),
            row.body["slots"],
            frozenset(row.body["tags"]),
            row.is_alive,
            row.body.get("host", ""),
            row.body.get("memory_mb", 0),
            row.body.get("disk_mb", 0),
        )
        for row in connection.execute(query)
    ]
