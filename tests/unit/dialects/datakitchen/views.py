"""Views made by hand, for tests of what is rendered from them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from galley.core.runs.plan import Need, Plan, Source, StepPlan
from galley.core.runs.states import AttemptState, OrderState, RunState, StepState
from galley.core.runs.task import CheckResult
from galley.core.runs.views import AttemptView, OrderView, RunDetail, RunView, StepView

START = datetime(2026, 11, 23, 6, 0, 0, 123_456, tzinfo=UTC)
LATER = START + timedelta(seconds=5)
ORDER_UID = "01K4ZC0000000000000000000A"
RUN_UID = "01K4ZC0000000000000000000B"


def order_view(**changes: Any) -> OrderView:
    view = OrderView(
        id=1, uid=ORDER_UID, project_id=1, kitchen="dev", kitchen_id=1,
        source_kind="recipe", source_path="demo", variation="daily", origin="api",
        state=OrderState.COMPLETED, schedule=None, parameters={"region": "eu"},
        only_steps=None, alerts=None, source_date=None, priority=0, parent_run_id=None,
        created_by=1, created_by_login="a@x.org", created_at=START, updated_at=LATER,
    )  # fmt: skip
    return replace(view, **changes)


def run_view(**changes: Any) -> RunView:
    view = RunView(
        id=2, uid=RUN_UID, order_id=1, order_uid=ORDER_UID, project_id=1, kitchen="dev",
        kitchen_id=1, source_kind="recipe", source_path="demo", variation="daily", origin="api",
        state=RunState.SUCCEEDED, reason="", paused=False, priority=0,
        parameters={"region": "eu"}, exports={"orders_rows": 12}, source_date=None, due_at=None,
        resumed_from=None, resumed_by=None, resumed_by_uid=None, warnings=0, steps_total=2,
        steps_left=0, created_by=1, created_by_login="a@x.org", created_at=START,
        started_at=START, finished_at=LATER,
    )  # fmt: skip
    return replace(view, **changes)


CHECK = CheckResult(
    name="row_floor",
    status="passed",
    action="stop",
    text="12 greater-than limit=10",
    value=12,
    metric=10,
    place=("action", "source"),
)


def step_view(**changes: Any) -> StepView:
    attempt = AttemptView(
        id=7, number=1, state=AttemptState.SUCCEEDED, reason="", exit_code=0, executor="local",
        worker="host1", usage={}, reused_from=None, created_at=START, started_at=START,
        finished_at=LATER,
    )  # fmt: skip
    view = StepView(
        id=3, key="load", position=0, kind="action", title="", state=StepState.SUCCEEDED,
        reason="", needs=(), exports={}, branches=(), timings={"action/source": 1.5},
        started_at=START, finished_at=START + timedelta(seconds=4), attempts=(attempt,),
        checks=(CHECK,),
    )  # fmt: skip
    return replace(view, **changes)


def plan() -> Plan:
    return Plan(
        source=Source(kind="recipe", project="main/recipes", path="demo", variation="daily"),
        steps=(
            StepPlan(key="load", kind="action"),
            StepPlan(key="decide", kind="noop", needs=(Need(step="load"),)),
            StepPlan(key="publish", kind="script", needs=(Need(step="decide", when="c1_true"),)),
            StepPlan(key="audit", kind="transfer"),
        ),
        variables={"region": "us", "limit": 10},
    )


def detail(**changes: Any) -> RunDetail:
    view = RunDetail(
        run=run_view(), order=order_view(), plan=plan(), steps=(step_view(),), artifacts=()
    )
    return replace(view, **changes)
