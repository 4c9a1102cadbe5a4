"""The workers as a whole: can a step start now, and how much room their machines have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.runs import leadership, models
from galley.core.runs.leadership import WorkerLease
from galley.core.runs.ports import Capabilities


@dataclass(frozen=True, slots=True)
class Room:
    """`can_start`: some worker that lives has a free slot. The MB are those of all machines."""

    can_start: bool
    memory_mb: int
    disk_mb: int


def find_room(
    session: Session, caller: Caller, own: Callable[[], Capabilities] | None = None
) -> Room:
    """The room that workers have: what they reported, or what `own`, the only one, offers now.

    Raises:
        Forbidden: the caller may not see the account.
    """
    caller.require("account.read")
    if own is not None:
        workers, is_led = [_lease(own())], True
    else:
        connection = session.connection()
        workers = [worker for worker in leadership.list_workers(connection) if worker.is_alive]
        is_led = leadership.is_led(connection)
    held = _held(session)
    machines = _machines(workers)
    return Room(
        can_start=is_led and any(held.get(it.name, 0) < it.slots for it in workers),
        memory_mb=sum(memory for memory, _ in machines),
        disk_mb=sum(disk for _, disk in machines),
    )


def _lease(offer: Capabilities) -> WorkerLease:
    return WorkerLease(
        offer.name, offer.slots, offer.tags, True, offer.host, offer.memory_mb, offer.disk_mb
    )


def _machines(workers: Sequence[WorkerLease]) -> Sequence[tuple[int, int]]:
    """Memory and disk of each machine; of those with several workers once, the least told."""
    found: dict[str, tuple[int, int]] = {}
    for worker in workers:
        memory, disk = found.get(worker.host, (worker.memory_mb, worker.disk_mb))
        found[worker.host] = min(memory, worker.memory_mb), min(disk, worker.disk_mb)
    return list(found.values())


def _held(session: Session) -> dict[str, int]:
    """Worker -> how many attempts it has."""
    worker = models.attempts.c.worker
    query = sa.select(worker, sa.func.count()).where(models.ATTEMPT_IS_LIVE).group_by(worker)
    return {name: count for name, count in session.execute(query) if name is not None}
