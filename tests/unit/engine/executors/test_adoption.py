"""A server or a template goes, attempts stay: adopted, finished, or given up exactly once."""

import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.contract.live import until
from tests.unit.engine.executors.conftest import HERE, Recorder
from tests.unit.engine.executors.test_stopping import wait_for

from galley.core.runs.task import Outcome
from galley.engine.executors.local import claims, messages, processes


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def bench(own_bench):
    return own_bench


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def waiting(bench, fifo, gate, key="one", **options):
    """A step that runs until the gate is there; its task and its pid."""
    task = bench.task(key, "wait", body={"at": str(fifo), "until": str(gate)}, **options)
    bench.executor.submit(task)
    return task, int(wait_for(fifo))


def successor(bench, **options):
    """The next server's executor over the same folder."""
    bench.executor.stop()
    bench.recorder = Recorder()
    bench.executor = bench.make(**options)
    return bench.start()


def test_a_living_attempt_is_adopted_and_finishes(bench, fifo, gate):
    task, pid = waiting(bench, fifo, gate)
    successor(bench)
    bench.executor.adopt(task)
    assert bench.recorder.until(("started",), "one")[3] == {"pid": pid, "adopted": True}
    gate.touch()
    assert bench.recorder.outcome("one").exports == {"pid": pid}
    assert bench.recorder.kinds("one") == ["started", "finished"]


def test_without_process_descriptors_too(bench, fifo, gate, monkeypatch):
    monkeypatch.setattr(processes, "open_pidfd", lambda _pid: None)
    task, pid = waiting(bench, fifo, gate)
    successor(bench)
    bench.executor.adopt(task)
    bench.recorder.until(("started",), "one")
    gate.touch()
    assert bench.recorder.outcome("one").exports == {"pid": pid}


def test_an_adopted_attempt_can_be_canceled(bench, fifo, gate):
    task, pid = waiting(bench, fifo, gate)
    successor(bench)
    bench.executor.adopt(task)
    bench.cancel("one", grace_s=60)
    assert bench.recorder.outcome("one").state == "canceled"
    assert processes.started_ticks(pid) is None


def test_a_cancel_while_the_folder_cannot_be_read_ends_what_lives(bench, fifo, gate, monkeypatch):
    task, pid = waiting(bench, fifo, gate)
    settle, is_away = claims.settle, threading.Event()
    is_away.set()

    def fail(folder):
        if is_away.is_set():
            raise OSError(errno.EIO, "away")
        return settle(folder)

    monkeypatch.setattr(claims, "settle", fail)
    successor(bench)
    bench.executor.adopt(task)
    bench.cancel("one", grace_s=60)
    until(lambda: bench.executor.list_keys() == {"one"}, what="the adoption")
    is_away.clear()
    assert bench.recorder.outcome("one").state == "canceled"
    assert processes.started_ticks(pid) is None


@pytest.mark.parametrize("name", ["age_s", "alive", "open_pidfd"])
def test_a_fault_while_it_is_adopted_leaves_nothing_unwatched(bench, fifo, gate, monkeypatch, name):
    task, pid = waiting(bench, fifo, gate)
    bench.executor.stop()
    real, faults = getattr(processes, name), iter([OSError(errno.EMFILE, "too many")] * 2)

    def fail_twice(*arguments):
        if (fault := next(faults, None)) is not None:
            raise fault
        return real(*arguments)

    monkeypatch.setattr(processes, name, fail_twice)
    successor(bench)
    bench.executor.adopt(task)
    bench.recorder.until(("started",), "one")
    gate.touch()
    assert bench.recorder.outcome("one").exports == {"pid": pid}
    assert bench.recorder.kinds("one") == ["started", "finished"]


def test_an_attempt_that_ended_meanwhile_is_finished(bench, fifo, gate):
    task, pid = waiting(bench, fifo, gate)
    bench.executor.stop()
    gate.touch()
    subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], check=True)
    successor(bench)
    bench.executor.adopt(task)
    assert bench.recorder.outcome("one").exports == {"pid": pid}
    assert bench.recorder.kinds("one") == ["finished"]


def test_a_folder_that_cannot_be_read_for_a_moment_loses_nothing(bench, fifo, gate, monkeypatch):
    task, pid = waiting(bench, fifo, gate)
    settle, faults = claims.settle, iter([OSError(errno.EIO, "away")] * 2)

    def fail_twice(folder):
        if (fault := next(faults, None)) is not None:
            raise fault
        return settle(folder)

    monkeypatch.setattr(claims, "settle", fail_twice)
    successor(bench)
    bench.executor.adopt(task)
    assert bench.recorder.until(("started", "lost"), "one")[3] == {"pid": pid, "adopted": True}
    gate.touch()
    assert bench.recorder.outcome("one").exports == {"pid": pid}


