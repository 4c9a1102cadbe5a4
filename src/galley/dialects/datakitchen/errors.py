"""Errors in the vendor's shape: `{"message": {"error": E, "issues": [...]}}`.

`message` is an object, never a text, and there is no `error` at the top: the command line crashes
on the one and takes the other for a failed success. Source: contract 3.1, rule 6.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from galley.core.errors import ErrorKind, GalleyError, Issue

STATUS = {
    ErrorKind.INVALID: 400,
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.NOT_FOUND: 400,
    ErrorKind.CONFLICT: 412,
    ErrorKind.REFUSED: 417,
    ErrorKind.TOO_LARGE: 413,
    ErrorKind.TOO_MANY: 429,
    ErrorKind.UNAVAILABLE: 503,
    ErrorKind.NO_SPACE: 507,
    ErrorKind.NOT_BUILT: 501,
}
"""Unknown names answer 400: of that the clients print the text alone (contract 12)."""

EXACT = {"order_refused": 417, "unknown_variation": 417, "idempotency_running": 409}
"""Codes that the vendor answers otherwise than their kind. Source: contract 3.1, 11."""

_WITH_ISSUES = frozenset({400})


def status_of(error: GalleyError) -> int:
    """The status that the vendor's clients expect for this error."""
    return EXACT.get(error.code, STATUS[error.kind])


def body(status: int, text: str, issues: Sequence[Issue] = ()) -> dict[str, Any]:
    """The error document. Where clients print no issues beside the text, they go into it."""
    shown = [{"severity": i.severity, "file": i.file, "description": i.description} for i in issues]
    if not shown:
        return {"message": {"error": text}}
    if status in _WITH_ISSUES:
        return {"message": {"error": text, "issues": shown}}
    return {"message": {"error": {"message": text, "detail": shown}}}


def response(
    status: int, text: str, issues: Sequence[Issue] = (), *, retry_after_s: int | None = None
) -> Response:
    """An error answer of this status."""
    headers = {} if retry_after_s is None else {"Retry-After": str(max(retry_after_s, 0))}
    return Response(
        msgspec.json.encode(body(status, text, issues)),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


def render(error: GalleyError) -> Response:
    """What the caller gets to read of an error."""
    return response(
        status_of(error), error.message, error.issues, retry_after_s=error.retry_after_s
    )


def validation_text(error: RequestValidationError) -> str:
    """One line for each part of a request that cannot be meant so: where, and what is wrong."""
    lines = dict.fromkeys(_line(fault) for fault in error.errors())
    return "; ".join(list(lines)[:10])


def _line(fault: dict[str, Any]) -> str:
    place = [str(part) for part in fault["loc"]]
    where = ".".join(place[1:]) or place[0]
    text = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {text}"
