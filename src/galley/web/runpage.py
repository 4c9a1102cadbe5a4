"""What a run's page shows, worked out from the core's views before a template sees it. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from galley.core.runs.states import RUN_FINAL, STEP_FINAL, RunState, StepState
from galley.core.runs.task import CheckResult
from galley.core.runs.views import ArtifactView, RunDetail, RunView, StepView
from galley.web import graph
from galley.web.present import cut_text, elapsed_s, plain_text

GRAPH_STEPS = 250
STEPS_PER_PAGE = 200
_FIT_FROM, _FIT_TO = 1060, 1460  # the style sheet shrinks to no less than the former
_TITLE_LIMIT = 22
_BAR_UNITS = 1000.0
_BAR_LEAST = 4.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A step's place on the run's time line, in thousandths of the run's length."""

    start: float
    width: float


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step in the table: `duration_s` is of its newest attempt's work so far."""

    step: StepView
    duration_s: float | None
    bar: Bar | None
    passed: int
    troubled: int

    @property
    def is_open(self) -> bool:
        """Whether the step can still change."""
        return self.step.state not in STEP_FINAL

    @property
    def tries(self) -> int:
        """How many attempts have been started in this run."""
        return sum(a.started_at is not None and a.reused_from is None for a in self.step.attempts)

    @property
    def is_reused(self) -> bool:
        """Whether its result was taken over from the run that this one resumes."""
        has_result = self.step.state is StepState.SUCCEEDED
        return has_result and any(a.reused_from is not None for a in self.step.attempts[:1])


