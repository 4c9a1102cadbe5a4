"""Connections that never get to the point are cut, on a real socket."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from galley.wire.protocol import guarded


@contextmanager
def server(header_s: float) -> Iterator[tuple[str, int]]:
    """A server of its own in a thread, on any free port."""
    ready = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

    config = uvicorn.Config(
        PlainTextResponse("hello"),
        http=guarded(header_s),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
    )
    running = Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=lambda: asyncio.run(running.serve([listener])))
        thread.start()
        assert ready.wait(30)
        try:
            yield listener.getsockname()
        finally:
            running.should_exit = True
            thread.join(30)


def exchange(address: tuple[str, int], sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(address, timeout=30) as connection:
        if sent:
            connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
def test_headers_that_never_end_are_cut(sent: bytes) -> None:
    with server(0.2) as address:
        assert exchange(address, sent).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_the_next_request_on_a_connection_has_its_own_deadline() -> None:
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with server(0.3) as address:
        answers = exchange(address, whole + b"GET /")
    assert answers.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"hello" in answers
    assert b"408 Request Timeout" in answers


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", b"431"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"400",
        ),
        (b"GET / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", b"400"),
        (b"NONSENSE\r\n\r\n", b"400"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_cut(sent: bytes, status: bytes) -> None:
    with server(30) as address:
        assert exchange(address, sent).split(b" ", 2)[1] == status
