"""What callers do with orders and runs: one message to the ledger each, and await its commit."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Refused
from galley.core.events import audit
from galley.core.projects import operations as projects
from galley.core.projects.account import alerts_of_account
from galley.core.projects.models import Kitchen
from galley.core.runs import messages as msg
from galley.core.runs import reading
from galley.core.runs.alerts import EVENTS, check_alerts, unsendable
from galley.core.runs.desk import Desk
from galley.core.runs.gate import KitchenGate
from galley.core.runs.orderer import acting_for
from galley.core.runs.plan import CompiledSource, ScheduleSpec
from galley.core.runs.schedule import check_schedule, next_due
from galley.core.runs.sources import request_for
from galley.core.runs.views import OrderView, OrderWish, RunView
from galley.kit.ids import new_uid

Companions = msg.Companions
_log = logging.getLogger(__name__)


def place_order(
    desk: Desk, caller: Caller, wish: OrderWish, *, companions: Companions = ()
) -> msg.Submitted:
    """Order a variation of a recipe: once now, or as its schedule says.

    Raises:
        NotFound: no such kitchen, or the caller may not enter it.
        Forbidden: the caller may not place orders there.
        Refused: no such recipe or variation, or it does not compile (`issues` says why).
        Invalid: a schedule, date or alert destination that cannot be.
    """
    with desk.database.reading() as session:
        kitchen = projects.get_kitchen(session, caller, wish.kitchen)
        caller.require("order.create", kitchen)
        request = request_for(desk, session, caller, kitchen, wish)
        shared = alerts_of_account(session, kitchen)
    check_alerts(wish.alerts)
    compiled = desk.compiler.compile(request)
    schedule = wish.schedule if wish.schedule is not None else compiled.schedule
    order = _new_order(kitchen, caller, wish, schedule)
    if schedule is not None:
        check_schedule(schedule, desk.clock.now())
    is_recurring = schedule is not None and schedule.cron is not None
    run = None if is_recurring else _new_run(desk, kitchen, wish, compiled, shared)
    entry = audit.entry(
        caller,
        "order.create",
        "order",
        order.uid,
        after={"kitchen": kitchen.name, "source": wish.source_path, "variation": wish.variation},
        at=desk.clock.now(),
    )
    message = msg.SubmitOrder(order, run, (("audit", entry), *companions))
    submitted: msg.Submitted = desk.writer.call(message)
    return submitted


def fire_schedule(desk: Desk, caller: Caller, order: OrderView, due: Any) -> msg.Submitted | None:
    """Make the run of a scheduled order that is due now; once, however many servers try.

    It runs for whoever placed the order. One whose user was disabled or may no longer order there
    makes no run, nor does a recipe that no longer compiles: the time is recorded with the reason.
    """
    schedule = order.schedule or ScheduleSpec()
    following = next_due(schedule, due)
    wish = _wish_of(order)
    try:
        with desk.database.reading() as session:
            kitchen = KitchenGate(session, caller).home(order)
            who = acting_for(session, caller, order, kitchen)
            request = request_for(desk, session, caller, kitchen, wish, who)
            shared = alerts_of_account(session, kitchen)
        run = _new_run(desk, kitchen, wish, desk.compiler.compile(request), shared)
        run = replace_due(run, due)
        message = msg.FireSchedule(order.id, due, following, run)
    except Refused as error:
        message = msg.FireSchedule(
            order.id, due, following, outcome="refused", reason=error.message
        )
    submitted: msg.Submitted | None = desk.writer.call(message)
    return submitted


def skip_schedule(desk: Desk, order: OrderView, due: Any, reason: str) -> None:
    """Record that a due time passes without a run, and look to the next one."""
    following = next_due(order.schedule or ScheduleSpec(), due)
    desk.writer.call(msg.FireSchedule(order.id, due, following, outcome="skipped", reason=reason))


def resume_run(
    desk: Desk,
    caller: Caller,
    run_uid: str,
    *,
    skip_failed: bool = False,
    parameters: Mapping[str, Any] | None = None,
    kitchen: str | None = None,
    companions: Companions = (),
) -> msg.Submitted:
    """Go on with a failed or stopped run in a new run that keeps what was finished.

    The recipe is compiled as it is now; its variables beat those of the old run.

    Raises:
        NotFound: no such run.
        Conflict: it did not fail, was resumed before, or its kitchen was deleted.
        Refused: the recipe does not compile.
    """
    with desk.database.reading() as session:
        old = reading.find_run(session, caller, run_uid, kitchen)
        order = reading.find_order(session, caller, old.order_uid)
        _require(session, caller, "run.resume", old)
        place = KitchenGate(session, caller).home(old)
        wish = _wish_of(order, {**old.parameters, **(parameters or {})})
        request = request_for(desk, session, caller, place, wish)
        shared = alerts_of_account(session, place)
    new = _new_run(desk, place, wish, desk.compiler.compile(request), shared)
    extra = _audited(desk, caller, "run.resume", "run", old.uid)
    message = msg.ResumeRun(old.id, new, skip_failed, (*extra, *companions))
    submitted: msg.Submitted = desk.writer.call(message)
    return submitted


def stop_run(
    desk: Desk,
    caller: Caller,
    run_uid: str,
    *,
    kitchen: str | None = None,
    companions: Companions = (),
) -> RunView:
    """Stop a run and kill what it is doing; stopping a finished run changes nothing."""
    with desk.database.reading() as session:
        run = reading.find_run(session, caller, run_uid, kitchen)
        _require(session, caller, "run.stop", run)
    extra = _audited(desk, caller, "run.stop", "run", run.uid)
    reason = f"Stopped by {caller.login or 'the system'}."
    desk.writer.call(msg.StopRun(run.id, reason, (*extra, *companions)))
    return run


def pause_run(
    desk: Desk, caller: Caller, run_uid: str, *, paused: bool, kitchen: str | None = None
) -> RunView:
    """Start no further step of a run, or go on.

    Raises:
        Conflict: the run has ended.
    """
    with desk.database.reading() as session:
        run = reading.find_run(session, caller, run_uid, kitchen)
        _require(session, caller, "run.stop", run)
    extra = _audited(desk, caller, "run.pause" if paused else "run.unpause", "run", run.uid)
    desk.writer.call(msg.PauseRun(run.id, paused, extra))
    return run


def delete_run(
    desk: Desk,
    caller: Caller,
    run_uid: str,
    *,
    kitchen: str | None = None,
    companions: Companions = (),
) -> None:
    """Remove a run with its log and results; a live one is stopped first."""
    with desk.database.reading() as session:
        run = reading.find_run(session, caller, run_uid, kitchen)
        _require(session, caller, "run.delete", run)
    extra = _audited(desk, caller, "run.delete", "run", run.uid)
    desk.writer.call(msg.DeleteRun(run.id, (*extra, *companions)))


def stop_order(
    desk: Desk,
    caller: Caller,
    order_uid: str,
    *,
    kitchen: str | None = None,
    companions: Companions = (),
) -> OrderView:
    """Stop an order's runs and end its schedule."""
    order = _order(desk, caller, order_uid, "order.stop", kitchen)
    extra = _audited(desk, caller, "order.stop", "order", order.uid)
    reason = f"The order was stopped by {caller.login or 'the system'}."
    desk.writer.call(msg.StopOrder(order.id, reason, (*extra, *companions)))
    return order


