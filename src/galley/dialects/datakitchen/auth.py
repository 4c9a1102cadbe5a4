"""From the Authorization header to a caller: `Bearer <session token>`, or Basic `id:secret`.

Nothing else is accepted here: no cookies, no query parameters, no passwords by Basic.
Source: contract 3.0.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Annotated

from fastapi import Depends, Request

from galley.core.caller import Caller
from galley.core.errors import Invalid, Unauthenticated
from galley.core.identity import operations as identity
from galley.core.identity.tokens import TokenKind
from galley.wire.call import Call, call_of
from galley.wire.later import Later
from galley.wire.services import Services, ServicesDep
from galley.wire.session import shared_snapshot

BEARER_KINDS = frozenset({TokenKind.SESSION_BEARER.value})
PAIR_KINDS = frozenset({TokenKind.PAIR.value})
RENEW_BEFORE_S = 600
"""A token with at most this much life left is handed back as a fresh one."""

_NOTHING_SENT = (
    "No session token was sent. Sign in by POST /v2/login and send the answer as"
    " `Authorization: Bearer <token>`."
)


def caller_of(request: Request, services: ServicesDep) -> Caller:
    """Who is calling; the call's limits and idempotency keys are this caller's from here on.

    Raises:
        Unauthenticated: no credential, or one that is not good here.
        Invalid: two different credentials.
    """
    call = call_of(request)
    scheme, credential = _credential(request)
    judge_by = partial(
        identity.caller_for_token if scheme == "bearer" else identity.caller_for_pair,
        clock=services.clock,
        address=call.address,
        request_id=call.request_id,
        judge=services.judge,
        uses=services.uses,
    )
    with shared_snapshot(call, services) as session:
        if scheme == "bearer":
            caller = judge_by(session, credential, accepts=BEARER_KINDS)
        else:
            caller = judge_by(session, *_pair(credential), accepts=PAIR_KINDS)
    call.identify(caller)
    return caller


@contextmanager
def _known(call: Call, services: Services, who: Callable[[], Caller]) -> Iterator[Caller]:
    """Who is calling, found out in the session that the handler reads on in, if it does."""
    with shared_snapshot(call, services) if call.reads_on else nullcontext():
        yield who()


async def _caller_later(request: Request, services: ServicesDep) -> Later:
    call = call_of(request)
    call.who = partial(caller_of, request, services)
    return Later(partial(_known, call, services, call.who))


CallerDep = Annotated[Caller, Depends(_caller_later)]
"""Who is calling, as a parameter of a handler. Take it before the session."""


def bearer_of(request: Request) -> str:
    """The session token that was sent.

    Raises:
        Unauthenticated: the caller came by an API-token pair, which is no session.
    """
    scheme, credential = _credential(request)
    if scheme != "bearer":
        raise Unauthenticated("An API-token pair is no session token; it needs no validation.")
    return credential


def renewed(services: Services, caller: Caller, token: str) -> str:
    """The token itself, or a fresh one of four hours if it has ten minutes or less to live."""
    if _expiry_of(token) - services.clock.now().timestamp() > RENEW_BEFORE_S:
        return token
    with services.database.writing() as session:
        issued = identity.issue_token(
            session,
            identity.user_of(session, caller),
            kind=TokenKind.SESSION_BEARER.value,
            clock=services.clock,
            by=caller,
        )
    return issued.text


def _credential(request: Request) -> tuple[str, str]:
    """The scheme in lower case (`bearer` or `basic`) and what follows it."""
    sent = set(request.headers.getlist("authorization"))
    if len(sent) > 1:
        raise Invalid("Two different Authorization headers were sent; send one.")
    scheme, _, credential = (sent.pop() if sent else "").strip().partition(" ")
    if scheme.lower() not in {"bearer", "basic"} or not credential.strip():
        raise Unauthenticated(_NOTHING_SENT)
    return scheme.lower(), credential.strip()


def _pair(credential: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(credential, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated("The Basic credentials are not base64 of `id:secret`.") from error
    key_id, _, secret = text.partition(":")
    return key_id, secret


def _expiry_of(token: str) -> float:
    """The `exp` of a token that was found good, so that its payload is one of ours; seconds."""
    part = token.split(".")[1]
    payload = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return float(payload["exp"])
