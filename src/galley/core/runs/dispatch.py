"""Which ready step starts next, and where: priorities, lanes, slots, pauses and back-off.

Holds no state of its own that the ledger's rows do not imply; it is rebuilt at start.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from galley.core.runs import transitions
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.runs.states import RunState, StepState
from galley.core.runs.turn import Turn

_Entry = tuple[int, int, int, int, LiveRun, LiveStep]
_BRIEF_AHEAD = 3


@dataclass(slots=True)
class WorkerSlots:
    """A worker's room: how many attempts at once, which tags it serves, which ones it holds.

    Brief steps have room of their own, and three times as much: the worker lets as many as it has
    slots run at once, and need not wait for a commit before it begins with the next.
    """

    slots: int
    tags: frozenset[str] = frozenset()
    held: set[int] = field(default_factory=set)
    held_brief: set[int] = field(default_factory=set)

    def free(self, *, brief: bool) -> int:
        """How many more attempts it can take, of brief steps or of the others."""
        if brief:
            return _BRIEF_AHEAD * self.slots - len(self.held_brief)
        return self.slots - len(self.held)

    def hold(self, step: LiveStep) -> None:
        """Give the step's attempt its room."""
        held = self.held_brief if step.plan.brief else self.held
        held.add(step.attempt.id)


