"""The server is killed with SIGKILL under load, again and again; nothing accepted may be lost.

GALLEY_CHAOS_KILLS sets how often (20), GALLEY_CHAOS_SEED what happens when; failures print it.
"""

import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from tests.chaos import witness
from tests.contract.live import Api, Live, serve, until

from galley.core.runs import models
from galley.storage.db import Database

KILLS = int(os.environ.get("GALLEY_CHAOS_KILLS", "20"))
SEED = int(os.environ.get("GALLEY_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
pytestmark = pytest.mark.timeout(max(600, KILLS * 10))
USER = "ann@example.org"
FINAL = ("succeeded", "failed", "canceled")


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

    @contextmanager
    def up(self, **more: str) -> Iterator[tuple[Live, Api]]:
        with serve(self.data, **self.environment, **more) as live:
            if not self.orders:
                live.add_user(USER, admin=True)
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
        return {key: pid for key, pid in found.items() if pid and psutil.pid_exists(pid)}

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
        return [dict(row._mapping) for row in self.rows(query) if (row.uid, row.key) in again]

    def check_file(self) -> None:
        if self.database.is_sqlite:
            with sqlite3.connect(self.data / "galley.db") as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture(params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    address = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    made = Stage(tmp_path, address)
    yield made
    made.database.close()


def kill(live: Live) -> None:
    os.kill(live.process.pid, signal.SIGKILL)
    live.process.wait(10)


def test_twenty_runs_survive_a_kill_and_their_steps_are_adopted(stage: Stage) -> None:
    with stage.up() as (live, api):
        stage.load_recipe(api, step_s=1.5)
        for _ in range(20):
            stage.order(api)
        until(lambda: len(stage.living()) >= 12, what="a crowd of steps")
        kill(live)
    survivors = stage.living()
    assert survivors
    with stage.up() as (_, api):
        until(lambda: stage.open_runs() == 0, seconds=300, what="the end of every run")
    a = models.attempts.c
    outcome = {
        row.id: (row.state, row.handle["pid"])
        for row in stage.rows(sa.select(a.id, a.state, a.handle).where(a.id.in_(survivors)))
    }
    assert outcome == {key: ("succeeded", pid) for key, pid in survivors.items()}
    stage.check()
    stage.check_file()
    assert stage.started_again() == []


def test_random_kills_under_load_lose_nothing_and_finish_nothing_twice(stage: Stage) -> None:
    chance = random.Random(SEED)  # noqa: S311 - decides when to kill, nothing secret
    print(f"seed {SEED}, {KILLS} kills")
    with ExitStack() as stack:
        live, api = stack.enter_context(stage.up())
        stage.load_recipe(api, step_s=0.1)
        for _ in range(KILLS):
            for _ in range(chance.randint(1, 4)):
                stage.order(api)
            wait = chance.uniform(0, 0.6)
            live.process.send_signal(0)
            _pause(wait)
            kill(live)
            stack.close()
            stage.check_file()
            live, api = stack.enter_context(stage.up())
        until(lambda: stage.open_runs() == 0, seconds=300, what="the end of every run")
    stage.check()
    stage.check_file()


def _pause(seconds: float) -> None:
    """The random moment of a kill: the one thing here that is about time itself."""
    import threading

    threading.Event().wait(seconds)