@pytest.mark.parametrize("pid_is_reused", [False, True])
def test_an_attempt_that_ends_while_it_is_adopted_is_finished(
    bench, fifo, gate, monkeypatch, pid_is_reused
):
    """It was seen alive, and is gone when its process is about to be watched."""
    task, pid = waiting(bench, fifo, gate)
    bench.executor.stop()
    open_pidfd = os.pidfd_open

    def end_before_it_is_watched(_pid):
        handle = open_pidfd(pid)
        gate.touch()
        select.select([handle], [], [])
        if pid_is_reused:
            os.close(handle)
            return open_pidfd(os.getpid())
        return handle

    monkeypatch.setattr(processes, "open_pidfd", end_before_it_is_watched)
    successor(bench)
    bench.executor.adopt(task)
    assert bench.recorder.outcome("one").exports == {"pid": pid}
    assert bench.recorder.kinds("one") == ["started", "finished"]


def test_an_attempt_that_was_killed_meanwhile_is_lost(bench, fifo, gate):
    task, pid = waiting(bench, fifo, gate)
    bench.executor.stop()
    os.kill(pid, signal.SIGKILL)
    subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], check=True)
    successor(bench)
    bench.executor.adopt(task)
    kind, reason = bench.recorder.wait("one")
    assert kind == "lost"
    assert reason.startswith("the step's process is gone and left no result")


def test_an_attempt_that_never_started_never_runs(bench):
    task = bench.task("one", "noop")
    bench.executor.adopt(task, given_at=datetime.now(UTC))
    assert bench.recorder.wait("one") == ("never_ran", "the step's process was never started")
    successor(bench)
    bench.executor.submit(task)  # the old request comes late
    assert bench.recorder.wait("one") == ("never_ran", "the step's process was never started")
    assert not bench.file("one", "exit.json").exists()


def test_a_missing_claim_proves_nothing_if_the_machine_may_have_lost_it(bench):
    before = processes.booted_at() - timedelta(seconds=1)
    for key, given_at in (("seen", None), ("early", before)):
        bench.executor.adopt(bench.task(key, "noop"), given_at=given_at)
        assert bench.recorder.wait(key) == ("lost", "the step's process was never started")


def test_a_process_that_dies_before_its_claim_ran_nothing(make_bench, monkeypatch):
    monkeypatch.setenv("GALLEY_FAILPOINTS", "shim.forked=kill")
    bench = make_bench().start()
    bench.executor.submit(bench.task("one", "noop"))
    kind, reason = bench.recorder.wait("one")
    assert (kind, reason.startswith("the step's process ended")) == ("never_ran", True)
    assert claims.find(bench.task("one", "noop").folder).abandoned


def test_a_reused_pid_is_not_taken_for_the_attempt(bench):
    task = bench.task("one", "noop")
    mark = processes.mark_of(os.getpid())
    assert claims.claim(task.folder, 0, processes.Mark(mark.pid, mark.started - 5, mark.boot))
    bench.executor.adopt(task)
    assert bench.recorder.wait("one")[0] == "lost"


def test_a_damaged_exit_file_counts_as_none(bench):
    task = bench.task("one", "noop")
    claims.claim(task.folder, 0, processes.Mark(2**22 - 1, 1, processes.boot_id()))
    bench.file("one", "exit.json").write_bytes(b'{"state": "succ')
    bench.executor.adopt(task)
    assert bench.recorder.wait("one")[0] == "lost"


def test_a_stop_that_outlived_its_server_counts(bench):
    task = bench.task("one", "noop")
    claims.claim(task.folder, 0, processes.Mark(2**22 - 1, 1, processes.boot_id()))
    messages.write_stop(task.folder, messages.Stop(why=messages.CANCELED, grace_s=1))
    bench.executor.adopt(task)
    assert bench.recorder.outcome("one").state == "canceled"


def test_the_time_of_an_adopted_attempt_counts_from_its_start(bench, fifo, gate, monkeypatch):
    from galley.engine.executors.local import supervisor

    monkeypatch.setattr(supervisor, "_TIMEOUT_SLACK_S", 0.0)
    monkeypatch.setattr(processes, "age_s", lambda _mark: 3600.0)
    task, _ = waiting(bench, fifo, gate, timeout_s=3600.0)
    successor(bench)
    bench.executor.adopt(task)
    assert bench.recorder.outcome("one").reason.startswith("timed out after 3600 s")


def template_of(bench):
    return bench.executor._supervisors[0]._template.link.pid


