"""Makes the live form and the rows of a new order and a new run."""

from collections.abc import Sequence
from typing import Any

from galley.core.runs import models
from galley.core.runs.live import LiveAttempt, LiveRun, LiveStep, link_steps
from galley.core.runs.messages import NewOrder, NewRun
from galley.core.runs.plan import Plan, ScheduleSpec
from galley.core.runs.schedule import moment, next_due
from galley.core.runs.states import AttemptState, OrderState, RunState, StepState
from galley.core.runs.transitions import attempt_row
from galley.core.runs.turn import Turn


def add_order(turn: Turn, order: NewOrder) -> int:
    """The row of a new, active order; its id."""
    order_id = turn.ids.take("run_order")
    turn.changes.insert(
        models.orders,
        {
            "id": order_id,
            "uid": order.uid,
            "project_id": order.project_id,
            "kitchen": order.kitchen,
            "kitchen_id": order.kitchen_id,
            "source_kind": order.source_kind,
            "source_path": order.source_path,
            "variation": order.variation,
            "origin": order.origin,
            "state": OrderState.ACTIVE,
            "schedule": order.schedule,
            "parameters": order.parameters,
            "only_steps": order.only_steps,
            "alerts": order.alerts,
            "source_date": order.source_date,
            "priority": order.priority,
            "parent_run_id": order.parent_run_id,
            "created_by": order.created_by,
            "created_by_login": order.created_by_login,
            "created_at": turn.now,
            "updated_at": turn.now,
        },
    )
    return order_id


def add_schedule(turn: Turn, order_id: int, spec: ScheduleSpec) -> None:
    """The row that the scheduler looks at."""
    turn.has_schedules = True
    turn.changes.insert(
        models.schedules,
        {
            "order_id": order_id,
            "cron": spec.cron,
            "zone": spec.zone,
            "next_due_at": next_due(spec, turn.now),
            "end_at": moment(spec.end_at),
            "catch_up": spec.catch_up,
            "catch_up_limit": spec.catch_up_limit,
        },
    )


def add_run(
    turn: Turn,
    new: NewRun,
    *,
    plan_id: int,
    order_id: int,
    order: NewOrder,
    resumed_from: int | None = None,
    work_id: int | None = None,
) -> LiveRun:
    """The rows of a new run with its steps and first attempts, and its live form."""
    run = _live_run(turn, new, plan_id, order_id, order)
    if work_id is not None:
        run.work_id = work_id
    turn.changes.insert(models.runs, _run_row(turn, run, new, resumed_from))
    for step in run.steps.values():
        turn.changes.insert(models.steps, _step_row(run, step))
        turn.changes.insert(models.attempts, attempt_row(turn, run, step))
    return run


def reuse_steps(
    turn: Turn, run: LiveRun, finished: Sequence[Any], skipped: Sequence[Any] = ()
) -> None:
    """Take over what an earlier run's steps achieved, before the new run opens.

    A carried value gives way to a variable of the same name in the new plan.
    `finished` are rows of the old run's succeeded steps; those of `skipped` count as passed
    without having run.
    """
    for row in finished:
        step = run.steps.get(row["key"])
        if step is not None:
            _take_over(turn, run, step, row)
    for row in skipped:
        if row["key"] in run.steps:
            _pass_over(turn, run, run.steps[row["key"]], row)


def _take_over(turn: Turn, run: LiveRun, step: LiveStep, row: Any) -> None:
    carried = {k: v for k, v in (row["exports"] or {}).items() if k not in run.plan.variables}
    step.exports, step.branches = carried, tuple(row["branches"] or ())
    run.exports.update(carried)
    values = {"exports": carried or None, "branches": row["branches"], "timings": row["timings"]}
    times = {"started_at": row["started_at"], "finished_at": row["finished_at"]}
    turn.changes.update(
        models.steps, step.id, {"state": StepState.SUCCEEDED, "reason": "reused", **values, **times}
    )
    turn.changes.update(
        models.attempts,
        step.attempt.id,
        {"state": AttemptState.SUCCEEDED, "reused_from": row["attempt_id"], **times},
    )
    _mark_done(run, step, StepState.SUCCEEDED)


