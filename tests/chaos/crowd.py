"""Clients as they are: raw connections that can be cut, left half open, or read slowly."""

import http.client
import json
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import httpx2
import psutil
from tests.contract.live import PASSWORD, PATIENCE_S, until

WAIT_S = PATIENCE_S
_SPARE_FILES = 64  # SQLite keeps what it may not close while others use the file


def connect(base: str, *, receive_bytes: int | None = None) -> socket.socket:
    """A connection of its own; `receive_bytes` makes the room small for what is not read."""
    place = urlsplit(base)
    made = socket.socket()
    made.settimeout(WAIT_S)
    if receive_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.connect((place.hostname, place.port))
    return made


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """A whole request; an underscore in a header's name stands for a hyphen."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: crowd", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Any
    body: bytes


def reply_on(connection: socket.socket, method: str = "GET") -> Reply:
    """The next answer on a connection, read to its end.

    Raises:
        OSError, http.client.HTTPException: the connection ended before that.
    """
    answer = http.client.HTTPResponse(connection, method=method)
    try:
        answer.begin()
        return Reply(answer.status, answer.headers, answer.read())
    finally:
        answer.close()


def cut(connection: socket.socket) -> None:
    """End a connection at once, whatever is under way on it: the peer sees a reset."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def is_ended(connection: socket.socket) -> bool:
    """Whether the server has ended the connection; reads what is left on it, and never waits."""
    connection.setblocking(False)
    try:
        while True:
            if not connection.recv(1 << 20):
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def sign_in(base: str, email: str) -> str:
    """The Cookie header of a browser that has signed in."""
    form = urlencode({"email": email, "password": PASSWORD})
    headers = {"Origin": base, "Content-Type": "application/x-www-form-urlencoded"}
    with httpx2.Client(base_url=base, trust_env=False, timeout=WAIT_S) as client:
        got = client.post("/sign-in", content=form, headers=headers)
    assert got.status_code == 303, got.text
    return "; ".join(f"{name}={value}" for name, value in got.cookies.items())


@dataclass
class Healthy:
    """What ordinary clients met meanwhile: seconds of each answer, and everything not as it
    should be.
    """

    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def p99_s(self) -> float:
        """The 99th of 100 answers, by time."""
        return statistics.quantiles(self.seconds, n=100)[98]

    def __str__(self) -> str:
        middle = statistics.median(self.seconds)
        return (
            f"{len(self.seconds)} healthy requests: median {middle * 1e3:.1f} ms,"
            f" p99 {self.p99_s * 1e3:.1f} ms, longest {max(self.seconds) * 1e3:.1f} ms"
        )


@contextmanager
def healthy(base: str, *requests: bytes, clients: int = 2) -> Iterator[Healthy]:
    """Ordinary clients that send these requests in turn while the block lasts, on keep-alive."""
    seen = Healthy()
    is_over = threading.Event()

    def work() -> None:
        with connect(base) as connection:
            number = 0
            while not is_over.wait(0.02):
                sent = requests[number % len(requests)]
                number += 1
                began = time.perf_counter()
                connection.sendall(sent)
                got = reply_on(connection)
                seen.seconds.append(time.perf_counter() - began)
                if got.status != 200:
                    seen.faults.append(f"{got.status} {got.body[:200]!r}")

    def guarded() -> None:
        try:
            work()
        except (OSError, http.client.HTTPException) as error:
            seen.faults.append(repr(error))

    threads = [threading.Thread(target=guarded) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        for thread in threads:
            thread.join(WAIT_S)


class Meter:
    """What the server's process holds, against what it held at the beginning."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.files = self.process.num_fds()
        self.sockets = self._sockets()
        self.memory = self.process.memory_info().rss
        self.most = self.memory
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, self.process.memory_info().rss)

    def check(self, bound_bytes: int) -> None:
        """Memory never grew by more than this, and every connection's descriptor came back."""
        grown = self.most - self.memory
        print(f"memory grew by {grown >> 20} MB at most")
        assert grown < bound_bytes
        until(lambda: self._sockets() <= self.sockets, what="the end of the connections")
        until(
            lambda: self.process.num_fds() <= self.files + _SPARE_FILES,
            what="the return of the descriptors",
        )

    def _sockets(self) -> int:
        return len(self.process.net_connections("tcp"))
