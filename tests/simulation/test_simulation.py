"""Ledger, rules and scheduler under a seeded simulator: losses, crashes, late and doubled reports.

GALLEY_SIM_SEEDS sets how many worlds (2,000), GALLEY_SIM_SEED replays one; a failure prints it.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from tests.simulation import drawn
from tests.simulation.checker import History, check
from tests.simulation.memory import MemoryDatabase
from tests.simulation.world import Chances, World, is_refusal

from galley.core.errors import Unavailable
from galley.core.runs import messages as msg
from galley.core.runs import transitions
from galley.core.runs.desk import Desk
from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.schedule import next_due
from galley.engine import scheduler as scheduling
from galley.engine.scheduler import Scheduler
from galley.kit.clock import ManualClock

SEEDS = int(os.environ.get("GALLEY_SIM_SEEDS", "2000"))
ONLY = os.environ.get("GALLEY_SIM_SEED")
PARTS = max(16, SEEDS // 1000)
START = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
STORM_S, CALM_S = 120.0, 1200.0
pytestmark = pytest.mark.timeout(5400)


class Life:
    """One world with the people and schedules in it."""

    def __init__(self, database: MemoryDatabase, seed: int) -> None:
        self.database = database
        self.random = Random(seed)  # noqa: S311 - a world to repeat
        self.clock = ManualClock(START)
        rough = self.random.random()
        self.world = World(
            database,
            self.clock,
            self.random,
            workers={f"w{n}": self.random.randint(1, 3) for n in range(self.random.randint(1, 2))},
            chances=Chances(*(self.random.random() * rough * 0.15 for _ in range(5))),
        )
        self.lanes = {"lane": self.random.randint(1, 2)}
        self.accepted: dict[str, msg.Submitted] = {}
        self.gone: set[int] = set()
        self.touched: set[int] = set()
        self.schedules: dict[int, tuple[ScheduleSpec, datetime]] = {}
        desk = Desk(database, self.world, None, None, self.clock)  # type: ignore[arg-type]
        self.scheduler = Scheduler(desk, None)  # type: ignore[arg-type]

    def live(self) -> None:
        """A stormy time in which people order, stop, pause and delete; then calm until the end."""
        for _ in range(self.random.randint(1, 5)):
            self.world.later(self.random.uniform(0, STORM_S / 2), self._submit)
        if self.random.random() < 0.3:
            self.world.later(self.random.uniform(0, 10), self._submit_schedule)
        for _ in range(self.random.randint(0, 4)):
            self.world.later(self.random.uniform(1, STORM_S), self._meddle)
        self.world.later(1.0, self._fire)
        self.world.run(STORM_S)
        self.world.chances = Chances()
        self.world.run(STORM_S + 10.0)  # the server is up again
        for order in self.accepted.values():
            if order.run_id is not None:
                self.world.send(msg.PauseRun(order.run_id, paused=False))
        for order in self.schedules:
            self.world.send(msg.UnpauseOrder(order, next_due(self.schedules[order][0], self._now)))
        self.world.run(STORM_S + CALM_S)

    @property
    def _now(self) -> datetime:
        return self.clock.now()

    def _submit(self) -> None:
        order = drawn.order(self.random)
        message = msg.SubmitOrder(order, drawn.run(self.random, self.lanes))
        self.world.send(message, lambda reply: self._accept(order.uid, reply))

    def _accept(self, uid: str, reply: Any) -> None:
        if not is_refusal(reply):
            self.accepted[uid] = reply

    def _submit_schedule(self) -> None:
        spec, now = drawn.schedule(self.random, self._now), self._now

        def heard(reply: Any) -> None:
            if not is_refusal(reply):
                self.schedules[reply.order_id] = (spec, now)

        self.world.send(msg.SubmitOrder(drawn.order(self.random, spec)), heard)

    def _meddle(self) -> None:
        """Somebody stops, pauses, resumes or deletes what was accepted."""
        known = [o for o in self.accepted.values() if o.order_id not in self.gone]
        if not known:
            return
        chosen = self.random.choice(known)
        run_id = chosen.run_id or 0
        self.touched.add(chosen.order_id)
        act = self.random.choice(("stop", "stop order", "pause", "unpause", "resume", "delete"))
        if act == "stop":
            self.world.send(msg.StopRun(run_id, "no more"))
        elif act == "stop order":
            self.world.send(msg.StopOrder(chosen.order_id, "no more"))
        elif act in {"pause", "unpause"}:
            self.world.send(msg.PauseRun(run_id, paused=act == "pause"))
        elif act == "resume":
            new = drawn.run(self.random, self.lanes)
            self.world.send(msg.ResumeRun(run_id, new, skip_failed=self.random.random() < 0.3))
        else:
            self.gone.add(chosen.order_id)
            self.world.send(msg.DeleteOrder(chosen.order_id))

    def _fire(self) -> None:
        """The scheduler looks; sometimes it was away for minutes.

        Most looks at nothing are left out: they cost a quarter of a world, and change nothing.
        """
        if self.schedules and self.random.random() < 0.1:
            self._fire_due()
        while self.schedules and self.database.is_due(self._now) and self._fire_due():
            pass
        is_away = self.random.random() < 0.02 and self.clock.monotonic() < STORM_S
        quiet_s = 400.0 if is_away else self.random.uniform(5, 40)
        self.world.later(quiet_s, self._fire)

    def _fire_due(self) -> int:
        with suppress(Unavailable):  # its thread tries again, too
            return self.scheduler.fire_due()
        return 0

    def fire_schedule(self, _desk: Any, _caller: Any, order: Any, due: datetime) -> None:
        """In place of the operation that would compile; now and then two servers do it at once."""
        assert due <= self._now, f"order {order.id} is fired before its time"
        is_missed = self._now - due > timedelta(minutes=2)
        assert not is_missed or order.schedule.catch_up != "skip", f"order {order.id}: too late"
        following = next_due(order.schedule, due)
        for _ in range(1 + (self.random.random() < 0.2)):
            run = msgspec.structs.replace(drawn.run(self.random, {}), due_at=due)
            self.world.call(msg.FireSchedule(order.id, due, following, run=run))

    def judge(self, history: History) -> None:
        """What people were told is so."""
        for uid, order in self.accepted.items():
            if order.order_id not in self.gone:
                assert history.orders[order.order_id]["uid"] == uid, "an accepted order is lost"
                assert order.run_id in history.runs, "an accepted run is lost"
        for order_id, (spec, made_at) in self.schedules.items():
            fires = [row for row in history.fires if row["order_id"] == order_id]
            due = drawn.due_times(spec, made_at)
            assert [row["due_at"] for row in fires] == due, f"order {order_id}: times differ"
            ran = [r["due_at"] for r in history.runs.values() if r["order_id"] == order_id]
            assert sorted(ran) == [r["due_at"] for r in fires if r["outcome"] == "fired"]
        for (worker, brief), most in self.world.most.items():
            if not self.gone:
                room = self.world.workers[worker] * (3 if brief else 1)
                assert most <= room, f"{worker} had {most} at once"


@pytest.fixture(scope="module")
def database() -> Iterator[MemoryDatabase]:
    """One for all worlds; meanwhile the collector looks seldom, and at nothing older."""
    made, often = MemoryDatabase(), gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    yield made
    gc.set_threshold(*often)
    gc.unfreeze()
    made.close()


def simulate(database: MemoryDatabase, seed: int) -> Life:
    """Live through one world and judge it."""
    database.empty()
    life = Life(database, seed)
    stand_in = SimpleNamespace(
        fire_schedule=life.fire_schedule, skip_schedule=scheduling.operations.skip_schedule
    )
    jitter = patch.object(transitions, "_jitter", Random(seed))  # noqa: S311
    with jitter, patch.object(scheduling, "operations", stand_in):
        life.live()
    told = {attempt: body.outcome for attempt, body in life.world.bodies.items()}
    life.judge(check(database, life.world.story, told))
    return life


@pytest.mark.parametrize("part", range(1 if ONLY else PARTS))
def test_every_promise_holds_in_every_world(database: MemoryDatabase, part: int) -> None:
    seeds = [int(ONLY)] if ONLY else range(part, SEEDS, PARTS)
    crashes = steps = 0
    for seed in seeds:
        try:
            life = simulate(database, seed)
        except BaseException as error:
            error.add_note(
                f"This is world {seed}. Live through it again: make simulate SEED={seed}"
            )
            raise
        crashes += life.world.crashes
        steps += len(life.world.story) // 2
    assert ONLY or (crashes > len(seeds) / 10 and steps > len(seeds)), "nothing happened"


def test_a_seed_is_the_same_world_again(database: MemoryDatabase) -> None:
    first, second = simulate(database, 11), simulate(database, 11)
    assert first.world.story == second.world.story
    assert first.clock.now() == second.clock.now()
