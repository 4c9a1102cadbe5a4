"""Calls go straight from their address to their handler, past the layers of FastAPI.

FastAPI declares the routes, and its fields check parameters and bodies; but on its own way a call
is matched twice, read twice and wrapped a dozen times, which costs more than most handlers do.
Only routes of `CallRoute` go this way, and only what `LenientBody` has read; everything else, and
whatever a dependant asks that is not known here, goes through the application.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from re import Pattern
from typing import Any

from fastapi import FastAPI
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_body_to_args, request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.convertors import Convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from galley.wire.handlers import Handlers
from galley.wire.routes import CallRoute, answered

Bind = Callable[[Request, Any], Awaitable[dict[str, Any]]]
"""From a request and its document to the handler's arguments; raises RequestValidationError."""

_UNKNOWN = (
    "websocket_param_name",
    "response_param_name",
    "background_tasks_param_name",
    "security_scopes_param_name",
    "concurrency",
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One route: what addresses are its own, and how it is called; None leaves it to FastAPI."""

    pattern: Pattern[str]
    convertors: Mapping[str, Convertor[Any]]
    template: str
    respond: Callable[[Request], Awaitable[Response]] | None


class DirectCalls:
    """An ASGI application before a FastAPI one, which it knows the routes and the errors of.

    Build it when all routes and exception handlers are there.
    """

    def __init__(self, app: FastAPI, handlers: Handlers) -> None:
        self._app = app
        self._handlers = handlers
        self._by_method: dict[str, list[_Entry]] = {}
        for context in iter_route_contexts(app.routes):
            entry = self._entry(context)
            for method in context.methods or ():
                self._by_method.setdefault(method, []).append(entry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call of a known route; pass everything else on."""
        is_read = scope["type"] == "http" and "document" in scope.get("state", ())
        entry, found = self._find(scope) if is_read and not scope["root_path"] else (None, {})
        if entry is None or entry.respond is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        scope["path_params"] = found
        request = Request(scope, receive, send)
        try:
            answer = await answered(request, entry.template, entry.respond)
        except Exception as error:
            handle = self._handler_of(error)
            if handle is None:
                raise
            answer = await handle(request, error)
        await answer(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[_Entry | None, dict[str, Any]]:
        path = scope["path"]
        for entry in self._by_method.get(scope["method"], ()):
            match = entry.pattern.match(path)
            if match is not None:
                convert = entry.convertors
                return entry, {k: convert[k].convert(v) for k, v in match.groupdict().items()}
        return None, {}

    def _handler_of(self, error: Exception) -> Callable[[Request, Any], Awaitable[Response]] | None:
        """The application's own handler: of the status, else of the nearest class."""
        known: Mapping[Any, Any] = self._app.exception_handlers
        if isinstance(error, HTTPException) and error.status_code in known:
            return known[error.status_code]  # type: ignore[no-any-return]
        return next((known[kind] for kind in type(error).__mro__ if kind in known), None)

    def _entry(self, context: Any) -> _Entry:
        bind = None
        if isinstance(context.original_route, CallRoute):
            bind = binder(context.dependant, is_embedded=context._embed_body_fields)  # noqa: SLF001
        respond = None if bind is None else partial(self._respond, bind, context.endpoint)
        return _Entry(context.path_regex, context.param_convertors, context.path_format, respond)

    async def _respond(
        self, bind: Bind, endpoint: Callable[..., Any], request: Request
    ) -> Response:
        arguments = await bind(request, request.scope["state"]["document"])
        if iscoroutinefunction(endpoint):
            return await endpoint(**arguments)  # type: ignore[no-any-return]
        return await self._handlers.run(partial(endpoint, **arguments))  # type: ignore[no-any-return]


def binder(dependant: Dependant, *, is_embedded: bool) -> Bind | None:
    """How this handler's arguments come about; None where only FastAPI knows."""
    makers = _makers(dependant.dependencies)
    if makers is None or not _is_plain(dependant):
        return None
    parts: list[tuple[list[ModelField], Callable[[Request], Any]]] = [
        (dependant.path_params, lambda request: request.path_params),
        (dependant.query_params, lambda request: request.query_params),
        (dependant.header_params, lambda request: request.headers),
        (dependant.cookie_params, lambda request: request.cookies),
    ]
    sources = [(fields, source) for fields, source in parts if fields]
    body_fields = dependant.body_params
    own_names = _own_names(dependant)

    async def bind(request: Request, document: Any) -> dict[str, Any]:
        values: dict[str, Any] = {}
        errors: list[Any] = []
        for name, make in makers:
            values[name] = await make(request)
        for fields, source in sources:
            found, faults = request_params_to_args(fields, source(request))
            values.update(found)
            errors += faults
        if body_fields:
            found, faults = await request_body_to_args(body_fields, document, is_embedded)
            values.update(found)
            errors += faults
        if errors:
            raise RequestValidationError(errors, body=document)
        for name in own_names:
            values[name] = request
        return values

    return bind


Make = Callable[[Request], Awaitable[Any]]


def _makers(dependencies: Sequence[Dependant]) -> list[tuple[str, Make]] | None:
    """The makers of dependencies that are coroutines which take requests and other such ones."""
    found = []
    for dependency in dependencies:
        make = _maker(dependency)
        if make is None or dependency.name is None:
            return None
        found.append((dependency.name, make))
    return found


def _maker(dependant: Dependant) -> Make | None:
    call, below = dependant.call, _makers(dependant.dependencies)
    if call is None or below is None or not _is_plain(dependant) or _has_fields(dependant):
        return None
    if not iscoroutinefunction(call):
        return None
    own_names = _own_names(dependant)

    async def make(request: Request) -> Any:
        arguments: dict[str, Any] = dict.fromkeys(own_names, request)
        for name, make_below in below:
            arguments[name] = await make_below(request)
        return await call(**arguments)

    return make


def _is_plain(dependant: Dependant) -> bool:
    """Whether it asks for nothing that is not known here."""
    is_generator = isgeneratorfunction(dependant.call) or isasyncgenfunction(dependant.call)
    return not is_generator and not any(getattr(dependant, name) for name in _UNKNOWN)


def _has_fields(dependant: Dependant) -> bool:
    return bool(
        dependant.path_params
        or dependant.query_params
        or dependant.header_params
        or dependant.cookie_params
        or dependant.body_params
    )


def _own_names(dependant: Dependant) -> list[str]:
    """The parameters that are the request itself."""
    names = (dependant.request_param_name, dependant.http_connection_param_name)
    return [name for name in names if name]
