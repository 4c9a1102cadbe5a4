"""Routes whose calls keep the promise of idempotency keys, and make their parameters in a thread.

Routers of the dialects use `route_class=CallRoute`.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from fastapi.concurrency import contextmanager_in_threadpool
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from galley.core.events import idempotency
from galley.wire.call import Call, call_of
from galley.wire.later import made
from galley.wire.services import Services, services_of
from galley.wire.session import KEY_HEADER, Replayed, claimed, remember

Respond = Callable[[Request], Awaitable[Response]]
"""Makes the parameters of a call, and lets its handler work."""

_current: ContextVar[tuple[Call, Services, str | None]] = ContextVar("galley_call")


class CallRoute(APIRoute):
    """A route whose finished answer the transaction gets to see before it commits.

    Where a handler takes neither `SessionDep` nor `WriteDep`, because the operation commits by
    itself, its answer is remembered right afterwards.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **how: Any) -> None:
        super().__init__(path, _guarded(endpoint), **how)

    def get_route_handler(self) -> Callable[[Request], Any]:
        """FastAPI's handler, with the call around it."""
        inner = super().get_route_handler()
        path = self.path_format

        async def handle(request: Request) -> Response:
            return await answered(request, _template_of(request, path), inner)

        return handle


async def answered(request: Request, template: str, respond: Respond) -> Response:
    """The answer of a call to the route with this template: a first one, or the remembered."""
    call, services = call_of(request), services_of(request)
    call.route = template
    key = request.headers.get(KEY_HEADER) if call.is_write else None
    if key is not None:
        call.body_sha256 = _digest(request, await request.body())
    token = _current.set((call, services, key))
    try:
        call.answer = await respond(request)
    except Replayed as replayed:
        call.is_remembered = True
        return replayed.answer
    except RequestValidationError:
        if call.who is not None and call.caller is None:
            await run_in_threadpool(call.who)  # whoever is nobody hears that first
        raise
    finally:
        _current.reset(token)
    return call.answer


def _guarded(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint, whose parameters are made in its thread (see `later`).

    The call's key is claimed at the latest when they are there.
    """
    if getattr(endpoint, "is_guarded", False):
        return endpoint
    if iscoroutinefunction(endpoint):

        @wraps(endpoint)
        async def awaited(**kwargs: Any) -> Any:
            async with contextmanager_in_threadpool(_around(kwargs)) as arguments:
                _current.get()[0].answer = answer = _finished(await endpoint(**arguments))
            return answer

        wrapped: Callable[..., Any] = awaited
    else:

        @wraps(endpoint)
        def called(**kwargs: Any) -> Any:
            with _around(kwargs) as arguments:
                _current.get()[0].answer = answer = _finished(endpoint(**arguments))
            return answer

        wrapped = called
    wrapped.is_guarded = True  # type: ignore[attr-defined]
    return wrapped


def _finished(answer: Any) -> Response:
    """The answer as it leaves: the transaction wants to see it before it commits."""
    return answer if isinstance(answer, Response) else JSONResponse(jsonable_encoder(answer))


@contextmanager
def _around(parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is done before and after a handler: its parameters made, its key held."""
    call, services, key = _current.get()
    with made(parameters) as arguments:
        if call.key is not None:  # a parameter holds it, and remembers the answer
            yield arguments
            return
        with claimed(call, services, key):
            yield arguments
            remember(call, services, call.answer)


def _template_of(request: Request, own: str) -> str:
    """The route's path with names for its parameters, below every prefix that it is under."""
    context = request.scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(context, "path_format", None) or own
    return f"{request.scope.get('root_path', '')}{path}"


def _digest(request: Request, body: bytes) -> str:
    """What a repeat must equal: the address asked for, and the body's meaning."""
    place = f"{request.url.path}?{request.url.query}\n{idempotency.body_digest(body)}"
    return hashlib.sha256(place.encode()).hexdigest()
