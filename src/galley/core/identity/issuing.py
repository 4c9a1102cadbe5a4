"""Issuing tokens: what may be asked for, and the row and text that come of it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Forbidden, Invalid
from galley.core.events import audit
from galley.core.identity import tokens
from galley.core.identity.actors import system_caller
from galley.core.identity.errors import TokenRevoked
from galley.core.identity.models import Token, User
from galley.core.identity.policy import JUDGE, SCOPES
from galley.core.identity.repository import TokenRepository, UserRepository
from galley.core.identity.tokens import TokenKind
from galley.kit.clock import Clock
from galley.kit.ids import new_uid

MAX_NAME_LENGTH = 200
_BOUND = re.compile(r"(project|kitchen|dataset|service):[1-9][0-9]{0,17}\Z")


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token, and its text, which is shown this once."""

    token: Token
    text: str

    def __repr__(self) -> str:
        return f"IssuedToken(token={self.token.uid}, text=***)"


def issue_token(
    session: Session,
    user: User,
    *,
    kind: str,
    name: str = "",
    scopes: Iterable[str] | None = None,
    bounds: Iterable[str] | None = None,
    lifetime_s: float | None = None,
    expires_at: datetime | None = None,
    clock: Clock,
    by: Caller | None = None,
) -> IssuedToken:
    """Make a token of a user. `by` None is a sign-in by that user, or else the command line.

    Without `lifetime_s` or `expires_at` it lives as long as its kind does.

    Raises:
        Invalid: unknown kind, scope or bound, or a lifetime that the kind cannot have.
        Forbidden: the caller may not, or would give more rights than it has.
        TokenRevoked: the token that the caller came with has been revoked meanwhile.
    """
    known = _checked_kind(kind)
    actor = _issuer(session, user, known) if by is None else by
    actor.require("token.issue", user)
    _refuse_ended(session, actor)
    wanted_scopes = _checked_scopes(scopes)
    wanted_bounds = _checked_bounds(bounds)
    if known is TokenKind.JOB and wanted_bounds is None:
        raise Invalid("A job's token is bound to the job's own project or kitchen.")
    _refuse_wider(actor, wanted_scopes, wanted_bounds)
    now = clock.now()
    end = checked_end(known, now, lifetime_s, expires_at)
    token, text = make_token(known, now, end)
    token.user_id, token.name = user.id, _checked_name(name)
    token.scopes, token.bounds = wanted_scopes, wanted_bounds
    token.created_by = actor.user_id
    TokenRepository(session).add(token)
    record(session, actor, "token.issue", token, now)
    return IssuedToken(token, text)


def make_token(kind: TokenKind, now: datetime, end: datetime | None) -> tuple[Token, str]:
    """A token row with its digest, and the text to show."""
    key_id = None
    if kind is TokenKind.SESSION_BEARER:
        secret = tokens.new_bearer(issued_at=now, expires_at=end or now + tokens.BEARER_LIFETIME)
    else:
        secret = tokens.new_text(kind.value)
    shown = secret
    if kind is TokenKind.PAIR:
        key_id = tokens.new_key_id()
        shown = f"{key_id}:{secret}"
    row = Token(
        uid=new_uid(),
        kind=kind.value,
        digest=tokens.digest_of(secret),
        key_id=key_id,
        created_at=now,
        expires_at=end,
    )
    return row, shown


def record(session: Session, actor: Caller, action: str, token: Token, at: datetime) -> None:
    """Tell the audit what happened to a token."""
    facts = {"kind": token.kind, "user": token.user_id, "name": token.name}
    audit.append(session, [audit.entry(actor, action, "token", token.id, after=facts, at=at)])


def _issuer(session: Session, user: User, kind: TokenKind) -> Caller:
    """Who issues when nobody is named: whoever signs in, else Galley itself."""
    if kind is not TokenKind.SESSION_BEARER:
        return system_caller()
    signed_in = UserRepository(session).get(user.id)
    return Caller(judge=JUDGE, user_id=signed_in.id, login=signed_in.login, roles=signed_in.roles)


def _refuse_ended(session: Session, actor: Caller) -> None:
    """A token that was revoked while its call was under way begets no new one."""
    if actor.token_id is not None:
        held = TokenRepository(session).find(actor.token_id)
        if held is None or held.revoked_at is not None:
            raise TokenRevoked


def _checked_kind(kind: str) -> TokenKind:
    try:
        known = TokenKind(kind)
    except ValueError:
        known = TokenKind.SETUP
    if known is TokenKind.SETUP:
        kinds = ", ".join(k.value for k in TokenKind if k is not TokenKind.SETUP)
        raise Invalid(f"There are no tokens of kind {kind[:50]!r}; there are: {kinds}.")
    return known


def _checked_scopes(scopes: Iterable[str] | None) -> frozenset[str] | None:
    if scopes is None:
        return None
    wanted = frozenset(scopes)
    strange = sorted(wanted - SCOPES.keys())
    if strange or not wanted:
        raise Invalid(
            f"Unknown scope {', '.join(strange) or '(none)'}; there are: {', '.join(SCOPES)}."
        )
    return wanted


def _checked_bounds(bounds: Iterable[str] | None) -> frozenset[str] | None:
    if bounds is None:
        return None
    wanted = frozenset(bounds)
    strange = sorted(bound for bound in wanted if not _BOUND.match(bound))
    if strange or not wanted:
        raise Invalid(
            f"{', '.join(strange)[:200] or '(none)'} cannot bound a token; name objects by kind "
            "and id, like project:1 or kitchen:7."
        )
    return wanted


def _checked_name(name: str) -> str:
    shown = name.strip()
    if len(shown) > MAX_NAME_LENGTH or not (shown.isprintable() or not shown):
        raise Invalid(f"A token's name has at most {MAX_NAME_LENGTH} printable characters.")
    return shown


def checked_end(
    kind: TokenKind, now: datetime, lifetime_s: float | None, expires_at: datetime | None
) -> datetime | None:
    """When a token ends: as asked for, else as its kind does.

    Raises:
        Invalid: in the past, or later than its kind may live.
    """
    if lifetime_s is not None:
        expires_at = _later(now, lifetime_s)
    if expires_at is None:
        default = tokens.DEFAULT_LIFETIME[kind]
        return None if default is None else now + default
    if expires_at <= now:
        raise Invalid("A token's end lies in the future.")
    longest = tokens.MAX_LIFETIME.get(kind)
    if longest is not None and expires_at > now + longest:
        raise Invalid(f"A token of kind {kind.value} lives {_spoken(longest)} at most.")
    return expires_at


def _later(now: datetime, seconds: float) -> datetime:
    try:
        return now + timedelta(seconds=seconds)
    except (OverflowError, ValueError) as error:
        raise Invalid(f"{seconds} s cannot be a token's lifetime.") from error


def _spoken(span: timedelta) -> str:
    return f"{span.days} days" if span.days else f"{span.seconds // 3600} hours"


def _refuse_wider(
    actor: Caller, scopes: frozenset[str] | None, bounds: frozenset[str] | None
) -> None:
    """A narrowed credential may not beget a wider one."""
    if actor.scopes is not None and "all" not in actor.scopes and not _within(scopes, actor.scopes):
        raise Forbidden("A token may not make one with more scopes than its own.")
    if actor.bounds is not None and not _within(bounds, actor.bounds):
        raise Forbidden("A token may not make one with wider bounds than its own.")


def _within(inner: frozenset[str] | None, outer: frozenset[str]) -> bool:
    return inner is not None and inner <= outer