@dataclass(frozen=True, slots=True)
class CheckGroup:
    """The checks of one step, those that need attention first."""

    step: StepView
    checks: tuple[CheckResult, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as the run saw it, and which level or step set it."""

    name: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Node:
    """A step in the picture."""

    row: StepRow
    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The graph with its states; an edge is `is_taken` once its first step has succeeded."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[tuple[graph.Edge, bool], ...]

    @property
    def is_fitted(self) -> bool:
        """Whether it is a little wider than a page, and better shrunk to it than cut off."""
        return _FIT_FROM < self.width <= _FIT_TO


@dataclass(frozen=True, slots=True)
class RunPage:
    """All of a run's page but its log. `steps` is one page of the table."""

    detail: RunDetail
    now: datetime
    duration_s: float | None
    picture: Picture | None
    steps: tuple[StepRow, ...]
    step_page: int
    step_pages: int
    tallies: tuple[tuple[StepState, int], ...]
    check_groups: tuple[CheckGroup, ...]
    check_tallies: Mapping[str, int]
    variables: tuple[Variable, ...]
    first_failure: StepView | None

    @property
    def run(self) -> RunView:
        """The run itself."""
        return self.detail.run

    @property
    def artifacts(self) -> tuple[ArtifactView, ...]:
        """The files that the run left."""
        return self.detail.artifacts

    @property
    def is_live(self) -> bool:
        """Whether the run can still change."""
        return self.run.state not in RUN_FINAL

    @property
    def is_resumable(self) -> bool:
        """Whether it ended short of success and nobody resumed it yet."""
        ended_short = self.run.state in {RunState.FAILED, RunState.CANCELED}
        return ended_short and self.run.resumed_by is None

    @property
    def why(self) -> str:
        """Why the run ended as it did, without the words that name its first failed step."""
        named = f"Step {self.first_failure.key} failed: " if self.first_failure else ""
        return self.run.reason.removeprefix(named)

    def step_key(self, step_id: int) -> str:
        """The name of the step with this id, or nothing when it is unknown."""
        return next((s.key for s in self.detail.steps if s.id == step_id), "")


def compose(detail: RunDetail, now: datetime, *, step_page: int = 1) -> RunPage:
    """Work out the page; `step_page` counts from 1 and is brought into range."""
    run = detail.run
    pages = max(1, -(-len(detail.steps) // STEPS_PER_PAGE))
    page = min(max(1, step_page), pages)
    shown = slice((page - 1) * STEPS_PER_PAGE, page * STEPS_PER_PAGE)
    has_picture = len(detail.steps) <= GRAPH_STEPS
    groups = tuple(
        CheckGroup(step, tuple(sorted(step.checks, key=_urgency)))
        for step in sorted(detail.steps, key=_step_urgency)
        if step.checks
    )
    return RunPage(
        detail=detail,
        now=now,
        duration_s=elapsed_s(run.started_at, run.finished_at, now),
        picture=_picture([_row(s, run, now) for s in detail.steps]) if has_picture else None,
        steps=tuple(_row(step, run, now) for step in detail.steps[shown]),
        step_page=page,
        step_pages=pages,
        tallies=_tally(detail.steps),
        check_groups=groups,
        check_tallies=_check_tally(detail.steps),
        variables=_variables(detail),
        first_failure=next((s for s in detail.steps if s.state is StepState.FAILED), None),
    )


def _row(step: StepView, run: RunView, now: datetime) -> StepRow:
    passed = sum(check.status == "passed" for check in step.checks)
    return StepRow(
        step=step,
        duration_s=elapsed_s(step.started_at, step.finished_at, now),
        bar=_bar(step, run, now),
        passed=passed,
        troubled=sum(check.status in {"failed", "warning"} for check in step.checks),
    )


def _bar(step: StepView, run: RunView, now: datetime) -> Bar | None:
    if step.started_at is None or run.started_at is None:
        return None
    whole = max((run.finished_at or now) - run.started_at, timedelta(milliseconds=1))
    start = (step.started_at - run.started_at) / whole * _BAR_UNITS
    width = ((step.finished_at or now) - step.started_at) / whole * _BAR_UNITS
    width = min(max(width, _BAR_LEAST), _BAR_UNITS)
    return Bar(round(min(max(start, 0.0), _BAR_UNITS - width), 1), round(width, 1))


def _picture(rows: Sequence[StepRow]) -> Picture:
    by_key = {row.step.key: row for row in rows}
    layout = graph.lay_out({row.step.key: row.step.needs for row in rows})
    nodes = tuple(
        Node(by_key[b.key], b.x, b.y, cut_text(plain_text(b.key), _TITLE_LIMIT))
        for b in layout.boxes
    )
    edges = tuple(
        (edge, by_key[edge.source].step.state is StepState.SUCCEEDED) for edge in layout.edges
    )
    return Picture(layout.width, layout.height, nodes, edges)


def _tally(steps: Sequence[StepView]) -> tuple[tuple[StepState, int], ...]:
    """How many steps stand in each state, in the states' own order, none left out but zeros."""
    counts = Counter(step.state for step in steps)
    return tuple((state, counts[state]) for state in StepState if counts[state])


def _check_tally(steps: Sequence[StepView]) -> Mapping[str, int]:
    order = ("failed", "warning", "logged", "passed")
    statuses = [check.status for step in steps for check in step.checks]
    return {status: statuses.count(status) for status in order if status in statuses}


_URGENCY = {"failed": 0, "warning": 1, "logged": 2, "passed": 3}


def _urgency(check: CheckResult) -> tuple[int, str]:
    return _URGENCY.get(check.status, 0), check.name


def _step_urgency(step: StepView) -> tuple[int, int]:
    return min((_urgency(check)[0] for check in step.checks), default=9), step.position


def _variables(detail: RunDetail) -> tuple[Variable, ...]:
    """The run's variables A to Z: the plan's with their origin, then what was set later."""
    plan = detail.plan
    found = {
        name: Variable(name, value, plan.origins.get(name, "base"))
        for name, value in plan.variables.items()
    }
    for name, value in detail.run.parameters.items():
        found[name] = Variable(name, value, "parameter")
    for step in detail.steps:
        for name, value in step.exports.items():
            found[name] = Variable(name, value, f"step {step.key}")
    return tuple(found[name] for name in sorted(found))
