"""The pages as one ASGI application: its table of routes, and the way of a request through them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import structlog
from jinja2 import Environment
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from galley.core.errors import GalleyError, Unauthenticated
from galley.core.runs import reading
from galley.storage.git import RepositoryMissing
from galley.web import door, streams
from galley.web.headers import PageHeaders, StaticFolder
from galley.web.pages import account, entry, files, runs
from galley.web.rendering import make_environment
from galley.web.visit import Visit
from galley.wire.call import call_of
from galley.wire.errors import storage_error
from galley.wire.services import Services
from galley.wire.streaming import StreamedAnswer

PUBLIC = "public"
_CLIENT_GONE = 499  # what servers note of such a call; never sent
_REFUSED = (HTTPException, GalleyError, SQLAlchemyError, OSError, RepositoryMissing, Exception)

log = structlog.get_logger("galley.web")

Reads = Callable[[Visit, Session], Response]
Acts = Callable[[Visit], Response]
Watches = Callable[[Visit, streams.Recheck], AsyncGenerator[bytes]]


@dataclass(frozen=True, slots=True)
class Page:
    """A route: exactly one of the handlers.

    `reads` and `writes` run in one transaction of theirs; `acts` closes its own, because it sends
    a message to the ledger or hashes a password; `watches` streams. `action` is the policy table's
    word for the least that a visitor must be allowed; the core asks again about the object.
    """

    method: str
    path: str
    action: str
    reads: Reads | None = None
    writes: Reads | None = None
    acts: Acts | None = None
    watches: Watches | None = None


PAGES = (
    Page("GET", "/", PUBLIC, reads=entry.go_home),
    Page("GET", "/setup", PUBLIC, reads=entry.show_setup),
    Page("POST", "/setup", PUBLIC, acts=entry.set_up),
    Page("GET", "/sign-in", PUBLIC, reads=entry.show_sign_in),
    Page("POST", "/sign-in", PUBLIC, acts=entry.sign_in),
    Page("POST", "/sign-out", "account.read", writes=entry.sign_out),
    Page("POST", "/theme", "account.read", reads=entry.set_theme),
    Page("GET", "/runs", "run.read", reads=runs.list_runs),
    Page("GET", "/runs/stream", "run.read", watches=streams.watch_runs),
    Page("GET", "/runs/{run}", "run.read", reads=runs.show_run),
    Page("GET", "/runs/{run}/live", "run.read", reads=runs.renew_run),
    Page("GET", "/runs/{run}/stream", "log.read", watches=streams.watch_run),
    Page("GET", "/runs/{run}/log", "log.read", reads=files.get_log),
    Page("GET", "/runs/{run}/artifacts/{artifact:int}", "artifact.read", reads=files.get_artifact),
    Page("POST", "/runs/{run}/stop", "run.stop", acts=runs.stop_run),
    Page("POST", "/runs/{run}/pause", "run.stop", acts=runs.pause_run),
    Page("POST", "/runs/{run}/unpause", "run.stop", acts=runs.unpause_run),
    Page("POST", "/runs/{run}/resume", "run.resume", acts=runs.resume_run),
    Page("GET", "/account", "token.own", reads=account.show_account),
    Page("POST", "/account/password", "password.set", acts=account.change_password),
    Page("POST", "/account/sessions/{session}/end", "token.revoke", writes=account.end_session),
    Page("GET", "/account/tokens", "token.own", reads=account.show_tokens),
    Page("POST", "/account/tokens", "token.issue", writes=account.create_token),
    Page("POST", "/account/tokens/{token:int}/revoke", "token.revoke", writes=account.revoke_token),
)
"""Every page there is, and what it takes to be let in."""


def make_app(services: Services) -> ASGIApp:
    """The pages, ready to be mounted at the root beside the APIs.

    Raises:
        LookupError: a page declares an action that the policy table does not know.
    """
    unknown = {page.action for page in PAGES} - services.actions
    if unknown:
        raise LookupError(f"pages declare unknown actions: {', '.join(sorted(unknown))}")
    environment = make_environment()
    routes = [
        Route(page.path, _endpoint(page, environment), methods=[page.method]) for page in PAGES
    ]
    refuse = _refusals(environment)
    app = Starlette(
        routes=[Mount("/static", StaticFolder()), *routes],
        exception_handlers=dict.fromkeys(_REFUSED, refuse),
    )
    app.state.services = services
    return PageHeaders(app)


def _endpoint(page: Page, environment: Environment) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        if page.watches is not None:
            return await _stream(page.watches, request, environment)
        form = await door.read_form(request) if page.method == "POST" else {}
        return await run_in_threadpool(_answer, page, request, environment, form)

    return endpoint


def _answer(
    page: Page, request: Request, environment: Environment, form: dict[str, str]
) -> Response:
    """The whole way of a request, in a worker thread: who is it, may they, do it."""
    database = request.app.state.services.database
    with database.reading() as session:
        visit = door.admit(request, environment, session, form)
        if page.method == "POST":
            door.check_origin(visit)
        if page.action != PUBLIC and not visit.caller.is_known:
            return door.turn_away(visit)
        if page.method == "POST" and page.action != PUBLIC:
            door.check_token(visit)
        if page.reads is not None:
            return page.reads(visit, session)
    if page.writes is not None:
        with database.writing() as session:
            return page.writes(visit, session)
    if page.acts is None:
        raise LookupError(f"{page.path} has no handler")
    return page.acts(visit)


async def _stream(watches: Watches, request: Request, environment: Environment) -> Response:
    services: Services = request.app.state.services

    def enter() -> Visit:
        with services.database.reading() as session:
            visit = door.admit(request, environment, session, {})
            if not visit.caller.is_known:
                raise Unauthenticated("Sign in to watch this.")
            if "run" in request.path_params:
                reading.find_run(session, visit.caller, runs.run_key(visit))
            return visit

    def recheck() -> bool:
        if services.streams.is_closed:
            return False
        with services.database.reading() as session:
            return door.admit(request, environment, session, {}).caller.is_known

    visit = await run_in_threadpool(enter)
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    place = ExitStack()
    place.enter_context(services.streams.hold(f"user:{visit.caller.user_id}"))
    return _EventStream(watches(visit, recheck), place)


class _EventStream(StreamedAnswer):
    """Server-sent events that hold one of the places for streams until they end."""

    def __init__(self, chunks: AsyncGenerator[bytes], place: ExitStack) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(chunks, media_type="text/event-stream", headers=headers)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream, and give the place back however it ends."""
        with self._place:
            await super().__call__(scope, receive, send)


def _refusals(environment: Environment) -> Callable[[Request, Exception], Any]:
    async def refuse(request: Request, error: Exception) -> Response:
        if isinstance(error, ClientDisconnect):  # no bug, and nobody to show a page to
            return Response(status_code=_CLIENT_GONE)
        return await run_in_threadpool(_show_error, request, environment, error)

    return refuse


def _show_error(request: Request, environment: Environment, error: Exception) -> Response:
    """The error's page, in the visitor's own frame if it can be told who that is."""
    if not isinstance(error, HTTPException | GalleyError):
        known = storage_error(error)
        request_id = call_of(request).request_id
        if known is None:
            log.error("bug", request_id=request_id, exc_info=error)
        else:
            log.warning("storage_failed", request_id=request_id, error=str(error)[:500])
            error = known
    try:
        with request.app.state.services.database.reading() as session:
            visit = door.admit(request, environment, session, {})
    except (SQLAlchemyError, OSError, GalleyError):
        visit = door.stranger(request, environment)
    return door.show_error(visit, error)
