"""Bodies as lenient as the vendors' clients, and as strict as safety asks.

`LenientBody` stands before a dialect. Whatever the content type says and whatever the verb, a
body is JSON if it begins like JSON, else a form; nothing is `{}`. The application behind it always
gets a JSON body. Strict where it matters: size, depth, no NaN, no repeated names, valid UTF-8.
"""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from galley.core.errors import GalleyError, Invalid, TooLarge, Unavailable
from galley.wire.errors import note_refusal

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_JSON_STARTS = b'{["'
_LARGE = 256 * 1024
_MOST_FIELDS = 1000
_BODIES_AT_ONCE = 32
_MULTIPART = b"multipart/form-data"
_JSON_TYPE = (b"content-type", b"application/json")


class LenientBody:
    """Middleware: reads the body, and hands the inner application JSON.

    All bodies together take as much memory as 32 of the largest; more of them are answered 503.
    `render` gives errors the dialect's shape; `is_raw(scope)` names requests whose body passes
    unread (uploads). The parsed document stands in `scope["state"]["document"]`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        render: Callable[[GalleyError], Response],
        limit_bytes: int = 10_000_000,
        depth: int = 64,
        is_raw: Callable[[Scope], bool] = lambda _scope: False,
    ) -> None:
        self._app = app
        self._render = render
        self._limit = limit_bytes
        self._depth = depth
        self._is_raw = is_raw
        self._free_bytes = limit_bytes * _BODIES_AT_ONCE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body as JSON, or answer why that cannot be."""
        if scope["type"] != "http" or self._is_raw(scope):
            await self._app(scope, receive, send)
            return
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            if count > self._free_bytes:
                raise Unavailable("Too much is being sent at once; try again.", retry_after_s=5)
            self._free_bytes -= count
            held += count

        try:
            await self._pass(scope, receive, send, hold)
        finally:
            self._free_bytes += held

    async def _pass(
        self, scope: Scope, receive: Receive, send: Send, hold: Callable[[int], None]
    ) -> None:
        try:
            raw = await read_body(scope, receive, self._limit, hold)
            document, body = await self._parsed(scope, raw)
        except ClientDisconnect:
            return
        except GalleyError as error:
            note_refusal(scope, error)
            response = self._render(error)
            if isinstance(error, TooLarge | Unavailable):
                response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        scope.setdefault("state", {})["document"] = document
        scope["headers"] = _headers_for(scope["headers"], len(body))
        await self._app(scope, _replay(body, receive), send)

    async def _parsed(self, scope: Scope, raw: bytes) -> tuple[Any, bytes]:
        kind = _header(scope, b"content-type")
        if kind.lower().startswith(_MULTIPART) and raw.lstrip()[:1] != b"{":
            form = await _multipart(scope, raw)
            return form, msgspec.json.encode(form)
        if len(raw) > _LARGE:
            return await run_in_threadpool(parse_body, raw, depth=self._depth)
        return parse_body(raw, depth=self._depth)


