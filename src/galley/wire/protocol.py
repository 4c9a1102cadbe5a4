"""HTTP/1.1 on a connection, with the deadlines and sizes that uvicorn leaves open.

A client that sends a byte now and then, or takes nothing of its answer, would otherwise hold a
connection, and the answer in memory, for ever.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_STATUS_LINES = {
    408: b"HTTP/1.1 408 Request Timeout\r\n",
    414: b"HTTP/1.1 414 URI Too Long\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
    503: b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n",
}
_NO_LINGER = struct.pack("ii", 1, 0)
_LOOKS = 4  # times within `stall_s` that an answer which is not taken is looked at


class GuardedProtocol(HttpToolsProtocol):
    """Cuts a connection whose request headers take too long, are too many or too large.

    Those limits are a little above the ones that `Edge` answers properly; here they only bound the
    damage. Cut is also a client that takes nothing of its answer for `stall_s`, or that sends more
    than `waiting_count` requests without waiting for the answers. Where as many
    connections are open as may be, a new one takes the place of the one that has been idle
    longest. At the server's end, an idle connection is kept for `linger_s`, in case a request is
    on its way, and each one's last answer says that it closes.
    """

    header_s: float = 30.0
    stall_s: float = 30.0
    linger_s: float = 0.5
    header_bytes: int = 128 * 1024
    header_count: int = 400
    url_bytes: int = 64 * 1024
    waiting_count: int = 32

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._refusal = 0
        self._is_in_head = False
        self._is_last = False
        self.idle_since = 0.0
        self._reader: asyncio.TimerHandle | None = None
        self._left_bytes = 0
        self._taken_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request's headers are due from now on."""
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self._expect_headers()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._stop_waiting()
        if self._reader is not None:
            self._reader.cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Bytes came; whatever they leave unfinished has its time from now on.

        Mostly they are a whole request, for which no clock need be set.
        """
        super().data_received(data)
        if self._deadline is None and self.is_idle and not self.transport.is_closing():
            self._expect_headers()

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= self.waiting_count:
            self._refuse(503)
        self._head_bytes = 0
        self._is_in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Some of the address came."""
        super().on_url(url)
        if len(self.url) > self.url_bytes:
            self._refuse(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header came."""
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self.header_bytes or len(self.headers) > self.header_count:
            self._refuse(431)

    def on_headers_complete(self) -> None:
        """The headers are there; from here on the edge watches."""
        self._is_in_head = False
        self._stop_waiting()
        super().on_headers_complete()
        if self._is_last:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """An answer is out; if the next request's headers have begun, their time runs."""
        super().on_response_complete()
        self.idle_since = self.loop.time()
        if self._reader is None:
            self._watch_reader()
        if self._is_in_head and self._deadline is None:
            self._expect_headers()

    def pause_writing(self) -> None:
        """More of the answer waits than should: the first time, or after most of it was taken."""
        super().pause_writing()
        self._watch_reader()

    def shutdown(self) -> None:
        """The server ends: what is under way, or on its way to us, is the last."""
        self._is_last = True
        if self.is_idle:
            self.loop.call_later(self.linger_s, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """What could not be parsed is answered, and the connection closed."""
        if self._refusal:
            self._close_with(self._refusal)
        else:
            super().send_400_response(msg)

    def _expect_headers(self) -> None:
        self._deadline = self.loop.call_later(self.header_s, self._too_late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._close_with(408)

    def _close_if_idle(self) -> None:
        """Nothing more came in time, or half a request, which is told."""
        if self.is_idle and not self.transport.is_closing():
            if self._is_in_head:
                self._close_with(503)
            else:
                self.transport.close()

    def _make_room(self) -> None:
        """Let the connection go that has been idle longest; if none is, uvicorn answers 503."""
        idle = [
            other
            for other in self.connections
            if isinstance(other, GuardedProtocol) and other is not self and other.is_idle
        ]
        if idle:
            oldest = min(idle, key=lambda other: other.idle_since)
            self.connections.discard(oldest)
            oldest._cut()  # noqa: SLF001

    def _cut(self) -> None:
        """End the connection at once; the kernel, too, lets go of what was not taken."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def _watch_reader(self) -> None:
        """From now on the client has `stall_s` to take something of what is written."""
        self._left_bytes = self.transport.get_write_buffer_size()
        self._taken_at = self.loop.time()
        if self._reader is None and self._left_bytes:
            self._look_later()

    def _look_later(self) -> None:
        self._reader = self.loop.call_later(self.stall_s / _LOOKS, self._look_at_reader)

    def _look_at_reader(self) -> None:
        """Cut the connection if nothing was taken, be it closed from our side already or not."""
        self._reader = None
        left = self.transport.get_write_buffer_size()
        has_new_answer = self._taken_at < self.idle_since
        if not left or left < self._left_bytes or has_new_answer:
            self._watch_reader()
        elif self.loop.time() - self._taken_at >= self.stall_s:
            self._cut()
        else:
            self._look_later()

    def _refuse(self, status: int) -> None:
        self._refusal = status
        raise httptools.HttpParserError(f"refused with {status}")

    def _close_with(self, status: int) -> None:
        self.transport.write(
            _STATUS_LINES[status] + b"content-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()


def guarded(header_s: float, stall_s: float = 30.0) -> type[GuardedProtocol]:
    """The protocol with these deadlines for a request's headers and for an answer's reader."""
    limits = {"header_s": header_s, "stall_s": stall_s}
    return type("GuardedProtocol", (GuardedProtocol,), limits)
