"""The runs that are under way, as the ledger's writer holds them in memory.

A cache of rows, never a second truth: it is rebuilt from the database at start and after any
transaction that did not commit.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from galley.core.runs.plan import Plan, StepPlan
from galley.core.runs.states import AttemptState, RunState, StepState


@dataclass(slots=True)
class LiveAttempt:
    """The newest attempt of a step."""

    id: int
    number: int
    state: AttemptState = AttemptState.WAITING
    fence: int = 0
    worker: str | None = None
    not_before: datetime | None = None
    started_at: datetime | None = None


@dataclass(slots=True)
class LiveStep:
    """A step with its place in the graph.

    `open_needs` counts the needed steps that have not ended; `is_wanted` is true as soon as one
    edge that leads here was taken; `losses` counts attempts that died without a word,
    `unstarted` those that never came to run.
    """

    id: int
    position: int
    plan: StepPlan
    attempt: LiveAttempt
    state: StepState = StepState.WAITING
    open_needs: int = 0
    is_wanted: bool = False
    followers: list[tuple["LiveStep", str | None]] = field(default_factory=list, repr=False)
    branches: tuple[str, ...] = ()
    exports: dict[str, Any] = field(default_factory=dict)
    losses: int = 0
    unstarted: int = 0

    @property
    def key(self) -> str:
        """The step's name in its plan."""
        return self.plan.key


@dataclass(slots=True)
class LiveRun:
    """A run with its steps in plan order, and the few facts of its order that decide things.

    `work_id` names the shared folder: a resumed run works on in that of the run it goes on with.
    """

    id: int
    uid: str
    order_id: int
    order_uid: str
    project_id: int
    kitchen: str | None
    plan: Plan
    plan_id: int
    steps: dict[str, LiveStep]
    created_at: datetime
    work_id: int
    kitchen_id: int | None = None
    state: RunState = RunState.QUEUED
    reason: str = ""
    paused: bool = False
    cancel_reason: str | None = None
    failure: str | None = None
    priority: int = 0
    lane: str | None = None
    lane_limit: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    exports: dict[str, Any] = field(default_factory=dict)
    alerts: dict[str, list[str]] = field(default_factory=dict)
    is_scheduled: bool = False
    source_date: str | None = None
    login: str = ""
    warnings: int = 0
    left: int = 0
    active: int = 0
    started_at: datetime | None = None
    alerted: set[str] = field(default_factory=set)

    @property
    def is_closing(self) -> bool:
        """Whether nothing new may start: it was canceled, or a step failed."""
        return self.cancel_reason is not None or self.failure is not None

    def series(self, step_key: str) -> str:
        """Names the step among all runs of this variation: what its checks keep stands under it."""
        source = self.plan.source
        place = (self.project_id, self.kitchen_id, source.kind, source.path, source.variation)
        return hashlib.sha256(msgspec.json.encode((*place, step_key))).hexdigest()

    def living(self) -> Iterator[LiveStep]:
        """The steps whose attempt is with an executor now."""
        return (s for s in self.steps.values() if s.state is StepState.RUNNING)


def link_steps(plan: Plan, steps: Mapping[str, LiveStep]) -> None:
    """Join the steps along the plan's edges; nothing has ended yet."""
    for planned in plan.steps:
        step = steps[planned.key]
        step.open_needs = len(planned.needs)
        step.is_wanted = not planned.needs
        for need in planned.needs:
            steps[need.step].followers.append((step, need.when))