class Dispatcher:
    """The queue of ready steps in front of the workers."""

    def __init__(self, workers: dict[str, WorkerSlots] | None = None) -> None:
        self._ready: dict[bool, list[_Entry]] = {False: [], True: []}  # brief ones are the second
        self._later: list[tuple[datetime, int, LiveRun, LiveStep]] = []
        self._parked: dict[int, list[LiveStep]] = defaultdict(list)
        self._lanes: dict[str, set[int]] = defaultdict(set)
        self._waiting: dict[str, dict[int, LiveRun]] = defaultdict(dict)
        self._workers = dict(workers or {})
        self._order = 0

    def set_worker(self, name: str, slots: int, tags: Iterable[str] = ()) -> None:
        """A worker is there (again) with this room; what it holds stays held."""
        known = self._workers.get(name) or WorkerSlots(slots)
        made = WorkerSlots(slots, frozenset(tags), known.held, known.held_brief)
        self._workers[name] = made

    def knows(self, name: str) -> bool:
        """Whether the worker is there."""
        return name in self._workers

    def drop_worker(self, name: str) -> None:
        """A worker is gone; nothing new is given to it."""
        self._workers.pop(name, None)

    def hold(self, worker: str, step: LiveStep) -> None:
        """A step's adopted attempt takes room of its worker."""
        if worker in self._workers:
            self._workers[worker].hold(step)

    def release(self, attempt_id: int) -> None:
        """An attempt's slot is free again, whatever became of its run."""
        for worker in self._workers.values():
            worker.held.discard(attempt_id)
            worker.held_brief.discard(attempt_id)

    def workers(self) -> dict[str, WorkerSlots]:
        """The workers and their room, with nothing held."""
        return {name: WorkerSlots(w.slots, w.tags) for name, w in self._workers.items()}

    def restore(self, run: LiveRun) -> None:
        """Take a run that was read back: its lane, its held slots, its ready steps."""
        if run.lane is not None and run.state is RunState.RUNNING:
            self._lanes[run.lane].add(run.id)
        for step in run.steps.values():
            if step.state is StepState.RUNNING and step.attempt.worker is not None:
                self.hold(step.attempt.worker, step)
            elif step.state is StepState.READY:
                self._add(run, step)

    def enqueue(self, turn: Turn) -> None:
        """Take over what the turn made ready, and the room that ended runs leave in their lanes."""
        for run in turn.ended:
            self._leave_lane(run)
            self._parked.pop(run.id, None)
        for run, step in turn.ready:
            self._add(run, step)
        turn.ready.clear()
        turn.ended.clear()

    def wake(self, now: datetime) -> None:
        """Move the retries whose pause is over into the queue."""
        while self._later and self._later[0][0] <= now:
            _, _, run, step = heapq.heappop(self._later)
            step.attempt.not_before = None
            self._add(run, step)

    def next_wake(self) -> datetime | None:
        """When the next retry is due, or None."""
        return self._later[0][0] if self._later else None

    def unpark(self, run: LiveRun) -> None:
        """A pause ended, or one of the run's own steps did: its parked steps queue again."""
        for step in self._parked.pop(run.id, ()):
            self._add(run, step)

    def assign(self, turn: Turn) -> None:
        """Give ready steps to free slots, best first, until one of the two runs out."""
        unserved: list[_Entry] = []
        while (ready := self._next_queue()) is not None:
            entry = heapq.heappop(ready)
            if not self._assign_one(turn, *entry[4:]):
                unserved.append(entry)
        for entry in unserved:
            heapq.heappush(self._ready[entry[5].plan.brief], entry)

    def _next_queue(self) -> list[_Entry] | None:
        """Of the queues for which a worker has room, the one whose first step comes first."""
        able = [
            ready
            for brief, ready in self._ready.items()
            if ready and any(one.free(brief=brief) > 0 for one in self._workers.values())
        ]
        return min(able, key=lambda ready: ready[0], default=None)

    def _assign_one(self, turn: Turn, run: LiveRun, step: LiveStep) -> bool:
        """Start the step, or see that it need not or must not start now; False: nobody takes it."""
        if step.state is not StepState.READY or run.is_closing:
            self._wake_lane(run)
            return True
        if self._must_wait(run, step):
            return True
        name = self._worker_for(step)
        if name is None:
            return False
        if run.state is RunState.QUEUED:
            transitions.begin_run(turn, run)
        transitions.assign(turn, run, step, name)
        self._workers[name].hold(step)
        return True

    def ahead(self) -> int:
        """How many brief steps the workers were given beyond those that they run at once."""
        return sum(max(0, len(one.held_brief) - one.slots) for one in self._workers.values())

    def queued(self) -> int:
        """How many ready steps wait for a slot."""
        return sum(map(len, self._ready.values()))

    def _add(self, run: LiveRun, step: LiveStep) -> None:
        self._order += 1
        if step.attempt.not_before is not None:
            heapq.heappush(self._later, (step.attempt.not_before, self._order, run, step))
            return
        entry = (-run.priority, run.id, step.position, self._order, run, step)
        heapq.heappush(self._ready[step.plan.brief], entry)

    def _must_wait(self, run: LiveRun, step: LiveStep) -> bool:
        """Park a step whose run is paused, at its own limit, or waits for its lane."""
        limit = run.plan.max_parallel
        if run.paused or (limit is not None and run.active >= limit):
            self._parked[run.id].append(step)
            self._wake_lane(run)
            return True
        if run.lane is None or run.lane_limit is None or run.state is not RunState.QUEUED:
            return False
        lane = self._lanes[run.lane]
        if len(lane) >= run.lane_limit and run.id not in lane:
            self._waiting[run.lane][run.id] = run
            self._parked[run.id].append(step)
            return True
        lane.add(run.id)
        return False

    def _leave_lane(self, run: LiveRun) -> None:
        """A run is over, or was never begun: its place in its lane is free."""
        if run.lane is not None:
            self._lanes[run.lane].discard(run.id)
            self._waiting[run.lane].pop(run.id, None)
            self._wake_lane(run)

    def _wake_lane(self, run: LiveRun) -> None:
        """Let as many waiting runs of the lane try again as it has room for, oldest first.

        One too many is harmless: it waits again.
        """
        if run.lane is None or run.lane_limit is None:
            return
        waiting = self._waiting[run.lane]
        room = run.lane_limit - len(self._lanes[run.lane])
        able = [other for other in waiting.values() if not other.paused and not other.is_closing]
        for other in able[: max(room, 0)]:
            del waiting[other.id]
            self.unpark(other)

    def _worker_for(self, step: LiveStep) -> str | None:
        wanted, brief = frozenset(step.plan.tags), step.plan.brief
        fitting = (
            (worker.free(brief=brief), name)
            for name, worker in self._workers.items()
            if worker.free(brief=brief) > 0 and wanted <= worker.tags
        )
        return max(fitting, default=(0, None))[1]
