"""Orders: placing them, listing them, their runs. Source: contract 3.6, 3.7."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Body, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from galley.core.caller import Caller
from galley.core.errors import GalleyError, Invalid, NotFound
from galley.core.projects import operations as projects
from galley.core.runs import operations as runs
from galley.core.runs import reading
from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.views import OrderFilter, OrderView, OrderWish, RunFilter, RunView
from galley.dialects.datakitchen import orderschemas, render, schemas
from galley.dialects.datakitchen.answers import merged, ok
from galley.dialects.datakitchen.auth import CallerDep
from galley.dialects.datakitchen.patterns import search_pattern
from galley.dialects.datakitchen.states import (
    ORDER_STATUS,
    RERAN,
    RUN_STATUS,
    order_states_of,
    run_states_of,
)
from galley.kit.ids import uuid_of
from galley.kit.pages import PageRequest
from galley.wire.routes import CallRoute
from galley.wire.services import ServicesDep
from galley.wire.session import Made, SessionDep, Write, WriteDep

router = APIRouter(prefix="/order", route_class=CallRoute)

log = structlog.get_logger("galley.datakitchen")

_SCAN = 500
_NEWEST = 10_000


@router.put("/create/graph/{kitchen}/{recipe}/{variation}", operation_id="order-create-graph")
def create_graph_order(
    *,
    kitchen: str,
    recipe: str,
    variation: str,
    caller: CallerDep,
    services: ServicesDep,
    write: WriteDep,
    wanted: Annotated[orderschemas.NewOrder, Body(default_factory=orderschemas.NewOrder)],
) -> Response:
    """Run only the named nodes, now unless a schedule is given."""
    nodes = wanted.nodes()
    if not nodes:
        raise Invalid('graph-setting: name at least one node, such as [["load"]].')
    wish = _wish(kitchen, recipe, variation, wanted, nodes=nodes)
    return _place(services, write, caller, wish, wanted)


@router.put(
    "/create/onenode/{kitchen}/{recipe}/{variation}/{node}", operation_id="order-create-onenode"
)
def create_node_order(
    *,
    kitchen: str,
    recipe: str,
    variation: str,
    node: str,
    caller: CallerDep,
    services: ServicesDep,
    write: WriteDep,
    wanted: Annotated[orderschemas.NewOrder, Body(default_factory=orderschemas.NewOrder)],
) -> Response:
    """The older way to run one node."""
    wish = _wish(kitchen, recipe, variation, wanted, nodes=(node,))
    return _place(services, write, caller, wish, wanted)


@router.put("/create/{kitchen}/{recipe}/{variation}", operation_id="order-create")
def create_order(
    *,
    kitchen: str,
    recipe: str,
    variation: str,
    caller: CallerDep,
    services: ServicesDep,
    write: WriteDep,
    wanted: Annotated[orderschemas.NewOrder, Body(default_factory=orderschemas.NewOrder)],
) -> Response:
    """Order a variation; without a schedule in the body its own applies."""
    wish = _wish(kitchen, recipe, variation, wanted, nodes=wanted.nodes())
    return _place(services, write, caller, wish, wanted)


@router.get("/status/{kitchen}", operation_id="order-status")
def list_orders(
    *,
    kitchen: str,
    request: Request,
    caller: CallerDep,
    session: SessionDep,
    services: ServicesDep,
    body: Annotated[dict[str, Any], Body(default_factory=dict)],
) -> Response:
    """A kitchen's orders with their newest runs, newest first."""
    wanted = merged(request, body, schemas.StatusQuery)
    place = projects.get_kitchen(session, caller, kitchen)
    now = services.clock.now()
    since = None if wanted.hours is None else now - timedelta(hours=min(wanted.hours, 876_000))
    found = OrderFilter(
        kitchen_id=place.id,
        source_path=wanted.recipe or None,
        variation=wanted.variation or None,
        states=_order_states(wanted.order_status),
        runs=_runs_asked(wanted.run_status),
        since=since,
    )
    total, orders = _chosen(session, caller, found, wanted)
    account = services.account
    return ok(
        {
            "customer": account.organisation,
            "repo": account.code,
            "kitchenname": kitchen,
            "total-orders": total,
            "orders": [
                render.order(order, account, parent_run=_parent(session, caller, order))
                for order in orders
            ],
            "servings": _servings(session, caller, orders, wanted, now),
        }
    )


@router.get("/servings/{kitchen}/{order}", operation_id="order-servings")
def list_runs(
    *,
    kitchen: str,
    order: str,
    request: Request,
    caller: CallerDep,
    session: SessionDep,
    services: ServicesDep,
    body: Annotated[dict[str, Any], Body(default_factory=dict)],
) -> Response:
    """An order's runs, newest first; at most 10,000."""
    wanted = merged(request, body, schemas.ServingsQuery)
    projects.get_kitchen(session, caller, kitchen)
    found = reading.find_order(session, caller, order, kitchen)
    page = PageRequest(limit=min(wanted.count, _NEWEST))
    rows = reading.runs_of(session, caller, found, page)
    now = services.clock.now()
    return ok({"servings": [render.run(row, now) for row in rows.items]})


