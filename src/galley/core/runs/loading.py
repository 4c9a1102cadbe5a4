"""Reads the runs that are under way back into memory, at start and after a lost transaction."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from galley.core.runs import models
from galley.core.runs.alerts import ALERT_KINDS, subject_key
from galley.core.runs.counting import DELETIONS
from galley.core.runs.live import LiveAttempt, LiveRun, LiveStep, link_steps
from galley.core.runs.plan import Plan
from galley.core.runs.states import AttemptState, RunState, StepState
from galley.core.runs.turn import Ids

_COUNTED = {
    "plan": models.plans,
    "run_order": models.orders,
    "run": models.runs,
    "step": models.steps,
    "attempt": models.attempts,
    "check_result": models.checks,
    "artifact": models.artifacts,
    "run_event": models.events,
    "outbox": models.outbox,
}


def load_ids(connection: Connection) -> Ids:
    """The next free id of each table: above every row, and above every row ever deleted."""
    kept: dict[str, int] = {
        row.name: row.next_id for row in connection.execute(sa.select(models.counters))
    }
    start = {}
    for name, table in _COUNTED.items():
        highest = connection.scalar(sa.select(sa.func.max(table.c.id))) or 0
        start[name] = max(highest + 1, kept.get(name, 1))
    # An attempt takes one fence at most, so there were never more of them than attempts: to look
    # for the highest one would mean to read them all.
    start["fence"] = max(start["attempt"], kept.get("fence", 1))
    start[DELETIONS] = kept.get(DELETIONS, 1)
    return Ids(start)


def save_ids(connection: Connection, ids: Ids) -> None:
    """Remember the next free ids, before rows are deleted, and that some were."""
    ids.take(DELETIONS)
    connection.execute(models.counters.delete())
    rows = [{"name": name, "next_id": number} for name, number in ids.state().items()]
    connection.execute(models.counters.insert(), rows)


def load_live(connection: Connection, only: Iterable[int] | None = None) -> list[LiveRun]:
    """Every run that is queued or running (of these ids), in order of id, as rows have it."""
    runs, orders, plans = models.runs, models.orders, models.plans
    query = (
        sa.select(
            runs,
            orders.c.uid.label("order_uid"),
            orders.c.schedule,
            orders.c.created_by_login,
            plans.c.body,
        )
        .join(orders, orders.c.id == runs.c.order_id)
        .join(plans, plans.c.id == runs.c.plan_id)
        .where(models.RUN_IS_LIVE)
        .order_by(runs.c.id)
    )
    if only is not None:
        query = query.where(runs.c.id.in_(list(only)))
    rows = connection.execute(query).mappings().all()
    steps = _steps(connection, [row["id"] for row in rows])
    alerted = _alerted(connection, rows)
    live = [_live_run(row, steps[row["id"]], alerted[row["uid"]]) for row in rows]
    _count_losses(connection, live)
    return live


def _count_losses(connection: Connection, live: list[LiveRun]) -> None:
    """How often each step's attempts were lost, or never ran, so far."""
    attempts = models.attempts.c
    by_id = {step.id: step for run in live for step in run.steps.values()}
    run_ids = [run.id for run in live]
    for start in range(0, len(run_ids), 500):
        query = (
            sa.select(attempts.step_id, attempts.state, sa.func.count())
            .where(
                attempts.run_id.in_(run_ids[start : start + 500]),
                attempts.state.in_([AttemptState.LOST, AttemptState.UNREACHED]),
            )
            .group_by(attempts.step_id, attempts.state)
        )
        for step_id, state, count in connection.execute(query):
            if state == AttemptState.LOST:
                by_id[step_id].losses = count
            else:
                by_id[step_id].unstarted = count


def _steps(connection: Connection, run_ids: list[int]) -> dict[int, list[Any]]:
    steps, attempts = models.steps, models.attempts
    found: dict[int, list[Any]] = defaultdict(list)
    query = (
        sa.select(
            steps,
            attempts.c.number,
            attempts.c.state.label("attempt_state"),
            attempts.c.fence,
            attempts.c.worker,
            attempts.c.not_before,
            attempts.c.started_at.label("attempt_started_at"),
            attempts.c.reused_from,
        )
        .join(attempts, attempts.c.id == steps.c.attempt_id)
        .order_by(steps.c.run_id, steps.c.position)
    )
    for start in range(0, len(run_ids), 500):
        some = query.where(steps.c.run_id.in_(run_ids[start : start + 500]))
        for row in connection.execute(some).mappings():
            found[row["run_id"]].append(row)
    return found


