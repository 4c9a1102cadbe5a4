"""Runs a user's program below the shim: limited, watched, its output in the log, none left over."""

import contextlib
import ctypes
import errno
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from galley.core.runs.task import Task
from galley.engine import sandbox
from galley.engine.executors.local import limits as limiting
from galley.engine.executors.local import processes
from galley.engine.executors.local.cgroup import ControlGroup
from galley.engine.executors.local.limits import LimitWatch
from galley.engine.executors.local.logfile import ERROR, INFO, WARNING, LogFile, ProgramOutput
from galley.engine.executors.local.messages import OWNER_VARIABLE
from galley.engine.faults import signal_name
from galley.engine.folders import OUT

_SIGNALLED = 128
_TICK_S = 0.1
_POLL_S = 0.02
_CHUNK_BYTES = 256 * 1024
_PATH = "/usr/local/bin:/usr/bin:/bin"
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_DRAIN_S = 1.0
_DEATH_S = 5.0

libc = ctypes.CDLL(None, use_errno=True)


class Programs:
    """All programs of one attempt. `grace_s` is how long an ending program may take over it."""

    def __init__(
        self, task: Task, log: LogFile, watch: LimitWatch, *, sandboxed: bool, grace_s: float = 5.0
    ) -> None:
        self._task = task
        self._log = log
        self._watch = watch
        self._sandboxed = sandboxed
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._group: ControlGroup | None = None
        self._guarding = False
        self.grace_s = grace_s

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: bytes | None = None,
        stdout: int | None = None,
        network: bool = False,
        readable: Sequence[Path] = (),
        writable: Sequence[Path] = (),
        timeout_s: float | None = None,
        sandboxed: bool = True,
        hint: str = "",
    ) -> int:
        """Run a program to its end; its output (both streams, in order) goes to the log.

        `stdout` is an open file for the standard output, which then is not logged; `hint` is for
        the log when it fails behind the wall without the network.
        `sandboxed=False` is for programs of the installation (a container engine), which bring
        walls of their own; they have the limits of time only. Returns the exit status, minus the
        signal's number if a signal ended it. What it started and left running is killed.

        Raises:
            OSError: the program or the folder `cwd` is not there, or it cannot be executed.
            TimeoutError: `timeout_s` passed; the program and its children are gone.
        """
        walled = sandboxed and self._sandboxed
        surroundings = self._surroundings(env, walled=walled)
        words = [str(word) for word in argv]
        _check(words, cwd, surroundings["PATH"])
        command = self._walled(words, cwd, network, readable, writable) if walled else words
        output = self._log.program_output()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        program, pipe = self._start(command, cwd, surroundings, stdin, stdout, limited=sandboxed)
        try:
            ended = self._pump(program, pipe, output, deadline)
        finally:
            self._end(program)
            _drain(pipe, output)
            os.close(pipe)
            output.close()
        if not ended:
            raise TimeoutError(f"{words[0]} was ended because its {timeout_s:g} s were over")
        status = self._exit_status(words[0], program, output, walled=walled)
        if hint and status and walled and not network:
            self._log.say(INFO, hint)
        return status

    def end_all(self, grace_s: float) -> None:
        """End whatever still runs below this process: SIGTERM, `grace_s` later SIGKILL."""
        if processes.children(os.getpid()):
            self._ask_and_kill(grace_s)
        self.leave_group()

    def kill_all(self) -> int:
        """Kill whatever still runs below this process; returns how many there were."""
        self._reap_orphans()
        count = self._kill_below()
        self._wait_for_none(_DRAIN_S)
        return count

    def _kill_below(self) -> int:
        """Kill everything below this process; returns how many there were."""
        for pid in list(self._running):
            processes.send_group(pid, signal.SIGKILL)
        count = 0 if self._group is None else self._group.kill()
        return max(count, processes.kill_descendants(os.getpid()))

    def _guard(self) -> None:
        """Before the first program: its orphans come to us, and it cannot look into us."""
        if not self._guarding:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
            self._guarding = True

    def _surroundings(self, env: Mapping[str, str], *, walled: bool) -> dict[str, str]:
        """A clean environment: nothing of the server's, plus what the step wants."""
        return {
            "PATH": _PATH,
            "HOME": self._task.work,
            "LANG": "C.UTF-8",
            "TMPDIR": "/tmp" if walled else self._own_folder("tmp"),  # noqa: S108
            **{str(name): str(value) for name, value in env.items()},
            OWNER_VARIABLE: self._task.folder,
        }

    def _own_folder(self, name: str) -> str:
        """A folder of the attempt's own."""
        folder = Path(self._task.folder, name)
        folder.mkdir(mode=0o700, exist_ok=True)
        return str(folder)

    def _walled(
        self,
        words: list[str],
        cwd: Path,
        network: bool,
        readable: Sequence[Path],
        writable: Sequence[Path],
    ) -> list[str]:
        """The command line behind bubblewrap, with what every program of a step may see."""
        task = self._task
        trees = [task.tree] if task.tree else []
        own = [] if str(cwd) in {task.folder, *trees} else [str(cwd)]
        areas = [root for root in task.roots if Path(root).is_dir()]
        return sandbox.build_argv(
            words,
            cwd=str(cwd),
            readable=[*trees, *map(str, readable)],
            writable=[task.work, self._own_folder(OUT), *own, *areas, *map(str, writable)],
            temporary=self._own_folder("tmp"),
            network=network,
        )

    def _start(
        self,
        command: list[str],
        cwd: Path,
        env: dict[str, str],
        stdin: bytes | None,
        stdout: int | None,
        *,
        limited: bool,
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start the command; returns it with the reading end of what is to be logged."""
        self._guard()
        pipe, writing = os.pipe2(os.O_CLOEXEC)
        source = _memory_file(stdin) if stdin is not None else None
        limits, parent = self._watch.limits, os.getpid()
        tasks = processes.tasks_on_machine()
        door: int | None = None

        def prepare() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            is_bound = False
            if door is not None:
                with contextlib.suppress(OSError):
                    is_bound = os.write(door, b"0") > 0
            if limited:
                limiting.apply_to_program(limits, None if is_bound else tasks)

        try:
            with self._lock:
                door = self._join_group() if limited else None
                program = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL if source is None else source,
                    stdout=writing if stdout is None else stdout,
                    stderr=writing,
                    cwd=cwd,
                    env=env,
                    start_new_session=True,
                    preexec_fn=prepare,  # noqa: PLW1509 (only system calls in it)
                )
                self._running[program.pid] = program
        except BaseException:
            os.close(pipe)
            self.leave_group()
            raise
        finally:
            for handle in (writing, source, door):
                if handle is not None:
                    os.close(handle)
        return program, pipe

    def _pump(
        self,
        program: subprocess.Popen[bytes],
        pipe: int,
        output: ProgramOutput,
        deadline: float | None,
    ) -> bool:
        """Pass output on until the program ends; False if its time ran out first."""
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        ending = processes.open_pidfd(program.pid)
        tick_s = _POLL_S if ending is None else _TICK_S
        if ending is not None:
            poll.register(ending, select.POLLIN)
        next_look = time.monotonic() + _TICK_S
        try:
            while True:
                ready = {handle for handle, _ in poll.poll(tick_s * 1000)}
                if pipe in ready and not _take(pipe, output):
                    poll.unregister(pipe)
                if program.poll() is not None:
                    return True
                now = time.monotonic()
                if deadline is not None and now >= deadline:
                    return False
                if now >= next_look:
                    self._look()
                    next_look = time.monotonic() + _TICK_S
        finally:
            if ending is not None:
                os.close(ending)

    def _look(self) -> None:
        """Reap what was orphaned, and end everything if it is too much."""
        self._reap_orphans()
        which = self._watch.exceeded(processes.descendants(os.getpid()))
        if which is not None:
            self._kill_below()
            self._log.say(ERROR, limiting.describe(which, self._watch.limits))

    def _reap_orphans(self) -> None:
        for pid in processes.children(os.getpid()):
            if pid not in self._running:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _end(self, program: subprocess.Popen[bytes]) -> None:
        """See that nothing of the program is left; gently if it still runs."""
        if program.poll() is None:
            self._ask_and_kill(self.grace_s)
        program.wait()
        with self._lock:
            self._running.pop(program.pid, None)
            alone = not self._running
        processes.send_group(program.pid, signal.SIGKILL)
        if alone:
            if self._kill_below():
                self._wait_for_none(_DRAIN_S)
            self.leave_group()

    def _join_group(self) -> int | None:
        """The door to the group of this attempt's programs; None where there are no groups.

        Only what runs now is in it: it is made for the first program and goes with the last.
        """
        limits, mark = self._watch.limits, processes.mark_of(os.getpid())
        if limits.processes is None or mark is None:
            return None
        if self._group is None:
            self._group = ControlGroup.of(mark)
        most = limiting.most_tasks(limits.processes)
        return None if self._group is None else self._group.open_door(most)

    def leave_group(self) -> None:
        """Take the group away, once all in it are dead, and remember if it was too small."""
        with self._lock:
            if self._group is None or self._running:
                return
            if self._group.was_full():
                self._watch.note(limiting.PROCESSES)
            self._group.remove(_DEATH_S, meanwhile=self._reap_orphans)
            self._group = None

    def _ask_and_kill(self, grace_s: float) -> None:
        """SIGTERM to all that run, SIGKILL to those that are left after `grace_s`."""
        helpers = set(self._running) if self._sandboxed else set()
        for pid in processes.descendants(os.getpid()):
            if pid not in helpers:  # bubblewrap itself would die at once, and all in it
                processes.send(pid, signal.SIGTERM)
        if not self._wait_for_none(grace_s):
            self._log.say(WARNING, f"Programs ignored SIGTERM for {grace_s:g} s: killed.")
            self._kill_below()
            self._wait_for_none(_DRAIN_S)

    def _wait_for_none(self, seconds: float) -> bool:
        """Wait until nothing lives below this process; False if something still does."""
        deadline = time.monotonic() + seconds
        while True:
            for program in list(self._running.values()):
                program.poll()
            self._reap_orphans()
            left = [
                pid
                for pid in processes.descendants(os.getpid())
                if processes.started_ticks(pid) is not None
            ]
            if not left:
                return True
            if time.monotonic() >= deadline:
                return False
            processes.wait_for_end(left[0], _POLL_S)

    def _exit_status(
        self, name: str, program: subprocess.Popen[bytes], output: ProgramOutput, *, walled: bool
    ) -> int:
        status = program.returncode
        if walled and _SIGNALLED < status < _SIGNALLED + signal.NSIG:
            status = _SIGNALLED - status
        self._watch.judge_program(status, output.tail)
        if status < 0:
            self._log.say(ERROR, f"{name} was ended by {signal_name(-status)}.")
        return status


def _check(words: list[str], cwd: Path, path: str) -> None:
    """See that there is a program to run and a folder to run it in."""
    if not words:
        raise OSError(errno.EINVAL, "the command names no program to run")
    if not cwd.is_dir():
        raise OSError(errno.ENOENT, "there is no such folder to run a program in", str(cwd))
    place = str(cwd / words[0]) if "/" in words[0] else words[0]
    if shutil.which(place, path=path) is None:
        raise OSError(
            errno.ENOENT,
            f"there is no such program, or it cannot be executed (PATH is {path})",
            words[0],
        )


def _take(pipe: int, output: ProgramOutput) -> bool:
    """Pass one read on; False at the end of the output."""
    chunk = os.read(pipe, _CHUNK_BYTES)
    if chunk:
        output.feed(chunk)
    return bool(chunk)


def _drain(pipe: int, output: ProgramOutput) -> None:
    """Pass on what is still in the pipe, without waiting for more than a moment."""
    deadline = time.monotonic() + _DRAIN_S
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready or not _take(pipe, output):
            return


def _memory_file(content: bytes) -> int:
    """A file that lives in memory only, at its beginning."""
    handle = os.memfd_create("stdin", os.MFD_CLOEXEC)
    data = memoryview(content)
    while data:
        data = data[os.write(handle, data) :]
    os.lseek(handle, 0, os.SEEK_SET)
    return handle
