"""The one client for calls that leave this machine: webhooks, downloads, remote systems.

The name is resolved once, every address it has must be allowed, and the connection goes to a
checked address, so that a name that changes its mind in between gains nothing. Redirects are off
unless asked for; each hop is checked again. Proxies of the environment are ignored.
"""

import ipaddress
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from galley.core.errors import Refused, TooLarge, Unavailable
from galley.engine.addresses import Address, Network, may_reach
from galley.kit.destinations import ALLOW_VARIABLE, opened_ranges

__all__ = [
    "ALLOW_VARIABLE",
    "Answer",
    "Gate",
    "OutboundClient",
    "OutboundFailed",
    "OutboundPolicy",
    "OutboundRefused",
    "OutboundTooLarge",
    "policy_from_environment",
    "resolve_name",
]

_CHUNK_BYTES = 65536
_LOW_PORTS = frozenset({80, 443})
_FIRST_FREE_PORT = 1024
_KEPT_ACROSS_ORIGINS = frozenset({"accept", "user-agent", "content-type"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})

Resolve = Callable[[str, int], Sequence[str]]


class OutboundRefused(Refused):
    """The address may not be called from here."""

    code = "outbound_refused"


class OutboundFailed(Unavailable):
    """The other side did not answer, or not in time."""

    code = "outbound_failed"


class OutboundTooLarge(TooLarge):
    """The answer has more bytes than the call's limit."""

    code = "outbound_too_large"


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """What calls may reach and cost.

    `allowed` are ranges beside the public ones that an administrator opened (any port there;
    addresses of cloud metadata stay closed). `deadline_s` bounds a whole call, `max_bytes` its
    answer after decompression.
    """

    allowed: tuple[Network, ...] = ()
    deadline_s: float = 60.0
    max_bytes: int = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers (names in lower case), body, and the last address called.

    `body` is empty when the content went to a file; `size_bytes` counts either.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    size_bytes: int
    url: str


def policy_from_environment() -> OutboundPolicy:
    """The policy of this process: GALLEY_OUTBOUND_ALLOW is a comma-separated list of ranges.

    Raises:
        ValueError: an entry is not an address or a range.
    """
    return OutboundPolicy(allowed=opened_ranges())


