"""A world in which only the ledger, its rules and the scheduler are real.

Time stands still until the next thing happens; steps are entries in a table; the server may crash
before or after a commit, forget what it was about to do, and read itself back. Messages from steps
may be late, out of order, and told twice. Everything is drawn from one seed.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sqlalchemy.exc import OperationalError

from galley.core.errors import GalleyError, Unavailable
from galley.core.runs import messages as msg
from galley.core.runs.ledger import Ledger
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.runs.task import Outcome
from galley.core.runs.turn import Turn
from galley.kit.clock import ManualClock
from galley.storage.db import Database


class Crash(Exception):
    """The server dies here."""


@dataclass
class Body:
    """A step's process, which outlives the server: what it will say when it ends."""

    run_id: int
    key: str
    attempt: int
    fence: int
    worker: str
    outcome: Outcome | None  # None: it dies without a word
    brief: bool = False
    is_alive: bool = True

    @property
    def place(self) -> tuple[str, bool]:
        """Where it takes room: brief steps have some of their own."""
        return self.worker, self.brief


@dataclass
class Chances:
    """How likely each misfortune is; all zero in the calm at the end."""

    crash_before: float = 0.0
    crash_after: float = 0.0
    refused_commit: float = 0.0
    twice: float = 0.0
    never_starts: float = 0.0


