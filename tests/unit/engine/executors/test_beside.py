"""Processes that share their parent's memory: what is theirs, and what becomes of broken ones."""

import ctypes
import errno
import signal
import subprocess
import sys

import pytest

from galley.engine.executors.local.beside import Beside

pytestmark = pytest.mark.skipif(not Beside.possible, reason="no such processes on this system")

BROKEN = 70
SCRIPT = """
import os, signal, sys
from galley.engine.executors.local.beside import Beside
"""


def run(text, *arguments):
    """A script in a process of its own: the one of the tests has threads."""
    command = [sys.executable, "-c", SCRIPT + text, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_it_is_a_process_of_its_own_that_has_ended_when_run_returns(tmp_path):
    text = """
seen = {}
def act():
    seen.update(pid=os.getpid(), parent=os.getppid(), before=os.getsid(0))
    os.setsid()
    seen["session"] = os.getsid(0)
    seen["handle"] = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
    os.chdir("/")
    return 7
pid, status = Beside().run(act)
assert os.waitstatus_to_exitcode(status) == 7
assert seen["pid"] == seen["session"] == pid != os.getpid()
assert seen["parent"] == os.getpid() and seen["before"] == os.getsid(0) != pid
try:
    os.fstat(seen["handle"])
except OSError:
    print("its handle is not ours")
assert os.getcwd() != "/"
try:
    os.kill(pid, 0)
except ProcessLookupError:
    print("gone")
"""
    done = run(text, tmp_path / "file")
    assert done.stdout.split("\n") == ["its handle is not ours", "gone", ""], done.stderr
    assert (tmp_path / "file").exists()


def test_what_it_raises_is_an_exit_status_and_the_parent_goes_on():
    text = """
beside = Beside()
def deep(n): return deep(n - 1) if n else [][0]
for act in (lambda: deep(50), lambda: sys.exit(3)):
    print(os.waitstatus_to_exitcode(beside.run(act)[1]))
print(os.waitstatus_to_exitcode(beside.run(lambda: 0)[1]))
"""
    done = run(text)
    assert done.stdout.split() == [str(BROKEN)] * 2 + ["0"], done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_parent_whose_memory_cannot_be_trusted_ends_at_once(end):
    done = run(f"Beside().run(lambda: {end})\nprint('went on')")
    assert done.stdout == ""
    assert done.returncode in {BROKEN, -signal.SIGSEGV}


def test_a_parent_ends_too_where_the_process_was_killed_after_its_function_had_returned():
    text = """
class Killed(Beside):
    def _enter(self, argument):
        super()._enter(argument)
        os.kill(os.getpid(), signal.SIGKILL)
Killed().run(lambda: 0)
print('went on')
"""
    done = run(text)
    assert done.stdout == ""
    assert done.returncode in {BROKEN, -signal.SIGSEGV}


def test_a_refusal_of_the_kernel_is_an_oserror(monkeypatch):
    beside = Beside()

    def refuse(*_):
        ctypes.set_errno(errno.EAGAIN)
        return -1

    monkeypatch.setattr(beside, "_clone", refuse)
    with pytest.raises(BlockingIOError, match="temporarily unavailable"):
        beside.run(lambda: 0)
