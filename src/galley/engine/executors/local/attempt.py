"""What the server's side keeps about one attempt."""

from dataclasses import dataclass
from enum import Enum

import structlog

from galley.core.runs.plan import Limits
from galley.core.runs.task import Task
from galley.engine.executors.local import claims
from galley.engine.executors.local.messages import Stop

log = structlog.get_logger("galley.executor")


class Phase(Enum):
    """Where an attempt stands, seen from the server."""

    WAITING = 1
    SENT = 2
    RUNNING = 3
    DONE = 4


@dataclass(slots=True)
class Attempt:
    """One attempt. `payload` (which may hold secrets) is let go as soon as its process is there.

    With `is_empty` the payload is the places of an empty step, otherwise the task.
    `watched` is the descriptor of a process that no template watches for us. `claim_is_durable`:
    where there is no claim, nothing ever ran; not so if the machine may have lost it in a restart.
    """

    key: str
    fence: int
    folder: str
    log: str
    timeout_s: float | None
    work: str
    limits: Limits
    payload: bytes | None
    is_empty: bool = False
    phase: Phase = Phase.WAITING
    serial: int = 0
    generation: int = 0
    pid: int = 0
    watched: int | None = None
    holds_slot: bool = False
    refusals: int = 0
    looks: int = 0
    stop: Stop | None = None
    claim_is_durable: bool = True

    @classmethod
    def of(cls, task: Task, payload: bytes | None, *, is_empty: bool = False) -> "Attempt":
        """What is kept of a task."""
        return cls(
            task.key,
            task.fence,
            task.folder,
            task.log,
            task.timeout_s,
            task.work,
            task.limits,
            payload,
            is_empty,
        )


def abandon(attempt: Attempt) -> bool:
    """See that nobody can claim the attempt in its present generation; False if somebody has."""
    try:
        return claims.abandon(attempt.folder, attempt.generation)
    except OSError as error:  # then a shim cannot claim it either
        log.warning("claim_not_written", attempt=attempt.key, error=str(error))
        return True
