"""The control group of a shim's programs: a bound on their number that the kernel keeps itself.

A watch that counts processes from outside can be outrun by programs that only fork; RLIMIT_NPROC
does not hold for root. Where neither version of the pids controller is ours to use, there is no
group, and the watch stands alone.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Self

from galley.engine.executors.local import processes
from galley.engine.executors.local.processes import Mark

_PIDS = "pids"
_PREFIX = "galley"
_MOST_PASSES = 200
_POLL_S = 0.01
DEATH_S = 1.0
"""How long killed processes are waited for."""


class ControlGroup:
    """A group below ours, named after the shim that has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refused_before = 0
        self._refused_in_all: int | None = None

    @classmethod
    def of(cls, mark: Mark) -> Self | None:
        """The group of this shim, be it there or not; None where groups cannot be had."""
        with contextlib.suppress(OSError, ValueError):  # who cannot look now looks again
            base = _base()
            return None if base is None else cls(base / _name(mark))
        return None

    @property
    def exists(self) -> bool:
        """Whether it was made, and not taken away."""
        return self._folder.is_dir()

    def open_door(self, most_tasks: int) -> int | None:
        """Have the group stand and hold `most_tasks` processes and threads at most.

        Gives a descriptor: whoever writes b"0" to it has moved into the group. None if the group
        cannot be had after all.
        """
        try:
            self._folder.mkdir(exist_ok=True)
            if self._refused_in_all is not None:  # it was closed by `kill`
                self._refused_before, self._refused_in_all = self._refused_now(), None
            self._set_most(most_tasks)
            return os.open(self._folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return None

    def was_full(self) -> bool:
        """Whether the kernel refused to make a process or a thread, while it could be made."""
        found = self._refused_in_all
        return (self._refused_now() if found is None else found) > self._refused_before

    def kill(self) -> int:
        """Kill all in the group, which can make no process any more; how many there were."""
        if self._refused_in_all is None:
            self._refused_in_all = self._refused_now()  # what is refused from now on is our doing
        with contextlib.suppress(OSError):
            self._set_most(0)
        killed: set[int] = set()
        for _ in range(_MOST_PASSES):
            fresh = set(self._members()) - killed
            if not fresh:
                break
            for pid in fresh:
                processes.send(pid, signal.SIGKILL)
            killed |= fresh
        return len(killed)

    def remove(self, within_s: float, meanwhile: Callable[[], object] | None = None) -> None:
        """Take the group away as soon as the last in it has died; leave it if that takes longer.

        `meanwhile` is called again and again until then.
        """
        deadline = time.monotonic() + within_s
        while True:
            if meanwhile is not None:
                meanwhile()
            try:
                self._folder.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                if time.monotonic() >= deadline:
                    return
                time.sleep(_POLL_S)
            else:
                return

    def _refused_now(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            words = (self._folder / "pids.events").read_text().split()
            return int(words[words.index("max") + 1])
        return 0

    def _set_most(self, tasks: int) -> None:
        (self._folder / "pids.max").write_text(str(tasks))

    def _members(self) -> list[int]:
        try:
            return [int(pid) for pid in (self._folder / "cgroup.procs").read_text().split()]
        except OSError:
            return []


def kill_shim(mark: Mark) -> None:
    """Kill a shim and all its programs. Its group stays, until those have died: see `remove`."""
    processes.send(mark.pid, signal.SIGSTOP)
    group = ControlGroup.of(mark)
    if group is not None and group.exists:
        group.kill()
    processes.kill_tree(mark.pid)


def remove(mark: Mark) -> None:
    """Take the group away that a shim left when it was killed."""
    group = ControlGroup.of(mark)
    if group is not None:
        group.remove(DEATH_S)


def remove_abandoned() -> None:
    """Take away what shims left that are no more, as far as nobody is in it."""
    with contextlib.suppress(OSError, ValueError):
        base = _base()
        for folder in [] if base is None else base.glob(f"{_PREFIX}.*.*"):
            _, pid, started = folder.name.split(".")
            if processes.started_ticks(int(pid)) != int(started):
                ControlGroup(folder).remove(0)


def can_be_had() -> bool:
    """Whether this process may make groups."""
    with contextlib.suppress(OSError, ValueError):
        return _base() is not None
    return False


def _name(mark: Mark) -> str:
    return f"{_PREFIX}.{mark.pid}.{mark.started}"


@lru_cache(maxsize=1)
def _base() -> Path | None:
    """The folder where we may make groups with a bound, or None; found once.

    Raises:
        OSError, ValueError: it cannot be looked for just now.
    """
    places = _own_places()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        base = _base_of(line.split(), places)
        if base is not None and os.access(base, os.W_OK):
            return base
    return None


def _own_places() -> dict[str, str]:
    """Controllers, and "" for version 2, to the group that this process is in (cgroups(7))."""
    places: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        places.update(dict.fromkeys(controllers.split(","), place))
    return places


def _base_of(mount: list[str], places: dict[str, str]) -> Path | None:
    """Where groups may be made below a mount (a line of proc_pid_mountinfo(5)), if anywhere."""
    kind, options = mount[mount.index("-") + 1], mount[-1].split(",")
    if kind == "cgroup" and _PIDS in options and _PIDS in places:
        return _below(mount, places[_PIDS])
    if kind == "cgroup2" and "" in places:
        own = _below(mount, places[""])
        return None if own is None else _delegated(own)
    return None


def _below(mount: list[str], place: str) -> Path | None:
    """The folder of a group in this mount, which may show a part of all groups only."""
    root, point = mount[3], mount[4]
    if root not in {"/", place} and not place.startswith(f"{root}/"):
        return None
    return Path(point, place.removeprefix(root.rstrip("/")).lstrip("/"))


def _delegated(own: Path) -> Path | None:
    """The group above ours, if a service manager gave it to us to divide.

    A group of version 2 that has processes itself cannot be divided; the manager marks what it
    gives away with `user.delegate` (systemd.resource-control(5), Delegate=, DelegateSubgroup=).
    """
    parent = own.parent
    with contextlib.suppress(OSError):
        if os.getxattr(parent, "user.delegate") == b"1":
            control = parent / "cgroup.subtree_control"
            if _PIDS not in control.read_text().split():
                control.write_text(f"+{_PIDS}")
            return parent
    return None
