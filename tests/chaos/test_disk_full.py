"""The disk fills up at random moments under load and is freed again; nothing accepted may be lost.

GALLEY_CHAOS_LONG=1 makes it longer, GALLEY_CHAOS_SEED sets what happens when; failures print it.
"""

import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.chaos import customers
from tests.chaos.customers import LONG, Customers
from tests.chaos.smalldisk import SmallDisk, small_disk
from tests.chaos.test_kills import SEED, Stage
from tests.contract.live import PATIENCE_S, Api, Live, until

from galley.core.runs import models
from galley.kit.ids import uuid_of

ROUNDS = 20 if LONG else 3
CLEAR = re.compile(r"disk|no space|input/output", re.IGNORECASE)
pytestmark = pytest.mark.timeout(7200 if LONG else 1800)


@pytest.fixture(params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path: Path):
    """On Postgres the database has a disk of its own, and only Galley's files have no room."""
    address = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    made = Stage(tmp_path, address)
    yield made
    made.database.close()


def is_ready(live: Live) -> bool:
    connection = HTTPConnection(live.base.removeprefix("http://"), timeout=PATIENCE_S)
    with closing(connection):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_a_disk_that_is_full_now_and_then_loses_nothing(stage: Stage) -> None:
    chance = random.Random(SEED)  # noqa: S311 - when to fill it
    print(f"seed {SEED}, {ROUNDS} rounds")
    with small_disk(stage.data, 64) as disk, stage.up() as (live, api):
        customers.load_recipe(stage, api)
        crowd = Customers(stage, api, SEED)
        crowd.start()
        for _ in range(ROUNDS):
            pause(chance.uniform(0.1, 1.5))
            with disk.full():
                crowd.until_refused(507)
                pause(chance.uniform(0, 1))
            crowd.until_taken()
            until(lambda: is_ready(live), what="readiness")
        crowd.leave()
        assert set(crowd.read) == {200}, crowd.told()
        until(lambda: stage.open_runs() == 0, what="the end of every run")
        customers.check_kept(crowd)
        customers.check_ends(crowd)
        check_reasons(stage)
        stage.check_file()
        customers.check_health(live.data, live.environment, but=("disk",))


def check_reasons(stage: Stage) -> None:
    """Whatever failed says that it was for the disk."""
    s, a = models.steps.c, models.attempts.c
    steps = stage.rows(sa.select(s.reason).where(s.state == "failed"))
    attempts = stage.rows(sa.select(a.reason).where(a.state.in_(["failed", "lost"])))
    assert [row.reason for row in (*steps, *attempts) if not CLEAR.search(row.reason)] == []


@pytest.fixture
def small(
    tmp_path: Path,
) -> Iterator[Callable[[str], AbstractContextManager[tuple[Any, Any, Any]]]]:
    """A server whose folder of that name lies on a disk of one megabyte."""

    @contextmanager
    def make(name: str) -> Iterator[tuple[Stage, SmallDisk, Api]]:
        stage = Stage(tmp_path)
        stage.data.mkdir(mode=0o700)
        with small_disk(stage.data / name, 1) as disk, stage.up() as (_, api):
            customers.load_recipe(stage, api)
            yield stage, disk, api
        stage.database.close()

    return make


def states(stage: Stage) -> list[str]:
    """The states of all runs, in the order in which they were made."""
    r = models.runs.c
    return [row.state for row in stage.rows(sa.select(r.state).order_by(r.id))]


def test_a_result_without_room_is_lost_and_its_step_comes_again(small) -> None:
    """The folder of attempts has no room, and the database has."""
    with small("attempts") as (stage, disk, api):
        with disk.full():
            stage.order(api)
            a = models.attempts.c
            lost = sa.select(a.id).where(a.state == "lost")
            until(lambda: len(stage.rows(lost)) > 1, what="an attempt that is lost twice")
        until(lambda: stage.open_runs() == 0, what="the end of the run")
        check_reasons(stage)
        assert states(stage) == ["succeeded"]


def test_a_step_without_room_for_its_log_fails_and_its_run_can_be_resumed(small) -> None:
    """The folder of logs has no room, and the database has."""
    with small("logs") as (stage, disk, api):
        with disk.full():
            stage.order(api)
            until(lambda: states(stage) == ["failed"], what="a run that says why it failed")
        check_reasons(stage)
        (run,) = [uuid_of(row.uid) for row in stage.rows(sa.select(models.runs.c.uid))]
        api.good("PUT", f"/v2/order/resume/{run}", {"kitchen_name": "master"})
        until(lambda: states(stage) == ["failed", "succeeded"], what="the resumed run's end")