def pause_order(
    desk: Desk,
    caller: Caller,
    order_uid: str,
    *,
    kitchen: str | None = None,
    companions: Companions = (),
) -> OrderView:
    """Suspend an order's schedule; running runs go on.

    Raises:
        Conflict: the order has ended.
    """
    order = _order(desk, caller, order_uid, "schedule.manage", kitchen)
    extra = _audited(desk, caller, "order.pause", "order", order.uid)
    desk.writer.call(msg.PauseOrder(order.id, (*extra, *companions)))
    return order


def unpause_order(
    desk: Desk,
    caller: Caller,
    order_uid: str,
    *,
    kitchen: str | None = None,
    companions: Companions = (),
) -> OrderView:
    """Let a paused schedule go on from the next time that is due after now.

    Raises:
        Conflict: the order has ended.
    """
    order = _order(desk, caller, order_uid, "schedule.manage", kitchen)
    due = next_due(order.schedule, desk.clock.now()) if order.schedule else None
    extra = _audited(desk, caller, "order.unpause", "order", order.uid)
    desk.writer.call(msg.UnpauseOrder(order.id, due, (*extra, *companions)))
    return order


def delete_order(
    desk: Desk,
    caller: Caller,
    order_uid: str,
    *,
    kitchen: str | None = None,
    companions: Companions = (),
) -> None:
    """Remove an order with its runs; live ones are stopped first."""
    order = _order(desk, caller, order_uid, "order.delete", kitchen)
    extra = _audited(desk, caller, "order.delete", "order", order.uid)
    desk.writer.call(msg.DeleteOrder(order.id, (*extra, *companions)))


