"""The network side of guarded calls: connects only to checked addresses, never waits too long."""

import ssl
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import httpcore2
import httpx2

if TYPE_CHECKING:
    from galley.engine.outbound import Gate

_CONNECT_S = 10.0


def guarded_transport(gate: "Gate", deadline: float, *, secure: bool) -> httpx2.BaseTransport:
    """A transport for one call: `deadline` is a moment on the monotonic clock.

    Certificates are loaded only for a `secure` one, because that takes a while.
    """
    context = httpx2.create_ssl_context() if secure else _no_certificates()
    transport = httpx2.HTTPTransport(verify=context, trust_env=False)
    transport._pool = httpcore2.ConnectionPool(  # noqa: SLF001 - its constructor takes no backend
        ssl_context=context,
        max_connections=1,
        network_backend=_GuardedBackend(gate, deadline),
    )
    return transport


def _no_certificates() -> ssl.SSLContext:
    """A context that trusts nobody, for calls without TLS."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _Deadline:
    """Turns the moment at which all must be over into time-outs of single waits."""

    def __init__(self, at: float) -> None:
        self._at = at

    def left(self, wish: float | None = None) -> float:
        """Seconds that a wait may take, at least a millisecond."""
        left = max(self._at - time.monotonic(), 0.001)
        return left if wish is None else min(left, wish)

    def check(self) -> None:
        """Stop a peer that keeps sending one byte after the other."""
        if time.monotonic() >= self._at:
            raise httpcore2.ReadTimeout("the time limit of the call is over")


class _GuardedBackend(httpcore2.NetworkBackend):
    """Connects to an address that the gate checked; the name stays in TLS and in Host."""

    def __init__(self, gate: "Gate", deadline: float) -> None:
        self._gate = gate
        self._deadline = _Deadline(deadline)
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Try the host's addresses in turn."""
        failure: Exception | None = None
        for address in self._gate.addresses(host, port):
            try:
                stream = self._inner.connect_tcp(
                    str(address),
                    port,
                    self._deadline.left(timeout or _CONNECT_S),
                    local_address,
                    socket_options,
                )
                return _GuardedStream(stream, self._deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise httpcore2.ConnectError(str(failure))

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Refuse: a local socket is never an outbound call."""
        del timeout, socket_options
        raise httpcore2.ConnectError(f"local sockets such as {path} are not called")


class _GuardedStream(httpcore2.NetworkStream):
    """A stream whose every wait ends at the call's deadline."""

    def __init__(self, inner: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read once, within the deadline."""
        self._deadline.check()
        return self._inner.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all, within the deadline."""
        self._deadline.check()
        self._inner.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        """Begin TLS; the certificate is checked against the host's name."""
        inner = self._inner.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return _GuardedStream(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """What the connection tells about itself."""
        return self._inner.get_extra_info(info)
