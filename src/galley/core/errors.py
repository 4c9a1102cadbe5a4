"""What can go wrong, in Galley's words and without HTTP; dialects render these from one table."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class ErrorKind(StrEnum):
    """The families of errors that a dialect maps to its own status codes."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    REFUSED = "refused"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    UNAVAILABLE = "unavailable"
    NO_SPACE = "no_space"
    NOT_BUILT = "not_built"


@dataclass(frozen=True, slots=True)
class Issue:
    """One fault in something a user wrote: where it is and how to mend it."""

    file: str
    description: str
    severity: str = "error"


class GalleyError(Exception):
    """Any refusal that a caller can understand and mend. `message` is safe to show.

    `retry_after_s` is set where trying again later can help.
    """

    kind: ErrorKind = ErrorKind.INVALID
    code: str = "invalid"

    def __init__(
        self, message: str, *, issues: Sequence[Issue] = (), retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.issues = tuple(issues)
        self.retry_after_s = retry_after_s


class Invalid(GalleyError):
    """The request cannot be meant like this; the message says what, where and how to mend it."""


class Unauthenticated(GalleyError):
    """Nobody known is calling."""

    kind = ErrorKind.UNAUTHENTICATED
    code = "unauthenticated"


class Forbidden(GalleyError):
    """The caller sees the object, but may not do this to it."""

    kind = ErrorKind.FORBIDDEN
    code = "forbidden"


class NotFound(GalleyError):
    """There is no such thing, or the caller may not know of it."""

    kind = ErrorKind.NOT_FOUND
    code = "not_found"


class Conflict(GalleyError):
    """The present state does not allow it, or somebody else was first."""

    kind = ErrorKind.CONFLICT
    code = "conflict"


class Refused(GalleyError):
    """Understood and allowed, yet cannot be carried out (a recipe that does not compile, ...)."""

    kind = ErrorKind.REFUSED
    code = "refused"


class TooLarge(GalleyError):
    """More bytes, rows or steps than the limit that the message names."""

    kind = ErrorKind.TOO_LARGE
    code = "too_large"


class TooMany(GalleyError):
    """Too often; `retry_after_s` says when to come back."""

    kind = ErrorKind.TOO_MANY
    code = "too_many"


class Unavailable(GalleyError):
    """Something beneath (the database, an executor) does not answer now; retrying is safe."""

    kind = ErrorKind.UNAVAILABLE
    code = "unavailable"


class NoSpace(GalleyError):
    """The disk is full; nothing of the request was kept."""

    kind = ErrorKind.NO_SPACE
    code = "no_space"


class NotBuilt(GalleyError):
    """Known, listed in the parity table, and not there yet."""

    kind = ErrorKind.NOT_BUILT
    code = "not_built"
