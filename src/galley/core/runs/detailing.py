"""Reads what belongs to runs that their reader was allowed to see: steps, artefacts, alerts."""

from collections import defaultdict

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.runs import models
from galley.core.runs.alerts import ALERT_KINDS, subject_key
from galley.core.runs.plan import Plan
from galley.core.runs.states import AttemptState, StepState
from galley.core.runs.task import CheckResult
from galley.core.runs.views import AlertView, ArtifactView, AttemptView, RunView, StepView


def plans_of(session: Session, run_ids: list[int]) -> dict[int, Plan]:
    """Each run's plan."""
    query = (
        sa.select(models.runs.c.id, models.plans.c.id, models.plans.c.body)
        .join(models.plans, models.plans.c.id == models.runs.c.plan_id)
        .where(models.runs.c.id.in_(run_ids))
    )
    decoded: dict[int, Plan] = {}
    found = {}
    for run_id, plan_id, body in session.execute(query):
        if plan_id not in decoded:
            decoded[plan_id] = msgspec.json.decode(body, type=Plan)
        found[run_id] = decoded[plan_id]
    return found


def steps_of(
    session: Session, run_ids: list[int], plans: dict[int, Plan]
) -> dict[int, tuple[StepView, ...]]:
    """Each run's steps in the plan's order, with their attempts and the last one's checks."""
    attempts = _attempts_of(session, run_ids)
    checks = _checks_of(session, run_ids)
    query = (
        sa.select(models.steps)
        .where(models.steps.c.run_id.in_(run_ids))
        .order_by(models.steps.c.run_id, models.steps.c.position)
    )
    planned = {run: {step.key: step for step in plan.steps} for run, plan in plans.items()}
    found: dict[int, list[StepView]] = defaultdict(list)
    for row in session.execute(query).mappings():
        own = planned[row["run_id"]][row["key"]]
        found[row["run_id"]].append(
            StepView(
                id=row["id"],
                key=row["key"],
                position=row["position"],
                kind=row["kind"],
                title=own.title or row["key"],
                state=StepState(row["state"]),
                reason=row["reason"],
                needs=tuple(need.step for need in own.needs),
                exports=row["exports"] or {},
                branches=tuple(row["branches"] or ()),
                timings=row["timings"] or {},
                started_at=row["started_at"],
                finished_at=row["finished_at"],
                attempts=tuple(attempts[row["id"]]),
                checks=tuple(checks[row["attempt_id"]]),
            )
        )
    return defaultdict(tuple, {run: tuple(steps) for run, steps in found.items()})


def _attempts_of(session: Session, run_ids: list[int]) -> dict[int, list[AttemptView]]:
    a = models.attempts.c
    query = sa.select(models.attempts).where(a.run_id.in_(run_ids)).order_by(a.id.desc())
    found: dict[int, list[AttemptView]] = defaultdict(list)
    for row in session.execute(query).mappings():
        found[row["step_id"]].append(
            AttemptView(
                id=row["id"],
                number=row["number"],
                state=AttemptState(row["state"]),
                reason=row["reason"],
                exit_code=row["exit_code"],
                executor=row["executor"],
                worker=row["worker"],
                usage=row["usage"] or {},
                reused_from=row["reused_from"],
                created_at=row["created_at"],
                started_at=row["started_at"],
                finished_at=row["finished_at"],
            )
        )
    return found


def _checks_of(session: Session, run_ids: list[int]) -> dict[int, list[CheckResult]]:
    c = models.checks.c
    query = sa.select(models.checks).where(c.run_id.in_(run_ids)).order_by(c.id)
    found: dict[int, list[CheckResult]] = defaultdict(list)
    for row in session.execute(query).mappings():
        found[row["attempt_id"]].append(
            CheckResult(
                name=row["name"],
                status=row["status"],
                action=row["action"],
                text=row["text"],
                value=row["value"],
                metric=row["metric"],
                place=(row["place_kind"], row["place_name"]),
                description=row["description"],
                keeps_history=row["series"] is not None,
            )
        )
    return found


def artifacts_of(session: Session, run_ids: list[int]) -> dict[int, tuple[ArtifactView, ...]]:
    """Each run's artefacts, oldest first."""
    a = models.artifacts.c
    query = sa.select(models.artifacts).where(a.run_id.in_(run_ids)).order_by(a.id)
    found: dict[int, list[ArtifactView]] = defaultdict(list)
    for row in session.execute(query).mappings():
        values = {k: v for k, v in row.items() if k not in {"run_id", "attempt_id"}}
        found[row["run_id"]].append(ArtifactView(**values))
    return defaultdict(tuple, {run: tuple(rows) for run, rows in found.items()})


def alerts_of(session: Session, run: RunView) -> tuple[AlertView, ...]:
    """What the outbox holds of the run, oldest first."""
    listeners = (
        session.scalar(sa.select(models.runs.c.alerts).where(models.runs.c.id == run.id)) or {}
    )
    named = {
        subject_key(run.uid, event, who): (event, who)
        for event, everybody in listeners.items()
        for who in everybody
    }
    if not named:
        return ()
    o = models.outbox.c
    query = sa.select(o.subject_key, o.state, o.tries, o.last_error).where(
        o.kind.in_(ALERT_KINDS), o.subject_key.in_(named)
    )
    return tuple(
        AlertView(*named[key], state=state, tries=tries, fault=fault)
        for key, state, tries, fault in session.execute(query.order_by(o.id))
    )
