"""Reads orders and runs for people. A caller sees what the kitchens that they may enter hold."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import NotFound
from galley.core.runs import models
from galley.core.runs.alerts import ALERT_KINDS, subject_key
from galley.core.runs.gate import KitchenGate
from galley.core.runs.plan import Plan, ScheduleSpec
from galley.core.runs.states import AttemptState, OrderState, RunState, StepState
from galley.core.runs.task import CheckResult
from galley.core.runs.views import (
    AlertView,
    ArtifactView,
    AttemptView,
    OrderFilter,
    OrderView,
    RunDetail,
    RunEvent,
    RunFilter,
    RunView,
    StepView,
)
from galley.kit.ids import uid_of, uuid_of
from galley.kit.pages import Page, PageRequest

_O, _R = models.orders.c, models.runs.c
_RESUMER = models.runs.alias("resumer")
_UNSHOWN = {"plan_id", "cancel_reason", "lane", "lane_limit", "alerts", "work_id"}


def find_order(session: Session, caller: Caller, uid: str, kitchen: str | None = None) -> OrderView:
    """The order of this ULID or UUID text (in this kitchen).

    Raises:
        NotFound: there is none, it is in another kitchen, or the caller may not see it.
    """
    row = None
    wanted = _uid(uid)
    if wanted is not None:
        query = sa.select(models.orders).where(_O.uid == wanted)
        row = session.execute(query).mappings().first()
    if row is None or (kitchen is not None and row["kitchen"] != kitchen):
        raise NotFound(f"Order {_shown(uid)} does not exist.")
    order = order_view(row)
    if not KitchenGate(session, caller).admits(order, "order.read"):
        raise NotFound(f"Order {_shown(uid)} does not exist.")
    return order


def list_orders(
    session: Session, caller: Caller, wanted: OrderFilter, page: PageRequest
) -> Page[OrderView]:
    """Orders, newest first, in the kitchens that the caller may enter."""
    where = [
        *_equal(_O.project_id, wanted.project_id),
        *_equal(_O.kitchen_id, wanted.kitchen_id),
        *_equal(_O.source_path, wanted.source_path),
        *_equal(_O.variation, wanted.variation),
        *_among(_O.state, wanted.states),
        *_among(_O.uid, wanted.uids),
        *KitchenGate(session, caller).where(_O.kitchen_id, "order.read"),
    ]
    if wanted.since is not None:
        where.append(_O.created_at >= wanted.since)
    if wanted.runs is not None:
        where.append(sa.exists().where(_R.order_id == _O.id, *_runs_where(wanted.runs)))
    total = session.scalar(sa.select(sa.func.count()).select_from(models.orders).where(*where))
    query = sa.select(models.orders).where(*where).order_by(_O.id.desc())
    rows = session.execute(query.limit(page.limit).offset(page.offset)).mappings()
    return Page([order_view(row) for row in rows], total or 0, page)


def order_ids(session: Session, kitchen_id: int) -> list[int]:
    """The ids of all orders of a kitchen that the caller was allowed to enter, oldest first."""
    query = sa.select(_O.id).where(_O.kitchen_id == kitchen_id).order_by(_O.id)
    return list(session.scalars(query))


def find_run(
    session: Session, caller: Caller, uid: str | int, kitchen: str | None = None
) -> RunView:
    """The run of this ULID, UUID text or integer id (in this kitchen).

    Raises:
        NotFound: there is none, it is in another kitchen, or the caller may not see it.
    """
    row = None
    wanted = uid if isinstance(uid, int) else _uid(uid)
    if wanted is not None:
        key = _R.id if isinstance(wanted, int) else _R.uid
        row = session.execute(_run_query().where(key == wanted)).mappings().first()
    if row is None or (kitchen is not None and row["kitchen"] != kitchen):
        raise NotFound(
            f"Run {_shown(uid)} does not exist.{_if_an_order(session, caller, uid, kitchen)}"
        )
    run = run_view(row)
    if not KitchenGate(session, caller).admits(run, "run.read"):
        raise NotFound(f"Run {_shown(uid)} does not exist.")
    return run


def _if_an_order(session: Session, caller: Caller, uid: str | int, kitchen: str | None) -> str:
    """What to say to whoever named an order, which they may see, in the place of a run."""
    if isinstance(uid, int):
        return ""
    try:
        order = find_order(session, caller, uid, kitchen)
    except NotFound:
        return ""
    query = sa.select(_R.uid).where(_R.order_id == order.id).order_by(_R.id.desc())
    newest = session.scalar(query.limit(1))
    what = f"its newest run is {uuid_of(newest)}" if newest else "it has no run yet"
    return f" That is an order; {what}."


def list_runs(
    session: Session, caller: Caller, wanted: RunFilter, page: PageRequest
) -> Page[RunView]:
    """Runs, newest first, in the kitchens that the caller may enter."""
    where = [*_runs_where(wanted), *KitchenGate(session, caller).where(_R.kitchen_id, "run.read")]
    joined = models.runs.join(models.orders, _O.id == _R.order_id)
    total = session.scalar(sa.select(sa.func.count()).select_from(joined).where(*where))
    query = _run_query().where(*where).order_by(_R.id.desc())
    rows = session.execute(query.limit(page.limit).offset(page.offset)).mappings()
    return Page([run_view(row) for row in rows], total or 0, page)


def newest_runs(
    session: Session, caller: Caller, wanted: RunFilter, *, per_order: int
) -> dict[int, tuple[int, list[RunView]]]:
    """Of every order that has such runs: how many they are, and the newest, newest first."""
    gate = KitchenGate(session, caller).where(_R.kitchen_id, "run.read")
    mine = models.runs.join(models.orders, _O.id == _R.order_id)
    place = sa.func.row_number().over(partition_by=_R.order_id, order_by=_R.id.desc())
    count = sa.func.count().over(partition_by=_R.order_id)
    ranked = (
        sa.select(_R.id, place.label("place"), count.label("count"))
        .select_from(mine)
        .where(*_runs_where(wanted), *gate)
        .subquery()
    )
    query = (
        _run_query()
        .add_columns(ranked.c.count)
        .join(ranked, ranked.c.id == _R.id)
        .where(ranked.c.place <= max(per_order, 1))
        .order_by(_R.id.desc())
    )
    found: dict[int, tuple[int, list[RunView]]] = {}
    for row in session.execute(query).mappings():
        values = dict(row)
        total = values.pop("count")
        _, runs = found.setdefault(row["order_id"], (total, []))
        if len(runs) < per_order:
            runs.append(run_view(values))
    return found


def run_detail(
    session: Session, caller: Caller, uid: str | int, kitchen: str | None = None
) -> RunDetail:
    """A run with its order, plan, steps, checks, artefacts and alerts.

    Raises:
        NotFound: as `find_run`.
    """
    run = find_run(session, caller, uid, kitchen)
    return replace(run_details(session, [run])[0], alerts=_alerts_of(session, run))


def run_details(session: Session, runs: Sequence[RunView]) -> list[RunDetail]:
    """The details, but for their alerts, of runs that the caller was allowed to see."""
    ids = [run.id for run in runs]
    orders = _orders_of(session, {run.order_id for run in runs})
    plans = _plans_of(session, ids)
    steps = _steps_of(session, ids, plans)
    artifacts = _artifacts_of(session, ids)
    return [
        RunDetail(run, orders[run.order_id], plans[run.id], steps[run.id], artifacts[run.id])
        for run in runs
    ]


def events_since(
    session: Session, caller: Caller, run_id: int | None, after_id: int, limit: int = 500
) -> list[RunEvent]:
    """What happened after the event `after_id`, oldest first, to one run or to all visible ones."""
    e = models.events.c
    query = (
        sa.select(models.events)
        .where(e.id > after_id, *_equal(e.run_id, run_id))
        .order_by(e.id)
        .limit(limit)
    )
    if run_id is None:
        gate = KitchenGate(session, caller).where(_R.kitchen_id, "run.read")
        if gate:
            query = query.join(models.runs, _R.id == e.run_id)
            query = query.join(models.orders, _O.id == _R.order_id).where(*gate)
    else:
        find_run(session, caller, run_id)
    return [RunEvent(**row) for row in session.execute(query).mappings()]


def order_view(row: Any) -> OrderView:
    """An order's row as a view."""
    values = dict(row)
    schedule = values.pop("schedule")
    only = values.pop("only_steps")
    return OrderView(
        **values | {"state": OrderState(row["state"])},
        schedule=msgspec.convert(schedule, ScheduleSpec) if schedule else None,
        only_steps=tuple(only) if only else None,
    )