def delete_orders(desk: Desk, caller: Caller, kitchen: str, *, companions: Companions = ()) -> int:
    """Remove every order of a kitchen, in one change; how many there were."""
    with desk.database.reading() as session:
        place = projects.get_kitchen(session, caller, kitchen)
        caller.require("order.clear", place)
        ids = reading.order_ids(session, place.id)
    extra = _audited(desk, caller, "order.clear", "kitchen", kitchen)
    desk.writer.call(msg.DeleteOrders(tuple(ids), (*extra, *companions)))
    return len(ids)


def replace_due(run: msg.NewRun, due: Any) -> msg.NewRun:
    """The same run, made for this due time."""
    return msgspec.structs.replace(run, due_at=due)


def _order(desk: Desk, caller: Caller, uid: str, action: str, kitchen: str | None) -> OrderView:
    with desk.database.reading() as session:
        order = reading.find_order(session, caller, uid, kitchen)
        _require(session, caller, action, order)
    return order


def _require(session: Session, caller: Caller, action: str, target: OrderView | RunView) -> None:
    KitchenGate(session, caller).require(target, action)


def _audited(desk: Desk, caller: Caller, action: str, kind: str, uid: str) -> Companions:
    return (("audit", audit.entry(caller, action, kind, uid, at=desk.clock.now())),)


def _new_order(
    kitchen: Kitchen, caller: Caller, wish: OrderWish, schedule: ScheduleSpec | None
) -> msg.NewOrder:
    return msg.NewOrder(
        uid=new_uid(),
        project_id=kitchen.project_id,
        source_kind="recipe",
        source_path=wish.source_path,
        variation=wish.variation,
        origin=wish.origin,
        kitchen=kitchen.name,
        kitchen_id=kitchen.id,
        schedule=schedule,
        parameters={**(wish.infrastructure or {}), **wish.parameters},
        only_steps=wish.only_steps,
        alerts=wish.alerts,
        source_date=wish.source_date,
        priority=wish.priority,
        parent_run_id=wish.parent_run_id,
        created_by=caller.user_id,
        created_by_login=caller.login or "",
    )


def _new_run(
    desk: Desk,
    kitchen: Kitchen,
    wish: OrderWish,
    compiled: CompiledSource,
    shared: Mapping[str, Any],
) -> msg.NewRun:
    """The run of a plan; `shared` are the alerts of the account."""
    uid, plan = new_uid(), compiled.plan
    alerts = _destinations(shared, kitchen.alerts, plan.alerts, wish.alerts)
    if not desk.sends_mail and (fault := unsendable(alerts)):
        _log.warning("alerts of run %s: %s", uid, fault)
        plan = msgspec.structs.replace(plan, warnings=(*plan.warnings, ("alerts", fault)))
    return msg.NewRun(
        uid=uid,
        plan=plan,
        parameters={**(wish.infrastructure or {}), **wish.parameters},
        source_date=wish.source_date,
        lane=f"kitchen:{kitchen.id}" if kitchen.max_runs is not None else None,
        lane_limit=kitchen.max_runs,
        alerts=alerts,
    )


def _wish_of(order: OrderView, parameters: Mapping[str, Any] | None = None) -> OrderWish:
    return OrderWish(
        kitchen=order.kitchen or "",
        source_path=order.source_path,
        variation=order.variation,
        parameters=dict(order.parameters if parameters is None else parameters),
        schedule=order.schedule,
        only_steps=order.only_steps,
        source_date=order.source_date,
        alerts=order.alerts,
        priority=order.priority,
        origin=order.origin,
    )


def _destinations(*levels: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """Who hears of each event: all levels together, each destination once."""
    found: dict[str, list[str]] = {}
    for event in EVENTS:
        named = [who for level in levels for who in ((level or {}).get(event) or ())]
        if named:
            found[event] = list(dict.fromkeys(named))
    return found
