"""Which processes of an earlier server are ended, looked at from the outside."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from tests.contract.live import PATIENCE_S, until

from galley.core.runs.plan import Limits
from galley.engine.executors.local import claims, processes, strays
from galley.engine.executors.local.messages import TemplateSettings
from galley.engine.executors.local.processes import Mark

ASLEEP = "print(flush=True); import time; time.sleep(600)"
DEAF = (
    "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM});"
    "print(flush=True); import time; time.sleep(600)"
)
FORKS = (
    "import os, time; os.fork() and print(flush=True); time.sleep(600)"  # no program follows yet
)

Left = Callable[[str], Mark]


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Left]:
    """Starts a process that looks as if it was forked from a template of the executor's."""
    monkeypatch.setattr(strays, "_SECOND_LOOK_S", 0.05)
    settings = TemplateSettings(
        folder=str(tmp_path),
        run_step="",
        preload=(),
        sandbox=False,
        log_limit_bytes=1,
        limits=Limits(),
    )
    words = ["galley.engine.executors.local.template", msgspec.json.encode(settings).decode()]
    made = []

    def start(code: str) -> Mark:
        command = [sys.executable, "-c", code, *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        made.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        mark = processes.mark_of(process.pid)
        assert mark is not None
        return mark

    yield start
    for process in made:
        processes.kill_tree(process.pid)
        process.wait(PATIENCE_S)
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("code", [ASLEEP, DEAF])
def test_whoever_holds_no_attempt_is_ended(tmp_path: Path, left: Left, code: str) -> None:
    mark, other = left(code), left(ASLEEP)
    claims.claim(str(tmp_path / "other"), 0, other)
    assert strays.end_strays(str(tmp_path), -1, lambda: [str(tmp_path / "other")]) == 1
    assert not processes.alive(mark)
    assert processes.alive(other)


def test_one_that_claims_its_attempt_in_the_last_moment_goes_on(tmp_path: Path, left: Left) -> None:
    mark, place = left(ASLEEP), str(tmp_path / "one")
    states = []

    def held() -> list[str]:
        states.append(psutil.Process(mark.pid).status())
        if len(states) == 3:
            claims.claim(place, 0, mark)  # just before it was stopped
        return [place]

    assert strays.end_strays(str(tmp_path), -1, held) == 0
    assert states[2] == psutil.STATUS_STOPPED
    assert states[:2] != [psutil.STATUS_STOPPED] * 2
    until(lambda: psutil.Process(mark.pid).status() != psutil.STATUS_STOPPED, what="its going on")


def test_a_fork_that_is_not_its_program_yet_belongs_to_its_step(tmp_path: Path, left: Left) -> None:
    mark, place = left(FORKS), str(tmp_path / "one")
    claims.claim(place, 0, mark)
    (fork,) = psutil.Process(mark.pid).children()
    assert strays.end_strays(str(tmp_path), -1, lambda: [place]) == 0
    until(lambda: fork.status() != psutil.STATUS_STOPPED, what="its going on")
    assert fork.is_running()
    assert processes.alive(mark)


def test_what_a_server_stopped_and_then_died_goes_on_with_the_next(
    tmp_path: Path, left: Left
) -> None:
    mark, place = left(ASLEEP), str(tmp_path / "one")
    claims.claim(place, 0, mark)
    psutil.Process(mark.pid).suspend()
    until(lambda: psutil.Process(mark.pid).status() == psutil.STATUS_STOPPED, what="its stop")
    assert strays.end_strays(str(tmp_path), -1, lambda: [place]) == 0
    until(lambda: psutil.Process(mark.pid).status() != psutil.STATUS_STOPPED, what="its going on")


def test_a_question_that_fails_leaves_nobody_standing(tmp_path: Path, left: Left) -> None:
    mark, looks = left(ASLEEP), iter([[], []])
    with pytest.raises(StopIteration):
        strays.end_strays(str(tmp_path), -1, lambda: next(looks))
    until(lambda: psutil.Process(mark.pid).status() != psutil.STATUS_STOPPED, what="its going on")
