"""The ledger's one writer: a thread that commits messages in groups and then acts.

Whatever changes a run's state is a message in its queue. It drains up to a few hundred at a time,
applies them in one transaction, and only after the commit answers the senders, starts and kills
attempts, and tells listeners.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from galley.core.errors import GalleyError, NoSpace, Unavailable
from galley.core.runs import messages as msg
from galley.core.runs.leadership import LeadershipLostError
from galley.core.runs.ledger import Applied, Ledger
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.runs.task import Outcome
from galley.core.runs.turn import Turn
from galley.engine.refusals import is_of_the_message, refusal_of
from galley.kit.clock import Clock
from galley.kit.failpoints import failpoint
from galley.storage.db import Database, is_disk_full, prove_durable

MAX_BATCH = 500
_RETRY_S = 0.5
_TICK_S = 1.0
_GATHER_S = 0.02
_REPORTS = (msg.Started, msg.Finished, msg.Lost, msg.Tick, msg.WorkersSeen)
_UNSTORABLE = Outcome(state="failed", reason="Its result could not be stored; see the log.")
log = structlog.get_logger("galley.writer")


class Acts(Protocol):
    """What the writer has done after a commit; see `engine.launcher`."""

    def start(self, run: LiveRun, step: LiveStep) -> None:
        """Hand the step's attempt to its executor."""
        ...

    def adopt(self, run: LiveRun, step: LiveStep) -> None:
        """Find the step's attempt, which an earlier server may have started."""
        ...

    def kill(self, attempt_id: int, worker: str | None) -> None:
        """End an attempt."""
        ...

    def remove(self, run_id: int) -> None:
        """Delete a removed run's files."""
        ...

    def mail(self) -> None:
        """Look at the outbox."""
        ...

    def reschedule(self) -> None:
        """Look at the schedules."""
        ...


class Guard(Protocol):
    """What several servers on one database add to each transaction; see `engine.cluster`."""

    def check(self, connection: Connection) -> None:
        """Renew this server's right to write.

        Raises:
            LeadershipLostError: another server writes now.
        """
        ...

    def conclude(
        self, connection: Connection, replies: Sequence[tuple[str, Any]], turn: Turn
    ) -> None:
        """Write the replies of messages that came through the inbox, and tell other servers."""
        ...

    def refuse(self, connection: Connection, uid: str, refusal: Exception) -> None:
        """Write the refusal of one message that came through the inbox and changes nothing."""
        ...

    def deposed(self, letters: "Sequence[Letter]") -> None:
        """Take over the messages that this server may not apply any more."""
        ...


@dataclass(slots=True)
class Letter:
    """A message with the future of whoever waits for it; `uid` names its inbox row, if any."""

    message: Any
    uid: str | None = None
    reply: "Future[Any]" = field(default_factory=Future)


