"""The first start: a one-time link that makes the first administrator."""

from sqlalchemy.orm import Session

from galley.core.identity import tokens
from galley.core.identity.errors import AlreadySetUp, TokenInvalid
from galley.core.identity.models import SetupToken, User
from galley.core.identity.repository import SetupRepository, UserRepository
from galley.core.identity.tokens import DEFAULT_LIFETIME, TokenKind
from galley.core.identity.users import create_user
from galley.kit.clock import Clock

_ADMIN = frozenset({"admin", "member"})


def make_setup_token(session: Session, clock: Clock) -> str | None:
    """A new one-time text for the set-up page, or None if there is a user already.

    It lives for 24 h; earlier ones end.
    """
    if UserRepository(session).any_exists():
        return None
    now = clock.now()
    text = tokens.new_text(TokenKind.SETUP.value)
    end = now + (DEFAULT_LIFETIME[TokenKind.SETUP] or tokens.BEARER_LIFETIME)
    row = SetupToken(digest=tokens.digest_of(text), created_at=now, expires_at=end)
    SetupRepository(session).replace(row)
    return text


def check_setup_token(session: Session, text: str, clock: Clock) -> None:
    """Whether the page may show its form.

    Raises:
        AlreadySetUp: there is a user; sign in.
        TokenInvalid: the link is wrong or too old; a restart of the server prints a new one.
    """
    if UserRepository(session).any_exists():
        raise AlreadySetUp
    if not SetupRepository(session).is_open(_digest(text), clock.now()):
        raise _stale()


def redeem_setup_token(
    session: Session, text: str, *, email: str, name: str, password: str, clock: Clock
) -> User:
    """Make the first administrator and use the link up; of two at once only one succeeds.

    Raises:
        AlreadySetUp, TokenInvalid: as `check_setup_token`.
        Invalid: the address or the password will not do; the link stays good.
    """
    check_setup_token(session, text, clock)
    if not SetupRepository(session).use(_digest(text), clock.now()):
        raise _stale()
    return create_user(
        session, email=email, name=name, password=password, roles=_ADMIN, clock=clock
    )


def _digest(text: str) -> str:
    if tokens.kind_of(text) != TokenKind.SETUP.value:
        raise _stale()
    return tokens.digest_of(text)


def _stale() -> TokenInvalid:
    return TokenInvalid(
        "This set-up link is wrong or too old; restart Galley, and it prints a new one."
    )
