"""The tables of identity: users, tokens, browser sessions, set-up links and failed sign-ins.

Whatever authenticates is stored as a SHA-256 or an argon2id hash only: a stolen database opens
nothing.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from galley.storage.db import Base, Id, UtcTime

ROLES = frozenset({"admin", "operator", "member"})
"""The account-wide roles. Everybody who may do anything is at least a `member`."""


class NameSet(TypeDecorator[frozenset[str]]):
    """A set of short names, stored as a sorted JSON list in a text column; NULL stays None."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Iterable[str] | None, dialect: sa.Dialect) -> str | None:
        """Encode, sorted, so that equal sets are equal texts."""
        del dialect
        return None if value is None else json.dumps(sorted(value), separators=(",", ":"))

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> frozenset[str] | None:
        """Decode into a frozenset."""
        del dialect
        return None if value is None else frozenset(json.loads(value))


class User(Base):
    """Somebody, or a bot, who may call. Users are disabled, never deleted: history names them.

    `login` is an e-mail address in lower case (a bot's is its name); `password_hash` is None for
    those who cannot sign in by password; `kind` is `user` or `bot`.
    """

    __tablename__ = "account_user"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uid: Mapped[str] = mapped_column(Text, unique=True)
    login: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text, default="")
    kind: Mapped[str] = mapped_column(Text, default="user")
    password_hash: Mapped[str | None] = mapped_column(Text)
    roles: Mapped[frozenset[str]] = mapped_column(NameSet)
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    last_login_at: Mapped[datetime | None] = mapped_column(UtcTime)

    @property
    def email(self) -> str:
        """The address that mail to this user goes to; it is the login."""
        return self.login

    def policy_kind(self) -> str:
        """The word the policy table uses for users."""
        return "user"

    @property
    def owner_id(self) -> int:
        """Whose it is: one's own user belongs to oneself."""
        return self.id


class Token(Base):
    """A credential for the APIs, known by the SHA-256 of its text.

    `scopes` None means that it does not narrow its owner's rights; `bounds` None likewise, else
    `kind:id` names (`project:1`, `kitchen:7`) outside of which it may not act. `key_id` is the
    public half of a pair. Rotated tokens share `family_id`, the id of the first of them;
    `replaced_at` is when a rotation took its place.
    """

    __tablename__ = "token"
    __table_args__ = (
        Index(None, "user_id", "id"),
        Index(None, "family_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uid: Mapped[str] = mapped_column(Text, unique=True)
    kind: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(Text, unique=True)
    key_id: Mapped[str | None] = mapped_column(Text, unique=True)
    user_id: Mapped[int] = mapped_column(Id, ForeignKey("account_user.id"))
    name: Mapped[str] = mapped_column(Text, default="")
    scopes: Mapped[frozenset[str] | None] = mapped_column(NameSet)
    bounds: Mapped[frozenset[str] | None] = mapped_column(NameSet)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    created_by: Mapped[int | None] = mapped_column(Id)
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)
    replaced_at: Mapped[datetime | None] = mapped_column(UtcTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcTime)
    last_ip: Mapped[str | None] = mapped_column(Text)
    rotated_from: Mapped[int | None] = mapped_column(Id, ForeignKey("token.id"))
    family_id: Mapped[int | None] = mapped_column(Id)

    def policy_kind(self) -> str:
        """The word the policy table uses for tokens."""
        return "token"

    @property
    def owner_id(self) -> int:
        """Whose it is."""
        return self.user_id


class WebSession(Base):
    """A signed-in browser, known by the SHA-256 of its cookie."""

    __tablename__ = "web_session"
    __table_args__ = (Index(None, "user_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uid: Mapped[str] = mapped_column(Text, unique=True)
    digest: Mapped[str] = mapped_column(Text, unique=True)
    user_id: Mapped[int] = mapped_column(Id, ForeignKey("account_user.id"))
    address: Mapped[str | None] = mapped_column(Text)
    user_agent: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    last_seen_at: Mapped[datetime] = mapped_column(UtcTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcTime)

    def policy_kind(self) -> str:
        """The word the policy table uses for browser sessions: they are managed like tokens."""
        return "token"

    @property
    def owner_id(self) -> int:
        """Whose it is."""
        return self.user_id


class SetupToken(Base):
    """The one-time link of a fresh installation, known by its SHA-256."""

    __tablename__ = "setup_token"

    digest: Mapped[str] = mapped_column(Text, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcTime)


class LoginFailure(Base):
    """One refused sign-in, kept for the throttle's window; rows, so that all servers count alike.

    The keys are digests of account and address, because people type passwords into login fields.
    """

    __tablename__ = "login_failure"
    __table_args__ = (
        Index(None, "account_key", "at"),
        Index(None, "address_key", "at"),
        Index(None, "at"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    account_key: Mapped[str] = mapped_column(Text)
    address_key: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcTime)
