"""What Postgres tells a server at once: one connection that hears as few channels as it can."""

import contextlib
import select
import socket
from typing import Any

import psycopg


class Bell:
    """Ends a listener's wait, from any thread."""

    def __init__(self) -> None:
        self._out, self._in = socket.socketpair()
        self._out.setblocking(False)
        self._in.setblocking(False)

    def __del__(self) -> None:
        self._out.close()
        self._in.close()

    def ring(self) -> None:
        """Have whoever waits, or waits next, go on."""
        with contextlib.suppress(BlockingIOError):  # it has rung often enough
            self._in.send(b"!")

    def fileno(self) -> int:
        """What becomes readable when the bell rings."""
        return self._out.fileno()

    def still(self) -> None:
        """Forget that it rang."""
        with contextlib.suppress(BlockingIOError):
            self._out.recv(4096)


class Listener:
    """Hears notices on an open connection in autocommit, which nobody else may use."""

    def __init__(self, connection: "psycopg.Connection[Any]", bell: Bell) -> None:
        self._connection, self._bell = connection, bell
        self._channels: frozenset[str] = frozenset()

    def tune(self, channels: frozenset[str]) -> bool:
        """Hear these channels and no others; whether one of them was not heard before."""
        added = channels - self._channels
        for channel in self._channels - channels:
            self._connection.execute(f"unlisten {channel}")
        for channel in added:
            self._connection.execute(f"listen {channel}")
        self._channels = channels
        return bool(added)

    def wait(self, timeout_s: float) -> list[tuple[str, str]]:
        """Channel and payload of what is said; waits until something is, or the bell rings.

        What is said several times at once is told once.
        """
        heard = self._hear()
        if not heard and timeout_s > 0:
            look = select.poll()
            look.register(self._connection.fileno(), select.POLLIN)
            look.register(self._bell.fileno(), select.POLLIN)
            look.poll(timeout_s * 1e3)
            self._bell.still()
            heard = self._hear()
        return heard

    def _hear(self) -> list[tuple[str, str]]:
        notices = self._connection.notifies(timeout=0)
        return list(dict.fromkeys((notice.channel, notice.payload) for notice in notices))
