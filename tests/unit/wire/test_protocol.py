"""Connections that never get to the point are cut, on a real socket."""

import asyncio
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from galley.wire.protocol import guarded

WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 20_000_000  # more than the kernel keeps for a reader that takes nothing


@contextmanager
def server(
    header_s: float, *, stall_s: float = 30.0, text: str = "hello", connections: int | None = None
) -> Iterator[tuple[str, int]]:
    """A server of its own in a thread, on any free port."""
    ready = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

    config = uvicorn.Config(
        PlainTextResponse(text),
        http=guarded(header_s, stall_s),
        limit_concurrency=connections,
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
        assert ready.wait(240)
        try:
            yield listener.getsockname()
        finally:
            running.should_exit = True
            thread.join(240)


def exchange(address: tuple[str, int], sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(address, timeout=240) as connection:
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
    with server(0.3) as address:
        answers = exchange(address, WHOLE + b"GET /")
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


@pytest.mark.parametrize("sent", [WHOLE, WHOLE.replace(b"Host", b"Connection: close\r\nHost")])
def test_who_takes_nothing_of_an_answer_is_cut(sent: bytes) -> None:
    with (
        server(30, stall_s=0.4, text="x" * LARGE) as address,
        socket.create_connection(address, timeout=240) as connection,
    ):
        connection.sendall(sent)
        ended = select.poll()
        ended.register(connection, select.POLLRDHUP)
        assert ended.poll(240_000), "the connection was kept"


def test_who_takes_an_answer_slowly_gets_all_of_it() -> None:
    with (
        server(30, stall_s=3, text="x" * LARGE) as address,
        socket.create_connection(address, timeout=240) as connection,
    ):
        connection.sendall(WHOLE.replace(b"Host", b"Connection: close\r\nHost"))
        taken = 0
        pause = threading.Event()
        while chunk := connection.recv(65_536):
            taken += len(chunk)
            pause.wait(0.012)  # so it takes longer than `stall_s` in all
    assert taken > LARGE


def test_a_new_connection_takes_the_place_of_the_one_that_is_idle_longest() -> None:
    with server(30, connections=6) as address:
        silent = [socket.create_connection(address, timeout=240) for _ in range(10)]
        assert exchange(address, WHOLE + WHOLE.replace(b"Host", b"Connection: close\r\nHost"))
        with pytest.raises(ConnectionResetError):
            silent[0].recv(1)
        silent[-1].sendall(WHOLE)
        assert silent[-1].recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")
        for connection in silent:
            connection.close()


def test_requests_that_wait_for_no_answer_are_answered_in_turn_or_cut() -> None:
    last = WHOLE.replace(b"Host", b"Connection: close\r\nHost")
    with server(30) as address:
        assert exchange(address, WHOLE * 20 + last).count(b"HTTP/1.1 200 OK\r\n") == 21
        with suppress(ConnectionResetError):
            assert exchange(address, WHOLE * 5000).count(b"HTTP/1.1 200 OK\r\n") <= 33
        assert exchange(address, last).startswith(b"HTTP/1.1 200 OK\r\n")
