"""Who comes in: forms and sessions are read here, strangers sent to sign in, forgeries refused."""

from urllib.parse import parse_qsl

from jinja2 import Environment
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from galley.core.errors import ErrorKind, Forbidden, GalleyError, TooLarge, Unauthenticated
from galley.core.identity import operations as identity
from galley.core.identity.errors import SessionEnded
from galley.web import security
from galley.web.pages.entry import sign_in_link
from galley.web.visit import Visit
from galley.wire.call import call_of
from galley.wire.services import Services

FORM_BYTES = 64 * 1024
FORM_FIELDS = 100
_FORM_TYPE = "application/x-www-form-urlencoded"
STATUS = {
    ErrorKind.INVALID: 422,
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.CONFLICT: 409,
    ErrorKind.REFUSED: 422,
    ErrorKind.TOO_LARGE: 413,
    ErrorKind.TOO_MANY: 429,
    ErrorKind.UNAVAILABLE: 503,
    ErrorKind.NO_SPACE: 507,
    ErrorKind.NOT_BUILT: 501,
}
TITLES = {
    400: "That request could not be read",
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "Not done this way",
    409: "That does not go together",
    413: "Too large",
    415: "A form was expected",
    422: "That cannot be",
    429: "Too often",
    501: "Not built yet",
    503: "Not now",
    507: "No space left",
}
_HINTS = {
    404: "It may have been deleted, or it is in a kitchen that you may not enter.",
    503: "Nothing was changed. Try again in a moment.",
    507: "Nothing was changed. Free some space in Galley's data folder, then try again.",
}


async def read_form(request: Request) -> dict[str, str]:
    """A posted form: at most 64 KiB and 100 fields; of repeated fields the last counts.

    Raises:
        HTTPException: it is not a form, or not one that can be read.
        TooLarge: it is longer.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
        raise HTTPException(415, "Send the fields of the page's form.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            raise TooLarge(f"A form has at most {FORM_BYTES} bytes.")
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            max_num_fields=FORM_FIELDS,
            errors="strict",
        )
    except ValueError as error:
        raise HTTPException(
            400, "The form is not text in UTF-8, or has too many fields."
        ) from error
    return dict(pairs)


def admit(
    request: Request, environment: Environment, session: Session, form: dict[str, str]
) -> Visit:
    """The visit of this request; a session that has ended counts as none.

    Raises:
        TooMany: the visitor asks too often.
    """
    call = call_of(request)
    visit = stranger(request, environment, form)
    services = visit.services
    cookie = security.read_cookie(request, visit.external_url)
    if cookie is None:
        return visit
    try:
        caller, web_session = identity.caller_for_web_session(
            session,
            cookie,
            services.clock,
            address=call.address,
            request_id=call.request_id,
            uses=None if _is_automatic(request) else services.uses,
            judge=services.judge,
        )
    except SessionEnded:
        return visit
    if call.caller is None:
        call.identify(caller)
    visit.caller, visit.web_session = caller, web_session
    visit.cookie_text, visit.csrf = cookie, identity.csrf_token(cookie)
    return visit


def stranger(
    request: Request, environment: Environment, form: dict[str, str] | None = None
) -> Visit:
    """The visit of somebody unknown."""
    services: Services = request.app.state.services
    call = call_of(request)
    nobody = identity.nobody(services.judge, call.address, call.request_id)
    return Visit(request, services, environment, nobody, form=form or {})


def _is_automatic(request: Request) -> bool:
    """Whether an open page asks by itself: that must not keep a session from idling out."""
    is_renewal = request.headers.get("hx-request") == "true"
    return is_renewal or request.headers.get("accept") == "text/event-stream"


def check_origin(visit: Visit) -> None:
    """Refuse a post that no page of this server made.

    Raises:
        Forbidden: it comes from elsewhere, or does not say from where.
    """
    if not security.is_same_origin(visit.request, visit.external_url):
        raise Forbidden(
            "This form was sent from another site, or the browser does not say from where."
            " Open the page here and send it again."
        )


def check_token(visit: Visit) -> None:
    """Refuse a form that was not made for this session.

    Raises:
        Forbidden: it carries no forgery token, or that of another session.
    """
    if not identity.csrf_matches(visit.cookie_text, visit.form.get("csrf")):
        raise Forbidden("The page is from before you signed in. Reload it and send it again.")


def turn_away(visit: Visit) -> Response:
    """What a stranger gets where somebody known is needed: the way to the sign-in page."""
    if visit.is_partial:
        return Response(status_code=401, headers={"HX-Redirect": "/sign-in"})
    if visit.request.method == "GET":
        return RedirectResponse(sign_in_link(visit), status_code=303)
    return show_error(visit, Unauthenticated("Your session has ended. Sign in and try again."))


def show_error(visit: Visit, error: Exception) -> Response:
    """Any refusal as a page that says what happened and what to do."""
    if isinstance(error, GalleyError):
        status, message = STATUS[error.kind], error.message
        issues = error.issues
    elif isinstance(error, HTTPException):
        status, issues = error.status_code, ()
        is_standard = error.detail in {"Not Found", "Method Not Allowed"}
        message = "There is no such page." if is_standard else error.detail
    else:
        status, issues = 500, ()
        message = "This is a fault in the server, not in your request. Ask its operator."
    answer = visit.page(
        "error.html",
        status=status,
        code=status,
        title=TITLES.get(status, "Something went wrong"),
        message=message,
        issues=issues,
        hint=_HINTS.get(status, ""),
        request_id=visit.request_id,
    )
    if isinstance(error, GalleyError) and error.retry_after_s is not None:
        answer.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer
