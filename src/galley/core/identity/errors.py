"""What can go wrong with identity."""

from datetime import datetime

from galley.core.errors import Conflict, Forbidden, Invalid, NotFound, TooMany, Unauthenticated

BAD_CREDENTIALS = "Credentials are invalid"


class BadCredentials(Unauthenticated):
    """The sign-in is refused; the message never tells whether the account exists.

    `reason` does, for the server's own log.
    """

    code = "bad_credentials"

    def __init__(self, reason: str = "unknown account") -> None:
        super().__init__(BAD_CREDENTIALS)
        self.reason = reason


class TokenInvalid(Unauthenticated):
    """No such token, or not one of ours at all."""

    code = "token_invalid"

    def __init__(self, message: str = "The token is not valid; sign in or make a new one.") -> None:
        super().__init__(message)


class TokenExpired(TokenInvalid):
    """The token's time is over."""

    code = "token_expired"

    def __init__(self, expired_at: datetime) -> None:
        super().__init__(
            f"The token expired at {expired_at:%Y-%m-%d %H:%M:%S} UTC; sign in or make a new one."
        )


class TokenRevoked(TokenInvalid):
    """The token was revoked, or its owner disabled."""

    code = "token_revoked"

    def __init__(self) -> None:
        super().__init__("The token was revoked; sign in or make a new one.")


class TokenReplaced(TokenInvalid):
    """A rotated token came back: a stale copy, or somebody else's."""

    code = "token_replaced"

    def __init__(self) -> None:
        super().__init__("The token was replaced by a newer one; use that, or make a new one.")


class TokenKindRefused(TokenInvalid):
    """A good token of a kind that this API does not take."""

    code = "token_kind_refused"

    def __init__(self) -> None:
        super().__init__("A token of this kind is not accepted here.")


class SessionEnded(Unauthenticated):
    """The browser's session is unknown, closed or too old."""

    code = "session_ended"

    def __init__(self) -> None:
        super().__init__("You are signed out; sign in again.")


class LoginTaken(Conflict):
    """There is already a user of that login."""

    code = "login_taken"

    def __init__(self, login: str) -> None:
        super().__init__(f"There is already a user {login}.")


class LastAdmin(Conflict):
    """Without its last administrator nobody could manage the account."""

    code = "last_admin"

    def __init__(self) -> None:
        super().__init__(
            "This is the last active administrator; make another one before taking this one away."
        )


class AlreadySetUp(Conflict):
    """The set-up link's work is done: there is a user."""

    code = "already_set_up"

    def __init__(self) -> None:
        super().__init__("Galley is set up already; sign in instead.")


class WeakPassword(Invalid):
    """Too short, too long or too common."""

    code = "weak_password"


class TooManyFailures(TooMany):
    """The throttle of sign-ins has closed for a while."""

    code = "login_throttled"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            f"Too many failed sign-ins; wait {retry_after_s} s and try again.",
            retry_after_s=retry_after_s,
        )


class HashingBusy(TooMany):
    """More sign-ins at once than this server will hash."""

    code = "login_busy"

    def __init__(self) -> None:
        super().__init__("Too many sign-ins at once; please try again in a bit.", retry_after_s=1)


class ActionForbidden(Forbidden):
    """The policy table says no to something the caller can see.

    `action`, `object_kind` and `object_id` tell the audit what was denied.
    """

    def __init__(self, message: str, *, action: str, object_kind: str, object_id: str) -> None:
        super().__init__(message)
        self.action = action
        self.object_kind = object_kind
        self.object_id = object_id


class TargetHidden(NotFound):
    """The policy table says that the caller may not know of the target."""

    def __init__(self, message: str, *, action: str, object_kind: str, object_id: str) -> None:
        super().__init__(message)
        self.action = action
        self.object_kind = object_kind
        self.object_id = object_id
