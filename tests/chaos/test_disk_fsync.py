"""The disk cannot make data durable now and then (fsync fails); nothing accepted may be lost.

GALLEY_CHAOS_LONG=1 makes it longer, GALLEY_CHAOS_SEED sets what happens when; failures print it.
"""

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.chaos import customers
from tests.chaos.customers import LONG, Customers
from tests.chaos.test_disk_full import check_reasons, is_ready, pause
from tests.chaos.test_kills import SEED, Stage, kill
from tests.contract.live import until

ROUNDS = 15 if LONG else 3
WAL, GIT, ALL = "galley.db-wal", "/git/", ""
pytestmark = pytest.mark.timeout(7200 if LONG else 1800)


class Fault:
    """Files whose path contains a text cannot be made durable while the fault lasts."""

    def __init__(self, folder: Path, under: Path) -> None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.skip("there is no C compiler to build the failing fsync with")
        library = folder / "failing_fsync.so"
        source = Path(__file__).with_name("failing_fsync.c")
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True)
        self._flag = folder / "fsync_fails"
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAILING_FSYNC_FLAG": str(self._flag),
            "FAILING_FSYNC_UNDER": str(under),
        }

    def begin(self, part: str) -> None:
        whole = self._flag.with_suffix(".new")
        whole.write_text(part)
        whole.rename(self._flag)

    def end(self) -> None:
        self._flag.unlink()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.database.close()


def test_what_cannot_be_made_durable_is_not_acknowledged(stage: Stage, tmp_path: Path) -> None:
    """In some rounds the server is killed while it cannot write: the last commit may come back."""
    chance = random.Random(SEED)  # noqa: S311 - when it fails, and for which files
    print(f"seed {SEED}, {ROUNDS} rounds")
    fault = Fault(tmp_path, stage.data)
    parts = [GIT, ALL, WAL]
    with ExitStack() as stack:
        live, api = stack.enter_context(stage.up(**fault.environment))
        customers.load_recipe(stage, api)
        crowd = Customers(stage, api, SEED)
        crowd.start()
        for number in range(ROUNDS):
            pause(chance.uniform(0.1, 1))
            part = parts[number % len(parts)]
            fault.begin(part)
            crowd.until_refused(503)
            if part != GIT:
                until(lambda live=live: not is_ready(live), what="a server that says it needs help")
            pause(chance.uniform(0, 1))
            is_killed = number % 4 == ROUNDS % 4 - 1
            if is_killed:
                crowd.is_server_down = True
                kill(live)
                stack.close()
                stage.check_file()
            fault.end()
            if is_killed:
                live, api = stack.enter_context(stage.up(**fault.environment))
                crowd.move(live.base)
            crowd.until_taken()
            until(lambda live=live: is_ready(live), what="readiness")
        crowd.leave()
        assert set(crowd.read) == {200}, crowd.told()
        until(lambda: stage.open_runs() == 0, what="the end of every run")
        customers.check_kept(crowd)
        customers.check_ends(crowd)
        check_reasons(stage)
        stage.check_file()
        customers.check_health(live.data, live.environment)
