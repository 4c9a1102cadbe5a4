"""Processes that share their parent's memory until they end, as vfork(2) makes them.

The parent stands still meanwhile. Such a process has its own pid, session, descriptors, limits and
signals, but copies no page, and that is most of what a fork of a Python process costs. It must be
short, must not touch what the parent goes on with, and must come back by returning: where it was
killed half-way the memory of both cannot be trusted, and the parent ends at once.
"""

import ctypes
import mmap
import os
import sys
from collections.abc import Callable

_CLONE_VM, _CLONE_VFORK = 0x100, 0x4000
_WALL = 0x40000000  # wait for it although it sends no SIGCHLD
_STACK_BYTES = 1 << 20
_ALIGNED = 16
_BROKEN = 70  # the status of a process, or of its parent, whose memory cannot be trusted
_FIRST_WITH_STACK_LIMITS = (3, 14)  # from here on Python minds on which stack it runs


class Beside:
    """Runs functions one after the other, each in a process beside this one.

    For processes with one thread on Linux; `possible` says whether it can be done here.
    """

    possible = (
        sys.platform == "linux"
        and sys.implementation.name == "cpython"
        and sys.version_info < _FIRST_WITH_STACK_LIMITS
    )

    def __init__(self) -> None:
        self._act: Callable[[], int] = lambda: _BROKEN
        self._returned = False
        self._stack = mmap.mmap(-1, _STACK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._stack))
        self._top = ctypes.c_void_p(start + _STACK_BYTES - _ALIGNED)
        self._entry = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(self._enter)
        # PyDLL keeps the interpreter's lock: both processes are one thread to the interpreter
        self._clone = ctypes.PyDLL(None, use_errno=True).clone

    def run(self, act: Callable[[], int]) -> tuple[int, int]:
        """Run the function, whose result is the exit status; returns its pid and wait status.

        Raises:
            OSError: no process could be made.
        """
        self._act, self._returned = act, False
        pid: int = self._clone(self._entry, self._top, _CLONE_VM | _CLONE_VFORK, None)
        if pid < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        if not self._returned:
            os._exit(_BROKEN)
        _, status = os.waitpid(pid, _WALL)
        if os.WIFSIGNALED(status):  # after it had returned, on its way out of the interpreter
            os._exit(_BROKEN)
        return pid, status

    def _enter(self, _argument: object) -> int:
        """The beginning and end of such a process."""
        try:
            return self._act()
        except BaseException:  # noqa: BLE001 (a stack that unwinds further would be the parent's)
            return _BROKEN
        finally:
            self._returned = True
