"""One's own affairs: the password, the browsers that are signed in, and the tokens."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session
from starlette.responses import Response

from galley.core.errors import GalleyError, Invalid, TooMany, Unauthenticated
from galley.core.identity import operations as identity
from galley.core.identity.models import Token, WebSession
from galley.core.identity.operations import IssuedToken
from galley.kit.pages import PageRequest
from galley.web.present import plain_text
from galley.web.visit import Visit

_DAY_S = 86_400
_DAYS = (7, 30, 90, 365)
_SHOWN_TOKENS = 200


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of token as the page offers it: its word, and what to do with the text."""

    word: str
    use: str


KINDS: Mapping[str, Kind] = {
    "pair": Kind(
        "DataKitchen API pair",
        "The part before the colon is the id, the rest is the secret. They go as user name and"
        " password of HTTP Basic: curl -u ID:SECRET, or DKUtils with is_api_token=True.",
    ),
}
"""The kinds that people make here: those that an API takes. The command line has more."""

_WORDS = {"personal": "Personal", "trigger": "Trigger", "bot": "Bot", "portal": "Opendatasoft"}
_BROWSERS = (
    ("Edge", re.compile(r"Edg/(\d+)")),
    ("Opera", re.compile(r"OPR/(\d+)")),
    ("Firefox", re.compile(r"Firefox/(\d+)")),
    ("Chrome", re.compile(r"(?:Headless)?Chrome/(\d+)")),
    ("Safari", re.compile(r"Version/(\d+)[\d.]* (?:Mobile/\w+ )?Safari")),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token in the list; `tone` and `word` say whether it still works."""

    id: int
    name: str
    kind: str
    key_id: str | None
    word: str
    tone: str
    created_at: datetime
    last_used_at: datetime | None
    last_ip: str | None
    expires_at: datetime | None

    @property
    def is_active(self) -> bool:
        """Whether it still opens anything."""
        return self.tone == "good"


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A signed-in browser in the list."""

    uid: str
    browser: str
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    is_this: bool


def show_tokens(visit: Visit, session: Session) -> Response:
    """The caller's tokens, newest first, and the form for a new one."""
    return _tokens_page(visit, session)


def create_token(visit: Visit, session: Session) -> Response:
    """Make a token, and show its text this once: in this very answer, which nobody stores."""
    try:
        issued = _issue(visit, session)
    except Invalid as error:
        return _tokens_page(visit, session, status=422, error=error.message)
    return _tokens_page(visit, session, issued=issued)


def revoke_token(visit: Visit, session: Session) -> Response:
    """End a token at once."""
    token = identity.get_token(session, visit.caller, int(visit.request.path_params["token"]))
    identity.revoke_token(session, token, clock=visit.services.clock, by=visit.caller)
    return visit.go("/account/tokens", done="revoked")


def show_account(visit: Visit, session: Session) -> Response:
    """Who one is, the password's form, and the browsers that are signed in."""
    return _account_page(visit, session)


def change_password(visit: Visit) -> Response:
    """Set a new password, given the present one; other browsers are signed out."""
    try:
        _check_passwords(visit)
        with visit.services.database.writing() as session:
            identity.set_password(
                session,
                identity.user_of(session, visit.caller),
                visit.form.get("password", ""),
                clock=visit.services.clock,
                by=visit.caller,
                keep_web_session=visit.web_session.id if visit.web_session else None,
            )
    except (Invalid, Unauthenticated, TooMany) as error:
        return _refused_password(visit, error)
    return visit.go("/account", done="password")


def end_session(visit: Visit, session: Session) -> Response:
    """Sign another browser out."""
    uid = str(visit.request.path_params["session"])
    found = identity.get_web_session(session, visit.caller, uid)
    identity.close_web_session(session, found, clock=visit.services.clock, by=visit.caller)
    return visit.go("/account", done="session")


def browser_text(user_agent: str) -> str:
    """A browser by its User-Agent as people name it: `Firefox 140 on Linux`."""
    system = next((word for mark, word in _SYSTEMS if mark in user_agent), None)
    for name, pattern in _BROWSERS:
        match = pattern.search(user_agent)
        if match:
            browser = f"{name} {match[1]}"
            return f"{browser} on {system}" if system else browser
    return plain_text(user_agent)[:60] or "Unknown browser"


def token_row(token: Token, now: datetime) -> TokenRow:
    """The token as the list shows it."""
    word, tone = "Active", "good"
    if token.revoked_at is not None:
        word, tone = "Revoked", "off"
    elif token.expires_at is not None and token.expires_at <= now:
        word, tone = "Expired", "off"
    elif token.replaced_at is not None:
        word, tone = "Replaced", "off"
    return TokenRow(
        id=token.id,
        name=token.name,
        kind=KINDS[token.kind].word if token.kind in KINDS else _WORDS.get(token.kind, token.kind),
        key_id=token.key_id,
        word=word,
        tone=tone,
        created_at=token.created_at,
        last_used_at=token.last_used_at,
        last_ip=token.last_ip,
        expires_at=token.expires_at,
    )


def _issue(visit: Visit, session: Session) -> IssuedToken:
    kind, name = visit.form.get("kind", ""), visit.form.get("name", "").strip()
    if kind not in KINDS:
        raise Invalid("Choose one of the kinds of token that the form offers.")
    if not name:
        raise Invalid("Give the token a name, so that you know later what it was for.")
    return identity.issue_token(
        session,
        identity.user_of(session, visit.caller),
        kind=kind,
        name=name,
        lifetime_s=_days(visit.form) * _DAY_S,
        clock=visit.services.clock,
        by=visit.caller,
    )


def _check_passwords(visit: Visit) -> None:
    """The new one is typed twice alike, and the present one is right (throttled like sign-in)."""
    form = visit.form
    if form.get("password", "") != form.get("again", ""):
        raise Invalid("The two new passwords differ. Type the same one twice.")
    try:
        identity.log_in(
            visit.services.database,
            login=visit.caller.login or "",
            password=form.get("present", ""),
            address=visit.caller.address,
            clock=visit.services.clock,
        )
    except Unauthenticated as error:
        raise Unauthenticated("The present password is not right.") from error


def _refused_password(visit: Visit, error: GalleyError) -> Response:
    status = {Unauthenticated: 403, TooMany: 429}
    code = next((code for kind, code in status.items() if isinstance(error, kind)), 422)
    with visit.services.database.reading() as session:
        return _account_page(visit, session, status=code, error=error.message)


def _days(form: Mapping[str, str]) -> int:
    wanted = form.get("days", "90")
    if wanted not in {str(days) for days in _DAYS}:
        raise Invalid("Choose one of the times that the form offers.")
    return int(wanted)


def _tokens_page(
    visit: Visit,
    session: Session,
    *,
    status: int = 200,
    error: str = "",
    issued: IssuedToken | None = None,
) -> Response:
    user = identity.user_of(session, visit.caller)
    page = identity.list_tokens(session, visit.caller, user, page=PageRequest(limit=_SHOWN_TOKENS))
    form = visit.form if error else {}
    return visit.page(
        "tokens.html",
        status=status,
        section="tokens",
        error=error,
        issued=issued,
        kinds=KINDS,
        tokens=[token_row(token, visit.now) for token in page.items],
        total=page.total,
        form={
            "name": form.get("name", ""),
            "kind": form.get("kind", "pair"),
            "days": form.get("days", "90"),
        },
    )


def _account_page(
    visit: Visit, session: Session, *, status: int = 200, error: str = ""
) -> Response:
    user = identity.user_of(session, visit.caller)
    sessions = identity.list_web_sessions(session, visit.caller, user, visit.services.clock)
    return visit.page(
        "account.html",
        status=status,
        section="account",
        error=error,
        sessions=[_session_row(one, visit.web_session) for one in sessions],
    )


def _session_row(one: WebSession, present: WebSession | None) -> SessionRow:
    return SessionRow(
        uid=one.uid,
        browser=browser_text(one.user_agent),
        address=one.address,
        created_at=one.created_at,
        last_seen_at=one.last_seen_at,
        is_this=present is not None and present.id == one.id,
    )
