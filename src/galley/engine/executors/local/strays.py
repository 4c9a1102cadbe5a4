"""Shims that an earlier server left behind and whose attempts nobody holds any more.

A shim bears the command line of the template that it was forked from, and that names the folder of
the executor: so it is found even where its attempt and all its files are deleted.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection

import msgspec
import structlog

from galley.engine.executors.local import claims, processes
from galley.engine.executors.local.messages import TemplateSettings
from galley.engine.executors.local.processes import Mark

_GRACE_S = 5.0
_SECOND_LOOK_S = 1.0
_MODULE = b"galley.engine.executors.local.template"
_decode = msgspec.json.Decoder(TemplateSettings).decode
log = structlog.get_logger("galley.executor")


def end_strays(folder: str, since_s: float, held: Callable[[], Collection[str]]) -> int:
    """End what was started from the executor's `folder` more than `since_s` seconds ago.

    `held` names the folders of the attempts whose processes shall go on; it is asked after the
    processes were listed. Who looks like a stray is looked at once more: it may be about to claim
    its attempt, or be a fork that has not become its program yet. Returns how many were ended.
    """
    strays = _strays(folder, since_s, held)
    if strays:
        time.sleep(_SECOND_LOOK_S)
        strays &= _strays(folder, since_s + _SECOND_LOOK_S, held)
    for mark in strays:
        log.warning("stray_ended", pid=mark.pid)
        if processes.alive(mark):
            processes.send(mark.pid, signal.SIGTERM)
    for mark in strays:
        if not processes.wait_for_end(mark.pid, _GRACE_S) and processes.alive(mark):
            processes.kill_tree(mark.pid)
    return len(strays)


def _strays(folder: str, since_s: float, held: Callable[[], Collection[str]]) -> set[Mark]:
    found = {mark for mark in _shims_of(folder) if processes.age_s(mark) > since_s}
    return found - set(map(_claimant, held())) if found else found


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