def resolve_name(host: str, port: int) -> list[str]:
    """All addresses of a host, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Gate:
    """Decides where a call may go, and names the checked addresses to connect to."""

    def __init__(self, policy: OutboundPolicy, resolve: Resolve = resolve_name) -> None:
        self._policy = policy
        self._resolve = resolve

    def addresses(self, host: str, port: int) -> list[Address]:
        """The host's addresses, every one of them allowed.

        Raises:
            OutboundRefused: one of them is not, or the port is not.
            OutboundFailed: the name cannot be resolved.
        """
        try:
            texts = self._resolve(host, port)
            found = [ipaddress.ip_address(text.partition("%")[0]) for text in texts]
        except (OSError, ValueError, UnicodeError) as error:
            raise OutboundFailed(
                f"The host {host} cannot be resolved; check its spelling."
            ) from error
        if not found:
            raise OutboundFailed(f"The host {host} has no address; check its spelling.")
        for address in found:
            self._check(host, port, address)
        return found

    def _check(self, host: str, port: int, address: Address) -> None:
        allowed = self._policy.allowed
        if not may_reach(address, allowed):
            raise OutboundRefused(
                f"The host {host} has the address {address}, which is not public. An administrator"
                f" can open a range with {ALLOW_VARIABLE}."
            )
        opened = not may_reach(address, ())
        if port not in _LOW_PORTS and port < _FIRST_FREE_PORT and not opened:
            raise OutboundRefused(
                f"Port {port} of {host} may not be called: use 80, 443 or a port from"
                f" {_FIRST_FREE_PORT} on."
            )


class OutboundClient:
    """Makes guarded calls. Safe to share between threads; close it when done."""

    def __init__(
        self, policy: OutboundPolicy | None = None, *, resolve: Resolve = resolve_name
    ) -> None:
        self._policy = policy or policy_from_environment()
        self._gate = Gate(self._policy, resolve)

    def check(self, url: str) -> None:
        """Refuse an address that could not be called now, for instance when it is saved.

        Raises:
            OutboundRefused: never to be called.
            OutboundFailed: its host cannot be resolved.
        """
        parsed = self._parse(url)
        self._gate.addresses(parsed.host, parsed.port or _port_of(parsed.scheme))

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | BinaryIO | None = None,
        into: BinaryIO | None = None,
        redirects: int = 0,
        deadline_s: float | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """Make one call and read its whole answer, into memory or into the file `into`.

        `content` may be an open file, which is then streamed. At most `redirects` hops are
        followed; a hop to another origin carries no headers but the harmless ones.

        Raises:
            OutboundRefused: an address on the way is not allowed, or a redirect too many.
            OutboundFailed: no connection, no answer, or not before the deadline.
            OutboundTooLarge: more bytes than `max_bytes`.
        """
        deadline = time.monotonic() + (deadline_s or self._policy.deadline_s)
        limit = max_bytes or self._policy.max_bytes
        sent = dict(headers or {})
        for _ in range(redirects + 1):
            self._parse(url)
            answer = self._once(method, url, sent, content, into, deadline=deadline, limit=limit)
            target = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not target or redirects == 0:
                return answer
            if answer.status not in _SAME_METHOD and method != "HEAD":
                method, content = "GET", None
            url, sent = self._next_hop(url, target, sent)
            _rewind(content, into)
        raise OutboundRefused(f"The address {url} redirects more than {redirects} times.")

    def _parse(self, url: str) -> Any:
        import httpx2

        try:
            parsed = httpx2.URL(url)
        except (httpx2.InvalidURL, TypeError) as error:
            raise OutboundRefused(f"{url!r} is not an address that can be called.") from error
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise OutboundRefused(f"{url!r} cannot be called: it must begin with http or https.")
        if parsed.userinfo:
            raise OutboundRefused(
                "An address may not carry a user name or password; put them into the settings."
            )
        return parsed

    def _next_hop(self, url: str, target: str, sent: dict[str, str]) -> tuple[str, dict[str, str]]:
        import httpx2

        old = httpx2.URL(url)
        try:
            new = old.join(target)
        except httpx2.InvalidURL as error:
            raise OutboundRefused(f"The address {url} redirects to nowhere.") from error
        if old.scheme == "https" and new.scheme == "http":
            raise OutboundRefused(f"The address {url} redirects from https to http.")
        if (old.scheme, old.host, old.port) != (new.scheme, new.host, new.port):
            sent = {k: v for k, v in sent.items() if k.lower() in _KEPT_ACROSS_ORIGINS}
        return str(new), sent

    def _once(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        content: bytes | BinaryIO | None,
        into: BinaryIO | None,
        *,
        deadline: float,
        limit: int,
    ) -> Answer:
        import httpx2

        from galley.engine.transport import guarded_transport

        client = httpx2.Client(
            transport=guarded_transport(
                self._gate, deadline, secure=url.lower().startswith("https:")
            ),
            trust_env=False,
            follow_redirects=False,
            timeout=None,
        )
        body = bytearray()
        size = 0
        try:
            with (
                client,
                client.stream(method, url, headers=headers, content=_chunks(content)) as answer,
            ):
                for chunk in answer.iter_bytes(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > limit:
                        raise OutboundTooLarge(
                            f"The answer of {url} has more than {limit} bytes, the limit."
                        )
                    _keep(chunk, body, into)
                found = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(answer.status_code, found, bytes(body), size, url)
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            if time.monotonic() >= deadline:
                raise OutboundFailed(f"{url} did not answer within its time limit.") from error
            raise OutboundFailed(f"{url} could not be called: {error}") from error


def _keep(chunk: bytes, body: bytearray, into: BinaryIO | None) -> None:
    if into is None:
        body += chunk
    else:
        into.write(chunk)


def _rewind(content: bytes | BinaryIO | None, into: BinaryIO | None) -> None:
    """Forget the body of a redirect, and send a streamed file again from its start."""
    if into is not None:
        into.seek(0)
        into.truncate()
    if content is not None and not isinstance(content, bytes):
        content.seek(0)


def _chunks(content: bytes | BinaryIO | None) -> Any:
    if content is None or isinstance(content, bytes):
        return content
    return iter(lambda: content.read(_CHUNK_BYTES), b"")


def _port_of(scheme: str) -> int:
    return 443 if scheme == "https" else 80