@dataclass
class World:
    """The server, its workers' processes, and the queue of things to come."""

    database: Database
    clock: ManualClock
    random: Random
    workers: dict[str, int]
    chances: Chances
    ledger: Ledger = field(default_factory=Ledger)
    bodies: dict[int, Body] = field(default_factory=dict)
    story: list[tuple[str, int, str, int]] = field(default_factory=list)
    """What truly happened: (began | ended, run, step, attempt), in order."""
    crashes: int = 0
    most: dict[tuple[str, bool], int] = field(default_factory=dict)
    """The most processes that a worker ever had at once."""

    def __post_init__(self) -> None:
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._inbox: list[tuple[Any, Callable[[Any], None]]] = []
        self._claims: set[int] = set()
        self._generation = 0
        self._is_down = self._is_ticking = False
        self._boot()

    # --- time

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something happen so many seconds from now."""
        when = self.clock.monotonic() + seconds
        heapq.heappush(self._queue, (when, next(self._numbers), act))

    def run(self, until_s: float) -> None:
        """Let everything happen that is due before then."""
        while self._queue and self._queue[0][0] <= until_s:
            when, _, act = heapq.heappop(self._queue)
            self.clock.advance(max(0.0, when - self.clock.monotonic()))
            act()
        self.clock.advance(max(0.0, until_s - self.clock.monotonic()))

    # --- the server

    def send(self, message: Any, heard: Callable[[Any], None] = lambda _reply: None) -> None:
        """Put a message into the server's memory; it is gone if the server dies first."""
        if self._is_down:
            return
        if not self._inbox:
            self.later(self.random.uniform(0.0, 0.05), self._serve)
        self._inbox.append((message, heard))

    def call(self, message: Any) -> Any:
        """Send a message and wait for its answer, as a request does.

        Raises:
            Unavailable: the server died, or could not commit; nobody knows whether it was kept.
        """
        heard: list[Any] = []
        self.send(message, heard.append)
        self._serve()
        if not heard:
            raise Unavailable("the server died")
        return heard[0]

    def _serve(self) -> None:
        batch, self._inbox = self._inbox, []
        if not batch or self._is_down:
            return
        try:
            replies, turn = self._commit([message for message, _ in batch])
        except Crash:
            self._crash()
            return
        except OperationalError:
            self.ledger.reset()
            self.later(0.5, self._serve)
            self._inbox = batch + self._inbox
            return
        try:
            self._act(turn)
        except Crash:
            self._crash()
            return
        for (_, heard), reply in zip(batch, replies, strict=True):
            heard(reply)
        self._wait()

    def _wait(self) -> None:
        """Look at the clock again when a retry is due, and while a run's time is limited."""
        now, due = self.clock.now(), self.ledger.dispatcher.next_wake()
        waits = [max(0.001, (due - now).total_seconds())] if due is not None else []
        if any(run.plan.thresholds.duration_s is not None for run in self.ledger.live_runs):
            waits.append(5.0)
        if waits and not self._is_ticking:
            self._is_ticking = True
            self.later(min(waits), self._tick)

    def _tick(self) -> None:
        self._is_ticking = False
        self.send(msg.Tick())

    def _commit(self, messages: list[Any]) -> tuple[list[Any], Turn]:
        with self.database.connection() as connection:
            applied = self.ledger.apply(connection, messages, self.clock.now())
            if self._happens(self.chances.crash_before):
                raise Crash
            if self._happens(self.chances.refused_commit):
                raise OperationalError("commit", {}, Exception("disk I/O error"))
        if self._happens(self.chances.crash_after):
            raise Crash
        return applied.replies, applied.turn

    def _act(self, turn: Turn) -> None:
        for run, step in turn.adoptions:
            self._adopt(run, step)
        for run, step in turn.starts:
            if self._happens(self.chances.crash_after / 4):
                raise Crash
            self._start(run, step)
        for attempt, _worker in turn.kills:
            self._kill(attempt)

    def _crash(self) -> None:
        """The server dies with all that it had in memory, and is started again."""
        self.crashes += 1
        self._inbox = []
        self._is_down = True
        self._generation += 1
        self.later(self.random.uniform(0.1, 3.0), self._boot)

    def _boot(self) -> None:
        self._is_down = False
        self.ledger = Ledger()
        for name, slots in self.workers.items():
            self.ledger.dispatcher.set_worker(name, slots)
        self.send(msg.Tick())

    # --- executors

    def _start(self, run: LiveRun, step: LiveStep) -> None:
        """Hand a step over; the fork may come late, or never if the server dies first."""
        attempt, fence = step.attempt.id, step.attempt.fence
        worker, generation = step.attempt.worker or "", self._generation
        run_id, key = run.id, step.key

        def begin() -> None:
            if attempt in self._claims:
                return
            is_orphan = generation != self._generation
            if is_orphan and self.random.random() < 0.5:  # the request died with the template
                return
            if not is_orphan and self._happens(self.chances.never_starts):
                self._claims.add(attempt)
                self._tell(msg.Lost(attempt, fence, "never started", never_ran=True))
                return
            outcome, brief = self._outcome(step), step.plan.brief
            self._begin(Body(run_id, key, attempt, fence, worker, outcome, brief))

        self.later(self.random.uniform(0.0, 0.2), begin)

    def _begin(self, body: Body) -> None:
        self._claims.add(body.attempt)
        self.bodies[body.attempt] = body
        held = sum(b.is_alive for b in self.bodies.values() if b.place == body.place)
        self.most[body.place] = max(self.most.get(body.place, 0), held)
        self.story.append(("began", body.run_id, body.key, body.attempt))
        self._tell(msg.Started(body.attempt, body.fence, {"pid": body.attempt}))
        length_s = self.random.choice((0.0, 0.1, 1.0, 5.0, 30.0))
        self.later(length_s * self.random.random(), lambda: self._end(body))

    def _end(self, body: Body) -> None:
        """The process ends; what it left is reported while a server lives, or found later."""
        if not body.is_alive:
            return
        body.is_alive = False
        self.story.append(("ended", body.run_id, body.key, body.attempt))
        self._report(body)

    def _report(self, body: Body) -> None:
        if body.outcome is None:
            self._tell(msg.Lost(body.attempt, body.fence, "killed"))
        else:
            self._tell(msg.Finished(body.attempt, body.fence, body.outcome))

    def _adopt(self, run: LiveRun, step: LiveStep) -> None:
        """Look for what an earlier server may have started; it is never run anew here."""
        attempt, fence = step.attempt.id, step.attempt.fence
        body = self.bodies.get(attempt)
        if body is None or body.fence != fence:
            self._claims.add(attempt)  # nobody starts it any more
            self._tell(msg.Lost(attempt, fence, "never started", never_ran=True))
        elif not body.is_alive:
            self._report(body)
        if run.cancel_reason is not None:
            self._kill(attempt)

    def _kill(self, attempt: int) -> None:
        body = self.bodies.get(attempt)
        if body is not None and body.is_alive:
            body.outcome = Outcome(state="canceled", reason="canceled on request")
            self.later(self.random.uniform(0.0, 2.0), lambda: self._end(body))

    def _tell(self, message: Any) -> None:
        """A report on its way to the server that lives now; another server never hears it."""
        generation = self._generation
        for _ in range(2 if self._happens(self.chances.twice) else 1):
            self.later(self.random.uniform(0.0, 0.3), lambda: self._hear(message, generation))

    def _hear(self, message: Any, generation: int) -> None:
        if generation == self._generation:
            self.send(message)

    def _outcome(self, step: LiveStep) -> Outcome | None:
        """What the step's code will do: succeed mostly; choose its branches; fail; die."""
        drawn = self.random.random()
        if drawn < 0.04:
            return None
        if drawn < 0.16:
            return Outcome(state="failed", reason="drawn", retryable=self.random.random() < 0.7)
        branches = {when for _, when in step.followers if when is not None}
        chosen = tuple(sorted(b for b in branches if self.random.random() < 0.5))
        return Outcome(state="succeeded", branches=chosen, exports={step.key: drawn})

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self.random.random() < chance


def is_refusal(reply: Any) -> bool:
    """Whether the ledger refused the message."""
    return isinstance(reply, GalleyError)
