"""Limits of reading a step's files: their templates are users' programs, too.

The compiler's child renders under limits of its own; text with run-time values is rendered in the
step, and what an earlier step exports decides how long that takes.
"""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from galley.core.errors import Issue, Refused
from galley.core.recipes import templating
from galley.core.recipes.faults import refusal

CPU_S = 2.0
MEMORY_MB = 256
_FILES_PER_SECOND = 1000
_MIB = 1024 * 1024


class _OutOfTime(BaseException):
    """Raised by a signal; no handler of ordinary faults may swallow it."""


class _Watch:
    """Remembers which file is being rendered, and whether time is still counted."""

    def __init__(self) -> None:
        self.file = ""
        self.is_on = True

    def tell(self, file: str) -> None:
        """Note the file."""
        self.file = file

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """The time is over."""
        if self.is_on:
            self.is_on = False
            raise _OutOfTime


@contextmanager
def bounded(files: int) -> Iterator[None]:
    """Bound what the block may take: 2 s of processor time (more for many files), 256 MB more.

    For the main thread of a process that does nothing else meanwhile. Running out of memory is
    an ordinary `MemoryError`.

    Raises:
        Refused: the time was over; the issue names the file.
    """
    watch = _Watch()
    cpu_s = max(CPU_S, files / _FILES_PER_SECOND)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, watch.stop)
    templating.watch_files(watch.tell)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (_less(soft, hard), hard))
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        yield
    except _OutOfTime:
        raise _refused(watch.file, cpu_s) from None
    finally:
        watch.is_on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        templating.watch_files(None)


def _less(soft: int, hard: int) -> int:
    """The address space that is in use, and 256 MB; never more than what holds already."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - no need of pathlib here
        used = int(file.read().split()[0]) * resource.getpagesize()
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    return min([*limits, used + MEMORY_MB * _MIB])


def _refused(file: str, cpu_s: float) -> Refused:
    text = (
        f"the template took more than {cpu_s:g} s to render. Look for a loop without end, or for"
        " one over a run-time variable that has become large, and make it smaller."
    )
    return refusal("The step", (Issue(file, text),))