def run_view(row: Any) -> RunView:
    """A row of `_run_query` as a view."""
    return RunView(**dict(row) | {"state": RunState(row["state"])})


def _run_query() -> sa.Select[Any]:
    own = [column for column in models.runs.c if column.name not in _UNSHOWN]
    return (
        sa.select(
            *own,
            _O.uid.label("order_uid"),
            _O.source_kind,
            _O.source_path,
            _O.variation,
            _O.origin,
            _O.created_by,
            _O.created_by_login,
            _RESUMER.c.uid.label("resumed_by_uid"),
        )
        .join(models.orders, _O.id == _R.order_id)
        .outerjoin(_RESUMER, _RESUMER.c.id == _R.resumed_by)
    )


def _orders_of(session: Session, order_ids: set[int]) -> dict[int, OrderView]:
    query = sa.select(models.orders).where(_O.id.in_(order_ids))
    return {row["id"]: order_view(row) for row in session.execute(query).mappings()}


def _plans_of(session: Session, run_ids: list[int]) -> dict[int, Plan]:
    query = (
        sa.select(_R.id, models.plans.c.id, models.plans.c.body)
        .join(models.plans, models.plans.c.id == _R.plan_id)
        .where(_R.id.in_(run_ids))
    )
    decoded: dict[int, Plan] = {}
    found = {}
    for run_id, plan_id, body in session.execute(query):
        if plan_id not in decoded:
            decoded[plan_id] = msgspec.json.decode(body, type=Plan)
        found[run_id] = decoded[plan_id]
    return found


