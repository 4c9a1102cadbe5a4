"""Browser sessions: opening, judging, listing and closing them; and their CSRF token."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from galley.core.caller import Caller, Judge
from galley.core.errors import NotFound
from galley.core.events import audit
from galley.core.identity import tokens
from galley.core.identity.errors import SessionEnded
from galley.core.identity.models import User, WebSession
from galley.core.identity.policy import JUDGE
from galley.core.identity.repository import WebSessionRepository
from galley.core.identity.uses import UseLog
from galley.kit.clock import Clock
from galley.kit.ids import new_uid

IDLE = timedelta(hours=8)
ABSOLUTE = timedelta(days=7)
_COOKIE_BYTES = 32
_MAX_COOKIE_LENGTH = 100
_MAX_AGENT_LENGTH = 300


def open_web_session(
    session: Session, user: User, *, clock: Clock, address: str | None, user_agent: str = ""
) -> tuple[WebSession, str, str]:
    """Sign a browser in: the session's row, the cookie's text, and the CSRF token of its forms.

    Call it at every sign-in, so that a session's name never survives one.
    """
    cookie = secrets.token_urlsafe(_COOKIE_BYTES)
    now = clock.now()
    row = WebSession(
        uid=new_uid(),
        digest=tokens.digest_of(cookie),
        user_id=user.id,
        address=address,
        user_agent="".join(c for c in user_agent[:_MAX_AGENT_LENGTH] if c.isprintable()),
        created_at=now,
        last_seen_at=now,
    )
    WebSessionRepository(session).add(row)
    _record(session, _as_caller(user, JUDGE, address, None), "session.open", row, now)
    return row, cookie, csrf_token(cookie)


def caller_for_web_session(
    session: Session,
    cookie: str,
    clock: Clock,
    *,
    address: str | None = None,
    request_id: str | None = None,
    uses: UseLog | None = None,
    judge: Judge = JUDGE,
) -> tuple[Caller, WebSession]:
    """Who calls with this cookie. Reads only; `uses` keeps the session from idling out.

    Raises:
        SessionEnded: unknown, closed, idle for 8 h, older than 7 d, or its user is disabled.
    """
    if not (cookie.isascii() and 0 < len(cookie) <= _MAX_COOKIE_LENGTH):
        raise SessionEnded
    found = WebSessionRepository(session).find_with_owner(tokens.digest_of(cookie))
    if found is None:
        raise SessionEnded
    row, user = found
    if not user.is_active or not _is_open(row, clock.now()):
        raise SessionEnded
    if uses is not None:
        uses.note_session(row.id, last=row.last_seen_at, address=address)
    return _as_caller(user, judge, address, request_id), row


def close_web_session(
    session: Session, web_session: WebSession, *, clock: Clock, by: Caller | None = None
) -> None:
    """Sign a browser out. `by` None is the browser itself; closing twice is fine.

    Raises:
        NotFound: it is somebody else's.
    """
    if by is not None and not by.may("token.revoke", web_session):
        raise NotFound(f"There is no session {web_session.uid}.")
    row = WebSessionRepository(session).own(web_session)
    if row.closed_at is None:
        row.closed_at = clock.now()
        session.flush()
        actor = by or Caller(judge=JUDGE, user_id=row.user_id, address=row.address)
        _record(session, actor, "session.close", row, row.closed_at)


def list_web_sessions(
    session: Session, caller: Caller, user: User, clock: Clock
) -> Sequence[WebSession]:
    """A user's open sessions, newest first."""
    caller.require("token.read", user)
    now = clock.now()
    rows = WebSessionRepository(session).list_open(user.id, now - ABSOLUTE)
    return [row for row in rows if _is_open(row, now)]


def get_web_session(session: Session, caller: Caller, uid: str) -> WebSession:
    """One session by its public name.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    row = WebSessionRepository(session).get(uid)
    if not caller.may("token.read", row):
        raise NotFound(f"There is no session {uid}.")
    return row


def csrf_token(cookie: str) -> str:
    """The token that a session's forms carry; made from its cookie, which scripts cannot read."""
    mac = hmac.new(cookie.encode(), b"galley csrf", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def csrf_matches(cookie: str, given: str | None) -> bool:
    """Whether a form's token belongs to the cookie; compared in constant time."""
    given_bytes = (given or "").encode("utf-8", "surrogatepass")
    return hmac.compare_digest(csrf_token(cookie).encode(), given_bytes)


def purge_web_sessions(session: Session, *, now: datetime) -> int:
    """Forget the sessions that are past their absolute age; returns how many."""
    return WebSessionRepository(session).forget(now - ABSOLUTE)


def _is_open(row: WebSession, now: datetime) -> bool:
    return (
        row.closed_at is None and now - row.last_seen_at < IDLE and now - row.created_at < ABSOLUTE
    )


def _as_caller(user: User, judge: Judge, address: str | None, request_id: str | None) -> Caller:
    return Caller(
        judge=judge,
        user_id=user.id,
        login=user.login,
        name=user.name,
        roles=user.roles,
        address=address,
        request_id=request_id,
    )


def _record(session: Session, actor: Caller, action: str, row: WebSession, at: datetime) -> None:
    audit.append(session, [audit.entry(actor, action, "session", row.uid, at=at)])
