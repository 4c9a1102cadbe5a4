"""What the ledger's writer understands. One message is one change, whole or not at all.

`companions` are rows (table name -> column values) that belong to the same change and are
inserted in the same transaction: audit entries, idempotency rows, dialect attributes.
"""

from datetime import datetime
from typing import Any

import msgspec

from galley.core.runs.plan import Plan, ScheduleSpec
from galley.core.runs.task import Outcome

Companions = tuple[tuple[str, dict[str, Any]], ...]


class NewOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """The order row to make. `uid` is chosen by the sender, so an answer can name it at once."""

    uid: str
    project_id: int
    source_kind: str
    source_path: str
    variation: str
    origin: str
    kitchen: str | None = None
    schedule: ScheduleSpec | None = None
    parameters: dict[str, Any] = {}
    only_steps: tuple[str, ...] | None = None
    alerts: dict[str, list[str]] | None = None
    source_date: str | None = None
    priority: int = 0
    parent_run_id: int | None = None
    created_by: int | None = None
    created_by_login: str = ""
    kitchen_id: int | None = None


class NewRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """The run row to make, with the plan that it follows."""

    uid: str
    plan: Plan
    parameters: dict[str, Any] = {}
    source_date: str | None = None
    lane: str | None = None
    lane_limit: int | None = None
    alerts: dict[str, list[str]] = {}
    due_at: datetime | None = None


class SubmitOrder(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Make an order, with its first run unless it is scheduled. Reply: `Submitted`."""

    order: NewOrder
    run: NewRun | None = None
    companions: Companions = ()


class FireSchedule(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A scheduled order is due: make its run, once per (order, due). Reply: `Submitted` or None.

    With `run` None the time is recorded as `outcome` (skipped, refused) with its reason.
    """

    order_id: int
    due_at: datetime
    next_due_at: datetime | None
    run: NewRun | None = None
    outcome: str = "fired"
    reason: str = ""


class ResumeRun(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A new run of the same order that keeps what the old one finished. Reply: `Submitted`."""

    run_id: int
    run: NewRun
    skip_failed: bool = False
    companions: Companions = ()


class StopRun(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Cancel a run: nothing new starts, living attempts are killed. Stopping twice is fine."""

    run_id: int
    reason: str
    companions: Companions = ()


class StopOrder(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Cancel an order's runs and end its schedule."""

    order_id: int
    reason: str
    companions: Companions = ()


class PauseOrder(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Suspend an order's schedule; running runs go on."""

    order_id: int
    companions: Companions = ()


class UnpauseOrder(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Let a paused schedule go on, from `next_due_at`."""

    order_id: int
    next_due_at: datetime | None = None
    companions: Companions = ()


class PauseRun(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Start no further step of a run (`paused`), or go on again."""

    run_id: int
    paused: bool
    companions: Companions = ()


class DeleteOrder(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Stop an order if it is alive, then remove it with its runs, logs and artefacts' rows."""

    order_id: int
    companions: Companions = ()


class DeleteOrders(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """`DeleteOrder` for several, all or none of them."""

    order_ids: tuple[int, ...]
    companions: Companions = ()


class CloseKitchen(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A kitchen was deleted: stop its runs, end its orders and schedules. Safe to repeat."""

    kitchen_id: int
    reason: str


class DeleteRun(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Stop a run if it is alive, then remove it."""

    run_id: int
    companions: Companions = ()


class Started(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """An executor reports that an attempt's process is there."""

    attempt_id: int
    fence: int
    handle: dict[str, Any] = {}


class Finished(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """An executor reports an attempt's end; refused if the fence is stale."""

    attempt_id: int
    fence: int
    outcome: Outcome


class Lost(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """An executor cannot find an attempt any more; the step's `on_crash` decides.

    `never_ran`: it is certain that nothing of it ran or will run, so a new attempt is always safe.
    """

    attempt_id: int
    fence: int
    reason: str
    never_ran: bool = False


class WorkerSeen(msgspec.Struct, frozen=True):
    """What is known of one worker: its room, its tags, and whether its lease still runs."""

    name: str
    slots: int
    tags: tuple[str, ...]
    is_alive: bool


class WorkersSeen(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The workers that reported: new ones get work, attempts of dead ones are lost."""

    workers: tuple[WorkerSeen, ...]


class Tick(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Time has passed: waiting retries that are due, deadlines of runs, free slots."""


class Submitted(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The ids that an accepted order and run got."""

    order_id: int
    order_uid: str
    run_id: int | None = None
    run_uid: str | None = None


Message = (
    SubmitOrder
    | FireSchedule
    | ResumeRun
    | StopRun
    | StopOrder
    | PauseOrder
    | UnpauseOrder
    | PauseRun
    | DeleteOrder
    | DeleteOrders
    | DeleteRun
    | CloseKitchen
    | Started
    | Finished
    | Lost
    | WorkersSeen
    | Tick
)
