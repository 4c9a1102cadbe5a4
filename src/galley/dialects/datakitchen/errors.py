"""Errors in the vendor's shape: `{"message": {"error": E, "issues": [...]}}`.

`message` is an object, never a text, and there is no `error` at the top: the command line crashes
on the one and takes the other for a failed success. Source: contract 3.1, rule 6.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from galley.core.errors import ErrorKind, GalleyError, Issue
from galley.wire.errors import ErrorTable, retry_headers

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

EXACT = {"idempotency_key_reused": 422, "idempotency_key_busy": 409}
"""Codes that are answered otherwise than their kind: the vendor knows no idempotency keys."""

ADVICE = {"resolution_unneeded": " Please run kitchen-merge-preview again."}
"""Words that the command line acts on: here it clears its folder of conflicts (contract 3.1)."""

TABLE = ErrorTable(status=STATUS, exact=EXACT)
_WITH_ISSUES = frozenset({400})


def body(status: int, text: str, issues: Sequence[Issue] = ()) -> dict[str, Any]:
    """The error document. Where clients print no issues beside the text, they go into it."""
    shown = [{"severity": i.severity, "file": i.file, "description": i.description} for i in issues]
    if not shown:
        return {"message": {"error": text}}
    if status in _WITH_ISSUES:
        return {"message": {"error": text, "issues": shown}}
    return {"message": {"error": {"message": text, "detail": shown}}}


def response(
    status: int, text: str, issues: Sequence[Issue] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """An error answer of this status."""
    return Response(
        msgspec.json.encode(body(status, text, issues)),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


def render(error: GalleyError) -> Response:
    """What the caller gets to read of an error."""
    text = error.message + ADVICE.get(error.code, "")
    return response(TABLE.status_of(error), text, error.issues, headers=retry_headers(error))