def _pass_over(turn: Turn, run: LiveRun, step: LiveStep, row: Any) -> None:
    """The step is skipped, but what follows it is not: its attempt names the one it stands for."""
    reason = "skipped on resume"
    turn.changes.update(
        models.steps,
        step.id,
        {"state": StepState.SKIPPED, "reason": reason, "finished_at": turn.now},
    )
    turn.changes.update(
        models.attempts,
        step.attempt.id,
        {
            "state": AttemptState.SKIPPED,
            "reason": reason,
            "reused_from": row["attempt_id"],
            "finished_at": turn.now,
        },
    )
    _mark_done(run, step, StepState.SKIPPED)


def _mark_done(run: LiveRun, step: LiveStep, state: StepState) -> None:
    step.state, step.attempt.state = state, AttemptState(state)
    run.left -= 1
    for follower, when in step.followers:
        follower.open_needs -= 1
        if when is None or when in step.branches:
            follower.is_wanted = True


def _live_run(turn: Turn, new: NewRun, plan_id: int, order_id: int, order: NewOrder) -> LiveRun:
    run_id = turn.ids.take("run")
    run = LiveRun(
        id=run_id,
        work_id=run_id,
        uid=new.uid,
        order_id=order_id,
        order_uid=order.uid,
        project_id=order.project_id,
        kitchen=order.kitchen,
        kitchen_id=order.kitchen_id,
        plan=new.plan,
        plan_id=plan_id,
        steps=_live_steps(turn, new.plan),
        created_at=turn.now,
        priority=order.priority,
        lane=new.lane,
        lane_limit=new.lane_limit,
        parameters=new.parameters,
        alerts=new.alerts,
        is_scheduled=order.schedule is not None and order.schedule.cron is not None,
        source_date=new.source_date,
        login=order.created_by_login,
        left=len(new.plan.steps),
    )
    link_steps(new.plan, run.steps)
    return run


def _live_steps(turn: Turn, plan: Plan) -> dict[str, LiveStep]:
    return {
        planned.key: LiveStep(
            id=turn.ids.take("step"),
            position=position,
            plan=planned,
            attempt=LiveAttempt(turn.ids.take("attempt"), 1),
        )
        for position, planned in enumerate(plan.steps)
    }


def _run_row(turn: Turn, run: LiveRun, new: NewRun, resumed_from: int | None) -> dict[str, Any]:
    return {
        "id": run.id,
        "uid": run.uid,
        "order_id": run.order_id,
        "plan_id": run.plan_id,
        "project_id": run.project_id,
        "kitchen": run.kitchen,
        "kitchen_id": run.kitchen_id,
        "state": RunState.QUEUED,
        "reason": "",
        "paused": False,
        "cancel_reason": None,
        "priority": run.priority,
        "lane": run.lane,
        "lane_limit": run.lane_limit,
        "parameters": run.parameters,
        "exports": {},
        "source_date": run.source_date,
        "due_at": new.due_at,
        "resumed_from": resumed_from,
        "work_id": run.work_id,
        "resumed_by": None,
        "warnings": 0,
        "alerts": run.alerts,
        "steps_total": len(run.steps),
        "steps_left": run.left,
        "created_at": turn.now,
        "started_at": None,
        "finished_at": None,
    }


def _step_row(run: LiveRun, step: LiveStep) -> dict[str, Any]:
    return {
        "id": step.id,
        "run_id": run.id,
        "key": step.key,
        "position": step.position,
        "kind": step.plan.kind,
        "state": StepState.WAITING,
        "reason": "",
        "attempt_id": step.attempt.id,
        "exports": None,
        "branches": None,
        "timings": None,
        "started_at": None,
        "finished_at": None,
    }
