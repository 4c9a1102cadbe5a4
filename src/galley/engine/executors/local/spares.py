"""Forks made ahead of need: a request then finds a process that waits for it.

A fork and what follows it are most of a small step's time, and none of it depends on the step. A
spare waits on a socket of its own, which tells it, too, when its template has gone: then it ends.
"""

import os
import socket
from array import array
from collections.abc import Callable
from contextlib import suppress

from galley.engine.executors.local.messages import REQUEST

Request = tuple[int, int, int]
"""Serial, generation of the claim, and the descriptor of the memory file with the task."""

_INT_BYTES = array("i").itemsize


def receive(connection: socket.socket) -> Request | None:
    """The next request; None when the other end has gone."""
    space = socket.CMSG_SPACE(_INT_BYTES)
    data, ancillary, _, _ = connection.recvmsg(REQUEST.size, space, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    serial, generation = REQUEST.unpack(data)
    handles = array("i")
    handles.frombytes(ancillary[0][2][:_INT_BYTES])
    return serial, generation, handles[0]


class Spares:
    """Up to `wanted` processes that wait below a template, oldest first."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._waiting: dict[int, socket.socket] = {}

    @property
    def is_short(self) -> bool:
        """Whether one more is wanted."""
        return len(self._waiting) < self._wanted

    def fork(self, prepare: Callable[[], None]) -> socket.socket | None:
        """Fork one more; in the new process give the socket on which it is to wait.

        There, `prepare` is called first.

        Raises:
            OSError: there can be no more processes, or no more descriptors.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            ours.close()
            self.let_go()
            prepare()
            return theirs
        theirs.close()
        self._waiting[pid] = ours
        return None

    def give(self, request: Request) -> int | None:
        """Hand the request to a spare; its pid, or None if there is none."""
        serial, generation, handle = request
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [handle]))]
        while self._waiting:
            pid = next(iter(self._waiting))
            with self._waiting.pop(pid) as ours, suppress(BrokenPipeError, ConnectionResetError):
                ours.sendmsg([REQUEST.pack(serial, generation)], rights)
                return pid
        return None

    def ended(self, pid: int) -> None:
        """A process of this pid has ended; it was a spare, or it was none."""
        gone = self._waiting.pop(pid, None)
        if gone is not None:
            gone.close()

    def let_go(self) -> None:
        """Have no part in the spares any more: a fork must not keep others from seeing the end."""
        for ours in self._waiting.values():
            ours.close()
        self._waiting.clear()
