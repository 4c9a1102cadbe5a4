"""The server around the application: how it begins, how much it takes, and how it ends.

At SIGTERM it takes the connections that wait already and none after, answers what is under way,
and gives clients that would wait longer than the drain time a clear 503.
"""

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import structlog
import uvicorn
from anyio import to_thread

log = structlog.get_logger("galley.server")

_OWN_FILES = 256  # for the database, logs, templates: whatever is not a connection
_LEAST_CONNECTIONS = 10
_HANDSHAKE_S = 2.0
_SETTLE_S = 0.01
_LAST_WORDS_S = 30.0  # hundreds of clients may be told, by a busy machine


class Server(uvicorn.Server):
    """A uvicorn server that says when it is ready, and that ends with status 0 after a signal.

    `handlers` requests work in threads at once; `on_ready` is called when it listens, `on_signal`
    when it is to end.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        handlers: int,
        on_ready: Callable[[], None],
        on_signal: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._handlers = handlers
        self._on_ready = on_ready
        self._on_signal = on_signal

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        to_thread.current_default_thread_limiter().total_tokens = self._handlers
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was sent before the end; what is left after the drain time hears a 503."""
        listeners = [listener.dup() for listener in sockets or []]
        for listening in self.servers:
            listening.close()
        late = [connection for listener in listeners for connection in _take_all(listener)]
        await asyncio.gather(*map(self._serve_last, late))
        await asyncio.sleep(_SETTLE_S)  # what the loop has accepted by now is made by then
        await super().shutdown(sockets)
        if self.server_state.tasks:  # they were cancelled, and say so to their clients
            await asyncio.wait(self.server_state.tasks, timeout=_LAST_WORDS_S)

    async def _serve_last(self, connection: socket.socket) -> None:
        config = self.config

        def make_protocol() -> asyncio.Protocol:
            made: Any = config.http_protocol_class
            return made(  # type: ignore[no-any-return]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        with suppress(OSError, TimeoutError):
            # A TLS handshake may take for ever; without one only a busy loop takes long.
            async with asyncio.timeout(_HANDSHAKE_S if config.ssl else None):
                await asyncio.get_running_loop().connect_accepted_socket(
                    make_protocol, connection, ssl=config.ssl
                )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal; a second Ctrl+C does not wait."""
        del frame
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
        self._on_signal()


def open_enough_files(connections: int) -> int:
    """Let this process have so many connections open beside its files, as far as it may.

    Returns how many it may have.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OWN_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    fitting = max(allowed - _OWN_FILES, _LEAST_CONNECTIONS)
    if fitting < connections:
        log.warning("few_files", connections=fitting, wanted=connections, cure="raise ulimit -n")
    return fitting


def _take_all(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that the kernel has made and nobody has taken; the listener is closed."""
    with listener, suppress(BlockingIOError):
        listener.setblocking(False)
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection
