"""Tokens in use: who calls with one, and listing and revoking them."""

import hmac
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from galley.core.caller import Caller, Judge
from galley.core.errors import NotFound
from galley.core.identity import tokens
from galley.core.identity.actors import system_caller
from galley.core.identity.errors import (
    TokenExpired,
    TokenInvalid,
    TokenKindRefused,
    TokenReplaced,
    TokenRevoked,
)
from galley.core.identity.issuing import record
from galley.core.identity.models import Token, User
from galley.core.identity.policy import JUDGE
from galley.core.identity.repository import TokenRepository, TokenRow, UserRepository
from galley.core.identity.tokens import TokenKind
from galley.core.identity.uses import UseLog
from galley.kit.clock import Clock
from galley.kit.pages import Page, PageRequest

GRACE = timedelta(seconds=60)
"""How long a rotated token still works, unless its successor is used before."""

LISTED_KINDS = frozenset(
    kind.value
    for kind in TokenKind
    if kind not in {TokenKind.SESSION_BEARER, TokenKind.JOB, TokenKind.SETUP}
)
"""The kinds that people make and see in their lists."""


def caller_for_token(
    session: Session,
    text: str,
    *,
    accepts: frozenset[str],
    clock: Clock,
    address: str | None = None,
    request_id: str | None = None,
    uses: UseLog | None = None,
    judge: Judge = JUDGE,
) -> Caller:
    """Who calls with this token. Reads only; `uses` remembers the use.

    `accepts` are the kinds that the API takes by this way of sending.

    Raises:
        Unauthenticated: unknown, expired, revoked, replaced, of another kind, or its owner is
            disabled.
    """
    if not tokens.is_well_formed(text):
        raise TokenInvalid
    repository = TokenRepository(session)
    row = repository.find_with_owner(tokens.digest_of(text))
    if row is None:
        raise TokenInvalid
    single = accepts - {TokenKind.PAIR.value}
    _refuse_unusable(repository, row, accepts=single, clock=clock, address=address, uses=uses)
    return _caller(row, judge, address, request_id, uses)


def caller_for_pair(
    session: Session,
    key_id: str,
    secret: str,
    *,
    accepts: frozenset[str],
    clock: Clock,
    address: str | None = None,
    request_id: str | None = None,
    uses: UseLog | None = None,
    judge: Judge = JUDGE,
) -> Caller:
    """Who calls with this pair (HTTP Basic). As `caller_for_token` otherwise."""
    if not (key_id.isascii() and key_id.isalnum() and tokens.is_well_formed(secret)):
        raise TokenInvalid
    repository = TokenRepository(session)
    row = repository.find_pair_with_owner(key_id)
    if row is None or not hmac.compare_digest(row.digest, tokens.digest_of(secret)):
        raise TokenInvalid
    _refuse_unusable(repository, row, accepts=accepts, clock=clock, address=address, uses=uses)
    return _caller(row, judge, address, request_id, uses)


def user_of(session: Session, caller: Caller) -> User:
    """The row of whoever calls.

    Raises:
        NotFound: nobody does, or the system.
    """
    return UserRepository(session).get(caller.user_id or 0)


def list_tokens(
    session: Session,
    caller: Caller,
    user: User,
    *,
    kinds: frozenset[str] = LISTED_KINDS,
    page: PageRequest | None = None,
) -> Page[Token]:
    """A user's tokens, newest first, ended ones too; never their texts."""
    caller.require("token.read", user)
    return TokenRepository(session).list_of(user.id, kinds, page or PageRequest())


def get_token(session: Session, caller: Caller, token_id: int) -> Token:
    """One token.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    token = TokenRepository(session).get(token_id)
    if not caller.may("token.read", token):
        raise NotFound(f"There is no token {token_id}.")
    return token


def revoke_token(session: Session, token: Token, *, clock: Clock, by: Caller | None = None) -> None:
    """End a token at once. Revoking twice is fine.

    Raises:
        Forbidden, NotFound: it is somebody else's.
    """
    token = TokenRepository(session).own(token)
    actor = system_caller() if by is None else by
    actor.require("token.revoke", token)
    if token.revoked_at is None:
        token.revoked_at = clock.now()
        session.flush()
        record(session, actor, "token.revoke", token, token.revoked_at)


def _refuse_unusable(
    repository: TokenRepository,
    row: TokenRow,
    *,
    accepts: frozenset[str],
    clock: Clock,
    address: str | None,
    uses: UseLog | None,
) -> None:
    now = clock.now()
    if row.kind not in accepts:
        raise TokenKindRefused
    if row.replaced_at is not None and not _in_grace(repository, row, now, uses):
        if uses is not None:
            uses.note_replay(row.id, address=address)
        raise TokenReplaced
    if row.revoked_at is not None or not row.is_active:
        raise TokenRevoked
    if row.expires_at is not None and row.expires_at <= now:
        raise TokenExpired(row.expires_at)


def _in_grace(
    repository: TokenRepository, row: TokenRow, now: datetime, uses: UseLog | None
) -> bool:
    """Whether a rotated token may still be used: its successor may not have arrived."""
    if now >= row.replaced_at + GRACE:
        return False
    successor = repository.successor(row.id)
    if successor is None or successor.last_used_at is not None:
        return False
    return uses is None or not uses.is_waiting(successor.id)


def _caller(
    row: TokenRow,
    judge: Judge,
    address: str | None,
    request_id: str | None,
    uses: UseLog | None,
) -> Caller:
    if uses is not None:
        first = row.last_used_at is None
        uses.note_token(
            row.id,
            last=row.last_used_at,
            address=address,
            predecessor=row.rotated_from if first else None,
        )
    return Caller(
        judge=judge,
        user_id=row.user_id,
        login=row.login,
        name=row.name,
        roles=row.roles,
        token_id=row.id,
        token_kind=row.kind,
        scopes=row.scopes,
        bounds=row.bounds,
        address=address,
        request_id=request_id,
    )


def purge_ended(session: Session, *, now: datetime, kept: timedelta = timedelta(days=30)) -> int:
    """Forget sign-in and job tokens that ended a while ago; returns how many."""
    kinds = frozenset({TokenKind.SESSION_BEARER.value, TokenKind.JOB.value})
    return TokenRepository(session).forget_ended(kinds, now - kept)