class Writer:
    """Commits messages one batch after the other. Implements `ports.RunWriter` and `ports.RunFeed`.

    `start` loads the ledger, adopts what an earlier server left, and begins to serve. `finished`
    counts the runs that ended since then, by state.
    """

    def __init__(self, database: Database, clock: Clock, guard: Guard | None = None) -> None:
        self.ledger = Ledger()
        self._guard = guard
        self._database = database
        self._clock = clock
        self._acts: Acts | None = None
        self._inbox: queue.SimpleQueue[Letter | None] = queue.SimpleQueue()
        self._carried: list[Letter] = []
        self._ticked_at = clock.monotonic()
        self._listeners: dict[int | None, list[Callable[[int], None]]] = {}
        self._listeners_lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="galley-writer", daemon=True)
        self._stopping = threading.Event()
        self._is_failing = False
        self.is_leading = False
        self.finished: Counter[str] = Counter()

    @property
    def is_healthy(self) -> bool:
        """Whether the last transaction was kept and the thread serves."""
        return not self._is_failing and self._thread.is_alive()

    def start(self, acts: Acts) -> None:
        """Read the runs under way, adopt their attempts, and serve.

        Raises:
            Unavailable: the database does not answer.
        """
        self._acts = acts
        letter = Letter(msg.Tick())
        try:
            applied = self._transact([letter])
        except SQLAlchemyError as error:
            raise Unavailable(f"The database does not answer: {error}") from error
        self._conclude([letter], applied)
        self.is_leading = True
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Commit what is queued, then end the thread."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def send(self, message: Any) -> "Future[Any]":
        """Queue a message; see `ports.RunWriter.send`."""
        letter = Letter(message)
        if self._stopping.is_set() and not isinstance(message, _REPORTS):
            letter.reply.set_exception(
                Unavailable("The server is shutting down; try again shortly.", retry_after_s=5)
            )
            return letter.reply
        self._inbox.put(letter)
        return letter.reply

    def call(self, message: Any, *, timeout_s: float = 30.0) -> Any:
        """Queue a message and wait for its commit.

        Raises:
            GalleyError: the message was refused.
            Unavailable: no commit within `timeout_s`; the message may still be applied later.
        """
        try:
            return self.send(message).result(timeout_s)
        except TimeoutError as error:
            raise Unavailable(
                "The run ledger is busy and did not answer in time.", retry_after_s=5
            ) from error

    def post(self, letter: Letter) -> None:
        """Queue a letter as it is; for messages that came through the inbox."""
        self._inbox.put(letter)

    def queue_length(self) -> int:
        """How many messages wait."""
        return self._inbox.qsize()

    def subscribe(self, run_id: int | None, listener: Callable[[int], None]) -> Callable[[], None]:
        """See `ports.RunFeed.subscribe`."""
        with self._listeners_lock:
            self._listeners.setdefault(run_id, []).append(listener)

        def unsubscribe() -> None:
            with self._listeners_lock:
                remaining = [it for it in self._listeners.get(run_id, ()) if it is not listener]
                if remaining:
                    self._listeners[run_id] = remaining
                else:
                    self._listeners.pop(run_id, None)

        return unsubscribe

    def _serve(self) -> None:
        while True:
            batch, is_last = self._collect()
            if batch:
                self._commit(batch)
            if is_last and not self._carried:
                return
            if is_last and self._stopping.is_set() and not self.is_healthy:
                return

    def _collect(self) -> tuple[list[Letter], bool]:
        """The next messages, a failed commit's first; and whether they are the last.

        What only tells of starts waits a little for more: the end of a short step is near, and
        then one commit does for both. So does what tells of ends, while workers have enough in
        hand to go on with.
        """
        batch, self._carried = self._carried, []
        wait = self._patience() if not batch else _RETRY_S
        try:
            letter = self._inbox.get(timeout=wait)
        except queue.Empty:
            self._ticked_at = self._clock.monotonic()
            return batch or [Letter(msg.Tick())], False
        if self._clock.monotonic() - self._ticked_at >= _TICK_S:
            self._ticked_at = self._clock.monotonic()
            batch.append(Letter(msg.Tick()))
        is_urgent, until = bool(batch), time.monotonic() + _GATHER_S
        spare = self.ledger.dispatcher.ahead() // 2
        while True:
            if letter is None:
                return batch, True
            batch.append(letter)
            if len(batch) >= MAX_BATCH:
                return batch, False
            if isinstance(letter.message, msg.Finished):
                spare -= 1
                is_urgent = is_urgent or spare < 0
            elif not isinstance(letter.message, msg.Started):
                is_urgent = True
            patience = 0.0 if is_urgent else max(0.0, until - time.monotonic())
            try:
                letter = self._inbox.get(patience > 0, patience)
            except queue.Empty:
                return batch, False

    def _patience(self) -> float | None:
        """How long to wait for a message before a look at the clock; None when nothing is timed.

        After a failed commit it tries again soon, for nobody may send anything to one that fails.
        """
        due = self.ledger.dispatcher.next_wake()
        waits = [_RETRY_S] if self._is_failing else []
        if due is not None:
            waits.append(max(0.0, (due - self._clock.now()).total_seconds()))
        if self.ledger.is_timed:
            waits.append(_TICK_S)
        return min(waits) if waits else None

    def _commit(self, batch: list[Letter]) -> None:
        """One transaction for the batch; if a message is at fault, one for each of them."""
        try:
            applied = self._transact(batch)
        except LeadershipLostError:
            self._step_down(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, its sender hears of it
            self.ledger.reset()
            if not is_of_the_message(error):
                self._give_back(batch, error)
            elif len(batch) == 1:
                self._refuse(batch[0], error)
            else:
                for letter in batch:
                    self._commit([letter])
        else:
            self._conclude(batch, applied)

    def _refuse(self, letter: Letter, error: Exception) -> None:
        """The message cannot be stored: its sender is told; an attempt's end is put plainly."""
        message = letter.message
        is_bug = not isinstance(error, SQLAlchemyError)
        name, tell = type(message).__name__, log.error if is_bug else log.warning
        tell("not_stored", message=name, error=str(error)[:500], exc_info=is_bug and error)
        if isinstance(message, msg.Finished) and message.outcome != _UNSTORABLE:
            plain = msg.Finished(message.attempt_id, message.fence, _UNSTORABLE)
            self._inbox.put(Letter(plain, uid=letter.uid, reply=letter.reply))
        elif letter.uid is None or self._guard is None:
            letter.reply.set_exception(refusal_of(error))
        else:
            self._answer(letter.uid, letter, refusal_of(error))

    def _answer(self, uid: str, letter: Letter, refusal: Exception) -> None:
        """Tell the sender at another server; if that fails, the message comes again."""
        guard = cast("Guard", self._guard)
        try:
            with self._database.connection() as connection:
                guard.check(connection)
                guard.refuse(connection, uid, refusal)
        except LeadershipLostError:
            self._step_down([letter])
        except SQLAlchemyError as error:
            self._give_back([letter], error)

    def _transact(self, letters: Sequence[Letter]) -> Applied:
        guard = self._guard
        with self._database.connection() as connection:
            if guard is not None:
                guard.check(connection)
            if self._is_failing:
                prove_durable(connection)
            messages = [letter.message for letter in letters]
            applied = self.ledger.apply(connection, messages, self._clock.now())
            if guard is not None:
                pairs = zip(letters, applied.replies, strict=True)
                answered = [(letter.uid, reply) for letter, reply in pairs if letter.uid]
                guard.conclude(connection, answered, applied.turn)
            failpoint("writer.before_commit")
        failpoint("writer.after_commit")
        return applied

    def _step_down(self, batch: list[Letter]) -> None:
        """Another server leads: its inbox gets what this one may not write."""
        self.ledger.reset()
        self.is_leading = False
        if self._guard is not None:
            self._guard.deposed([*self._carried, *batch])
        self._carried.clear()

    def _give_back(self, batch: list[Letter], error: Exception) -> None:
        """Nothing was kept: senders are told, executors' reports are kept for the next try."""
        self._is_failing = True
        log.warning("commit_failed", error=str(error), messages=len(batch))
        for letter in batch:
            is_report = isinstance(letter.message, _REPORTS)
            if letter.uid is not None or (is_report and not isinstance(letter.message, msg.Tick)):
                self._carried.append(letter)
            elif is_disk_full(error):
                letter.reply.set_exception(
                    NoSpace("The server's disk is full; nothing was kept.", retry_after_s=30)
                )
            else:
                letter.reply.set_exception(
                    Unavailable(
                        "The database does not answer. Send the request again; with the same"
                        " Idempotency-Key it takes effect once.",
                        retry_after_s=5,
                    )
                )

    def _conclude(self, batch: list[Letter], applied: Applied) -> None:
        """After the commit: answers first, then acts."""
        self._is_failing = False
        self.finished.update(applied.turn.finished)
        for letter, reply in zip(batch, applied.replies, strict=True):
            if isinstance(reply, GalleyError):
                letter.reply.set_exception(reply)
            else:
                letter.reply.set_result(reply)
        self._act(applied.turn)

    def _act(self, turn: Turn) -> None:
        acts = self._acts
        if acts is not None:
            for run, step in turn.adoptions:
                self._start(acts.adopt, run, step)
            for run, step in turn.starts:
                self._start(acts.start, run, step)
            failpoint("writer.between_acts")
            for attempt_id, worker in turn.kills:
                self._do(acts.kill, attempt_id, worker)
            for run_id in turn.removed:
                self._do(acts.remove, run_id)
            if turn.has_mail:
                self._do(acts.mail)
            if turn.has_schedules:
                self._do(acts.reschedule)
        for run_id in turn.touched:
            self.tell(run_id)

    def _start(
        self, act: Callable[[LiveRun, LiveStep], None], run: LiveRun, step: LiveStep
    ) -> None:
        """An attempt that cannot be handed over is lost, and comes again."""
        attempt = step.attempt
        if not self._do(act, run, step):
            self.send(msg.Lost(attempt.id, attempt.fence, "the server could not start it"))

    def _do(self, act: Callable[..., None], *arguments: Any) -> bool:
        """Do it; what goes wrong is logged and ends nothing."""
        try:
            act(*arguments)
        except Exception:
            log.exception("act_failed", act=getattr(act, "__name__", str(act)))
            return False
        return True

    def tell_all(self) -> None:
        """Have all listeners look, since changes may have gone unheard; those of all runs get 0."""
        with self._listeners_lock:
            watched = list(self._listeners)
        for run_id in watched:
            self.tell(run_id or 0)

    def tell(self, run_id: int) -> None:
        """Tell the listeners of a run that it changed."""
        with self._listeners_lock:
            listeners = [*self._listeners.get(run_id, ()), *self._listeners.get(None, ())]
        for listener in listeners:
            try:
                listener(run_id)
            except Exception:
                log.exception("listener_failed", run_id=run_id)
