"""Backups taken under load restore to one moment: rows, branches, blobs.

GALLEY_CHAOS_LONG=1 makes it longer, GALLEY_CHAOS_SEED sets what happens when; failures print it.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import pytest
import sqlalchemy as sa
from tests.chaos import customers
from tests.chaos.customers import LONG, Customers
from tests.chaos.test_disk_full import is_ready, pause
from tests.chaos.test_kills import SEED, Stage
from tests.conftest import PostgresServer
from tests.contract.live import Live, serve, until

from galley.cli.maintenance import backup, restore
from galley.core.events.audit import digest_of
from galley.core.runs import models

PARTS, BACKUPS = (5, 10) if LONG else (1, 2)  # of a server each: a backup costs what it has
pytestmark = pytest.mark.timeout(7200 if LONG else 1800)


@pytest.fixture(params=["sqlite", "postgres"])
def new_address(request: pytest.FixtureRequest) -> Callable[[ExitStack], str | None]:
    """Gives the address of a new database, or None where each data folder has its own."""
    if request.param == "sqlite":
        return lambda _stack: None
    server: PostgresServer = request.getfixturevalue("postgres_server")

    def make(stack: ExitStack) -> str:
        return stack.enter_context(server.fresh()).render_as_string(hide_password=False)

    return make


@pytest.mark.parametrize("part", range(PARTS))
def test_backups_under_load_are_of_one_moment(
    new_address: Callable[[ExitStack], str | None], tmp_path: Path, part: int
) -> None:
    chance = random.Random(SEED + part)  # noqa: S311 - when to save
    print(f"seed {SEED}, {BACKUPS} backups")
    with ExitStack() as stack:
        stage = Stage(tmp_path, new_address(stack))
        stack.callback(stage.database.close)
        live, api = stack.enter_context(stage.up())
        customers.load_recipe(stage, api)
        crowd = Customers(stage, api, SEED + part)
        crowd.start()
        found: set[str] = set()
        for number in range(BACKUPS):
            pause(chance.uniform(0.2, 0.8))
            orders, edits = set(crowd.orders.values()), len(crowd.edits)
            run(backup, live.environment, tmp_path / "backup", live.data)
            with crowd.resting(), restored(live, tmp_path, new_address) as (copy, environment):
                kept = customers.stored_orders(copy)
                assert orders <= kept, crowd.told()
                assert check_edits(copy) >= edits, crowd.told()
                customers.check_blobs(copy.database, copy.data)
                customers.check_health(copy.data, environment)
                found |= kept
                if LONG and part == number == 0:
                    check_goes_on(copy)
        crowd.leave()
        assert crowd.wrong == [], crowd.told()
        assert not crowd.refused, crowd.told()
        assert found <= set(crowd.orders.values()), crowd.told()


@contextmanager
def restored(
    live: Live, folder: Path, new_address: Callable[[ExitStack], str | None]
) -> Iterator[tuple[Stage, dict[str, str]]]:
    """The backup, brought back into a folder (and a database) of its own; both go at the end."""
    place = folder / "copy"
    with ExitStack() as stack:
        address = new_address(stack)
        place.mkdir()
        stack.callback(shutil.rmtree, place)
        stack.callback(shutil.rmtree, folder / "backup")
        copy = Stage(place, address)
        stack.callback(copy.database.close)
        copy.environment["GALLEY_ROOTS"] = live.environment["GALLEY_ROOTS"]
        copy.data.mkdir(mode=0o700)
        shutil.copy(live.data / "secret.key", copy.data / "secret.key")
        environment = live.environment | copy.environment | {"GALLEY_DATA": str(copy.data)}
        run(restore, environment, folder / "backup", copy.data)
        yield copy, environment


def run(command: click.Command, environment: dict[str, str], place: Path, data: Path) -> None:
    """Back up into, or restore from, this place."""
    done = customers.galley(command, environment, place, "--data", data)
    assert done.exit_code == 0, (done.output, done.exception)


def check_edits(copy: Stage) -> int:
    """Branch and audit tell the same story of edits 1, 2, 3, ...; gives the last one's number.

    The last edit may be on the branch already while its rows were not committed yet.
    """
    made, noted = customers.commits(copy.data), customers.audited(copy)
    assert made == Counter(f"edit {number}" for number in range(1, len(made) + 1))
    missing = Counter(map(digest_of, made)) - noted
    assert noted <= Counter(map(digest_of, made))
    assert not missing or missing == Counter([digest_of(f"edit {len(made)}")])
    return len(made)


def check_goes_on(copy: Stage) -> None:
    """A server on the restored data ends every run that was under way at that moment."""
    with serve(copy.data, **copy.environment) as live:
        until(lambda: is_ready(live), what="readiness")
        until(lambda: copy.open_runs() == 0, what="the end of every run")
    states = Counter(row.state for row in copy.rows(sa.select(models.runs.c.state)))
    assert set(states) == {"succeeded"}
