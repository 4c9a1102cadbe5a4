"""The kernel's wall for a process of our own: Landlock, which needs no privileges (Linux 5.13).

It holds for the process that puts it up and for all that it starts, and can never be taken down.
Files that are open already stay usable.
"""

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable
from functools import lru_cache

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38
_READ = 0b1100  # read a file, list a folder
_READ_FILE = 0b0100
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights over files a version knows
_LATEST_FILE_RIGHTS = 16
_TCP_SINCE = 4
_TCP = 0b11  # bind, connect
_SCOPES_SINCE = 6
_SCOPES = 0b11  # abstract sockets and signals, to processes outside

libc = ctypes.CDLL(None, use_errno=True)


@lru_cache(maxsize=1)
def version() -> int:
    """What the kernel knows of Landlock: 0 means nothing; from 4 on it closes TCP, too."""
    return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))


class ReadOnly:
    """A wall behind which a process reads below `folders` alone and writes no file.

    From version 4 on it neither calls nor is called by TCP. UDP and Unix sockets that lie in a
    folder stay open to it, below version 6 abstract ones, too.

    Made once, put up in any number of processes that are forked later. Where the kernel has no
    Landlock it does nothing.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._rules: int | None = None
        if version() == 0:
            return
        rights = (1 << _FILE_RIGHTS.get(version(), _LATEST_FILE_RIGHTS)) - 1
        wanted = struct.pack(
            "=QQQ",
            rights,
            _TCP if version() >= _TCP_SINCE else 0,
            _SCOPES if version() >= _SCOPES_SINCE else 0,
        )
        length = 24 if version() >= _SCOPES_SINCE else 16 if version() >= _TCP_SINCE else 8
        self._rules = _done(libc.syscall(_CREATE_RULESET, wanted, length, 0))
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                self._allow(folder)

    def _allow(self, path: str) -> None:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rights = _READ if os.path.isdir(path) else _READ_FILE  # noqa: PTH112
            rule = struct.pack("=Qi", rights, handle)
            _done(libc.syscall(_ADD_RULE, self._rules, _PATH_BENEATH, rule, 0))
        finally:
            os.close(handle)

    def put_up(self) -> None:
        """Confine this process from here on.

        Raises:
            OSError: the kernel knows Landlock and refuses.
        """
        if self._rules is not None:
            _done(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
            _done(libc.syscall(_RESTRICT_SELF, self._rules, 0))


def _done(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
