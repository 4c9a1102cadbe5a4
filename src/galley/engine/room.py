"""What is free on this machine: memory and disk, measured when asked."""

import shutil
from pathlib import Path

import psutil

_MB = 1024 * 1024
_GROUP = Path("/sys/fs/cgroup")


def measure(folder: Path, group: Path = _GROUP) -> tuple[int, int]:
    """MB of memory and of disk that are free for steps; the disk is the one that `folder` is on.

    Memory is what the kernel could give without swapping, or less where a control group (that of a
    container) has a bound. Source: Linux kernel, admin-guide/cgroup-v2, read November 2026.
    """
    memory = psutil.virtual_memory().available
    bound, used = _number(group / "memory.max"), _number(group / "memory.current")
    if bound is not None and used is not None:
        memory = min(memory, max(bound - used, 0))
    try:
        disk = shutil.disk_usage(folder).free
    except OSError:  # the disk is gone, and with it all room
        disk = 0
    return memory // _MB, disk // _MB


def _number(file: Path) -> int | None:
    """The number in a file of the kernel; None if there is none, or it says `max`."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
