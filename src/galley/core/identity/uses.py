"""When credentials were last used: gathered in memory, written now and then in one transaction.

So a read stays a read. The composition root keeps one `UseLog` for the process, gives it to
whoever turns credentials into callers, and flushes it every second or so; nothing happens when
nothing is pending.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.events import audit
from galley.core.identity.actors import nobody
from galley.core.identity.models import Token, WebSession
from galley.kit.clock import Clock
from galley.storage.db import Database

COARSE = timedelta(minutes=1)
"""A use is written only when the one before is older than this."""

_REPORTED_AT_MOST = 10_000


@dataclass(frozen=True, slots=True)
class _Use:
    at: datetime
    address: str | None
    predecessor: int | None = None


class UseLog:
    """Uses that wait to be written. All methods may be called from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[int, _Use] = {}
        self._sessions: dict[int, _Use] = {}
        self._replays: dict[int, _Use] = {}
        self._reported: dict[int, datetime] = {}

    def note_token(
        self,
        token_id: int,
        *,
        last: datetime | None,
        address: str | None,
        predecessor: int | None = None,
    ) -> None:
        """A token was used; `predecessor` is the token it replaced, if this is its first use."""
        now = self._clock.now()
        if last is None or now - last >= COARSE:
            with self._lock:
                self._tokens[token_id] = _Use(now, address, predecessor)

    def note_session(self, session_id: int, *, last: datetime, address: str | None) -> None:
        """A browser session was used."""
        now = self._clock.now()
        if now - last >= COARSE:
            with self._lock:
                self._sessions[session_id] = _Use(now, address)

    def note_replay(self, token_id: int, *, address: str | None) -> None:
        """A token came back after it was replaced; told to the audit once an hour for each."""
        now = self._clock.now()
        with self._lock:
            told = self._reported.get(token_id)
            if told is not None and now - told < timedelta(hours=1):
                return
            if len(self._reported) >= _REPORTED_AT_MOST:
                self._reported.clear()
            self._reported[token_id] = now
            self._replays[token_id] = _Use(now, address)

    def is_waiting(self, token_id: int) -> bool:
        """Whether a use of this token waits to be written."""
        with self._lock:
            return token_id in self._tokens

    def flush(self, database: Database) -> int:
        """Write what is pending; returns how many uses that were.

        On an error they stay pending and the error goes to the caller.
        """
        with self._lock:
            tokens, self._tokens = self._tokens, {}
            sessions, self._sessions = self._sessions, {}
            replays, self._replays = self._replays, {}
        if not (tokens or sessions or replays):
            return 0
        try:
            with database.writing() as session:
                _write_tokens(session, tokens)
                _write_sessions(session, sessions)
                _write_replays(session, replays)
        except BaseException:
            with self._lock:
                self._tokens = tokens | self._tokens
                self._sessions = sessions | self._sessions
                self._replays = replays | self._replays
            raise
        return len(tokens) + len(sessions) + len(replays)


def _write_tokens(session: Session, uses: Mapping[int, _Use]) -> None:
    for token_id, use in sorted(uses.items()):
        session.execute(
            sa.update(Token)
            .where(Token.id == token_id)
            .values(last_used_at=use.at, last_ip=use.address)
        )
        if use.predecessor is not None:
            session.execute(
                sa.update(Token)
                .where(Token.id == use.predecessor, Token.revoked_at.is_(None))
                .values(revoked_at=use.at)
            )


def _write_sessions(session: Session, uses: Mapping[int, _Use]) -> None:
    for session_id, use in sorted(uses.items()):
        session.execute(
            sa.update(WebSession).where(WebSession.id == session_id).values(last_seen_at=use.at)
        )


def _write_replays(session: Session, uses: Mapping[int, _Use]) -> None:
    told = [
        audit.entry(
            nobody(address=use.address),
            "token.replay",
            "token",
            token_id,
            at=use.at,
            outcome="denied",
        )
        for token_id, use in sorted(uses.items())
    ]
    audit.append(session, told)
