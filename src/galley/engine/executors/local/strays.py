"""Shims that an earlier server left behind and whose attempts nobody holds any more.

A shim bears the command line of the template that it was forked from, and that names the folder of
the executor: so it is found even where its attempt and all its files are deleted.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import structlog

from galley.engine.executors.local import cgroup, claims, processes
from galley.engine.executors.local.messages import TemplateSettings
from galley.engine.executors.local.processes import Mark

_GRACE_S = 5.0
_SECOND_LOOK_S = 1.0
_STOP_S, _POLL_S = 2.0, 0.005
_MODULE = b"galley.engine.executors.local.template"
_decode = msgspec.json.Decoder(TemplateSettings).decode
log = structlog.get_logger("galley.executor")


def end_strays(folder: str, since_s: float, held: Callable[[], Collection[str]]) -> int:
    """End what was started from the executor's `folder` more than `since_s` seconds ago.

    `held` names the folders of the attempts whose processes shall go on; it is asked after the
    processes were listed. Who looks like a stray is looked at once more: it may be about to claim
    its attempt, or be a fork that has not become its program yet. The last look is at a process
    that was stopped, so that it cannot do either behind our back. Returns how many were ended.
    """
    _let_go_on(folder, since_s)
    suspects = _suspects(folder, since_s, held)
    if suspects:
        time.sleep(_SECOND_LOOK_S)
        suspects &= _suspects(folder, since_s + _SECOND_LOOK_S, held)
    strays = [mark for mark in suspects if _stop_if_stray(mark, folder, held)]
    for mark in strays:
        log.warning("stray_ended", pid=mark.pid)
        if _may_end_itself(mark.pid):
            processes.send(mark.pid, signal.SIGTERM)
            processes.send(mark.pid, signal.SIGCONT)
        else:
            cgroup.kill_shim(mark)
    for mark in strays:
        if not processes.wait_for_end(mark.pid, _GRACE_S) and processes.alive(mark):
            cgroup.kill_shim(mark)
        cgroup.remove(mark)
    cgroup.remove_abandoned()
    return len(strays)


def _suspects(folder: str, since_s: float, held: Callable[[], Collection[str]]) -> set[Mark]:
    found = {mark for mark in _shims_of(folder) if processes.age_s(mark) > since_s}
    return found - set(map(_claimant, held())) if found else found


def _stop_if_stray(mark: Mark, folder: str, held: Callable[[], Collection[str]]) -> bool:
    """Stop the process, and let it go on if it is no stray after all."""
    if not processes.alive(mark) or not processes.send(mark.pid, signal.SIGSTOP):
        return False
    is_stray = False
    try:
        if _comes_to_stop(mark.pid) and mark in _shims_of(folder):
            claimants = [found for found in map(_claimant, held()) if found is not None]
            at_work = {found.pid for found in claimants}
            is_stray = mark.pid not in at_work.union(*map(processes.descendants, at_work))
    finally:
        if not is_stray:
            processes.send(mark.pid, signal.SIGCONT)
    return is_stray


def _let_go_on(folder: str, since_s: float) -> None:
    """Wake what an earlier server stopped for its last look, and died before it let it go on."""
    for mark in _shims_of(folder):
        if processes.age_s(mark) > since_s and _is_stopped(mark.pid):
            processes.send(mark.pid, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    state = _status(pid, "State")
    return state is not None and state.startswith(("T", "t"))


def _comes_to_stop(pid: int) -> bool:
    """Whether the process stands still: a signal takes a moment, in the kernel it may take long."""
    deadline = time.monotonic() + _STOP_S
    while not _is_stopped(pid):
        if time.monotonic() > deadline or processes.started_ticks(pid) is None:
            return False
        time.sleep(_POLL_S)
    return True


def _may_end_itself(pid: int) -> bool:
    """Whether it minds SIGTERM: a template does not, nor a shim that has not begun its step."""
    blocked = _status(pid, "SigBlk")
    return blocked is not None and not int(blocked, 16) >> (signal.SIGTERM - 1) & 1


def _status(pid: int, name: str) -> str | None:
    """One line of what the kernel tells about a process; None if it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
    return None


def _shims_of(folder: str) -> list[Mark]:
    """The shims below this folder's templates, without the templates that still have some."""
    ours = {int(name) for name in os.listdir("/proc") if name.isdigit() and _is_of(name, folder)}  # noqa: PTH208
    marks = [processes.mark_of(pid) for pid in ours if ours.isdisjoint(processes.children(pid))]
    return [mark for mark in marks if mark is not None]


def _is_of(pid: str, folder: str) -> bool:
    with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError):
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            words = file.read().split(b"\0")
        return _MODULE in words and _decode(words[-2]).folder == folder
    return False


def _claimant(folder: str) -> Mark | None:
    """The process that took the attempt up, if any did."""
    generation = 0
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        while (found := claims.find(folder, generation)) is not None:
            if not found.abandoned:
                return found.mark
            generation += 1
    return None
