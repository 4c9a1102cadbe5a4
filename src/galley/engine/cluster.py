"""Several servers on one Postgres: one leads and writes the ledger, the others leave messages.

Each server runs one `Cluster`. It leads when nobody does, takes messages out of the inbox while
it leads, and otherwise puts its own there and waits for the replies. Notices (LISTEN/NOTIFY) make
it quick; a look around every two seconds makes it sure.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
import psycopg
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from galley.core.errors import GalleyError, Unavailable
from galley.core.runs import inbox, leadership
from galley.core.runs import messages as msg
from galley.core.runs.turn import Turn
from galley.engine.notices import Bell, Listener
from galley.engine.writer import MAX_BATCH, Acts, Letter, Writer
from galley.kit.clock import Clock
from galley.kit.failpoints import failpoint
from galley.storage.db import Database

LEASE_S = 10.0
BEAT_S = 2.0
WORK = "galley_work"
VACANT = "galley_vacant"
WORKERS = "galley_workers"
_FOR_LEADER = frozenset({inbox.CHANNEL, inbox.REPLIES, WORKERS})
_FOR_OTHERS = frozenset({inbox.REPLIES, inbox.TOUCHED, WORK, VACANT})
"""A leader hears nothing of what it says itself: it would wake at each of its own commits."""
_GAP_S = LEASE_S - 2 * BEAT_S
"""If this server heard nothing for so long, workers may have been as deaf: none is dead yet."""
_REPORTS = (msg.Started, msg.Finished, msg.Lost)
"""What executors tell once: kept until a leader can hear it. Everybody else may ask again."""

log = structlog.get_logger("galley.cluster")


class Cluster:
    """This server's part in the cluster. Implements `ports.RunWriter`, `ports.RunFeed`, `Guard`.

    `holder` names the server, uniquely. `on_lead` is called with True when it begins to lead and
    with False when it stops, so that the scheduler, mailer and sweeper run on the leader only.
    A worker's process takes part with `may_lead` false.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        holder: str,
        *,
        on_lead: Callable[[bool], None] = lambda _leads: None,
        may_lead: bool = True,
    ) -> None:
        self.writer = Writer(database, clock, guard=self)
        self.holder = holder
        self._database = database
        self._clock = clock
        self._on_lead = on_lead
        self._may_lead = may_lead
        self._acts: Acts | None = None
        self._epoch: int | None = None
        self._waiting: dict[str, Future[Any]] = {}
        self._unsent: deque[tuple[Any, Future[Any]]] = deque()
        self._sending = threading.Lock()
        self._fed: set[str] = set()
        self._lock = threading.Lock()
        self._beating = threading.Lock()
        self._stopping = threading.Event()
        self._bell = Bell()
        self._beat_at = clock.monotonic()
        self._patient_until = self._beat_at
        self._seen: Future[Any] | None = None
        self._seen_at = self._beat_at
        self._has_company = True
        self._wakers: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._serve, name="galley-cluster", daemon=True)

    @property
    def leads(self) -> bool:
        """Whether this server writes the ledger now, as far as it knows."""
        return self._epoch is not None and self.writer.is_leading

    def trouble(self) -> str | None:
        """Why this server cannot change runs now; None if it can.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        if not self._thread.is_alive():
            return "the thread that attends to the cluster has ended"
        if self._clock.monotonic() - self._beat_at > LEASE_S + BEAT_S:
            return "the cluster was not looked at for a while; see the log"
        if self.leads:
            return None if self.writer.is_healthy else "the run ledger cannot commit"
        with self._database.reading() as session:
            return None if leadership.is_led(session.connection()) else "no server leads"

    def start(self, acts: Acts) -> None:
        """Take part: lead at once if nobody does."""
        self._acts = acts
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Leave in good order: what is queued is committed, and another server may lead at once."""
        self._stopping.set()
        self._bell.ring()
        if self._thread.is_alive():
            self._thread.join(BEAT_S + 5)
        self._send_reports()
        if self.leads:
            self.writer.stop()
            self._release()

    def _release(self) -> None:
        try:
            with self._database.connection() as connection:
                leadership.release(connection, self.holder, self._epoch or 0)
                connection.exec_driver_sql(f"notify {VACANT}")
        except SQLAlchemyError as error:
            log.warning("lease_not_released", error=str(error))

    def send(self, message: Any) -> "Future[Any]":
        """See `ports.RunWriter.send`: to the own writer, or through the inbox."""
        if self.leads:
            return self.writer.send(message)
        return self._leave(message)

    def call(self, message: Any, *, timeout_s: float = 30.0) -> Any:
        """See `ports.RunWriter.call`."""
        future = self.send(message)
        try:
            return future.result(timeout_s)
        except TimeoutError as error:
            self._stop_waiting(future)
            raise Unavailable(
                "The leading server did not answer in time. The request stays queued and may still"
                " take effect.",
                retry_after_s=5,
            ) from error

    def _stop_waiting(self, future: "Future[Any]") -> None:
        """Nobody waits for this answer any more."""
        with self._lock:
            for uid in [uid for uid, waits in self._waiting.items() if waits is future]:
                del self._waiting[uid]

    def subscribe(self, run_id: int | None, listener: Callable[[int], None]) -> Callable[[], None]:
        """See `ports.RunFeed.subscribe`."""
        return self.writer.subscribe(run_id, listener)

    def on_work(self, waker: Callable[[], None]) -> None:
        """Call `waker` whenever workers should look for work."""
        self._wakers.append(waker)

    def check(self, connection: Connection) -> None:
        """See `writer.Guard`."""
        if self._epoch is None:
            raise leadership.LeadershipLostError("this server does not lead")
        leadership.hold(connection, self.holder, self._epoch, LEASE_S)

    def conclude(
        self, connection: Connection, replies: Sequence[tuple[str, Any]], turn: Turn
    ) -> None:
        """See `writer.Guard`."""
        if replies:
            self._answer(connection, replies)
            failpoint("inbox.answered")
        if self._has_company:
            inbox.announce(connection, sorted(turn.touched))
        workers = {step.attempt.worker for _, step in turn.starts}
        workers.update(worker for _, worker in turn.kills)
        if workers - {self.holder}:  # the worker in this process is told directly
            connection.exec_driver_sql(f"notify {WORK}")

    def refuse(self, connection: Connection, uid: str, refusal: Exception) -> None:
        """See `writer.Guard`."""
        self._answer(connection, [(uid, refusal)])

    def _answer(self, connection: Connection, replies: Sequence[tuple[str, Any]]) -> None:
        """Answer what came through the inbox, each message once.

        One that is answered already waited here since an earlier reign of this server's, and
        another one applied it meanwhile. Then this reign ends, too, and the next takes afresh.
        """
        if not inbox.answer(connection, replies, self._clock.now()):
            log.warning("answered_before", holder=self.holder, epoch=self._epoch)
            raise leadership.LeadershipLostError("a message was answered before")

    def deposed(self, letters: Sequence[Letter]) -> None:
        """See `writer.Guard`: the new leader finds in the inbox what this one could not write."""
        log.warning("leadership_lost", holder=self.holder, messages=len(letters))
        self._epoch = None
        with self._lock:
            self._fed.clear()
        self._bell.ring()
        self._on_lead(False)
        for letter in letters:
            if letter.uid is None and not isinstance(letter.message, msg.Tick | msg.WorkersSeen):
                self._leave(letter.message, letter.reply)

    def _leave(self, message: Any, reply: "Future[Any] | None" = None) -> "Future[Any]":
        """Put a message into the inbox; its future resolves when the leader has answered.

        While the database is away a report waits here, and every beat tries again.
        """
        reply = reply if reply is not None else Future()
        if isinstance(message, _REPORTS):
            self._unsent.append((message, reply))
            self._send_reports()
            return reply
        try:
            self._put(message, reply)
        except SQLAlchemyError:
            reply.set_exception(
                Unavailable("The database does not answer; nothing was kept.", retry_after_s=5)
            )
        return reply

    def _put(self, message: Any, reply: "Future[Any]") -> None:
        with self._database.connection() as connection:
            uid = inbox.put(connection, message, self._clock.now())
            failpoint("inbox.before_commit")
        failpoint("inbox.after_commit")
        with self._lock:
            self._waiting[uid] = reply
        self._collect(uid)

    def _send_reports(self) -> None:
        """Pass on the reports that wait, oldest first; what does not go stays.

        One that was kept although its commit seemed to fail goes twice, which is harmless: the
        ledger takes an attempt's end once.
        """
        with self._sending:
            while self._unsent:
                message, reply = self._unsent[0]
                if self.leads:
                    self.writer.post(Letter(message, reply=reply))
                else:
                    try:
                        self._put(message, reply)
                    except SQLAlchemyError as error:
                        log.warning("reports_wait", count=len(self._unsent), error=str(error))
                        return
                    except (TypeError, ValueError, msgspec.MsgspecError) as error:
                        log.exception("report_not_sendable", message=type(message).__name__)
                        reply.set_exception(error)  # the others must not wait for it
                self._unsent.popleft()

    def _collect(self, uid: str) -> None:
        """Resolve a waiting future if its reply is there; if nobody can tell, the next beat asks.

        Executors' threads come by here too, and they must not end with the database.
        """
        with self._lock:
            if uid not in self._waiting:
                return
        try:
            with self._database.connection() as connection:
                is_done, reply = inbox.read_reply(connection, uid)
        except SQLAlchemyError as error:
            log.warning("reply_not_read", error=str(error))
            return
        if not is_done:
            return
        with self._lock:
            future = self._waiting.pop(uid, None)
        if future is None:
            return
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                address = self._database.url.set(drivername="postgresql")
                with psycopg.connect(
                    address.render_as_string(hide_password=False), autocommit=True
                ) as connection:
                    self._attend(Listener(connection, self._bell))
            except (psycopg.Error, SQLAlchemyError) as error:
                log.warning("cluster_trouble", error=str(error))
                self._stopping.wait(1.0)
            except Exception:  # without this thread the server is deaf: it goes on
                log.exception("cluster_trouble")
                self._stopping.wait(1.0)

    def _attend(self, listener: Listener) -> None:
        """Look around every two seconds; in between do what notices ask for, and no more."""
        while not self._stopping.is_set():
            self._beat()
            until = time.monotonic() + BEAT_S
            while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
                if listener.tune(_FOR_LEADER if self.leads else _FOR_OTHERS):
                    self._catch_up()
                for channel, payload in listener.wait(left):
                    self._heed(channel, payload)
            if not self.leads:
                self.writer.tell_all()  # of what was not announced while this server was new

    def _catch_up(self) -> None:
        """Do what notices asked for that were sent before anybody heard them here."""
        if self.leads:
            with self._beating:
                self._feed()
        else:
            self.writer.tell_all()
            self._wake_workers()

    def _heed(self, channel: str, payload: str) -> None:
        if channel == inbox.REPLIES:
            self._collect(payload)
        elif channel == inbox.CHANNEL and self.leads:
            with self._beating:
                self._feed()
        elif channel == inbox.TOUCHED and not self.leads:
            for run_id in filter(None, payload.split(",")):
                self.writer.tell(int(run_id))
        elif channel == WORK:
            self._wake_workers()
        elif channel in {VACANT, WORKERS}:
            self._beat()

    def _wake_workers(self) -> None:
        for waker in self._wakers:
            waker()

    def _beat(self) -> None:
        """Lead if nobody does; while leading, renew the lease and look at inbox and workers."""
        with self._beating:
            self._look_around()

    def _look_around(self) -> None:
        self._mind_gap()
        if self._epoch is None and self._may_lead:
            self._try_to_lead()
        self._send_reports()
        if self.leads:
            self._feed()
            self._see_workers()
        with self._lock:
            waiting = list(self._waiting)
        for uid in waiting:
            self._collect(uid)
        self._beat_at = self._clock.monotonic()

    def _see_workers(self) -> None:
        """Tell the ledger which workers live.

        While this server's own commits hang, those of workers' reports may hang as well, although
        rows can be read: none is dead then. The worker in this process lives in any case.
        """
        with self._database.connection() as connection:
            workers = leadership.list_workers(connection)
        # Each server has a worker, which reports before its server begins to listen.
        self._has_company = any(worker.name != self.holder for worker in workers)
        self._mind_gap()  # once more: this process may have stood still within this look
        is_waiting = self._seen is not None and not self._seen.done()
        if is_waiting and self._clock.monotonic() - self._seen_at > BEAT_S:
            self._be_patient()
            return
        is_patient = self._clock.monotonic() < self._patient_until
        seen = []
        for worker in workers:
            is_alive = worker.is_alive or worker.name == self.holder
            if is_alive or not is_patient:
                tags = tuple(sorted(worker.tags))
                seen.append(msg.WorkerSeen(worker.name, worker.slots, tags, is_alive))
        future = self.writer.send(msg.WorkersSeen(tuple(seen)))
        if not is_waiting:
            self._seen, self._seen_at = future, self._clock.monotonic()

    def _mind_gap(self) -> None:
        """After a time in which nothing was heard, give workers time to report."""
        if self._clock.monotonic() - self._beat_at > _GAP_S:
            self._be_patient()

    def _be_patient(self) -> None:
        self._patient_until = self._clock.monotonic() + LEASE_S

    def _try_to_lead(self) -> None:
        with self._database.connection() as connection:
            epoch = leadership.acquire(connection, self.holder, LEASE_S)
        if epoch is None or self._acts is None:
            return
        failpoint("cluster.lease_taken")
        self._epoch, self._seen = epoch, None
        log.info("leading", holder=self.holder, epoch=epoch)
        try:
            self.writer.start(self._acts)
        except (leadership.LeadershipLostError, Unavailable):
            self._epoch = None
            return
        except Exception:
            self._epoch = None
            raise
        self._on_lead(True)

    def _feed(self) -> None:
        """Give the writer what came into the inbox and is not with it yet."""
        with self._database.connection() as connection:
            found = inbox.take(connection, MAX_BATCH)
        with self._lock:
            fresh = [entry for entry in found if entry.uid not in self._fed]
            self._fed = {entry.uid for entry in found}
        if fresh:
            failpoint("inbox.taken")
        for entry in fresh:
            if entry.fault is not None:
                log.error("message_not_understood", uid=entry.uid, error=entry.fault.message)
            if entry.message is not None:
                self.writer.post(Letter(entry.message, uid=entry.uid))
            elif entry.fault is not None:
                self._reject(entry.uid, entry.fault)

    def _reject(self, uid: str, fault: GalleyError) -> None:
        """Answer a row that cannot be read, so that it does not come again."""
        try:
            with self._database.connection() as connection:
                self.check(connection)
                self.refuse(connection, uid, fault)
        except leadership.LeadershipLostError:
            return  # the next leader may understand it
