"""The messages that people and schedules send: orders made, stopped, paused, resumed, deleted.

They are rare beside the executors' reports, so they may read rows; what the batch has gathered
so far is written first, and each checks everything before it changes anything.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from galley.core.errors import Conflict, NotFound
from galley.core.projects.models import Kitchen
from galley.core.runs import messages as msg
from galley.core.runs import models, opening, transitions
from galley.core.runs.live import LiveRun
from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.schedule import check_schedule
from galley.core.runs.states import OrderState, RunState, StepState
from galley.core.runs.turn import Turn

if TYPE_CHECKING:
    from galley.core.runs.ledger import Ledger

_KITCHEN = sa.select(Kitchen.id).where(Kitchen.id == sa.bindparam("id"))


class Commands:
    """Applies one command at a time for the ledger."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger
        self._handlers: dict[type, Callable[[Connection, Turn, Any], Any]] = {
            msg.SubmitOrder: self._submit,
            msg.FireSchedule: self._fire,
            msg.ResumeRun: self._resume,
            msg.StopRun: self._stop_run,
            msg.StopOrder: self._stop_order,
            msg.PauseOrder: self._pause_order,
            msg.UnpauseOrder: self._unpause_order,
            msg.PauseRun: self._pause_run,
            msg.DeleteOrder: self._delete_order,
            msg.DeleteOrders: self._delete_orders,
            msg.DeleteRun: self._delete_run,
            msg.CloseKitchen: self._close_kitchen,
        }

    def handle(self, connection: Connection, turn: Turn, message: Any) -> Any:
        """Apply the message and its companion rows; the reply is the message's own."""
        if not isinstance(message, msg.SubmitOrder):
            turn.changes.flush(connection)
        reply = self._handlers[type(message)](connection, turn, message)
        turn.changes.accompany(getattr(message, "companions", ()))
        return reply

    def _submit(
        self, connection: Connection, turn: Turn, message: msg.SubmitOrder
    ) -> msg.Submitted:
        order, new = message.order, message.run
        self._check_kitchen(connection, turn, order.kitchen_id)
        if order.schedule is not None:
            check_schedule(order.schedule, turn.now)
        plan_id = self._ledger.plan_id(connection, turn, new.plan) if new is not None else 0
        order_id = opening.add_order(turn, order)
        if order.schedule is not None and order.schedule.cron is not None:
            opening.add_schedule(turn, order_id, order.schedule)
        if new is None:
            return msg.Submitted(order_id, order.uid)
        run = opening.add_run(turn, new, plan_id=plan_id, order_id=order_id, order=order)
        self._ledger.track(run)
        transitions.open_run(turn, run)
        return msg.Submitted(order_id, order.uid, run.id, run.uid)

    def _fire(
        self, connection: Connection, turn: Turn, message: msg.FireSchedule
    ) -> msg.Submitted | None:
        """The due row decides: whoever comes second finds it there and does nothing."""
        order = self._order(connection, message.order_id)
        fires = models.schedule_fires
        same = (fires.c.order_id == message.order_id) & (fires.c.due_at == message.due_at)
        if connection.scalar(sa.select(sa.func.count()).select_from(fires).where(same)):
            return None
        if order["state"] not in {OrderState.ACTIVE, OrderState.PAUSED}:
            return None
        run = None
        if message.run is not None:
            self._check_kitchen(connection, turn, order["kitchen_id"])
            plan_id = self._ledger.plan_id(connection, turn, message.run.plan)
            run = opening.add_run(
                turn,
                message.run,
                plan_id=plan_id,
                order_id=message.order_id,
                order=new_order_of(order),
            )
            self._ledger.track(run)
        turn.changes.insert(
            fires,
            {
                "order_id": message.order_id,
                "due_at": message.due_at,
                "run_id": run.id if run else None,
                "outcome": message.outcome,
                "reason": message.reason,
            },
        )
        self._advance_schedule(connection, turn, message)
        if run is None:
            return None
        transitions.open_run(turn, run)
        return msg.Submitted(message.order_id, order["uid"], run.id, run.uid)

    def _advance_schedule(
        self, connection: Connection, turn: Turn, message: msg.FireSchedule
    ) -> None:
        """Write when the order is due next; an order that is never due again is complete."""
        connection.execute(
            models.schedules.update()
            .where(models.schedules.c.order_id == message.order_id)
            .values(next_due_at=message.next_due_at)
        )
        if message.next_due_at is None:
            turn.changes.update(
                models.orders,
                message.order_id,
                {"state": OrderState.COMPLETED, "updated_at": turn.now},
            )

    def _resume(self, connection: Connection, turn: Turn, message: msg.ResumeRun) -> msg.Submitted:
        old = self._run(connection, message.run_id)
        if old["state"] not in {RunState.FAILED, RunState.CANCELED}:
            raise Conflict(
                f"The run is {old['state']}; only a failed or stopped run can be resumed."
            )
        if old["resumed_by"] is not None:
            raise Conflict("The run was resumed before; resume the newest run of the order.")
        order = self._order(connection, old["order_id"])
        self._check_kitchen(connection, turn, order["kitchen_id"])
        rows = self._step_rows(connection, message.run_id)
        plan_id = self._ledger.plan_id(connection, turn, message.run.plan)
        run = opening.add_run(
            turn,
            message.run,
            plan_id=plan_id,
            order_id=old["order_id"],
            order=new_order_of(order),
            resumed_from=message.run_id,
            work_id=old["work_id"],
        )
        failed = [row for row in rows if row["state"] == StepState.FAILED]
        opening.reuse_steps(
            turn,
            run,
            [row for row in rows if row["state"] == StepState.SUCCEEDED],
            failed if message.skip_failed else (),
        )
        turn.changes.update(models.runs, message.run_id, {"resumed_by": run.id})
        if not run.is_scheduled:
            self._set_order(turn, run.order_id, OrderState.ACTIVE)
        self._ledger.track(run)
        transitions.open_run(turn, run)
        return msg.Submitted(run.order_id, order["uid"], run.id, run.uid)

    def _stop_run(self, connection: Connection, turn: Turn, message: msg.StopRun) -> None:
        run = self._ledger.find(message.run_id)
        if run is not None:
            transitions.cancel_run(turn, run, message.reason)
        else:
            self._run(connection, message.run_id)

    def _stop_order(self, connection: Connection, turn: Turn, message: msg.StopOrder) -> None:
        order = self._order(connection, message.order_id)
        for run in self._ledger.of_order(message.order_id):
            transitions.cancel_run(turn, run, message.reason)
        if order["state"] in {OrderState.ACTIVE, OrderState.PAUSED}:
            self._end_schedule(connection, message.order_id)
            self._set_order(turn, message.order_id, OrderState.STOPPED)

    def _pause_order(self, connection: Connection, turn: Turn, message: msg.PauseOrder) -> None:
        order = self._order(connection, message.order_id)
        if order["state"] not in {OrderState.ACTIVE, OrderState.PAUSED}:
            raise Conflict(f"The order is {order['state']}; only an active order can be paused.")
        self._set_order(turn, message.order_id, OrderState.PAUSED)

    def _unpause_order(self, connection: Connection, turn: Turn, message: msg.UnpauseOrder) -> None:
        order = self._order(connection, message.order_id)
        if order["state"] not in {OrderState.ACTIVE, OrderState.PAUSED}:
            raise Conflict(f"The order is {order['state']}; only a paused order can go on.")
        if order["state"] == OrderState.PAUSED:
            self._set_schedule(connection, message.order_id, message.next_due_at)
            self._set_order(turn, message.order_id, OrderState.ACTIVE)
            turn.has_schedules = True

    def _pause_run(self, connection: Connection, turn: Turn, message: msg.PauseRun) -> None:
        run = self._ledger.find(message.run_id)
        if run is None:
            self._run(connection, message.run_id)
            raise Conflict("The run has ended; only a run under way can be paused.")
        transitions.pause_run(turn, run, paused=message.paused)
        if not message.paused:
            self._ledger.dispatcher.unpark(run)

    def _delete_order(self, connection: Connection, turn: Turn, message: msg.DeleteOrder) -> None:
        self._order(connection, message.order_id)
        for run in self._ledger.of_order(message.order_id):
            self._abandon(turn, run, "The order is being deleted.")
        runs = models.runs
        query = sa.select(runs.c.id).where(runs.c.order_id == message.order_id)
        self._remove(connection, turn, list(connection.scalars(query)))
        connection.execute(models.orders.delete().where(models.orders.c.id == message.order_id))

    def _delete_orders(self, connection: Connection, turn: Turn, message: msg.DeleteOrders) -> None:
        orders = models.orders.c
        there = sa.select(orders.id).where(orders.id.in_(message.order_ids)).order_by(orders.id)
        for order_id in connection.scalars(there).all():
            self._delete_order(connection, turn, msg.DeleteOrder(order_id))

    def _delete_run(self, connection: Connection, turn: Turn, message: msg.DeleteRun) -> None:
        old = self._run(connection, message.run_id)
        run = self._ledger.find(message.run_id)
        if run is not None:
            self._abandon(turn, run, "The run is being deleted.")
            if not run.is_scheduled:
                self._set_order(turn, old["order_id"], OrderState.STOPPED)
        self._remove(connection, turn, [message.run_id])

    def _close_kitchen(self, connection: Connection, turn: Turn, message: msg.CloseKitchen) -> None:
        orders = models.orders.c
        here = orders.kitchen_id == message.kitchen_id
        query = sa.select(orders.id).where(here, models.ORDER_IS_OPEN)
        for order_id in connection.scalars(query.order_by(orders.id)).all():
            self._stop_order(connection, turn, msg.StopOrder(order_id, message.reason))
        for run in self._ledger.live_runs:
            if run.kitchen_id == message.kitchen_id:
                transitions.cancel_run(turn, run, message.reason)

    def _check_kitchen(self, connection: Connection, turn: Turn, kitchen_id: int | None) -> None:
        """Nothing is accepted into a kitchen that was deleted meanwhile."""
        if kitchen_id is None or kitchen_id in turn.kitchens:
            return
        if connection.scalar(_KITCHEN, {"id": kitchen_id}) is None:
            raise NotFound("The kitchen was deleted meanwhile; nothing was ordered.")
        turn.kitchens.add(kitchen_id)

    def _abandon(self, turn: Turn, run: LiveRun, reason: str) -> None:
        """Kill a run whose rows are about to go, and give up its place in its lane."""
        transitions.cancel_run(turn, run, reason)
        self._ledger.forget(run)
        if run not in turn.ended:
            turn.ended.append(run)

    def _remove(self, connection: Connection, turn: Turn, run_ids: list[int]) -> None:
        """Delete runs with all that hangs on them; their ids are never used again."""
        turn.changes.flush(connection)
        self._ledger.save_ids(connection)
        connection.execute(models.events.delete().where(models.events.c.run_id.in_(run_ids)))
        connection.execute(models.runs.delete().where(models.runs.c.id.in_(run_ids)))
        turn.removed.extend(run_ids)
        turn.touched.update(run_ids)

    def _set_order(self, turn: Turn, order_id: int, state: OrderState) -> None:
        turn.changes.update(models.orders, order_id, {"state": state, "updated_at": turn.now})

    def _end_schedule(self, connection: Connection, order_id: int) -> None:
        self._set_schedule(connection, order_id, None)

    def _set_schedule(
        self, connection: Connection, order_id: int, next_due_at: datetime | None
    ) -> None:
        schedules = models.schedules
        connection.execute(
            schedules.update()
            .where(schedules.c.order_id == order_id)
            .values(next_due_at=next_due_at)
        )

    def _order(self, connection: Connection, order_id: int) -> Any:
        query = sa.select(models.orders).where(models.orders.c.id == order_id)
        row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound("The order does not exist any more.")
        return row

    def _run(self, connection: Connection, run_id: int) -> Any:
        query = sa.select(models.runs).where(models.runs.c.id == run_id)
        row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound("The run does not exist any more.")
        return row

    def _step_rows(self, connection: Connection, run_id: int) -> list[Any]:
        query = sa.select(models.steps).where(models.steps.c.run_id == run_id)
        return list(connection.execute(query).mappings())


def new_order_of(row: Any) -> msg.NewOrder:
    """An order's row in the shape that a new run is made from."""
    schedule = row["schedule"]
    return msg.NewOrder(
        uid=row["uid"],
        project_id=row["project_id"],
        source_kind=row["source_kind"],
        source_path=row["source_path"],
        variation=row["variation"],
        origin=row["origin"],
        kitchen=row["kitchen"],
        schedule=msgspec.convert(schedule, ScheduleSpec) if schedule else None,
        parameters=row["parameters"],
        priority=row["priority"],
        source_date=row["source_date"],
        created_by=row["created_by"],
        created_by_login=row["created_by_login"],
        kitchen_id=row["kitchen_id"],
    )