def _steps_of(
    session: Session, run_ids: list[int], plans: dict[int, Plan]
) -> dict[int, tuple[StepView, ...]]:
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


def _artifacts_of(session: Session, run_ids: list[int]) -> dict[int, tuple[ArtifactView, ...]]:
    a = models.artifacts.c
    query = sa.select(models.artifacts).where(a.run_id.in_(run_ids)).order_by(a.id)
    found: dict[int, list[ArtifactView]] = defaultdict(list)
    for row in session.execute(query).mappings():
        values = {k: v for k, v in row.items() if k not in {"run_id", "attempt_id"}}
        found[row["run_id"]].append(ArtifactView(**values))
    return defaultdict(tuple, {run: tuple(rows) for run, rows in found.items()})


def _alerts_of(session: Session, run: RunView) -> tuple[AlertView, ...]:
    """What the outbox holds of the run, oldest first."""
    listeners = session.scalar(sa.select(_R.alerts).where(_R.id == run.id)) or {}
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


def _runs_where(wanted: RunFilter) -> list[Any]:
    """The conditions of a filter, on runs joined with their orders."""
    where = [
        *_equal(_R.project_id, wanted.project_id),
        *_equal(_R.kitchen, wanted.kitchen),
        *_equal(_R.kitchen_id, wanted.kitchen_id),
        *_equal(_R.order_id, wanted.order_id),
        *_equal(_O.source_path, wanted.source_path),
        *_equal(_O.variation, wanted.variation),
        *_among(_R.state, wanted.states),
        *_among(_R.order_id, wanted.order_ids),
    ]
    if wanted.resumed is not None:
        where.append(_R.resumed_by.is_not(None) if wanted.resumed else _R.resumed_by.is_(None))
    if wanted.since is not None:
        where.append(_R.created_at >= wanted.since)
    return where


def _equal(column: Any, value: Any) -> list[Any]:
    return [] if value is None else [column == value]


def _among(column: Any, values: Iterable[Any] | None) -> list[Any]:
    return [] if values is None else [column.in_(list(values))]


def _uid(text: str) -> str | None:
    return uid_of(text) or (text if len(text) == 26 and text.isalnum() else None)  # noqa: PLR2004


def _shown(uid: str | int) -> str:
    if isinstance(uid, int):
        return str(uid)
    known = _uid(uid)
    try:
        return uuid_of(known) if known else uid[:80]
    except ValueError:
        return uid[:80]
