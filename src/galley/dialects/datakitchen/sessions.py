"""Signing in, and who one is. Source: contract 3.0, 3.2."""

import structlog
from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from galley.core.identity import operations as identity
from galley.core.identity.errors import BadCredentials
from galley.core.identity.tokens import TokenKind
from galley.core.runs import workers
from galley.dialects.datakitchen import render, schemas
from galley.dialects.datakitchen.answers import ok
from galley.dialects.datakitchen.auth import CallerDep, bearer_of, renewed
from galley.wire.call import call_of
from galley.wire.routes import CallRoute
from galley.wire.services import ServicesDep
from galley.wire.session import SessionDep

router = APIRouter(route_class=CallRoute)
log = structlog.get_logger("galley.datakitchen")


@router.post("/login", operation_id="login")
def login(wanted: schemas.Login, request: Request, services: ServicesDep) -> Response:
    """A session token as plain text: no quotes, no JSON, no line end. It lives for four hours."""
    address = call_of(request).address
    try:
        user = identity.log_in(
            services.database,
            login=wanted.username,
            password=wanted.password,
            address=address,
            clock=services.clock,
        )
    except BadCredentials as error:
        # The vendor's clients compare the whole text, so here it is no JSON.
        log.warning("login refused", login=wanted.username, address=address, reason=error.reason)
        return PlainTextResponse(error.message, status_code=401)
    with services.database.writing() as session:
        kind = TokenKind.SESSION_BEARER.value
        issued = identity.issue_token(session, user, kind=kind, clock=services.clock)
    return PlainTextResponse(issued.text)


@router.get("/validatetoken", operation_id="validate-token")
def validate_token(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """The token itself, or a fresh one in the last ten minutes of its life."""
    return ok({"token": renewed(services, caller, bearer_of(request))})


@router.get("/userinfo", operation_id="user-info")
def user_info(caller: CallerDep, services: ServicesDep) -> Response:
    """Who is calling, and what the installation is called."""
    caller.require("account.read")
    return ok(render.user(caller.login or "", caller.name, caller.roles, services.account))


@router.get("/sys/agent", operation_id="agent-status")
def agent_status(caller: CallerDep, session: SessionDep, services: ServicesDep) -> Response:
    """Whether a run could start now, and the MB of memory and disk that workers have free."""
    room = workers.find_room(session, caller, services.own_worker)
    shown = {"available": room.can_start, "mem": room.memory_mb, "disk": room.disk_mb}
    return ok({"agent_status": shown})