async def read_body(
    scope: Scope,
    receive: Receive,
    limit_bytes: int,
    hold: Callable[[int], None] = lambda _count: None,
) -> bytes:
    """The whole body. `hold` is told of each piece's bytes before it is kept, and may refuse it.

    Raises:
        TooLarge: it is longer than the limit; hardly more than that was read.
        Invalid: its announced length is no number.
        ClientDisconnect: the client went away.
    """
    announced = _header(scope, b"content-length")
    if announced:
        if not announced.isdigit():
            raise Invalid("The Content-Length header is not a number.")
        if int(announced) > limit_bytes:
            raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        length += len(chunk)
        if length > limit_bytes:
            raise _too_large(limit_bytes)
        hold(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def parse_body(raw: bytes, *, depth: int = 64) -> tuple[Any, bytes]:
    """The document that a body means, and its JSON bytes. Lists and objects pass; `null` is `{}`.

    Raises:
        Invalid: it is neither JSON nor a form; the message says where it goes wrong.
    """
    text = raw.strip()
    if not text or text == b"null":
        return {}, b"{}"
    if text[:1] in _JSON_STARTS or b"=" not in text:
        document = parse_json(text, depth=depth)
        if not isinstance(document, dict | list):
            raise Invalid('The body must be a JSON object, like {"name": "value"}, or a form.')
        return document, text
    form = parse_form(text)
    return form, msgspec.json.encode(form)


def parse_json(text: bytes, *, depth: int = 64) -> Any:
    """The document of a JSON text.

    Raises:
        Invalid: not JSON, nested too deeply, a name twice in an object, or not UTF-8.
    """
    try:
        text.decode("utf-8")
        document = msgspec.json.decode(text)
        _refuse_deep(text, depth)
        if b"{" in text:
            json.loads(text, object_pairs_hook=_refuse_twins)
        if _NUL.search(text):
            raise Invalid("A text in the body holds the character NUL.")
    except RecursionError:
        raise _too_deep(depth) from None
    except UnicodeDecodeError as error:
        raise Invalid(f"The body is not valid UTF-8 (byte {error.start}).") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise Invalid(f"The body is not valid JSON: {_reason(error)}") from None
    return document


def parse_form(text: bytes) -> dict[str, str]:
    """The fields of an `application/x-www-form-urlencoded` text; a repeated field's last counts.

    Raises:
        Invalid: too many fields, or text that is not UTF-8.
    """
    try:
        pairs = parse_qsl(
            text.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except UnicodeDecodeError:
        raise Invalid("The form in the body is not valid UTF-8.") from None
    except ValueError as error:
        raise Invalid(f"The form in the body cannot be read: {error}.") from None
    return _without_nul(dict(pairs))


async def _multipart(scope: Scope, raw: bytes) -> dict[str, str]:
    """The text fields of a multipart form; files are not taken here."""
    from starlette.formparsers import MultiPartException
    from starlette.requests import Request

    request = Request({**scope, "state": {}}, _replay(raw, None))
    try:
        async with request.form(max_files=0, max_fields=_MOST_FIELDS) as form:
            items = form.multi_items()
            return _without_nul({name: text for name, text in items if isinstance(text, str)})
    except Invalid:
        raise
    except (MultiPartException, UnicodeDecodeError, KeyError) as error:
        raise Invalid(f"The multipart form in the body cannot be read: {error}") from None
    except Exception as error:
        if getattr(error, "status_code", None) == 400:  # noqa: PLR2004
            reason = getattr(error, "detail", "")
            raise Invalid(f"The multipart form in the body cannot be read: {reason}") from None
        raise


def _without_nul(fields: dict[str, str]) -> dict[str, str]:
    if any("\0" in name or "\0" in value for name, value in fields.items()):
        raise Invalid("A field of the form in the body holds the character NUL.")
    return fields


def _refuse_deep(text: bytes, depth: int) -> None:
    """Take away the innermost brackets of a valid text, once for each level that is allowed."""
    if text.count(b"{") + text.count(b"[") <= depth:
        return
    left = _STRING.sub(b"", text).translate(None, _NOT_BRACKETS)
    for _ in range(depth):
        shorter = left.replace(b"{}", b"").replace(b"[]", b"")
        if not shorter:
            return
        left = shorter
    raise _too_deep(depth)


def _refuse_twins(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({name for name, _ in pairs}) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the name {name[:80]!r} stands twice in one object")
            seen.add(name)


def _reason(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ").rstrip(".")[:300] + "."


def _too_deep(depth: int) -> Invalid:
    return Invalid(f"The body nests more than {depth} levels deep.")


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit_bytes} bytes, the most that is taken here.")


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def _headers_for(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    dropped = {b"content-type", b"content-length", b"transfer-encoding"}
    kept = [(key, value) for key, value in headers if key not in dropped]
    return [*kept, _JSON_TYPE, (b"content-length", str(length).encode())]


def _replay(body: bytes, receive: Receive | None) -> Receive:
    """A `receive` that gives the body once, then what the connection says."""
    is_given = False

    async def replayed() -> Message:
        nonlocal is_given
        if not is_given:
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}
        if receive is None:
            return {"type": "http.disconnect"}
        return await receive()

    return replayed
