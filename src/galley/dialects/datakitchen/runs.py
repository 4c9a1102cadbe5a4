"""Order runs in full, and what is done to runs and orders. Source: contract 3.6, 3.8."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Body
from sqlalchemy.orm import Session
from starlette.responses import Response

from galley.core.caller import Caller
from galley.core.projects import operations as projects
from galley.core.projects.models import Kitchen
from galley.core.runs import logs, reading
from galley.core.runs import operations as runs
from galley.core.runs.views import LogLine, OrderView, RunDetail, RunFilter, RunView
from galley.dialects.datakitchen import details, render, schemas
from galley.dialects.datakitchen.answers import named, ok
from galley.dialects.datakitchen.auth import CallerDep
from galley.kit.ids import uuid_of
from galley.kit.pages import PageRequest
from galley.wire.routes import CallRoute
from galley.wire.services import ServicesDep
from galley.wire.session import Made, SnapshotDep, WriteDep

router = APIRouter(route_class=CallRoute)

_NEWEST = 20
_OF_ORDER = 100
_LOG_LINES = 5000
_STEPS = 50_000

TargetBody = Annotated[schemas.Target, Body(default_factory=schemas.Target)]


@router.post("/order/details/{kitchen}", operation_id="order-details")
def order_details(
    kitchen: str,
    caller: CallerDep,
    session: SnapshotDep,
    services: ServicesDep,
    wanted: Annotated[schemas.DetailsQuery, Body(default_factory=schemas.DetailsQuery)],
) -> Response:
    """One run, an order's newest 100 runs, or the kitchen's newest 20, newest first."""
    place = projects.get_kitchen(session, caller, kitchen)
    if wanted.logs:
        caller.require("log.read", place)
    orders, chosen = _chosen(session, caller, place, wanted)
    found = reading.run_details(session, _few_steps(chosen))
    parts = details.Wanted(
        summary=wanted.summary,
        logs=wanted.logs,
        timings=wanted.timingresults,
        tests=wanted.testresults,
        serving=wanted.servingjson,
    )
    now = services.clock.now()
    shown = {order.id: order for order in (*orders, *(detail.order for detail in found))}
    lines = _logs(services, found) if wanted.logs else [()] * len(found)
    return ok(
        {
            "status": "success",
            "orders": [render.short_order(order) for order in shown.values()],
            "servings": [
                details.run(detail, parts, now, log=log)
                for detail, log in zip(found, lines, strict=True)
            ],
        }
    )


def _chosen(
    session: Session, caller: Caller, kitchen: Kitchen, wanted: schemas.DetailsQuery
) -> tuple[Sequence[OrderView], Sequence[RunView]]:
    """The order asked for (none if only its runs tell it), and the runs to show."""
    if wanted.run_id:
        return (), [reading.find_run(session, caller, wanted.run_id, kitchen.name)]
    if wanted.order_id:
        order = reading.find_order(session, caller, wanted.order_id, kitchen.name)
        return [order], reading.runs_of(session, caller, order, PageRequest(_OF_ORDER)).items
    found = RunFilter(kitchen_id=kitchen.id)
    return (), reading.list_runs(session, caller, found, PageRequest(_NEWEST)).items


def _few_steps(chosen: Sequence[RunView]) -> list[RunView]:
    """The newest of these runs that have 50,000 steps together; the newest one in any case."""
    kept: list[RunView] = []
    steps = 0
    for run in chosen:
        steps += run.steps_total
        if kept and steps > _STEPS:
            break
        kept.append(run)
    return kept


def _logs(services: ServicesDep, found: Sequence[RunDetail]) -> list[Sequence[LogLine]]:
    """The runs' newest log lines, at most 5,000 in all; the newest run comes first."""
    left = _LOG_LINES
    budget = logs.Budget()
    shown: list[Sequence[LogLine]] = []
    for detail in found:
        lines = logs.newest_lines(services.logs, detail, left, budget) if left else []
        left -= len(lines)
        shown.append(lines)
    return shown


