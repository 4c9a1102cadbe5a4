"""The first that a request meets and the last that its answer passes.

Request ids, the client's address, limits of size and rate, deadlines for bodies, headers of
safety, the access log, the counters, and the last net under bugs.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from galley.core.caller import Caller
from galley.core.errors import GalleyError, Invalid, TooLarge
from galley.kit.ids import new_uid
from galley.settings import Limits
from galley.wire.call import Call, attach
from galley.wire.errors import internal_text, note_refusal
from galley.wire.limits import KnownCredentials, RateLimiter
from galley.wire.metrics import Metrics
from galley.wire.proxies import TrustedProxies
from galley.wire.redaction import redact_line, redact_query

log = structlog.get_logger("galley.access")
bugs = structlog.get_logger("galley.edge")

PAGE_POLICY = (
    "default-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none';"
    " frame-ancestors 'none'; form-action 'self'"
)
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_SAFETY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    (b"cache-control", b"no-store"),
)
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CREDENTIAL_HEADERS = frozenset(
    {b"authorization", b"private-token", b"job-token", b"deploy-token", b"cookie"}
)
_CREDENTIAL_PARAMETERS = re.compile(rb"(?:^|&)(?:apikey|private_token|access_token|token)=")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_UNAUTHORIZED = 401
_TIMED_OUT = 408
_UNAVAILABLE = 503
_STOPPING = (
    "The server is stopping, and did not wait for this request's end. Send it again; with the same"
    " Idempotency-Key it takes effect once."
)


class Shapes(Protocol):
    """How the surface that a path belongs to shows what the edge refuses."""

    def refuse(self, scope: Scope, error: GalleyError) -> Response:
        """A refusal in the surface's shape."""
        ...

    def plain(self, scope: Scope, status: int, text: str) -> Response:
        """A bare status in the surface's shape."""
        ...


@dataclass(slots=True)
class _Passage:
    """One request on its way through the edge."""

    call: Call
    started: float
    credential: str | None = None
    was_charged: bool = False
    status: int = 0
    sent_bytes: int = 0
    has_started: bool = False
    has_ended: bool = False
    is_slow: bool = False
    is_stuck: bool = False
    is_stream: bool = False
    body_done: bool = False
    body_bytes: int = field(default=0)