def _wish(
    kitchen: str,
    recipe: str,
    variation: str,
    wanted: orderschemas.NewOrder,
    *,
    nodes: tuple[str, ...] | None,
) -> OrderWish:
    """What the caller asks for; single nodes run now where nothing else is said."""
    schedule = wanted.schedule_spec()
    if schedule is None and nodes is not None:
        schedule = ScheduleSpec()
    return OrderWish(
        kitchen=kitchen,
        source_path=recipe,
        variation=variation,
        parameters=wanted.parameters,
        schedule=schedule,
        only_steps=nodes,
        infrastructure=wanted.infrastructure,
        source_date=wanted.source_date,
        alerts=wanted.alerts,
        priority=wanted.priority,
    )


def _place(
    services: ServicesDep,
    write: Write,
    caller: Caller,
    wish: OrderWish,
    wanted: orderschemas.NewOrder,
) -> Response:
    """Place the order; the answer leaves after the commit and before the work."""
    if wanted.owner_run is not None:
        with services.database.reading() as session:
            owner = reading.find_run(session, caller, wanted.owner_run)
        wish = replace(wish, parent_run_id=owner.id)

    def answer(made: Made) -> Response:
        order_id = uuid_of(made.order_uid or "")
        return ok(
            {
                "status": "success",
                "order_id": order_id,
                "serving_hid": order_id,
                "variable_overrides": {**(wish.infrastructure or {}), **wish.parameters},
            }
        )

    try:
        placed = runs.place_order(write.desk(answer), caller, wish)
    except GalleyError as error:
        log.warning(
            "order refused",
            login=caller.login,
            kitchen=wish.kitchen,
            recipe=wish.source_path,
            variation=wish.variation,
            reason=error.message,
            issues=[f"{issue.file}: {issue.description}" for issue in error.issues[:20]],
        )
        raise
    return answer(Made(placed.order_uid, placed.run_uid))


def _chosen(
    session: Session, caller: Caller, found: OrderFilter, wanted: schemas.StatusQuery
) -> tuple[int, Sequence[OrderView]]:
    """How many orders match, and the wished slice of them."""
    pattern = search_pattern(wanted.search)
    if pattern is None:
        page = PageRequest(limit=wanted.count, offset=wanted.start)
        rows = reading.list_orders(session, caller, found, page)
        return rows.total, rows.items
    matching = [
        order for order in _all_orders(session, caller, found) if pattern.search(order.uuid)
    ]
    return len(matching), matching[wanted.start : wanted.start + wanted.count]


def _all_orders(session: Session, caller: Caller, found: OrderFilter) -> list[OrderView]:
    """The newest orders that match, at most 10,000: a search reads them all."""
    orders: list[OrderView] = []
    while len(orders) < _NEWEST:
        page = PageRequest(limit=_SCAN, offset=len(orders))
        rows = reading.list_orders(session, caller, found, page).items
        orders.extend(rows)
        if len(rows) < _SCAN:
            break
    return orders


def _servings(
    session: Session,
    caller: Caller,
    orders: Sequence[OrderView],
    wanted: schemas.StatusQuery,
    now: datetime,
) -> dict[str, Any]:
    """Of each order: how many runs of the wished status it has, and the newest of them."""
    held: dict[int, tuple[int, list[RunView]]] = {}
    asked = _runs_asked(wanted.run_status) or RunFilter()
    for start in range(0, len(orders), _SCAN):
        ids = tuple(order.id for order in orders[start : start + _SCAN])
        some = replace(asked, order_ids=ids)
        held |= reading.newest_runs(session, caller, some, per_order=wanted.runs)
    shown = {}
    for order in orders:
        total, newest = held.get(order.id, (0, []))
        shown[order.uuid] = {"total": total, "servings": [render.run(run, now) for run in newest]}
    return shown


def _order_states(status: str | None) -> frozenset[Any] | None:
    if not status:
        return None
    states = order_states_of(status)
    if not states:
        raise Invalid(_unknown("orderStatus", status, list(ORDER_STATUS.values())))
    return states


def _runs_asked(status: str | None) -> RunFilter | None:
    """The runs that a status of the filter means; a run that was resumed has no other status."""
    if not status:
        return None
    states = run_states_of(status)
    if not states:
        raise Invalid(_unknown("orderRunStatus", status, [*RUN_STATUS.values(), RERAN]))
    return RunFilter(states=states, resumed=status == RERAN)


def _unknown(key: str, value: str, known: Sequence[str]) -> str:
    return f"{key}: there is no status {value!r}; use one of {', '.join(known)}."


def _parent(session: Session, caller: Caller, order: OrderView) -> str | None:
    """The UUID of the run that ordered this one, if the caller may see it."""
    if order.parent_run_id is None:
        return None
    try:
        return reading.find_run(session, caller, order.parent_run_id).uuid
    except NotFound:
        return None
