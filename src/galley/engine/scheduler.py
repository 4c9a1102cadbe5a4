"""Fires what is due: sleeps until the next due time of any scheduled order, then makes its run."""

import threading
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog

from galley.core.caller import Caller
from galley.core.errors import GalleyError, NoSpace, Unavailable
from galley.core.runs import models, operations
from galley.core.runs.desk import Desk
from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.reading import order_view
from galley.core.runs.schedule import next_due
from galley.core.runs.states import OrderState
from galley.core.runs.views import OrderView
from galley.engine.trouble import note_trouble
from galley.kit.failpoints import failpoint

_LATE = timedelta(seconds=120)
_LONGEST_NAP_S = 30.0
_AFTER_TROUBLE_S = 5.0
log = structlog.get_logger("galley.scheduler")


class Scheduler:
    """One thread that fires scheduled orders as the system's caller.

    A due time that is missed by more than two minutes counts as missed: the order's catch-up
    policy decides. Source of the two minutes: contract section 1, "Schedule".
    """

    def __init__(self, desk: Desk, caller: Caller) -> None:
        self._desk = desk
        self._caller = caller
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="galley-scheduler", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being fired."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def nudge(self) -> None:
        """A schedule was made or changed: look again."""
        self._wake.set()

    def fire_due(self) -> int:
        """Fire everything that is due now; how many due times were dealt with."""
        now = self._desk.clock.now()
        with self._desk.database.reading() as session:
            orders, due = models.orders, models.schedules.c.next_due_at
            query = (
                sa.select(orders, due)
                .join(models.schedules, models.schedules.c.order_id == orders.c.id)
                .where(due.is_not(None), due <= now, orders.c.state == OrderState.ACTIVE)
                .order_by(due, orders.c.id)
                .limit(500)
            )
            rows = [dict(row) for row in session.execute(query).mappings()]
        for row in rows:
            moment = row.pop("next_due_at")
            self._deal_with(order_view(row), moment, now)
        return len(rows)

    def _deal_with(self, order: OrderView, due: datetime, now: datetime) -> None:
        failpoint("scheduler.before_fire")
        try:
            reason = self._missed(order, due, now)
            if reason is None:
                operations.fire_schedule(self._desk, self._caller, order, due)
            else:
                operations.skip_schedule(self._desk, order, due, reason)
        except (Unavailable, NoSpace):
            raise  # it stays due, and is tried again shortly
        except GalleyError as error:
            log.warning("schedule_not_fired", order=order.uid, due=str(due), reason=error.message)
            operations.skip_schedule(self._desk, order, due, error.message)
        failpoint("scheduler.after_fire")

    def _missed(self, order: OrderView, due: datetime, now: datetime) -> str | None:
        """Why this due time gets no run, or None if it gets one."""
        if now - due <= _LATE:
            return None
        schedule = order.schedule or ScheduleSpec()
        later = next_due(schedule, due)
        if schedule.catch_up == "skip":
            return "missed"
        if schedule.catch_up == "latest" and later is not None and later <= now:
            return "missed; a later time is due as well"
        if schedule.catch_up == "all" and self._backlog(schedule, due, now) > (
            schedule.catch_up_limit
        ):
            return "missed; more times were missed than are caught up"
        return None

    def _backlog(self, schedule: ScheduleSpec, due: datetime, now: datetime) -> int:
        """How many due times, this one included, lie between it and now (at most the limit + 1)."""
        count, at = 1, next_due(schedule, due)
        while at is not None and at <= now and count <= schedule.catch_up_limit:
            count, at = count + 1, next_due(schedule, at)
        return count

    def _serve(self) -> None:
        while not self._stopping:
            try:
                self.fire_due()
                nap_s = self._nap()
            except Exception as error:  # noqa: BLE001 - this thread must go on
                note_trouble(log, "scheduler_trouble", error)
                nap_s = _AFTER_TROUBLE_S
            self._desk.clock.wait(self._wake, nap_s)
            self._wake.clear()

    def _nap(self) -> float:
        """Seconds until the next due time, at most half a minute (clocks may be set)."""
        with self._desk.database.reading() as session:
            s = models.schedules.c
            due: datetime | None = session.scalar(
                sa.select(sa.func.min(s.next_due_at))
                .join(models.orders, models.orders.c.id == s.order_id)
                .where(models.orders.c.state == OrderState.ACTIVE)
            )
        if due is None:
            return _LONGEST_NAP_S
        wait = (due - self._desk.clock.now()).total_seconds()
        return min(max(wait, 0.0), _LONGEST_NAP_S)
