"""Reads orders and runs for people. A caller sees what the kitchens that they may enter hold."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import NotFound
from galley.core.runs import models
from galley.core.runs.counting import count_rows
from galley.core.runs.detailing import alerts_of, artifacts_of, plans_of, steps_of
from galley.core.runs.gate import KitchenGate
from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.states import OrderState, RunState
from galley.core.runs.views import (
    OrderFilter,
    OrderView,
    RunDetail,
    RunEvent,
    RunFilter,
    RunView,
)
from galley.kit.ids import uid_of, uuid_of
from galley.kit.pages import Page, PageRequest

_O, _R = models.orders.c, models.runs.c
_RESUMER = models.runs.alias("resumer")
_RUNS_OF_ORDERS = models.runs.join(models.orders, _O.id == _R.order_id)
_LIVE = frozenset({RunState.QUEUED, RunState.RUNNING})
_UNWELL = frozenset({RunState.FAILED, RunState.CANCELED})
_UNSHOWN = {"plan_id", "cancel_reason", "lane", "lane_limit", "alerts", "work_id"}

# What is asked at each look at a run is made once: to make a query costs more than to run it.
_OWN = [column for column in models.runs.c if column.name not in _UNSHOWN]
_OF_ORDER = ("source_kind", "source_path", "variation", "origin", "created_by", "created_by_login")
_RUNS = (
    sa.select(
        *_OWN,
        _O.uid.label("order_uid"),
        *(_O[name] for name in _OF_ORDER),
        _RESUMER.c.uid.label("resumed_by_uid"),
    )
    .join(models.orders, _O.id == _R.order_id)
    .outerjoin(_RESUMER, _RESUMER.c.id == _R.resumed_by)
)
_RUN_BY_ID = _RUNS.where(_R.id == sa.bindparam("wanted"))
_RUN_BY_UID = _RUNS.where(_R.uid == sa.bindparam("wanted"))
_RUNS_OF_ORDER = (  # without a join: Postgres plans anew each time, for longer than it looks
    sa.select(
        *_OWN,
        sa.select(_RESUMER.c.uid)
        .where(_RESUMER.c.id == _R.resumed_by)
        .scalar_subquery()
        .label("resumed_by_uid"),
    )
    .where(_R.order_id == sa.bindparam("wanted"))
    .order_by(_R.id.desc())
    .limit(sa.bindparam("most"))
    .offset(sa.bindparam("passed"))
)
_COUNT_OF_ORDER = sa.select(sa.func.count(_R.id)).where(_R.order_id == sa.bindparam("wanted"))
_ORDER_BY_UID = sa.select(models.orders).where(_O.uid == sa.bindparam("wanted"))


def find_order(session: Session, caller: Caller, uid: str, kitchen: str | None = None) -> OrderView:
    """The order of this ULID or UUID text (in this kitchen).

    Raises:
        NotFound: there is none, it is in another kitchen, or the caller may not see it.
    """
    row = None
    wanted = _uid(uid)
    if wanted is not None:
        row = session.execute(_ORDER_BY_UID, {"wanted": wanted}).mappings().first()
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
    query = sa.select(models.orders).where(*where).order_by(_O.id.desc())
    rows = session.execute(query.limit(page.limit).offset(page.offset)).mappings()
    views = [order_view(row) for row in rows]
    total = _known_total(views, page)
    return Page(views, _count_orders(session, wanted, where) if total is None else total, page)


def _count_orders(session: Session, wanted: OrderFilter, where: list[Any]) -> int:
    """How many orders fulfil the conditions; what a filter asks of their states may change."""
    if wanted.states is None and wanted.runs is None and wanted.since is None:
        return count_rows(session, models.orders, _O.id, where)
    query = sa.select(sa.func.count()).select_from(models.orders).where(*where)
    return session.scalar(query) or 0


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
        query = _RUN_BY_ID if isinstance(wanted, int) else _RUN_BY_UID
        row = session.execute(query, {"wanted": wanted}).mappings().first()
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
    gate = KitchenGate(session, caller).where(_R.kitchen_id, "run.read")
    where = [*_runs_where(wanted), *gate]
    query = _RUNS.where(*where).order_by(_R.id.desc())
    rows = session.execute(query.limit(page.limit).offset(page.offset)).mappings()
    views = [run_view(row) for row in rows]
    if (total := _known_total(views, page)) is not None:
        return Page(views, total, page)
    needs_orders = bool(gate) or wanted.source_path is not None or wanted.variation is not None
    total = _count_runs(session, wanted, where, _RUNS_OF_ORDERS if needs_orders else models.runs)
    return Page(views, total, page)


def runs_of(session: Session, caller: Caller, order: OrderView, page: PageRequest) -> Page[RunView]:
    """The runs of an order that the caller was let see, newest first."""
    if not KitchenGate(session, caller).admits(order, "run.read"):
        return Page([], 0, page)
    values = {"wanted": order.id, "most": page.limit, "passed": page.offset}
    known = {"order_uid": order.uid} | {name: getattr(order, name) for name in _OF_ORDER}
    found = session.execute(_RUNS_OF_ORDER, values).mappings()
    views = [run_view({**row, **known}) for row in found]
    total = _known_total(views, page)
    if total is None:
        total = session.scalar(_COUNT_OF_ORDER, {"wanted": order.id}) or 0
    return Page(views, total, page)


def _known_total(rows: Sequence[Any], page: PageRequest) -> int | None:
    """How many rows there are in all, where a page that is not full tells."""
    is_last = len(rows) < page.limit and (bool(rows) or page.offset == 0)
    return page.offset + len(rows) if is_last else None


def _count_runs(session: Session, wanted: RunFilter, where: list[Any], rows: Any) -> int:
    """How many runs fulfil the conditions; a state stays as it is once a run has ended."""
    if wanted.resumed is not None or wanted.since is not None:
        return session.scalar(sa.select(sa.func.count()).select_from(rows).where(*where)) or 0
    newest = sa.select(sa.func.max(_R.id)).scalar_subquery()
    live = sa.select(sa.func.min(_R.id) - 1).where(models.RUN_IS_LIVE).scalar_subquery()
    settled = None if wanted.states is None else sa.select(sa.func.coalesce(live, newest))
    return count_rows(session, rows, _R.id, where, settled=settled)


def newest_runs(
    session: Session, caller: Caller, wanted: RunFilter, *, per_order: int
) -> dict[int, tuple[int, list[RunView]]]:
    """Of every order that has such runs: how many they are, and the newest, newest first."""
    where = [*_runs_where(wanted), *KitchenGate(session, caller).where(_R.kitchen_id, "run.read")]
    counts = sa.select(_R.order_id, sa.func.count()).select_from(_RUNS_OF_ORDERS).where(*where)
    found: dict[int, tuple[int, list[RunView]]] = {
        order_id: (total, []) for order_id, total in session.execute(counts.group_by(_R.order_id))
    }
    if per_order < 1:
        return found
    # The oldest run to show of each order is found by index, however many older ones there are.
    oldest = sa.select(_R.id).where(_R.order_id == _O.id, *where).order_by(_R.id.desc())
    oldest = oldest.limit(1).offset(per_order - 1).correlate(models.orders)
    floors = sa.select(_O.id, sa.func.coalesce(oldest.scalar_subquery(), 0).label("floor"))
    floor = floors.where(*_among(_O.id, wanted.order_ids)).subquery().c
    query = _RUNS.join(floor.id.table, floor.id == _R.order_id)
    query = query.where(_R.id >= floor.floor, *where).order_by(_R.id.desc())
    for row in session.execute(query).mappings():
        if row["order_id"] in found:
            found[row["order_id"]][1].append(run_view(row))
    return found


def run_detail(
    session: Session, caller: Caller, uid: str | int, kitchen: str | None = None
) -> RunDetail:
    """A run with its order, plan, steps, checks, artefacts and alerts.

    Raises:
        NotFound: as `find_run`.
    """
    run = find_run(session, caller, uid, kitchen)
    return replace(run_details(session, [run])[0], alerts=alerts_of(session, run))


def run_details(session: Session, runs: Sequence[RunView]) -> list[RunDetail]:
    """The details, but for their alerts, of runs that the caller was allowed to see."""
    ids = [run.id for run in runs]
    orders = _orders_of(session, {run.order_id for run in runs})
    plans = plans_of(session, ids)
    steps = steps_of(session, ids, plans)
    artifacts = artifacts_of(session, ids)
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
    """A row of `_RUNS` as a view."""
    return RunView(**dict(row) | {"state": RunState(row["state"])})


def _orders_of(session: Session, order_ids: set[int]) -> dict[int, OrderView]:
    query = sa.select(models.orders).where(_O.id.in_(order_ids))
    return {row["id"]: order_view(row) for row in session.execute(query).mappings()}


def _runs_where(wanted: RunFilter) -> list[Any]:
    """The conditions of a filter, on runs joined with their orders."""
    where = [
        *_equal(_R.project_id, wanted.project_id),
        *_equal(_R.kitchen, wanted.kitchen),
        *_equal(_R.kitchen_id, wanted.kitchen_id),
        *_equal(_R.order_id, wanted.order_id),
        *_equal(_O.source_path, wanted.source_path),
        *_equal(_O.variation, wanted.variation),
        *_in_states(wanted.states),
        *_among(_R.order_id, wanted.order_ids),
    ]
    if wanted.resumed is not None:
        where.append(_R.resumed_by.is_not(None) if wanted.resumed else _R.resumed_by.is_(None))
    if wanted.since is not None:
        where.append(_R.created_at >= wanted.since)
    return where


def _in_states(states: frozenset[RunState] | None) -> list[Any]:
    """The condition on a run's state, with the one of a partial index where that holds them all."""
    where = _among(_R.state, states)
    if states and states <= _LIVE:
        where.append(models.RUN_IS_LIVE)
    elif states and states <= _UNWELL:
        where.append(models.RUN_IS_UNWELL)
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
