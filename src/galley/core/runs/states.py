"""The states of orders, runs, steps and attempts. Dialects map them to their vendors' words."""

from enum import StrEnum


class OrderState(StrEnum):
    """Where an order stands."""

    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


class RunState(StrEnum):
    """Where a run stands. QUEUED waits for its kitchen's turn or for a first free slot."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class StepState(StrEnum):
    """Where a step stands.

    SKIPPED was not chosen by a condition; UNREACHED never started because the run ended first.
    """

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    SKIPPED = "skipped"
    UNREACHED = "unreached"


class AttemptState(StrEnum):
    """Where one try of a step stands.

    LOST died without a word and may be tried again; of an UNREACHED one nothing ever ran.
    """

    WAITING = "waiting"
    READY = "ready"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    SKIPPED = "skipped"
    UNREACHED = "unreached"
    LOST = "lost"


ORDER_FINAL = frozenset({OrderState.COMPLETED, OrderState.FAILED, OrderState.STOPPED})
RUN_FINAL = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED})
STEP_FINAL = frozenset(
    {
        StepState.SUCCEEDED,
        StepState.FAILED,
        StepState.CANCELED,
        StepState.SKIPPED,
        StepState.UNREACHED,
    }
)
ATTEMPT_LIVE = frozenset({AttemptState.STARTING, AttemptState.RUNNING})
