"""The server is killed with SIGKILL under load, again and again; nothing accepted may be lost.

What is found at the end is held against two stories that are told outside Galley: the answers that
a client got (journal.py), and what the steps wrote into a file (witness.py).

GALLEY_CHAOS_KILLS sets how often on each database (10), GALLEY_CHAOS_SEED what happens when;
failures print it.
"""

import hashlib
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import sqlalchemy as sa
from tests.chaos import witness
from tests.chaos.journal import Client, Journal
from tests.contract.live import PASSWORD, PATIENCE_S, Api, Live, serve, until

from galley.core.runs import models
from galley.engine.cluster import LEASE_S
from galley.kit.ids import uuid_of
from galley.storage.db import Database

KILLS = int(os.environ.get("GALLEY_CHAOS_KILLS", "10"))
SEED = int(os.environ.get("GALLEY_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
pytestmark = pytest.mark.timeout(max(1800, KILLS * 20))
USER = "ann@example.org"
FINAL = ("succeeded", "failed", "canceled")
READY_S = 2.0
"""Within that the server must be ready again, all but one time in a hundred."""
HAS_MACHINE = KILLS >= 100 and "PYTEST_XDIST_WORKER" not in os.environ
"""Whether the times mean something: enough of them, and no other tests at the same time."""


class Stage:
    """A server that can be killed and started again on the same folder."""

    def __init__(self, folder: Path, address: str | None = None, *, steps: int = 8) -> None:
        self.folder = folder
        self.steps = steps
        self.data = folder / "data"
        self.said = folder / "said"
        self.said.mkdir()
        self.witness = self.said / "witness.txt"
        self.witness.touch()
        self.environment = {"GALLEY_ROOTS": str(self.said), "GALLEY_SLOTS": "16"}
        if address is not None:
            self.environment["GALLEY_DATABASE_URL"] = address
        self.database = Database(address or f"sqlite:///{self.data / 'galley.db'}")
        self.orders: list[str] = []
        self.start_times_s: list[float] = []
        self._has_user = False

    @contextmanager
    def up(self, **more: str) -> Iterator[tuple[Live, Api]]:
        began = time.monotonic()
        with serve(self.data, **self.environment, **more) as live:
            self.start_times_s.append(time.monotonic() - began)
            if not self._has_user:
                live.add_user(USER, admin=True)
                self._has_user = True
            yield live, live.log_in(USER)

    def load_recipe(self, api: Api, *, step_s: float, **more: str) -> None:
        api.good("POST", "/v2/recipe/create/master/chaos", {"templatename": "qs1"})
        old = api.good("GET", "/v2/recipe/tree/master/chaos")["recipes"]["chaos"]
        files: dict[str, Any] = {
            f"{folder}/{entry['filename']}".removeprefix("chaos/"): {}
            for folder, entries in old.items()
            for entry in entries
        }
        wanted = witness.recipe(self.witness, step_s=step_s) | more
        files |= {path: {"contents": text, "isNew": True} for path, text in wanted.items()}
        api.good("POST", "/v2/recipe/update/master/chaos", {"message": "m", "files": files})

    def order(self, api: Api) -> None:
        made = api.good("PUT", "/v2/order/create/master/chaos/v", {"schedule": "now"})
        self.orders.append(made["order_id"])

    def rows(self, query: Any) -> list[Any]:
        with self.database.reading() as session:
            return list(session.execute(query))

    def open_runs(self) -> int:
        query = sa.select(sa.func.count()).where(models.runs.c.state.not_in(FINAL))
        return int(self.rows(query)[0][0])

    def living(self) -> dict[int, int]:
        """Attempt id -> pid of every attempt whose process lives."""
        a = models.attempts.c
        query = sa.select(a.id, a.handle).where(a.state.in_(["starting", "running"]))
        found = {row.id: (row.handle or {}).get("pid") for row in self.rows(query)}
        return {key: pid for key, pid in found.items() if pid and is_running(pid)}

    def check(self) -> None:
        """Everything that was accepted has ended well, once, and the steps' own story agrees."""
        runs = self.rows(sa.select(models.runs.c.state, models.runs.c.reason))
        assert len(runs) == len(self.orders), f"seed {SEED}"
        assert Counter(state for state, _ in runs) == {"succeeded": len(runs)}, f"seed {SEED}"
        a = models.attempts.c
        ended = (
            sa.select(a.step_id, sa.func.count()).where(a.state == "succeeded").group_by(a.step_id)
        )
        counts = [count for _, count in self.rows(ended)]
        assert counts == [1] * (self.steps * len(runs)), f"seed {SEED}"
        story = witness.read(self.witness)
        assert len(story.ends) == 8 * len(runs), f"seed {SEED}"
        tried = self.rows(sa.select(sa.func.count()).select_from(models.attempts))[0][0]
        assert sum(story.starts.values()) <= tried, f"seed {SEED}"
        story.check_order()

    def started_again(self) -> list[Any]:
        """The attempts of every step that started more than once: what to look at when one did."""
        again = {where for where, count in witness.read(self.witness).starts.items() if count > 1}
        a, s, r = models.attempts.c, models.steps.c, models.runs.c
        query = (
            sa.select(r.uid, s.key, models.attempts)
            .join_from(models.attempts, models.steps, s.id == a.step_id)
            .join(models.runs, r.id == a.run_id)
            .order_by(a.id)
        )
        rows = self.rows(query)
        return [dict(row._mapping) for row in rows if (uuid_of(row.uid), row.key) in again]

    def check_finishes(self) -> None:
        """No step's finish was recorded twice: in its attempts, in the run's history."""
        a, e = models.attempts.c, models.events.c
        ended = sa.select(a.step_id).where(a.state == "succeeded")
        assert most(Counter(self.rows(ended))) <= 1, f"seed {SEED}"
        told = self.rows(sa.select(e.run_id, e.body).where(e.kind == "step.finished"))
        assert most(Counter((row.run_id, row.body["step"]) for row in told)) <= 1, f"seed {SEED}"

    def check_results(self, base: str) -> int:
        """Every result of the witness's steps comes over HTTP as it was written; how many."""
        a, r = models.artifacts.c, models.runs.c
        found = self.rows(
            sa.select(r.uid, r.state, a.id, a.name, a.sha256, a.size_bytes)
            .join_from(models.artifacts, models.runs, r.id == a.run_id)
            .where(a.name.in_(map(witness.kept_name, witness.KEPT)))
        )
        with signed_in(base) as client:
            for row in found:
                run, key = uuid_of(row.uid), row.name.removeprefix("kept-").removesuffix(".txt")
                content = client.get(f"/runs/{run}/artifacts/{row.id}").content
                assert content == witness.kept(run, key), f"seed {SEED}: {row}"
                assert hashlib.sha256(content).hexdigest() == row.sha256, f"seed {SEED}: {row}"
        whole = Counter(row.uid for row in found if row.state == "succeeded")
        done = self.rows(sa.select(r.uid).where(r.state == "succeeded"))
        assert whole == {row.uid: len(witness.KEPT) for row in done}, f"seed {SEED}"
        return len(found)

    def check_file(self) -> None:
        if self.database.is_sqlite:
            with sqlite3.connect(self.data / "galley.db") as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def is_running(pid: int) -> bool:
    """Whether the process is there and more than a body that nobody has buried."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def most(counted: Counter[Any]) -> int:
    return max(counted.values(), default=0)


@contextmanager
def signed_in(base: str) -> Iterator[httpx2.Client]:
    """A browser's connection, signed in."""
    with httpx2.Client(base_url=base, trust_env=False, timeout=PATIENCE_S) as client:
        form = {"email": USER, "password": PASSWORD}
        got = client.post("/sign-in", data=form, headers={"Origin": base})
        assert got.status_code == 303, got.text
        yield client


@pytest.fixture(params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    address = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    made = Stage(tmp_path, address)
    yield made
    made.database.close()


def kill(live: Live) -> None:
    os.kill(live.process.pid, signal.SIGKILL)
    live.process.wait(PATIENCE_S)


def test_twenty_runs_survive_a_kill_and_their_steps_are_adopted(stage: Stage) -> None:
    with stage.up() as (live, api):
        stage.load_recipe(api, step_s=2)
        for _ in range(20):
            stage.order(api)
        until(lambda: len(stage.living()) >= 8, what="a crowd of steps")
        kill(live)
    survivors = stage.living()
    assert survivors
    with stage.up() as (live, _):
        until(lambda: stage.open_runs() == 0, what="the end of every run")
        assert stage.check_results(live.base) == 2 * 20
    check_adopted(stage, survivors)
    stage.check()
    stage.check_finishes()
    stage.check_file()
    assert stage.started_again() == []


def test_a_server_that_stood_still_starts_nothing_twice(tmp_path: Path, postgres_url: str) -> None:
    """It is its own worker, whose lease has run out when it wakes."""
    stage = Stage(tmp_path, postgres_url)
    with stage.up() as (live, api):
        stage.load_recipe(api, step_s=3)
        for _ in range(4):
            stage.order(api)
        until(lambda: len(stage.living()) >= 4, what="living steps")
        live.process.send_signal(signal.SIGSTOP)
        _pause(1.3 * LEASE_S)
        live.process.send_signal(signal.SIGCONT)
        until(lambda: stage.open_runs() == 0, what="the end of every run")
    stage.check()
    stage.check_finishes()
    assert stage.started_again() == []
    stage.database.close()


def check_adopted(stage: Stage, survivors: dict[int, int]) -> None:
    """What lived when a server died ended as the same process, or was stopped on request."""
    a, r = models.attempts.c, models.runs.c
    query = sa.select(a.id, a.state, a.handle, r.cancel_reason).join(models.runs, r.id == a.run_id)
    rows = {row.id: row for row in stage.rows(query)}
    for key, pid in survivors.items():
        row = rows[key]
        is_well = row.state == "succeeded" or (row.cancel_reason and row.state == "canceled")
        assert (is_well, row.handle["pid"]) == (True, pid), f"seed {SEED}: {row}"


def test_random_kills_under_load_lose_nothing_and_finish_nothing_twice(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - decides when to kill, nothing secret
    print(f"seed {SEED}, {KILLS} kills")
    journal, survivors = Journal(), dict[int, int]()
    with ExitStack() as stack:
        live, api = stack.enter_context(stage.up())
        stage.load_recipe(api, step_s=0.1)
        for _ in range(KILLS):
            client = Client(journal, api, chance, chance.randint(1, 6))
            _pause(chance.uniform(0, 0.6))
            kill(live)
            client.end()
            survivors |= stage.living()
            stack.close()
            stage.check_file()
            live, api = stack.enter_context(stage.up())
            journal.catch_up(api)
        until(lambda: stage.open_runs() == 0, what="the end of every run")
        results = stage.check_results(live.base)
    check_answers(stage, journal)
    check_steps(stage)
    check_adopted(stage, survivors)
    stage.check_finishes()
    stage.check_file()
    told = (
        f"seed {SEED}: {KILLS} kills, {len(journal.orders)} runs, {len(journal.stopped)} stopped,"
        f" {len(survivors)} steps adopted, {results} results; {told_starts(stage)}"
    )
    with capsys.disabled():
        print(f"\n{told}" if KILLS > 20 else "", end="")
    assert not HAS_MACHINE or quantile(stage.start_times_s[1:], 0.99) <= READY_S, told


def check_answers(stage: Stage, journal: Journal) -> None:
    """What a client was answered is there, and nothing else."""
    assert (journal.faults, journal.unanswered) == ([], []), f"seed {SEED}"
    o, r, a = models.orders.c, models.runs.c, models.attempts.c
    orders = {uuid_of(row.uid): row.state for row in stage.rows(sa.select(o.uid, o.state))}
    assert sorted(orders) == sorted([*journal.orders, *journal.schedules]), f"seed {SEED}"
    for uid, is_paused in journal.schedules.items():
        assert orders[uid] == ("paused" if is_paused else "active"), f"seed {SEED}: {uid}"
    query = sa.select(o.uid, r.id, r.state).join_from(
        models.runs, models.orders, o.id == r.order_id
    )
    runs = {uuid_of(row.uid): row for row in stage.rows(query)}
    assert sorted(runs) == sorted(journal.orders), f"seed {SEED}"
    latest = sa.select(a.run_id, sa.func.max(a.started_at)).group_by(a.run_id)
    given = dict(map(tuple, stage.rows(latest)))
    for uid, run in runs.items():
        stopped_at = journal.stopped.get(uid)
        allowed = ("succeeded",) if stopped_at is None else ("succeeded", "canceled")
        assert run.state in allowed, f"seed {SEED}: {uid} is {run.state}"
        if stopped_at is not None:
            last = given[run.id]
            assert last is None or last <= stopped_at, f"seed {SEED}: {uid} went on"


def check_steps(stage: Stage) -> None:
    """What the steps wrote agrees: only servers died, so that nothing began twice."""
    r, a = models.runs.c, models.attempts.c
    lost = stage.rows(sa.select(models.attempts).where(a.state == "lost"))
    assert lost == [], f"seed {SEED}"
    assert stage.started_again() == [], f"seed {SEED}"
    story = witness.read(stage.witness)
    story.check_order()
    states = {uuid_of(row.uid): row.state for row in stage.rows(sa.select(r.uid, r.state))}
    done = [uid for uid, state in states.items() if state == "succeeded"]
    whole = {(uid, key) for uid in done for key in witness.KEYS}
    assert whole <= set(story.ends), f"seed {SEED}"
    assert most(story.ends) <= 1, f"seed {SEED}"
    assert {uid for uid, _ in story.starts} <= set(states), f"seed {SEED}"


def quantile(values: list[float], share: float) -> float:
    """The smallest value that is not below so many of them."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def told_starts(stage: Stage) -> str:
    """How long starts took after kills, in seconds."""
    times = stage.start_times_s[1:]
    p50, p99 = quantile(times, 0.5), quantile(times, 0.99)
    return f"ready again after p50 {p50:.2f} s, p99 {p99:.2f} s, at most {max(times):.2f} s"


def _pause(seconds: float) -> None:
    """A moment for a kill, or longer than a lease: these two are about time itself."""
    threading.Event().wait(seconds)
