"""The run ledger: applies batches of messages to the tables, all in one transaction a batch.

One writer owns a Ledger and calls `apply` from one thread: live runs are held in memory, changes
are gathered and written in a handful of statements, and the acts that follow (start, kill, tell)
are handed back to be done after the commit. A batch that does not commit must be followed by
`reset`, so that memory never holds what the database does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import Connection

from galley.core.errors import GalleyError
from galley.core.runs import alerts, loading, models, transitions
from galley.core.runs import messages as msg
from galley.core.runs.commands import Commands
from galley.core.runs.dispatch import Dispatcher
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.runs.plan import Plan
from galley.core.runs.states import RUN_FINAL, StepState
from galley.core.runs.turn import Ids, Turn
from galley.kit.failpoints import failpoint

_PLAN_ID = (
    sa.select(models.plans.c.id)
    .where(models.plans.c.digest == sa.bindparam("digest"))
    .with_for_update(read=True, key_share=True)
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a committed batch leaves to do: a reply or an error per message, and the turn's acts."""

    replies: list[Any]
    turn: Turn


class Ledger:
    """The state of every run that is under way, and the only code that changes it."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher()
        self._runs: dict[int, LiveRun] = {}
        self._by_attempt: dict[int, tuple[LiveRun, LiveStep]] = {}
        self._timed: dict[int, LiveRun] = {}
        self._ids: Ids | None = None
        self._commands = Commands(self)
        self._hot: dict[type, Callable[[Turn, Any], Any]] = {
            msg.Started: self._started,
            msg.Finished: self._finished,
            msg.Lost: self._lost,
            msg.Tick: self._tick,
            msg.WorkersSeen: self._workers_seen,
        }

    @property
    def live_runs(self) -> Sequence[LiveRun]:
        """The runs under way, oldest first; one that has ended in this very batch is not."""
        return [run for run in self._runs.values() if run.state not in RUN_FINAL]

    @property
    def is_timed(self) -> bool:
        """Whether a run under way has only so much time before somebody is told."""
        return bool(self._timed)

    def load(self, connection: Connection) -> list[tuple[LiveRun, LiveStep]]:
        """Read the runs under way; gives back the steps whose attempts need adoption."""
        self._ids = loading.load_ids(connection)
        self._runs.clear()
        self._timed.clear()
        self._by_attempt.clear()
        workers = self.dispatcher.workers()
        self.dispatcher = Dispatcher(workers)
        for run in loading.load_live(connection):
            self.track(run)
            self.dispatcher.restore(run)
        return [(run, step) for run in self._runs.values() for step in run.living()]

    def apply(self, connection: Connection, messages: Sequence[Any], now: datetime) -> Applied:
        """Apply the messages in order; write all rows; nothing is committed here.

        A message that is refused (a GalleyError stands in its reply) changed nothing; the others
        hold. Any other exception means that the whole batch is void.
        """
        found = self.load(connection) if self._ids is None else []
        sought = [(run, step, step.attempt) for run, step in found]
        turn = Turn(now, cast("Ids", self._ids))
        turn.kills.extend(
            (attempt.id, attempt.worker)
            for run, _, attempt in sought
            if run.cancel_reason is not None
        )
        replies: list[Any] = []
        for message in messages:
            try:
                replies.append(self._handle(connection, turn, message))
            except GalleyError as error:
                replies.append(error)
        self.dispatcher.wake(now)
        self._dispatch(turn)
        # What ended in this very batch is not looked for, nor what follows it.
        turn.adoptions.extend(
            (run, step)
            for run, step, attempt in sought
            if step.attempt is attempt and step.state is StepState.RUNNING
        )
        failpoint("ledger.before_write")
        turn.changes.flush(connection)
        return Applied(replies, turn)

    def reset(self) -> None:
        """Forget what is in memory: the last batch did not commit."""
        self._ids = None

    def track(self, run: LiveRun) -> None:
        """Hold a run in memory from now on."""
        self._runs[run.id] = run
        if run.plan.thresholds.duration_s is not None:
            self._timed[run.id] = run
        for step in run.steps.values():
            self._by_attempt[step.attempt.id] = (run, step)

    def find(self, run_id: int) -> LiveRun | None:
        """The run, if it is under way."""
        run = self._runs.get(run_id)
        return None if run is None or run.state in RUN_FINAL else run

    def of_order(self, order_id: int) -> list[LiveRun]:
        """The order's runs that are under way."""
        return [run for run in self.live_runs if run.order_id == order_id]

    def forget(self, run: LiveRun) -> None:
        """The run is over, or removed: its slots come back as its attempts report."""
        self._runs.pop(run.id, None)
        self._timed.pop(run.id, None)
        for step in run.steps.values():
            self._by_attempt.pop(step.attempt.id, None)

    def plan_id(self, connection: Connection, turn: Turn, plan: Plan) -> int:
        """The stored plan of this content, held until the commit; stores it when it is new."""
        digest = plan.digest()
        known = turn.plans.get(digest)
        if known is None:
            # Kept in this transaction, not in memory: a plan that no run has may be purged.
            known = connection.scalar(_PLAN_ID, {"digest": digest})
        if known is None:
            known = turn.ids.take("plan")
            row = {"id": known, "digest": digest, "body": plan.encoded().decode()}
            turn.changes.insert(models.plans, row | {"created_at": turn.now})
        turn.plans[digest] = known
        return known

    def save_ids(self, connection: Connection) -> None:
        """Before rows are deleted: their ids are never given again."""
        loading.save_ids(connection, cast("Ids", self._ids))

    def _handle(self, connection: Connection, turn: Turn, message: Any) -> Any:
        hot = self._hot.get(type(message))
        if hot is not None:
            return hot(turn, message)
        return self._commands.handle(connection, turn, message)

    def _started(self, turn: Turn, message: msg.Started) -> None:
        found = self._by_attempt.get(message.attempt_id)
        if found and found[1].attempt.fence == message.fence:
            transitions.note_started(turn, found[1], message.handle)

    def _finished(self, turn: Turn, message: msg.Finished) -> bool:
        """Take an attempt's end, once: a stale fence or an unknown attempt changes nothing."""
        found = self._take(message.attempt_id, message.fence)
        if found is None:
            return False
        run, step = found
        transitions.finish_attempt(turn, run, step, message.outcome)
        self._after_attempt(run, step)
        return True

    def _lost(self, turn: Turn, message: msg.Lost) -> bool:
        found = self._take(message.attempt_id, message.fence)
        if found is None:
            return False
        run, step = found
        if message.never_ran:
            transitions.start_anew(turn, run, step, message.reason)
        else:
            transitions.lose_attempt(turn, run, step, message.reason)
        self._after_attempt(run, step)
        return True

    def _take(self, attempt_id: int, fence: int) -> tuple[LiveRun, LiveStep] | None:
        """The step whose living attempt this is, with its slot given back."""
        found = self._by_attempt.get(attempt_id)
        if found is None:
            self.dispatcher.release(attempt_id)
            return None
        step = found[1]
        if step.state is not StepState.RUNNING or step.attempt.fence != fence:
            return None
        self.dispatcher.release(attempt_id)
        self._by_attempt.pop(attempt_id)
        return found

    def _after_attempt(self, run: LiveRun, step: LiveStep) -> None:
        self._by_attempt[step.attempt.id] = (run, step)
        self.dispatcher.unpark(run)

    def _workers_seen(self, turn: Turn, message: msg.WorkersSeen) -> None:
        """Give room to workers that live; what dead ones held is lost, and may run elsewhere."""
        for worker in message.workers:
            if worker.is_alive:
                self._set_worker(worker)
                continue
            self.dispatcher.drop_worker(worker.name)
            for run in self.live_runs:
                for step in list(run.living()):
                    if step.attempt.worker == worker.name:
                        reason = f"the worker {worker.name} stopped reporting"
                        self._lost(turn, msg.Lost(step.attempt.id, step.attempt.fence, reason))

    def _set_worker(self, worker: msg.WorkerSeen) -> None:
        """Note its room; one that was not known here takes up again what it holds."""
        is_new = not self.dispatcher.knows(worker.name)
        self.dispatcher.set_worker(worker.name, worker.slots, worker.tags)
        if is_new:
            for run in self._runs.values():
                for step in run.living():
                    if step.attempt.worker == worker.name:
                        self.dispatcher.hold(worker.name, step)

    def _tick(self, turn: Turn, _message: msg.Tick) -> None:
        """Look at the clock: runs that take too long tell somebody, or stop."""
        for run in list(self._timed.values()):
            limit_s = run.plan.thresholds.duration_s
            if limit_s is None or run.started_at is None or run.state in RUN_FINAL:
                continue
            if turn.now - run.started_at > timedelta(seconds=limit_s):
                alerts.raise_alert(turn, run, "over_duration")
                if run.plan.thresholds.stop_on_duration:
                    transitions.cancel_run(turn, run, f"It ran for more than {limit_s:g} s.")

    def _dispatch(self, turn: Turn) -> None:
        for run in turn.ended:
            self.forget(run)
        self.dispatcher.enqueue(turn)
        self.dispatcher.assign(turn)
