"""How an attempt's processes are ended from outside, and what is said about how they ended."""

import contextlib
import os
import signal

import structlog

from galley.engine.executors.local import cgroup, claims, messages, processes
from galley.engine.executors.local.attempt import Attempt
from galley.engine.executors.local.logfile import ERROR, LogFile
from galley.engine.executors.local.masking import Masker
from galley.engine.executors.local.messages import OWNER_VARIABLE, Stop
from galley.engine.faults import signal_name

log = structlog.get_logger("galley.executor")

_MEANINGS: dict[int, str] = {
    signal.SIGKILL: "out of memory or an operator",
    signal.SIGTERM: "an operator, or the machine going down",
    signal.SIGSEGV: "a crash in native code",
    signal.SIGBUS: "a crash in native code, or a full disk",
    signal.SIGABRT: "native code gave up; often out of memory",
    signal.SIGXCPU: "its limit of processor time: raise `cpu_s` among the step's limits",
}


def reap(pid: int) -> None:
    """If the process came to be our child (we are the machine's first process), bury it."""
    with contextlib.suppress(ChildProcessError, OSError):
        os.waitpid(pid, os.WNOHANG)


def exit_code(status: int) -> int:
    """The exit code of a wait status; minus the signal's number if a signal ended it."""
    return os.waitstatus_to_exitcode(status)


def _is_ours(attempt: Attempt) -> bool:
    """Whether the attempt's pid still is the process that claimed it (or is about to)."""
    for generation in range(attempt.generation + 1):
        claim = claims.find(attempt.folder, generation)
        if claim is not None and not claim.abandoned:
            return claim.pid == attempt.pid and processes.alive(claim.mark)
    return processes.started_ticks(attempt.pid) is not None


def ask(attempt: Attempt, stop: Stop) -> None:
    """Tell the shim to stop, and why.

    Raises:
        OSError: what tells whose process it is cannot be read just now; nothing was sent.
    """
    try:
        messages.write_stop(attempt.folder, stop)
    except OSError as error:
        log.warning("stop_not_written", attempt=attempt.key, error=str(error))
    if _is_ours(attempt):
        processes.send(attempt.pid, signal.SIGTERM)


def kill(attempt: Attempt) -> None:
    """Kill the shim and everything below it.

    Raises:
        OSError: as for `ask`.
    """
    mark = processes.mark_of(attempt.pid)
    if mark is not None and _is_ours(attempt):
        cgroup.kill_shim(mark)


def sweep(attempt: Attempt) -> None:
    """Kill what a shim left behind that died without a word."""
    groups = _groups(attempt)
    count = sum(group.kill() for group in groups)
    count += processes.kill_marked(OWNER_VARIABLE, attempt.folder)
    for group in groups:
        group.remove(cgroup.DEATH_S)
    if count:
        log.warning("strays_killed", attempt=attempt.key, count=count)


def _groups(attempt: Attempt) -> list[cgroup.ControlGroup]:
    """The control groups of those that took the attempt up."""
    claimants = (claims.find(attempt.folder, it) for it in range(attempt.generation + 1))
    groups = (cgroup.ControlGroup.of(claim.mark) for claim in claimants if claim is not None)
    return [group for group in groups if group is not None and group.exists]


def was_never_claimed(attempt: Attempt) -> bool:
    """Whether its process died before it claimed the attempt; then nobody can claim it after."""
    try:
        return claims.settle(attempt.folder) is None
    except OSError:
        return False


def reason(status: int | None) -> str:
    """Why an attempt that left no exit file is lost, for people."""
    if status is None:
        return (
            "the step's process is gone and left no result (it was killed, or the machine "
            "restarted)"
        )
    code = exit_code(status)
    if code == messages.COULD_NOT_BEGIN:
        return "the step could not begin: its log or a folder could not be made (is the disk full?)"
    if code == messages.FAILED_TO_REPORT:
        return "the step ended, but its result could not be written (is the disk full?)"
    if code >= 0:
        return f"the step's process ended with exit status {code} and left no result"
    meaning = _MEANINGS.get(-code)
    why = f": {meaning}" if meaning else ""
    return f"the step's process was killed by {signal_name(-code)}{why}"


def write_last_line(attempt: Attempt, text: str, limit_bytes: int) -> None:
    """Say in the attempt's own log how it ended."""
    try:
        file = LogFile(attempt.log, Masker(()), limit_bytes)
        try:
            file.write(ERROR, f"{text[:1].upper()}{text[1:]}.")
        finally:
            file.close()
    except OSError as error:
        log.warning("log_not_written", attempt=attempt.key, error=str(error))
