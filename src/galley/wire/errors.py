"""How errors become answers: one table in each dialect, one way of installing it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from galley.core.errors import (
    Conflict,
    ErrorKind,
    GalleyError,
    Invalid,
    NoSpace,
    NotFound,
    TooLarge,
    Unavailable,
)
from galley.storage.blobs import BlobsAway
from galley.storage.db import is_connection_lost, is_disk_failing, is_disk_full
from galley.storage.git import GitFailed, RepositoryMissing
from galley.wire.call import call_of

log = structlog.get_logger("galley.wire")

Render = Callable[[GalleyError], Response]
"""A dialect's own shape of an error that the caller can understand."""

Plain = Callable[[int, str], Response]
"""A dialect's own shape of a bare status and text."""

STATUS: Mapping[ErrorKind, int] = {
    ErrorKind.INVALID: 400,
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
"""What a surface answers where its contract says nothing else."""


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """Kinds of errors and exact codes to a dialect's statuses."""

    status: Mapping[ErrorKind, int] = field(default_factory=lambda: STATUS)
    exact: Mapping[str, int] = field(default_factory=dict)

    def status_of(self, error: GalleyError) -> int:
        """The status of this error: by its code if that is listed, else by its kind."""
        return self.exact.get(error.code, self.status[error.kind])


def retry_headers(error: GalleyError) -> dict[str, str]:
    """`Retry-After`, where trying again later can help."""
    if error.retry_after_s is None:
        return {}
    return {"Retry-After": str(max(error.retry_after_s, 0))}


def plain_response(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """The shape of a surface that has none of its own: text."""
    return Response(
        text + "\n", status_code=status, headers=headers, media_type="text/plain; charset=utf-8"
    )


def render_plain(error: GalleyError) -> Response:
    """An error as text."""
    table = ErrorTable()
    return plain_response(table.status_of(error), error.message, retry_headers(error))


def storage_error(error: BaseException) -> GalleyError | None:
    """What a failure of database or disk means to the caller; None for anything else."""
    if isinstance(error, RepositoryMissing):
        return Unavailable(
            "The repository of the recipes is not there; an administrator can see why with"
            " `galley doctor`.",
            retry_after_s=30,
        )
    if isinstance(error, GitFailed):
        return Unavailable(
            "The git program failed; an administrator can see why with `galley doctor` and in the"
            " log.",
            retry_after_s=30,
        )
    if isinstance(error, BlobsAway):
        return Unavailable(
            "The store of results does not answer; try again shortly.", retry_after_s=30
        )
    if isinstance(error, SQLAlchemyError | OSError) and is_disk_full(error):
        return NoSpace("The server's disk is full; nothing was kept.", retry_after_s=30)
    if is_disk_failing(error):
        return Unavailable(
            "The server's disk does not take what is written; an administrator has to look at it.",
            retry_after_s=30,
        )
    return _database_error(error)


def _database_error(error: BaseException) -> GalleyError | None:
    if isinstance(error, IntegrityError):
        return Conflict("Somebody else made the same change first; read it and try again.")
    if isinstance(error, DataError):
        return Invalid("A value is out of the range that can be stored.")
    if isinstance(error, PoolTimeout) or is_connection_lost(error):
        return Unavailable(
            "The database does not answer. Try again; with the same Idempotency-Key the request"
            " takes effect once.",
            retry_after_s=5,
        )
    return None


def install_errors(
    app: Starlette,
    *,
    render: Render,
    plain: Plain,
    validation_text: Callable[[RequestValidationError], str] | None = None,
) -> None:
    """Give an application its dialect's errors, for everything that can go wrong in it.

    `validation_text` tells in one line what is wrong with a request that does not fit its model.
    """
    explain = validation_text or describe_validation

    async def on_galley(request: Request, error: Exception) -> Response:
        assert isinstance(error, GalleyError)  # noqa: S101 - registered for nothing else
        note_refusal(request.scope, error)
        return render(error)

    async def on_http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
        return _http_answer(error, render, plain)

    async def on_validation(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
        return render(Invalid(explain(error)))

    async def on_storage(request: Request, error: Exception) -> Response:
        known = storage_error(error)
        if known is None:
            return await on_bug(request, error)
        log.warning(
            "storage_failed", request_id=call_of(request).request_id, error=str(error)[:500]
        )
        return render(known)

    async def on_bug(request: Request, error: Exception) -> Response:
        call = call_of(request)
        call.is_bug_logged = True
        if not isinstance(error, ClientDisconnect):
            log.error("bug", request_id=call.request_id, exc_info=error)
        return plain(500, internal_text(call.request_id))

    app.add_exception_handler(GalleyError, on_galley)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(SQLAlchemyError, on_storage)
    app.add_exception_handler(OSError, on_storage)
    app.add_exception_handler(RepositoryMissing, on_storage)
    app.add_exception_handler(GitFailed, on_storage)
    app.add_exception_handler(Exception, on_bug)


def note_refusal(scope: Scope, error: GalleyError) -> None:
    """Tell the operator why somebody was refused, whatever the surface shows of it."""
    call = call_of(scope)
    log.info(
        "refused",
        request_id=call.request_id,
        reason=error.message,
        kind=error.kind.value,
        issues=[f"{issue.file}: {issue.description}" for issue in error.issues[:5]],
        method=call.method,
        route=call.route or scope["path"],
        user=call.caller.login if call.caller else None,
        address=call.address,
    )


def internal_text(request_id: str) -> str:
    """What a caller learns of a bug: nothing but how to ask about it."""
    return (
        "Something went wrong in the server; it is not your request's fault. Ask the operator,"
        f" and name the request {request_id}."
    )


def describe_validation(error: RequestValidationError) -> str:
    """One line: where in the request something cannot be meant so, and what is wrong there."""
    lines = dict.fromkeys(_fault_line(fault) for fault in error.errors())
    return "; ".join(list(lines)[:10])


def _fault_line(fault: Mapping[str, Any]) -> str:
    place = [str(part) for part in fault["loc"]]
    where = ".".join(place[1:]) or place[0]
    return f"{where}: {str(fault['msg']).removeprefix('Value error, ')}"


def _http_answer(error: HTTPException, render: Render, plain: Plain) -> Response:
    if error.status_code == 404:  # noqa: PLR2004
        return render(NotFound("There is nothing at this address."))
    if error.status_code == 405:  # noqa: PLR2004
        answer = plain(405, "This address does not take this method.")
    elif error.status_code == 413:  # noqa: PLR2004
        return render(TooLarge("The request's body is too large."))
    else:
        answer = plain(error.status_code, str(error.detail))
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer
