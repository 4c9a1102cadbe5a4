"""What the kernel tells about processes, and how to end a whole tree of them."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
_STATE, _PARENT, _STARTED = 0, 1, 19  # places in /proc/<pid>/stat after the name; none after 19
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
_MAX_PASSES = 200
_DEATH_S = 2.0
_POLL_S = 0.01


class Mark(msgspec.Struct, frozen=True):
    """Which process this is, for good: a pid alone is reused, a pid with its start time is not.

    `started` counts kernel ticks since the boot that `boot` names.
    """

    pid: int
    started: int
    boot: str


def boot_id() -> str:
    """The kernel's name for the time since the last boot; empty where it has none."""
    with contextlib.suppress(OSError):  # one that failed is asked again the next time
        return _known_boot_id()
    return ""


@lru_cache(maxsize=1)
def _known_boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _read(path: str) -> bytes:
    """The file's content in one read (files of /proc are small)."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, 65536)
    finally:
        os.close(handle)


def _names(folder: str) -> list[str]:
    return os.listdir(folder)  # noqa: PTH208 (no path objects: this is a hot place)


def _stat(pid: int) -> list[bytes] | None:
    """The first fields of /proc/<pid>/stat after the name; None if there is no such process."""
    try:
        return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split(None, _STARTED + 1)
    except _GONE:
        return None


def started_ticks(pid: int) -> int | None:
    """When a living process started, in kernel ticks since boot; None if gone or a zombie."""
    fields = _stat(pid)
    if fields is None or fields[_STATE] in {b"Z", b"X"}:
        return None
    return int(fields[_STARTED])


def mark_of(pid: int) -> Mark | None:
    """The mark of a living process, or None."""
    started = started_ticks(pid)
    return None if started is None else Mark(pid=pid, started=started, boot=boot_id())


def alive(mark: Mark) -> bool:
    """Whether exactly this process still runs."""
    return mark.boot == boot_id() and started_ticks(mark.pid) == mark.started


def age_s(mark: Mark) -> float:
    """Seconds since the process started; only right for a process of this boot."""
    uptime_s = float(_read("/proc/uptime").split()[0])
    return max(0.0, uptime_s - mark.started / _TICKS_PER_S)


def booted_at() -> datetime:
    """When the machine started, by its present clock."""
    uptime_s = float(_read("/proc/uptime").split()[0])
    return datetime.fromtimestamp(time.time() - uptime_s, UTC)


def thread_count() -> int:
    """How many threads this process has, those of native libraries too."""
    return _PROC.joinpath("self/task").stat().st_nlink - 2


def tasks_on_machine() -> int:
    """How many processes and threads there are on the machine (proc_loadavg(5))."""
    return int(_read("/proc/loadavg").split()[3].partition(b"/")[2])


def children(pid: int) -> list[int]:
    """The direct children of a process, zombies too."""
    found: list[int] = []
    try:
        for thread in _names(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    except FileNotFoundError:
        if Path(f"/proc/{pid}/task/{pid}/children").exists() or not Path(f"/proc/{pid}").exists():
            return found
        return [child for child, parent in _parents() if parent == pid]
    except _GONE:
        return found
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """(pid, parent) of every process, for kernels that don't list children."""
    for name in _names("/proc"):
        if name.isdigit() and (fields := _stat(int(name))) is not None:
            yield int(name), int(fields[_PARENT])


def descendants(pid: int) -> list[int]:
    """All processes below this one, parents before children."""
    found: list[int] = []
    queue = children(pid)
    seen = {pid}
    while queue:
        child = queue.pop()
        if child not in seen:
            seen.add(child)
            found.append(child)
            queue += children(child)
    return found


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where there are none."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def wait_for_end(pid: int, seconds: float) -> bool:
    """Wait until the process has ended, at most so long; False if it still runs."""
    deadline = time.monotonic() + seconds
    handle = open_pidfd(pid)
    if handle is not None:
        try:
            ended = select.poll()  # not `select`, which knows descriptors up to 1,023 only
            ended.register(handle, select.POLLIN)
            return bool(ended.poll(max(0.0, seconds) * 1000))
        finally:
            os.close(handle)
    while started_ticks(pid) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def send(pid: int, number: int) -> bool:
    """Send a signal; False if there is no such process (or it is out of our hands)."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def send_group(group: int, number: int) -> None:
    """Send a signal to a whole process group at once, if there is still anybody in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def resident_bytes(pids: list[int]) -> int:
    """Memory that these processes hold; pages that they share count once for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(*_GONE, IndexError):
            total += int(_read(f"/proc/{pid}/statm").split()[1])
    return total * _PAGE_BYTES


def proportional_bytes(pids: list[int]) -> int:
    """Like `resident_bytes`, but a shared page is split among its owners (dearer to read)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(*_GONE, IndexError, ValueError):
            text = _read(f"/proc/{pid}/smaps_rollup")
            total += int(text.partition(b"\nPss:")[2].split()[0]) * 1024
    return total


def virtual_bytes() -> int:
    """The size of this process's own address space."""
    return int(_read("/proc/self/statm").split()[0]) * _PAGE_BYTES


def _sweep(find: Callable[[], list[int]], number: int) -> set[int]:
    """Signal what `find` returns until it returns nobody new; those that were signalled."""
    met: set[int] = set()
    for _ in range(_MAX_PASSES):
        fresh = [pid for pid in find() if pid not in met]
        if not fresh:
            break
        for pid in fresh:
            send(pid, number)
        met.update(fresh)
    return met


def kill_descendants(pid: int) -> int:
    """Kill everything below a process: first stop all, so that nobody forks away, then kill.

    Returns how many there were. The process itself is left alone; while it lives and is a
    subreaper, nobody can leave its tree.
    """
    if not children(pid):
        return 0
    count = len(_sweep(lambda: descendants(pid), signal.SIGSTOP))
    for child in descendants(pid):
        send(child, signal.SIGKILL)
    return count


def kill_tree(pid: int) -> None:
    """Kill a process and everything below it."""
    send(pid, signal.SIGSTOP)
    kill_descendants(pid)
    send(pid, signal.SIGKILL)


def kill_marked(variable: str, value: str) -> int:
    """Kill whoever bears `variable=value` in its environment: strays of a dead parent.

    Returns how many were found, once they are dead (or after a while: a process that hangs in the
    kernel dies when it comes back). Reads every process's environment, so it is for rare cases.
    """
    needle = f"{variable}={value}".encode()

    def find() -> list[int]:
        found: list[int] = []
        for name in _names("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    if needle in _read(f"/proc/{name}/environ").split(b"\0"):
                        found.append(int(name))
        return found

    killed = _sweep(find, signal.SIGKILL)
    deadline = time.monotonic() + _DEATH_S
    for pid in killed:
        wait_for_end(pid, deadline - time.monotonic())
    return len(killed)
