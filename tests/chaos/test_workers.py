"""A worker beside a server on one Postgres takes its share; killed, it loses nothing."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from tests.chaos.test_kills import Stage
from tests.contract.live import GALLEY, PATIENCE_S, until

from galley.core.runs import models

pytestmark = pytest.mark.timeout(1800)


@contextmanager
def worker(stage: Stage, name: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A `galley worker` process that has said that it is ready."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GALLEY_")}
    process = subprocess.Popen(
        [GALLEY, "worker", "--data", str(stage.data), "--name", name, "--slots", "8"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment | stage.environment | more,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"Worker {name} is ready with 8 slots\n"
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        if process.stdout is not None:
            process.stdout.close()


def workers_of(stage: Stage) -> set[str]:
    return {row.worker for row in stage.rows(sa.select(models.attempts.c.worker)) if row.worker}


def on_worker(stage: Stage, name: str) -> dict[int, int]:
    """Attempt id -> pid of what lives on this worker."""
    a = models.attempts.c
    mine = {row.id for row in stage.rows(sa.select(a.id).where(a.worker == name))}
    return {key: pid for key, pid in stage.living().items() if key in mine}


def test_what_is_deleted_ends_on_the_worker_too(tmp_path: Path, postgres_url: str) -> None:
    stage = Stage(tmp_path, postgres_url)
    stage.environment["GALLEY_SLOTS"] = "1"
    with stage.up() as (_, api), worker(stage, "w1"):
        stage.load_recipe(api, step_s=900)
        for _ in range(4):
            stage.order(api)
        pids = until(lambda: len(found := on_worker(stage, "w1")) >= 2 and found, what="its steps")
        gone = [psutil.Process(pid) for pid in pids.values()]
        api.good("DELETE", "/v2/order/deleteall/master")
        _, left = psutil.wait_procs(gone, PATIENCE_S)
        assert not left
        assert stage.rows(sa.select(models.attempts.c.id)) == []
    stage.database.close()


def test_a_worker_that_stood_still_ends_what_others_do_now(
    tmp_path: Path, postgres_url: str
) -> None:
    stage = Stage(tmp_path, postgres_url)
    stage.environment["GALLEY_SLOTS"] = "8"
    with stage.up() as (_, api), worker(stage, "w1") as process:
        stage.load_recipe(api, step_s=900)
        for _ in range(4):
            stage.order(api)
        pids = until(lambda: on_worker(stage, "w1"), what="its steps")
        process.send_signal(signal.SIGSTOP)
        a = models.attempts.c
        lost = sa.select(a.id).where(a.id.in_(pids), a.state == "lost")
        until(lambda: len(stage.rows(lost)) == len(pids), what="the loss of its steps")
        shims = [psutil.Process(pid) for pid in pids.values()]
        process.send_signal(signal.SIGCONT)
        _, left = psutil.wait_procs(shims, PATIENCE_S)
        assert not left
        api.good("DELETE", "/v2/order/deleteall/master")
        until(lambda: not stage.living(), what="the end of the rest")
    stage.database.close()


def test_a_worker_that_comes_back_ends_what_its_dead_self_left(
    tmp_path: Path, postgres_url: str
) -> None:
    stage = Stage(tmp_path, postgres_url)
    stage.environment["GALLEY_SLOTS"] = "1"
    with stage.up() as (_, api):
        stage.load_recipe(api, step_s=900)
        with worker(stage, "w1") as process:
            for _ in range(4):
                stage.order(api)
            pids = until(
                lambda: len(found := on_worker(stage, "w1")) >= 2 and found, what="its steps"
            )
            process.kill()
            process.wait(PATIENCE_S)
        shims = [psutil.Process(pid) for pid in pids.values()]
        api.good("DELETE", "/v2/order/deleteall/master")
        assert all(shim.is_running() for shim in shims)
        with worker(stage, "w1"):
            _, left = psutil.wait_procs(shims, PATIENCE_S)
            assert not left
    stage.database.close()


def test_a_worker_takes_its_share_and_may_be_killed(tmp_path: Path, postgres_url: str) -> None:
    stage = Stage(tmp_path, postgres_url)
    stage.environment["GALLEY_SLOTS"] = "1"
    with stage.up() as (_, api):
        stage.load_recipe(api, step_s=2)
        with worker(stage, "w1") as process:
            for _ in range(4):
                stage.order(api)
            until(lambda: "w1" in workers_of(stage), what="work for the worker")
            until(lambda: len(stage.living()) >= 3, what="living steps")
            process.kill()
            process.wait(PATIENCE_S)
        with worker(stage, "w1"):
            until(lambda: stage.open_runs() == 0, what="the end of every run")
    stage.check()
    a = models.attempts.c
    done = stage.rows(sa.select(a.id).where(a.worker == "w1", a.state == "succeeded"))
    assert done
    stage.database.close()
