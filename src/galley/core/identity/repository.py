"""All SQL of identity."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from galley.core.errors import NotFound
from galley.core.identity.errors import LoginTaken
from galley.core.identity.models import LoginFailure, SetupToken, Token, User, WebSession
from galley.kit.pages import Page, PageRequest

_users = User.__table__.c
_tokens = Token.__table__.c
_sessions = WebSession.__table__.c

_TOKEN_WITH_OWNER = sa.select(
    _tokens.id,
    _tokens.kind,
    _tokens.digest,
    _tokens.scopes,
    _tokens.bounds,
    _tokens.expires_at,
    _tokens.revoked_at,
    _tokens.replaced_at,
    _tokens.last_used_at,
    _tokens.rotated_from,
    _users.id.label("user_id"),
    _users.login,
    _users.name,
    _users.roles,
    _users.is_active,
).join_from(Token.__table__, User.__table__, _tokens.user_id == _users.id)

TokenRow = Row[*tuple[Any, ...]]
"""What `_TOKEN_WITH_OWNER` selects."""

_BY_DIGEST = _TOKEN_WITH_OWNER.where(_tokens.digest == sa.bindparam("digest"))
_BY_KEY_ID = _TOKEN_WITH_OWNER.where(_tokens.key_id == sa.bindparam("key_id"))


class UserRepository:
    """Users by id, login and kind."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, user: User) -> User:
        """Store a new user; the unique key decides who gets a login.

        Raises:
            LoginTaken: somebody has it.
        """
        try:
            with self._session.begin_nested():
                self._session.add(user)
        except IntegrityError as error:
            raise LoginTaken(user.login) from error
        return user

    def find(self, login: str) -> User | None:
        """The user of a login (already in its stored spelling)."""
        return self._session.scalar(select(User).where(User.login == login))

    def activity_of(self, logins: Collection[str]) -> dict[str, bool]:
        """Of some logins those that exist -> whether the user is active."""
        rows = select(User.login, User.is_active).where(User.login.in_(logins))
        return {row.login: row.is_active for row in self._session.execute(rows)}

    def get(self, user_id: int) -> User:
        """The user of an id.

        Raises:
            NotFound: there is none.
        """
        user = self._session.get(User, user_id)
        if user is None:
            raise NotFound(f"There is no user {user_id}.")
        return user

    def own(self, user: User) -> User:
        """The same user in this session, where a change to it is kept."""
        return user if user in self._session else self.get(user.id)

    def list_by_login(self, page: PageRequest) -> Page[User]:
        """Users, A to Z."""
        total = self._session.scalar(select(func.count()).select_from(User)) or 0
        rows = select(User).order_by(User.login).limit(page.limit).offset(page.offset)
        return Page(items=self._session.scalars(rows).all(), total=total, request=page)

    def any_exists(self) -> bool:
        """Whether anybody but bots is there yet."""
        return self._session.scalar(select(User.id).where(User.kind == "user").limit(1)) is not None

    def lock_active(self) -> Sequence[User]:
        """All active users, locked, so that two callers cannot both take the last admin away."""
        rows = select(User).where(User.is_active, User.kind == "user").order_by(User.id)
        return self._session.scalars(rows.with_for_update()).all()


class TokenRepository:
    """Tokens by digest, pair and owner."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, token: Token) -> Token:
        """Store a new token."""
        self._session.add(token)
        self._session.flush()
        return token

    def find_with_owner(self, digest: str) -> TokenRow | None:
        """What judging a call needs of a token and its owner: one row, no mapped objects."""
        return self._session.execute(_BY_DIGEST, {"digest": digest}).one_or_none()

    def find_pair_with_owner(self, key_id: str) -> TokenRow | None:
        """The same, by the public half of a pair."""
        return self._session.execute(_BY_KEY_ID, {"key_id": key_id}).one_or_none()

    def lock(self, digest: str) -> Token | None:
        """The token of a digest, locked for a change."""
        rows = select(Token).where(Token.digest == digest).with_for_update()
        return self._session.scalar(rows)

    def find(self, token_id: int) -> Token | None:
        """The token of an id, as it is now, or None."""
        return self._session.get(Token, token_id, populate_existing=True)

    def get(self, token_id: int) -> Token:
        """The token of an id.

        Raises:
            NotFound: there is none.
        """
        token = self._session.get(Token, token_id)
        if token is None:
            raise NotFound(f"There is no token {token_id}.")
        return token

    def own(self, token: Token) -> Token:
        """The same token in this session, where a change to it is kept."""
        return token if token in self._session else self.get(token.id)

    def successor(self, token_id: int) -> Token | None:
        """The newest token that a rotation made out of this one."""
        rows = select(Token).where(Token.rotated_from == token_id).order_by(Token.id.desc())
        return self._session.scalar(rows.limit(1))

    def list_of(self, user_id: int, kinds: frozenset[str], page: PageRequest) -> Page[Token]:
        """A user's tokens of some kinds, newest first; revoked ones too."""
        mine = sa.and_(Token.user_id == user_id, Token.kind.in_(kinds))
        total = self._session.scalar(select(func.count()).select_from(Token).where(mine)) or 0
        rows = select(Token).where(mine).order_by(Token.id.desc())
        rows = rows.limit(page.limit).offset(page.offset)
        return Page(items=self._session.scalars(rows).all(), total=total, request=page)

    def revoke_kinds(self, user_id: int, kinds: frozenset[str], at: datetime) -> None:
        """Revoke all of a user's tokens of some kinds."""
        mine = sa.and_(Token.user_id == user_id, Token.kind.in_(kinds), Token.revoked_at.is_(None))
        self._session.execute(sa.update(Token).where(mine).values(revoked_at=at))

    def revoke_family(self, token: Token, at: datetime) -> None:
        """Revoke a token and all that rotations made before and after it."""
        family = token.family_id or token.id
        same = sa.or_(Token.id == family, Token.family_id == family)
        self._session.execute(
            sa.update(Token).where(same, Token.revoked_at.is_(None)).values(revoked_at=at)
        )

    def forget_ended(self, kinds: frozenset[str], before: datetime) -> int:
        """Delete the tokens of some kinds that ended before a moment; returns how many."""
        over = sa.or_(Token.expires_at < before, Token.revoked_at < before)
        gone = self._session.execute(sa.delete(Token).where(Token.kind.in_(kinds), over))
        return int(gone.rowcount)  # type: ignore[attr-defined]


