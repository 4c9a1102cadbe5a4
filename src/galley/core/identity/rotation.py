"""Rotating tokens: a new text for the same rights, safe against lost answers and stolen copies."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.events import audit
from galley.core.identity import tokens
from galley.core.identity.actors import nobody
from galley.core.identity.credentials import GRACE, caller_for_token
from galley.core.identity.errors import TokenInvalid, TokenReplaced
from galley.core.identity.issuing import IssuedToken, checked_end, make_token, record
from galley.core.identity.models import Token
from galley.core.identity.repository import TokenRepository
from galley.core.identity.tokens import TokenKind
from galley.kit.clock import Clock
from galley.storage.db import Database, metadata

Companions = Callable[[IssuedToken], Sequence[tuple[str, dict[str, Any]]]]


def rotate_token(
    database: Database,
    text: str,
    *,
    accepts: frozenset[str],
    lifetime_s: float | None = None,
    clock: Clock,
    address: str | None = None,
    request_id: str | None = None,
    companions: Companions | None = None,
) -> IssuedToken:
    """Replace a token by a new one with the same rights, as its holder.

    The old one works on for 60 s or until the new one is used, whichever comes first, so a lost
    answer locks nobody out: asking again in that time replaces the unused successor. Later it is
    a stolen copy or a mistake, and the whole family is revoked. Runs its own transaction, in
    which the rows of `companions` (an idempotency row, say) are written too.

    Raises:
        TokenReplaced: it had been replaced; its family is revoked now.
        Unauthenticated: unknown, expired, revoked or of a kind that cannot be rotated.
    """
    rotatable = accepts - {TokenKind.SESSION_BEARER.value, TokenKind.SETUP.value}
    with database.writing() as session:
        old = TokenRepository(session).lock(tokens.digest_of(text))
        if old is None:
            raise TokenInvalid
        if _is_replay(session, old, clock.now()):
            _revoke_family(session, old, clock.now(), address, request_id)
        else:
            return _rotated(
                session,
                old,
                caller_for_token(
                    session,
                    text,
                    accepts=rotatable,
                    clock=clock,
                    address=address,
                    request_id=request_id,
                ),
                end=checked_end(TokenKind(old.kind), clock.now(), lifetime_s, None),
                at=clock.now(),
                companions=companions,
            )
    raise TokenReplaced


def _is_replay(session: Session, old: Token, now: datetime) -> bool:
    """Whether a token comes back that its successor has taken over from."""
    if old.replaced_at is None:
        return False
    successor = TokenRepository(session).successor(old.id)
    arrived = successor is not None and successor.last_used_at is not None
    return arrived or now >= old.replaced_at + GRACE


def _rotated(
    session: Session,
    old: Token,
    holder: Caller,
    *,
    end: datetime | None,
    at: datetime,
    companions: Companions | None,
) -> IssuedToken:
    repository = TokenRepository(session)
    lost = repository.successor(old.id)
    if lost is not None and lost.revoked_at is None:
        lost.revoked_at = at
    new, text = make_token(TokenKind(old.kind), at, end)
    new.user_id, new.name, new.created_by = old.user_id, old.name, holder.user_id
    new.scopes, new.bounds = old.scopes, old.bounds
    new.rotated_from, new.family_id = old.id, old.family_id or old.id
    old.replaced_at = old.replaced_at or at
    issued = IssuedToken(repository.add(new), text)
    for table, row in companions(issued) if companions else ():
        session.execute(metadata.tables[table].insert(), row)
    record(session, holder, "token.rotate", new, at)
    return issued


def _revoke_family(
    session: Session, old: Token, at: datetime, address: str | None, request_id: str | None
) -> None:
    TokenRepository(session).revoke_family(old, at)
    told = audit.entry(
        nobody(address=address, request_id=request_id),
        "token.replay",
        "token",
        old.id,
        after={"family": old.family_id or old.id},
        at=at,
        outcome="denied",
    )
    audit.append(session, [told])
