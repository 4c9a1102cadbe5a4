"""What readers get to see of orders and runs: plain frozen data, no rows, no lazy loading."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from galley.core.runs.plan import Plan, ScheduleSpec
from galley.core.runs.states import AttemptState, OrderState, RunState, StepState
from galley.core.runs.task import CheckResult
from galley.kit.ids import uuid_of


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order as it stands."""

    id: int
    uid: str
    project_id: int
    kitchen: str | None
    kitchen_id: int | None
    source_kind: str
    source_path: str
    variation: str
    origin: str
    state: OrderState
    schedule: ScheduleSpec | None
    parameters: dict[str, Any]
    only_steps: tuple[str, ...] | None
    alerts: dict[str, list[str]] | None
    source_date: str | None
    priority: int
    parent_run_id: int | None
    created_by: int | None
    created_by_login: str
    created_at: datetime
    updated_at: datetime

    @property
    def uuid(self) -> str:
        """The order's name in UUID form."""
        return uuid_of(self.uid)

    def policy_kind(self) -> str:
        """The word the policy table uses."""
        return "order"


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as it stands, with the few facts of its order that every list shows."""

    id: int
    uid: str
    order_id: int
    order_uid: str
    project_id: int
    kitchen: str | None
    kitchen_id: int | None
    source_kind: str
    source_path: str
    variation: str
    origin: str
    state: RunState
    reason: str
    paused: bool
    priority: int
    parameters: dict[str, Any]
    exports: dict[str, Any]
    source_date: str | None
    due_at: datetime | None
    resumed_from: int | None
    resumed_by: int | None
    resumed_by_uid: str | None
    warnings: int
    steps_total: int
    steps_left: int
    created_by: int | None
    created_by_login: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def uuid(self) -> str:
        """The run's name in UUID form."""
        return uuid_of(self.uid)

    def policy_kind(self) -> str:
        """The word the policy table uses."""
        return "run"


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One try of a step."""

    id: int
    number: int
    state: AttemptState
    reason: str
    exit_code: int | None
    executor: str | None
    worker: str | None
    usage: dict[str, float]
    reused_from: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class StepView:
    """A step with its newest attempt first in `attempts`."""

    id: int
    key: str
    position: int
    kind: str
    title: str
    state: StepState
    reason: str
    needs: tuple[str, ...]
    exports: dict[str, Any]
    branches: tuple[str, ...]
    timings: dict[str, float]
    started_at: datetime | None
    finished_at: datetime | None
    attempts: tuple[AttemptView, ...]
    checks: tuple[CheckResult, ...]


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """A file that a run left, stored as a blob under its SHA-256."""

    id: int
    step_id: int
    name: str
    sha256: str
    size_bytes: int
    media_type: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AlertView:
    """A message about a run that was put into the outbox; `state` is waiting, sent or dead."""

    event: str
    destination: str
    state: str
    tries: int
    fault: str

    @property
    def place(self) -> str:
        """The destination; of a web address only the host, for its path may be a secret."""
        scheme, slashes, rest = self.destination.partition("://")
        if not slashes:
            return self.destination
        host = rest.partition("/")[0].rpartition("@")[2]
        return f"{scheme}://{host}/\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True, slots=True)
class RunDetail:
    """Everything about one run but its log."""

    run: RunView
    order: OrderView
    plan: Plan
    steps: tuple[StepView, ...]
    artifacts: tuple[ArtifactView, ...]
    alerts: tuple[AlertView, ...] = ()


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One entry of a run's history; `id` is the place in the stream."""

    id: int
    run_id: int
    order_id: int
    kind: str
    body: dict[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders of a list are wanted; None means any.

    `runs` asks for orders that have at least one such run.
    """

    project_id: int | None = None
    kitchen_id: int | None = None
    source_path: str | None = None
    variation: str | None = None
    states: frozenset[OrderState] | None = None
    runs: "RunFilter | None" = None
    since: datetime | None = None
    uids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs of a list are wanted; None means any.

    `kitchen_id` is one kitchen, `kitchen` every one that ever had that name.
    `resumed`: only those that another run went on with, or only the others.
    """

    project_id: int | None = None
    kitchen: str | None = None
    kitchen_id: int | None = None
    order_id: int | None = None
    order_ids: tuple[int, ...] | None = None
    source_path: str | None = None
    variation: str | None = None
    states: frozenset[RunState] | None = None
    resumed: bool | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class OrderWish:
    """What a caller asks for when placing an order.

    `schedule` None means the source's own; a ScheduleSpec without cron means once, now.
    `infrastructure` are variables that name other places (bucket, schema, image); they count as
    parameters, but are recorded apart.
    """

    kitchen: str
    source_path: str
    variation: str
    parameters: dict[str, Any]
    schedule: ScheduleSpec | None = None
    only_steps: tuple[str, ...] | None = None
    infrastructure: dict[str, Any] | None = None
    source_date: str | None = None
    alerts: dict[str, list[str]] | None = None
    priority: int = 0
    parent_run_id: int | None = None
    origin: str = "api"


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a log. `level`: debug, info, warning, error or output (a program's own).

    `stamp` is `at` as the log has it, to a microsecond and without its zone, which is UTC.
    """

    at: datetime
    level: str
    text: str
    step_key: str
    attempt_id: int
    stamp: str = ""
