"""HTTP/1.1 on a connection, with the deadlines and sizes that uvicorn leaves open."""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_STATUS_LINES = {
    408: b"HTTP/1.1 408 Request Timeout\r\n",
    414: b"HTTP/1.1 414 URI Too Long\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
}


class GuardedProtocol(HttpToolsProtocol):
    """Cuts a connection whose request headers take too long, are too many or too large.

    A client that sends a byte now and then would otherwise hold a connection for ever. The limits
    are a little above those that `Edge` answers properly; here they only bound the damage.
    """

    header_s: float = 30.0
    header_bytes: int = 128 * 1024
    header_count: int = 400
    url_bytes: int = 64 * 1024

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._refusal = 0
        self._is_in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request's headers are due from now on."""
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came; the first ones after an answer begin the next request's headers."""
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_headers()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins."""
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

    def on_response_complete(self) -> None:
        """An answer is out; if the next request's headers have begun, their time runs."""
        super().on_response_complete()
        if self._is_in_head and self._deadline is None:
            self._expect_headers()

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

    def _refuse(self, status: int) -> None:
        self._refusal = status
        raise httptools.HttpParserError(f"refused with {status}")

    def _close_with(self, status: int) -> None:
        self.transport.write(
            _STATUS_LINES[status] + b"content-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()


def guarded(header_s: float) -> type[GuardedProtocol]:
    """The protocol with this deadline for a request's headers."""
    return type("GuardedProtocol", (GuardedProtocol,), {"header_s": header_s})
