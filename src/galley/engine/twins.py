"""Two processes under one name of a cluster, as after a data folder was copied: the second ends.

Both would be given the same steps, and take the lead from each other for ever. A process that was
killed must not keep its successor waiting, though: whether it is gone can be seen at once on the
same machine, and elsewhere by its reports, which stop.
"""

import os
import time
from functools import lru_cache
from pathlib import Path

from galley.core.errors import Unavailable
from galley.core.runs import leadership
from galley.engine.executors.local import processes
from galley.engine.executors.local.processes import Mark
from galley.storage.db import Database

_LOOK_S = 0.5


@lru_cache(maxsize=1)
def own_process() -> str:
    """What tells this process from every other: machine and boot, pid space, pid, start time."""
    mark = processes.mark_of(os.getpid())
    started = 0 if mark is None else mark.started
    return "/".join((processes.boot_id(), _pid_space(), str(os.getpid()), str(started)))


def is_gone(process: str) -> bool | None:
    """Whether that process has ended; None if it cannot be seen from here."""
    if process == leadership.RETIRED:
        return True
    boot, *rest = process.split("/")
    if len(rest) != len(("pid space", "pid", "start")):
        return None
    if not boot or boot != processes.boot_id() or rest[0] != _pid_space():
        return None
    return not processes.alive(Mark(pid=int(rest[1]), started=int(rest[2]), boot=boot))


def require_no_twin(database: Database, name: str, process: str) -> str | None:
    """See that no other process works under the name; waits where only time can tell.

    Returns the process that had the name and is gone, if there was one.

    Raises:
        Unavailable: one does.
    """
    first_until = None
    while True:
        with database.connection() as connection:
            found = leadership.worker_process(connection, name)
        if found is None or found[0] == process:
            return None
        other, until = found
        gone = is_gone(other)
        if gone:
            return other
        first_until = first_until or until
        if gone is False or until != first_until:
            raise twin_found(name)
        time.sleep(_LOOK_S)


def twin_found(name: str) -> Unavailable:
    """What the second process of a name is told."""
    return Unavailable(
        f"Another process works as {name} on this database. If this data folder is a copy, delete"
        " worker.id in it: every server makes a name of its own. A worker takes another --name."
    )


def _pid_space() -> str:
    """Two containers of one machine may use the same pids: the kernel's name of this one's."""
    try:
        return Path("/proc/self/ns/pid").readlink().name.removeprefix("pid:")
    except OSError:
        return "?"