def test_a_killed_template_is_replaced_and_its_shims_go_on(bench, fifo, gate):
    _, pid = waiting(bench, fifo, gate)
    first = template_of(bench)
    os.kill(first, signal.SIGKILL)
    assert bench.run("noop", "two").state == "succeeded"
    assert template_of(bench) != first
    gate.touch()
    assert bench.recorder.outcome("one").exports == {"pid": pid}
    assert bench.recorder.kinds("one") == ["started", "finished"]


def test_requests_in_a_killed_template_are_run_once(bench):
    bench.run("noop", "warm")
    os.kill(template_of(bench), signal.SIGSTOP)
    tasks = [bench.task(str(number), "noop") for number in range(3)]
    for task in tasks:
        bench.executor.submit(task)
    bench.cancel("nobody")
    os.kill(template_of(bench), signal.SIGKILL)
    for task in tasks:
        assert bench.recorder.outcome(task.key).state == "succeeded"
        assert bench.recorder.kinds(task.key) == ["started", "finished"]


def test_no_zombies(bench, fifo, gate):
    for number in range(5):
        bench.run("noop", str(number))
    template = template_of(bench)
    assert processes.children(template) == []
    os.kill(template, signal.SIGKILL)
    bench.run("noop", "after")
    assert processes.started_ticks(template) is None
    assert not os.path.exists(f"/proc/{template}")  # noqa: PTH110


def test_stop_ends_the_template(bench):
    bench.run("noop")
    template = template_of(bench)
    bench.executor.stop()
    assert not os.path.exists(f"/proc/{template}")  # noqa: PTH110


SERVER = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[3], sys.argv[4]]
from tests.unit.engine.executors.conftest import Bench
bench = Bench(Path(sys.argv[1]), sandboxed=False).start()
bench.executor.submit(
    bench.task("one", "wait", body={"at": sys.argv[2], "until": sys.argv[1] + "/gate"})
)
time.sleep(600)
"""


def test_a_killed_server_leaves_its_attempts_to_the_next(make_bench, fifo):
    bench = make_bench()
    root = str(bench.folder)
    bench.folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", SERVER, root, str(fifo), HERE, str(Path.cwd())]
    with subprocess.Popen(command) as server:
        pid = int(wait_for(fifo))
        server.kill()
    bench.start()
    bench.executor.adopt(bench.task("one", "wait", body={"at": str(fifo), "until": f"{root}/gate"}))
    assert bench.recorder.until(("started",), "one")[3]["pid"] == pid
    (bench.folder / "gate").touch()
    assert bench.recorder.outcome("one") == Outcome(
        state="succeeded", exports={"pid": pid}, usage=bench.recorder.outcome("one").usage
    )


def test_what_a_killed_server_left_ends_unless_it_is_held(make_bench, fifo, tmp_path):
    folder = tmp_path / "0"  # the first bench's
    folder.mkdir()
    command = [sys.executable, "-c", SERVER, str(folder), str(fifo), HERE, str(Path.cwd())]
    with subprocess.Popen(command) as server:
        mark = processes.mark_of(int(wait_for(fifo)))
        server.kill()
    bench, other = make_bench().start(), make_bench()
    assert bench.folder == folder
    _, pid = waiting(bench, fifo, folder / "gate", key="two")
    held = str(folder / "attempts" / "one")
    assert other.executor.end_strays(list) == 0  # another folder's are not its own
    assert bench.executor.end_strays(lambda: [held]) == 0
    looks = iter([[], [held]])
    assert bench.executor.end_strays(lambda: next(looks)) == 0  # it claimed its attempt meanwhile
    assert processes.alive(mark)
    shutil.rmtree(held)
    assert bench.executor.end_strays(lambda: [held]) == 1
    assert not processes.alive(mark)
    assert processes.mark_of(pid) is not None
    (folder / "gate").touch()
    assert bench.recorder.outcome("two").state == "succeeded"


@pytest.mark.parametrize("name", ["shim.claimed", "shim.before_exit_file"])
def test_a_shim_killed_before_its_exit_file_is_lost(make_bench, monkeypatch, name):
    monkeypatch.setenv("GALLEY_FAILPOINTS", f"{name}=kill")
    bench = make_bench().start()
    bench.executor.submit(bench.task("one", "noop"))
    kind, reason = bench.recorder.wait("one")
    assert (kind, reason) == (
        "lost", "the step's process ended with exit status 137 and left no result"
    )  # fmt: skip


def test_a_shim_killed_after_its_exit_file_is_finished(make_bench, monkeypatch):
    monkeypatch.setenv("GALLEY_FAILPOINTS", "shim.after_exit_file=kill")
    bench = make_bench().start()
    assert bench.run("noop").state == "succeeded"
