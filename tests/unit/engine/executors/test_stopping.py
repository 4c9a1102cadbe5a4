"""Cancel and time-out: asked, then killed, with everything below; nothing is left running."""

import errno
import fcntl
import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from tests.contract.live import until

from galley.engine.executors.local import claims, processes


def wait_for(path):
    """Block until a step has made the file (a fifo): opening it waits for the writer."""
    return Path(path).read_text()


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_cancel_ends_a_waiting_step(bench, fifo, tmp_path):
    bench.executor.submit(
        bench.task("one", "wait", body={"at": str(fifo), "until": str(tmp_path / "never")})
    )
    wait_for(fifo)
    bench.cancel("one")
    outcome = bench.recorder.outcome("one")
    assert (outcome.state, outcome.reason) == ("canceled", "canceled on request")
    assert outcome.retryable is False
    assert bench.log().splitlines()[-1].endswith("E The step canceled on request.")


def test_cancel_before_a_start(make_bench, fifo, tmp_path):
    bench = make_bench(slots=1).start()
    body = {"at": str(fifo), "until": str(tmp_path / "never")}
    bench.executor.submit(bench.task("first", "wait", body=body))
    bench.executor.submit(bench.task("second", "noop"))
    bench.cancel("second")
    assert bench.recorder.outcome("second").state == "canceled"
    assert bench.recorder.kinds("second") == ["finished"]
    bench.cancel("first")
    bench.recorder.outcome("first")


def test_a_step_is_ended_though_its_claim_cannot_be_read_for_a_while(
    bench, fifo, tmp_path, monkeypatch
):
    bench.executor.submit(
        bench.task("one", "wait", body={"at": str(fifo), "until": str(tmp_path / "never")})
    )
    wait_for(fifo)
    find, faults = claims.find, iter([OSError(errno.EIO, "away")] * 2)

    def fail_twice(*arguments):
        if (fault := next(faults, None)) is not None:
            raise fault
        return find(*arguments)

    monkeypatch.setattr(claims, "find", fail_twice)
    bench.cancel("one", grace_s=0.1)
    assert bench.recorder.outcome("one").state == "canceled"


def test_a_process_is_waited_for_with_any_descriptor(monkeypatch):
    """Descriptors from 1,024 on are usual in a busy server."""
    with subprocess.Popen(["sleep", "600"]) as process:
        low = os.pidfd_open(process.pid)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(4096, limits[0]), limits[1]))
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 2000)
        os.close(low)
        monkeypatch.setattr(processes, "open_pidfd", lambda _pid: high)
        process.kill()
        assert processes.wait_for_end(process.pid, 60)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_cancel_right_after_submit(bench, tmp_path):
    body = {"at": str(tmp_path / "at"), "until": str(tmp_path / "never")}
    for number in range(5):
        bench.executor.submit(bench.task(str(number), "wait", body=body))
        bench.cancel(str(number))
    states = {bench.recorder.outcome(str(number)).state for number in range(5)}
    assert states == {"canceled"}


def test_an_unknown_key_is_fine(bench):
    bench.cancel("nobody")
    assert bench.run("noop").state == "succeeded"


def test_a_step_that_cannot_be_asked_is_killed(bench, fifo):
    bench.executor.submit(bench.task("one", "deaf", body={"at": str(fifo)}))
    pid = int(wait_for(fifo))
    bench.cancel("one", grace_s=0.2)
    assert bench.recorder.outcome("one").state == "canceled"
    assert processes.started_ticks(pid) is None


def test_a_step_ends_at_its_timeout(bench, tmp_path):
    body = {"at": str(tmp_path / "at"), "until": str(tmp_path / "never")}
    outcome = bench.run("wait", body=body, timeout_s=0.3)
    assert outcome.state == "failed"
    assert outcome.reason.startswith("timed out after 0.3 s")
    assert outcome.retryable is True


def test_a_step_that_cannot_be_asked_ends_at_its_timeout(bench, tmp_path, monkeypatch):
    from galley.engine.executors.local import supervisor

    monkeypatch.setattr(supervisor, "_GRACE_S", 0.1)
    monkeypatch.setattr(supervisor, "_TIMEOUT_SLACK_S", 0.1)
    at = tmp_path / "at"
    bench.executor.submit(bench.task("one", "deaf", body={"at": str(at)}, timeout_s=4))
    outcome = bench.recorder.outcome("one")
    assert (outcome.state, outcome.reason[:18]) == ("failed", "timed out after 4 ")
    pid = int(at.read_text())  # it was deaf by then
    assert processes.started_ticks(pid) is None


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("stubborn", flush=True)
        open("fifo", "w").close()
    time.sleep(600)
time.sleep(600)
"""


def marked(folder):
    """The processes that bear the attempt's mark."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                environ = (place / "environ").read_bytes()
            except OSError:
                continue
            if f"GALLEY_PROCESS_OF={folder}".encode() in environ.split(b"\0"):
                found.append(int(place.name))
    return found


def test_stubborn_programs_and_their_orphans_are_killed(walled):
    walled.file("one", "").mkdir(parents=True)
    work = walled.folder / "work"
    work.mkdir()
    os.mkfifo(work / "fifo")
    walled.executor.submit(walled.task("one", "python", body={"code": STUBBORN}))
    wait_for(work / "fifo")
    assert len(marked(walled.file("one", ""))) >= 3
    until(lambda: "O stubborn" in walled.log(), seconds=30, what="its first words in the log")
    walled.cancel("one", grace_s=1.5)
    assert walled.recorder.outcome("one").state == "canceled"
    until(lambda: marked(walled.file("one", "")) == [], seconds=30, what="the end of its programs")


def test_killing_the_shim_kills_its_programs(walled):
    work = walled.folder / "work"
    work.mkdir()
    os.mkfifo(work / "fifo")
    walled.executor.submit(walled.task("one", "python", body={"code": STUBBORN}))
    wait_for(work / "fifo")
    os.kill(walled.recorder.until(("started",), "one")[3]["pid"], signal.SIGKILL)
    kind, _ = walled.recorder.wait("one")
    assert kind == "lost"
    until(lambda: marked(walled.file("one", "")) == [], seconds=30, what="the end of its programs")


POLITE = """
import os, signal, sys, time
def bye(number, frame):
    print("goodbye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, bye)
open("fifo", "w").close()
time.sleep(600)
"""


def test_programs_are_asked_first(walled):
    work = walled.folder / "work"
    work.mkdir()
    os.mkfifo(work / "fifo")
    walled.executor.submit(walled.task("one", "python", body={"code": POLITE}))
    wait_for(work / "fifo")
    walled.cancel("one", grace_s=120)
    assert walled.recorder.outcome("one").state == "canceled"
    assert "O goodbye" in walled.log()


def test_what_was_asked_for_at_cancel_is_run(bench, fifo, tmp_path):
    at = tmp_path / "cleaned"
    argv = ["sh", "-c", f"echo done > {at}"]
    (bench.folder / "work").mkdir()
    bench.executor.submit(bench.task("one", "cleanup", body={"argv": argv, "at": str(fifo)}))
    wait_for(fifo)
    bench.cancel("one", grace_s=60)
    bench.recorder.outcome("one")
    assert at.read_text() == "done\n"