class WebSessionRepository:
    """Browser sessions by digest and owner."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, web_session: WebSession) -> WebSession:
        """Store a new session."""
        self._session.add(web_session)
        self._session.flush()
        return web_session

    def find_with_owner(self, digest: str) -> tuple[WebSession, User] | None:
        """The session of a cookie's digest, and whose it is."""
        rows = (
            select(WebSession, User)
            .join(User, WebSession.user_id == User.id)
            .where(WebSession.digest == digest)
        )
        found = self._session.execute(rows).one_or_none()
        return None if found is None else (found[0], found[1])

    def list_open(self, user_id: int, created_after: datetime) -> Sequence[WebSession]:
        """A user's sessions that are neither closed nor older than a moment, newest first."""
        rows = select(WebSession).where(
            WebSession.user_id == user_id,
            WebSession.closed_at.is_(None),
            WebSession.created_at > created_after,
        )
        return self._session.scalars(rows.order_by(WebSession.id.desc())).all()

    def get(self, uid: str) -> WebSession:
        """The session of a public name.

        Raises:
            NotFound: there is none.
        """
        found = self._session.scalar(select(WebSession).where(WebSession.uid == uid))
        if found is None:
            raise NotFound(f"There is no session {uid}.")
        return found

    def own(self, web_session: WebSession) -> WebSession:
        """The same row in this session, where a change to it is kept."""
        return web_session if web_session in self._session else self.get(web_session.uid)

    def close_all(self, user_id: int, at: datetime, *, but: int | None = None) -> None:
        """Close a user's sessions, except one."""
        mine = [WebSession.user_id == user_id, WebSession.closed_at.is_(None)]
        if but is not None:
            mine.append(WebSession.id != but)
        self._session.execute(sa.update(WebSession).where(*mine).values(closed_at=at))

    def forget(self, created_before: datetime) -> int:
        """Delete the sessions that began before a moment; returns how many."""
        gone = self._session.execute(
            sa.delete(WebSession).where(WebSession.created_at < created_before)
        )
        return int(gone.rowcount)  # type: ignore[attr-defined]


class SetupRepository:
    """The set-up link."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def replace(self, token: SetupToken) -> None:
        """Store a link's token; earlier ones end."""
        self._session.execute(sa.delete(SetupToken))
        self._session.add(token)
        self._session.flush()

    def is_open(self, digest: str, at: datetime) -> bool:
        """Whether the token can still be redeemed."""
        return self._session.scalar(select(SetupToken.digest).where(*_open(digest, at))) is not None

    def use(self, digest: str, at: datetime) -> bool:
        """Use the token up; of two callers at once only one is told True."""
        used = self._session.execute(
            sa.update(SetupToken).where(*_open(digest, at)).values(used_at=at)
        )
        return bool(used.rowcount == 1)  # type: ignore[attr-defined]


class LoginFailureRepository:
    """Refused sign-ins of the last while."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, account_key: str, address_key: str, at: datetime) -> None:
        """Count one more."""
        self._session.add(LoginFailure(account_key=account_key, address_key=address_key, at=at))
        self._session.flush()

    def of_account(self, account_key: str, since: datetime, limit: int) -> Sequence[datetime]:
        """When the newest failures of an account from one address were, newest first."""
        return self._times(LoginFailure.account_key == account_key, since, limit)

    def of_address(self, address_key: str, since: datetime, limit: int) -> Sequence[datetime]:
        """When the newest failures from an address were, newest first."""
        return self._times(LoginFailure.address_key == address_key, since, limit)

    def _times(
        self, which: sa.ColumnElement[bool], since: datetime, limit: int
    ) -> Sequence[datetime]:
        rows = select(LoginFailure.at).where(which, LoginFailure.at > since)
        rows = rows.order_by(LoginFailure.at.desc(), LoginFailure.id.desc())
        return self._session.scalars(rows.limit(limit)).all()

    def forget(self, account_key: str) -> None:
        """An account signed in well from an address: start counting afresh."""
        self._session.execute(
            sa.delete(LoginFailure).where(LoginFailure.account_key == account_key)
        )

    def forget_before(self, at: datetime) -> None:
        """Delete what is older than the window."""
        self._session.execute(sa.delete(LoginFailure).where(LoginFailure.at <= at))


def _open(digest: str, at: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        SetupToken.digest == digest,
        SetupToken.used_at.is_(None),
        SetupToken.expires_at > at,
    )