class Edge:
    """The outermost middleware. `known` limits users, `anonymous` addresses of nobody known."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        shapes: Shapes,
        known: RateLimiter,
        anonymous: RateLimiter,
        credentials: KnownCredentials,
        metrics: Metrics,
        proxies: TrustedProxies,
        monotonic: Callable[[], float],
    ) -> None:
        self._app = app
        self._limits = limits
        self._shapes = shapes
        self._known = known
        self._anonymous = anonymous
        self._credentials = credentials
        self._metrics = metrics
        self._proxies = proxies
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await _live(receive, send)
            return
        query = scope["query_string"]
        address = self._proxies.apply(scope)
        call = Call(request_id=_request_id(scope), address=address, method=scope["method"])
        has_body = any(name in _BODY_HEADERS for name, _ in scope["headers"])
        passage = _Passage(call, self._monotonic(), body_done=not has_body)
        call.on_identified = lambda caller: self._identified(passage, caller)
        attach(scope, call)
        outward = self._sender(scope, passage, send)
        try:
            self._admit(scope, passage)
            await self._app(scope, self._receiver(passage, receive), outward)
            if passage.is_slow and not passage.has_started:
                await self._timed_out(scope, receive, send, passage)
        except GalleyError as error:
            note_refusal(scope, error)
            await self._shapes.refuse(scope, error)(scope, receive, outward)
        except ClientDisconnect:
            if passage.is_slow and not passage.has_started:
                await self._timed_out(scope, receive, send, passage)
        except asyncio.CancelledError:
            if passage.has_started:
                raise
            await self._cut_short(scope, receive, outward)
        except Exception as error:  # noqa: BLE001 - the last net
            await self._caught(error, scope, receive, outward, passage)
        finally:
            self._conclude(scope, passage, query)

    def _admit(self, scope: Scope, passage: _Passage) -> None:
        """Refuse what is too large, cannot be, or comes too often.

        Raises:
            Invalid, TooLarge, TooMany: and the answer says so.
        """
        limits = self._limits
        raw_path = scope.get("raw_path") or scope["path"].encode()
        if len(raw_path) + len(scope["query_string"]) > limits.url_bytes:
            raise UrlTooLong(f"The address is longer than {limits.url_bytes} bytes.")
        headers = scope["headers"]
        size = sum(len(name) + len(value) + 4 for name, value in headers)
        if len(headers) > limits.header_count or size > limits.header_bytes:
            raise HeadersTooLarge(
                f"The headers are more than {limits.header_count}, or longer than"
                f" {limits.header_bytes} bytes."
            )
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            raise Invalid("The address holds the character NUL.")
        if scope["path"] in _QUIET:
            return
        passage.credential = _credential_of(scope)
        if passage.credential is None or not self._credentials.has(passage.credential):
            self._anonymous.take(passage.call.address or "")
            passage.was_charged = True

    def _identified(self, passage: _Passage, caller: Caller) -> None:
        """A surface knows the caller: from here on the request counts as theirs.

        Raises:
            TooMany: they call too often.
        """
        if not caller.is_known:
            return
        if passage.credential is not None:
            self._credentials.add(passage.credential)
        if passage.was_charged:
            self._anonymous.give_back(passage.call.address or "")
            passage.was_charged = False
        self._known.take(f"user:{caller.user_id}")

    def _receiver(self, passage: _Passage, receive: Receive) -> Receive:
        """A `receive` that does not wait for ever while a body is being sent."""
        limits = self._limits

        async def timed() -> Message:
            if passage.body_done:
                return await receive()
            try:
                async with asyncio.timeout(limits.body_idle_s):
                    message = await receive()
            except TimeoutError:
                passage.is_slow = True
                raise ClientDisconnect from None
            if message["type"] == "http.request":
                passage.body_bytes += len(message.get("body", b""))
                passage.body_done = not message.get("more_body", False)
                elapsed = self._monotonic() - passage.started
                least = limits.body_rate_bytes * elapsed
                is_late = elapsed > limits.body_idle_s and passage.body_bytes < least
                if is_late and not passage.body_done:
                    passage.is_slow = True
                    raise ClientDisconnect
            return message

        return timed

    def _sender(self, scope: Scope, passage: _Passage, send: Send) -> Send:
        """A `send` that completes the headers and notes what became of the answer."""

        async def complete(message: Message) -> None:
            if passage.is_slow and not passage.has_started:
                return
            if message["type"] == "http.response.start":
                passage.has_started = True
                passage.status = message["status"]
                _complete_headers(message, scope, passage.call.request_id)
            elif message["type"] == "http.response.body":
                passage.sent_bytes += len(message.get("body", b""))
                passage.has_ended = not message.get("more_body", False)
                passage.is_stream = passage.is_stream or not passage.has_ended
            if not passage.is_stream:  # its reader is watched by `GuardedProtocol` alone
                await send(message)
                return
            try:
                async with asyncio.timeout(self._limits.stream_stall_s):
                    await send(message)
            except TimeoutError:
                passage.is_stuck = True
                raise ClientDisconnect from None

        return complete

    async def _timed_out(
        self, scope: Scope, receive: Receive, send: Send, passage: _Passage
    ) -> None:
        passage.is_slow = False
        text = "The request's body came too slowly; send it again."
        answer = self._shapes.plain(scope, _TIMED_OUT, text)
        answer.headers["Connection"] = "close"
        await answer(scope, receive, self._sender(scope, passage, send))

    async def _cut_short(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server ends and waits no longer: whoever has no answer yet gets this one."""
        answer = self._shapes.plain(scope, _UNAVAILABLE, _STOPPING)
        answer.headers["Connection"] = "close"
        answer.headers["Retry-After"] = "5"
        await answer(scope, receive, send)

    async def _caught(
        self, error: Exception, scope: Scope, receive: Receive, send: Send, passage: _Passage
    ) -> None:
        """The last net: a bug's traceback goes to the log, its caller gets a request id."""
        if passage.is_stuck:
            return  # what follows from a reader that takes nothing is no bug
        call = passage.call
        if not call.is_bug_logged:
            bugs.error("bug", request_id=call.request_id, path=scope["path"], exc_info=error)
        if passage.has_ended:
            return
        if passage.has_started:
            raise error  # the connection is cut, so that the client sees half an answer as such
        text = internal_text(call.request_id)
        await self._shapes.plain(scope, 500, text)(scope, receive, send)

    def _conclude(self, scope: Scope, passage: _Passage, query: bytes) -> None:
        call = passage.call
        if passage.status == _UNAUTHORIZED and passage.credential is not None:
            self._credentials.forget(passage.credential)
        route = call.route or _route_of(scope)
        seconds = self._monotonic() - passage.started
        self._metrics.count(call.method, route, passage.status, seconds)
        write = log.debug if scope["path"] in _QUIET else log.info
        write(
            "request",
            request_id=call.request_id,
            method=call.method,
            path=redact_line(scope["path"]),
            query=redact_query(query.decode("latin-1")),
            route=route,
            status=passage.status,
            duration_ms=round(seconds * 1000, 1),
            bytes=passage.sent_bytes,
            address=call.address,
            user=call.caller.login if call.caller else None,
            agent=_agent(scope),
        )


class UrlTooLong(TooLarge):
    """The address has more bytes than the limit."""

    code = "url_too_long"


class HeadersTooLarge(TooLarge):
    """The headers are too many or too long."""

    code = "headers_too_large"


async def _live(receive: Receive, send: Send) -> None:
    """Take part in the server's life cycle: starting and stopping is the composition root's."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _complete_headers(message: Message, scope: Scope, request_id: str) -> None:
    headers = [(name.lower(), value) for name, value in message.get("headers", ())]
    there = dict(headers)
    headers = [header for header in headers if header[0] != b"x-request-id"]
    headers.append((b"x-request-id", request_id.encode()))
    is_page = there.get(b"content-type", b"").startswith(b"text/html")
    wanted = [(b"content-security-policy", (PAGE_POLICY if is_page else DATA_POLICY).encode())]
    if scope.get("scheme") == "https":
        wanted.append((b"strict-transport-security", b"max-age=31536000"))
    headers += [header for header in (*wanted, *_SAFETY) if header[0] not in there]
    message["headers"] = headers


def _request_id(scope: Scope) -> str:
    """The client's own id if it can be one, else a fresh one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return text
    return new_uid()


def _credential_of(scope: Scope) -> str | None:
    """A digest of everything in the request that may say who is calling; None if nothing does."""
    parts = [name + b"=" + value for name, value in scope["headers"] if name in _CREDENTIAL_HEADERS]
    query = scope["query_string"]
    if _CREDENTIAL_PARAMETERS.search(query):
        parts.append(query)
    if not parts:
        return None
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def _route_of(scope: Scope) -> str:
    """The matched route's template; requests that match none are counted together."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "(none)"


def _agent(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"user-agent":
            return redact_line(value[:200].decode("latin-1"))
    return None
