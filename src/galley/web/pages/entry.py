"""The doors: the one-time set-up link, signing in and out, and the colours of the pages."""

from urllib.parse import quote

from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from galley.core.errors import Invalid, TooMany, Unauthenticated
from galley.core.identity import operations as identity
from galley.core.identity.errors import AlreadySetUp
from galley.core.identity.models import User
from galley.web import security
from galley.web.visit import THEME_COOKIE, THEMES, Visit

_REFUSED = "This email and password open no account here. Check both and try again."
_THEME_LIFETIME_S = 365 * 24 * 3600


def show_sign_in(visit: Visit, session: Session) -> Response:
    """The sign-in page; whoever is signed in already goes on."""
    target = security.local_path(visit.query.get("next", ""))
    if visit.caller.is_known:
        return visit.go(target)
    return _sign_in_page(visit, next=target, needs_setup=not _is_set_up(visit, session))


def sign_in(visit: Visit) -> Response:
    """Open a session in this browser, and go where the visitor wanted to."""
    target = security.local_path(visit.form.get("next", ""))
    email = visit.form.get("email", "")
    insecure = security.insecure_notice(visit.request, visit.external_url)
    if insecure:
        return _sign_in_page(visit, status=403, next=target, email=email)
    try:
        user = identity.log_in(
            visit.services.database,
            login=email,
            password=visit.form.get("password", ""),
            address=visit.caller.address,
            clock=visit.services.clock,
        )
    except (Unauthenticated, TooMany) as error:
        status, told = (429, error.message) if isinstance(error, TooMany) else (401, _REFUSED)
        answer = _sign_in_page(visit, status=status, next=target, email=email, error=told)
        if error.retry_after_s is not None:
            answer.headers["Retry-After"] = str(error.retry_after_s)
        return answer
    with visit.services.database.writing() as session:
        return _enter(visit, session, user, visit.go(target))


def sign_out(visit: Visit, session: Session) -> Response:
    """End this browser's session."""
    _leave(visit, session)
    answer = visit.go("/sign-in")
    security.clear_cookie(answer, visit.request, visit.external_url)
    return answer


def show_setup(visit: Visit, session: Session) -> Response:
    """The page behind the set-up link."""
    token = visit.query.get("token", "")
    try:
        identity.check_setup_token(session, token, visit.services.clock)
    except AlreadySetUp:
        return visit.go("/sign-in")
    except Unauthenticated:
        return visit.page("setup_stale.html", status=403)
    return _setup_page(visit, token=token)


def set_up(visit: Visit) -> Response:
    """Create the administrator by the link's one-time token, and sign them in."""
    form = visit.form
    token = form.get("token", "")
    if security.insecure_notice(visit.request, visit.external_url):
        return _setup_page(visit, status=403, token=token)
    if form.get("password", "") != form.get("again", ""):
        error = "The two passwords differ. Type the same one twice."
        return _setup_page(visit, status=422, error=error, token=token)
    try:
        with visit.services.database.writing() as session:
            user = identity.redeem_setup_token(
                session,
                token,
                email=form.get("email", ""),
                name=form.get("name", ""),
                password=form.get("password", ""),
                clock=visit.services.clock,
            )
            return _enter(visit, session, user, visit.go("/runs", done="welcome"))
    except Invalid as error:
        return _setup_page(visit, status=422, error=error.message, token=token)
    except Unauthenticated:
        return visit.page("setup_stale.html", status=403)


def set_theme(visit: Visit, _session: Session) -> Response:
    """Remember the colours in this browser."""
    wanted = visit.form.get("theme", "")
    if wanted not in THEMES:
        raise Invalid("There are three choices of colours: auto, light and dark.")
    answer = visit.go(security.local_path(visit.form.get("next", "")))
    answer.set_cookie(
        THEME_COOKIE,
        wanted,
        max_age=_THEME_LIFETIME_S,
        secure=security.is_https(visit.request, visit.external_url),
        httponly=True,
        samesite="lax",
    )
    return answer


def go_home(visit: Visit, _session: Session) -> Response:
    """The bare address leads to the runs."""
    return visit.go("/runs")


def sign_in_link(visit: Visit) -> str:
    """Where to sign in, and come back to this page afterwards."""
    if visit.request.method != "GET":
        return "/sign-in"
    return f"/sign-in?next={quote(visit.here, safe='')}"


def _is_set_up(visit: Visit, session: Session) -> bool:
    try:
        identity.check_setup_token(session, "", visit.services.clock)
    except AlreadySetUp:
        return True
    except Unauthenticated:
        return False
    return False


def _leave(visit: Visit, session: Session) -> None:
    if visit.web_session is not None:
        identity.close_web_session(session, visit.web_session, clock=visit.services.clock)


def _enter(
    visit: Visit, session: Session, user: User, answer: RedirectResponse
) -> RedirectResponse:
    """A new session with a new name; whatever session this browser had before is ended."""
    _leave(visit, session)
    _opened, cookie_text, _csrf = identity.open_web_session(
        session,
        user,
        clock=visit.services.clock,
        address=visit.caller.address,
        user_agent=visit.request.headers.get("user-agent", ""),
    )
    security.set_cookie(answer, visit.request, cookie_text, visit.external_url)
    return answer


def _sign_in_page(visit: Visit, *, status: int = 200, **context: object) -> Response:
    return visit.page(
        "sign_in.html",
        status=status,
        insecure=security.insecure_notice(visit.request, visit.external_url),
        **{"error": "", "email": "", "needs_setup": False, **context},
    )


def _setup_page(visit: Visit, *, status: int = 200, **context: object) -> Response:
    return visit.page(
        "setup.html",
        status=status,
        insecure=security.insecure_notice(visit.request, visit.external_url),
        email=visit.form.get("email", ""),
        name=visit.form.get("name", ""),
        **{"error": "", **context},
    )