def _alerted(connection: Connection, run_rows: Sequence[Any]) -> dict[str, set[str]]:
    """Which events each of these runs has already told somebody about: run uid -> events.

    What a run can have told is known from its row, so that each message is looked up by its key.
    """
    box = models.outbox.c
    keys = [
        subject_key(row["uid"], event, destination)
        for row in run_rows
        for event, destinations in (row["alerts"] or {}).items()
        for destination in destinations
    ]
    told: dict[str, set[str]] = defaultdict(set)
    for start in range(0, len(keys), 500):
        some = box.kind.in_(ALERT_KINDS) & box.subject_key.in_(keys[start : start + 500])
        for key in connection.scalars(sa.select(box.subject_key).where(some)):
            uid, event, _ = key.split(":", 2)
            told[uid].add(event)
    return told


def _live_run(row: Any, step_rows: list[Any], alerted: set[str]) -> LiveRun:
    plan = msgspec.json.decode(row["body"], type=Plan)
    planned = {step.key: step for step in plan.steps}
    steps = {
        found["key"]: LiveStep(
            id=found["id"],
            position=found["position"],
            plan=planned[found["key"]],
            attempt=LiveAttempt(
                found["attempt_id"],
                found["number"],
                AttemptState(found["attempt_state"]),
                found["fence"],
                found["worker"],
                found["not_before"],
                found["attempt_started_at"],
            ),
            state=StepState(found["state"]),
            branches=tuple(found["branches"] or ()),
            exports=found["exports"] or {},
        )
        for found in step_rows
    }
    run = LiveRun(
        id=row["id"],
        uid=row["uid"],
        order_id=row["order_id"],
        order_uid=row["order_uid"],
        project_id=row["project_id"],
        kitchen=row["kitchen"],
        kitchen_id=row["kitchen_id"],
        plan=plan,
        plan_id=row["plan_id"],
        steps=steps,
        created_at=row["created_at"],
        work_id=row["work_id"],
        state=RunState(row["state"]),
        reason=row["reason"],
        paused=row["paused"],
        cancel_reason=row["cancel_reason"],
        priority=row["priority"],
        lane=row["lane"],
        lane_limit=row["lane_limit"],
        parameters=row["parameters"],
        alerts=row["alerts"],
        is_scheduled=bool((row["schedule"] or {}).get("cron")),
        source_date=row["source_date"],
        login=row["created_by_login"],
        warnings=row["warnings"],
        started_at=row["started_at"],
        alerted=alerted,
    )
    passed_over = {
        found["key"]
        for found in step_rows
        if found["state"] == StepState.SKIPPED and found["reused_from"] is not None
    }
    _restore_graph(run, passed_over)
    _restore_exports(run, step_rows)
    return run


def _restore_graph(run: LiveRun, passed_over: set[str]) -> None:
    """Count again what each step still needs, from the states of the others.

    `passed_over` are steps that a resume skipped: what needs them goes on.
    """
    link_steps(run.plan, run.steps)
    for step in run.steps.values():
        if step.state in {StepState.WAITING, StepState.READY}:
            run.left += 1
            continue
        if step.state is StepState.RUNNING:
            run.left += 1
            run.active += 1
            continue
        if step.state is StepState.FAILED and not step.plan.allow_failure:
            run.failure = run.reason or f"Step {step.key} failed."
        passes = (
            step.state is StepState.SUCCEEDED
            or (step.state is StepState.FAILED and step.plan.allow_failure)
            or step.key in passed_over
        )
        for follower, when in step.followers:
            follower.open_needs -= 1
            if passes and (when is None or when in step.branches):
                follower.is_wanted = True


def _restore_exports(run: LiveRun, step_rows: list[Any]) -> None:
    finished = [row for row in step_rows if row["exports"] and row["finished_at"]]
    for row in sorted(finished, key=lambda row: row["finished_at"]):
        run.exports.update(row["exports"])