@router.put("/order/resume/{run}", operation_id="order-resume")
def resume_run(
    run: str,
    caller: CallerDep,
    services: ServicesDep,
    write: WriteDep,
    wanted: Annotated[schemas.Resume, Body(default_factory=schemas.Resume)],
) -> Response:
    """A new run of the same order that repeats nothing that was completed."""
    wanted_run = named(wanted.run_id, run, "order run", "serving_hid")
    with services.database.reading() as session:
        old = reading.find_run(session, caller, wanted_run, wanted.kitchen)

    def answer(made: Made) -> Response:
        return ok(
            {
                "status": "success",
                "order_id": uuid_of(old.order_uid),
                "serving_hid": uuid_of(made.run_uid or ""),
            }
        )

    placed = runs.resume_run(
        write.desk(answer),
        caller,
        old.uid,
        skip_failed=wanted.skip_failed,
        parameters=wanted.parameters,
        kitchen=wanted.kitchen,
    )
    return answer(Made(placed.order_uid, placed.run_uid))


@router.put("/order/pause/{order}", operation_id="order-pause")
def pause_order(
    order: str, wanted: TargetBody, caller: CallerDep, services: ServicesDep, write: WriteDep
) -> Response:
    """Suspend a schedule; running runs go on."""
    answer = ok()
    runs.pause_order(
        services.desk,
        caller,
        _order(wanted, order),
        kitchen=wanted.kitchen,
        companions=write.companions(answer),
    )
    return answer


@router.put("/order/unpause/{order}", operation_id="order-unpause")
def unpause_order(
    order: str, wanted: TargetBody, caller: CallerDep, services: ServicesDep, write: WriteDep
) -> Response:
    """Let a paused schedule go on."""
    answer = ok()
    runs.unpause_order(
        services.desk,
        caller,
        _order(wanted, order),
        kitchen=wanted.kitchen,
        companions=write.companions(answer),
    )
    return answer


@router.put("/order/stop/{order}", operation_id="order-stop")
def stop_order(
    order: str, wanted: TargetBody, caller: CallerDep, services: ServicesDep, write: WriteDep
) -> Response:
    """Stop an order's runs and end its schedule."""
    answer = ok()
    runs.stop_order(
        services.desk,
        caller,
        _order(wanted, order),
        kitchen=wanted.kitchen,
        companions=write.companions(answer),
    )
    return answer


@router.put("/serving/stop/{run}", operation_id="serving-stop")
def stop_run(
    run: str, wanted: TargetBody, caller: CallerDep, services: ServicesDep, write: WriteDep
) -> Response:
    """Stop one run."""
    answer = ok()
    runs.stop_run(
        services.desk,
        caller,
        _run(wanted, run),
        kitchen=wanted.kitchen,
        companions=write.companions(answer),
    )
    return answer


@router.delete("/order/deleteall/{kitchen}", operation_id="order-delete-all")
def delete_orders(
    kitchen: str, caller: CallerDep, services: ServicesDep, write: WriteDep
) -> Response:
    """Delete every order of a kitchen with its runs; safe to repeat."""
    answer = ok()
    runs.delete_orders(services.desk, caller, kitchen, companions=write.companions(answer))
    return answer


@router.delete("/order/delete/{order}", operation_id="order-delete")
def delete_order(
    order: str, wanted: TargetBody, caller: CallerDep, services: ServicesDep, write: WriteDep
) -> Response:
    """Delete one order with its runs."""
    answer = ok()
    runs.delete_order(
        services.desk,
        caller,
        _order(wanted, order),
        kitchen=wanted.kitchen,
        companions=write.companions(answer),
    )
    return answer


@router.delete("/serving/delete/{run}", operation_id="serving-delete")
def delete_run(
    run: str, wanted: TargetBody, caller: CallerDep, services: ServicesDep, write: WriteDep
) -> Response:
    """Delete one run with its log."""
    answer = ok()
    runs.delete_run(
        services.desk,
        caller,
        _run(wanted, run),
        kitchen=wanted.kitchen,
        companions=write.companions(answer),
    )
    return answer


def _order(wanted: schemas.Target, path: str) -> str:
    return named(wanted.order_id, path, "order", "serving_book_hid")


def _run(wanted: schemas.Target, path: str) -> str:
    return named(wanted.run_id, path, "order run", "serving_hid")
