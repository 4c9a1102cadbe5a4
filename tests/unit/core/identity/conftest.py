"""Users at hand, with cheap password hashes: what a real hash costs is tested on its own."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from argon2 import PasswordHasher

from galley.core.caller import Caller
from galley.core.identity import operations as identity
from galley.core.identity import passwords
from galley.core.identity.models import User
from galley.core.identity.policy import JUDGE
from galley.kit.clock import ManualClock
from galley.storage.db import Database

PASSWORD = "four unrelated words"


@pytest.fixture
def cheap_hashing(monkeypatch: pytest.MonkeyPatch) -> PasswordHasher:
    """Hashes that take microseconds instead of 80 ms."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", hasher)
    monkeypatch.setattr(passwords, "NOBODY", hasher.hash("nobody"))
    return hasher


@dataclass
class People:
    """Makes users and callers in a database."""

    database: Database
    clock: ManualClock

    def add(self, login: str, *roles: str, password: str | None = PASSWORD) -> User:
        with self.database.writing() as session:
            return identity.create_user(
                session,
                email=login,
                name=login.partition("@")[0].title(),
                password=password,
                roles=roles or ("member",),
                clock=self.clock,
            )

    def token(self, user: User, kind: str = "personal", **how: object) -> identity.IssuedToken:
        if kind == "job":
            how.setdefault("bounds", {"project:1"})
        with self.database.writing() as session:
            return identity.issue_token(session, user, kind=kind, clock=self.clock, **how)  # type: ignore[arg-type]

    def caller(self, user: User, **how: object) -> Caller:
        return Caller(
            judge=JUDGE,
            user_id=user.id,
            login=user.login,
            name=user.name,
            roles=user.roles,
            **how,  # type: ignore[arg-type]
        )

    def call(self, text: str, *accepts: str, uses: identity.UseLog | None = None) -> Caller:
        with self.database.reading() as session:
            return identity.caller_for_token(
                session,
                text,
                accepts=frozenset(accepts or ("personal",)),
                clock=self.clock,
                address="192.0.2.7",
                uses=uses,
            )


@pytest.fixture
def people(database: Database, manual_clock: ManualClock, cheap_hashing: object) -> People:
    """An empty account."""
    return People(database, manual_clock)


@pytest.fixture
def sign_in(database: Database, manual_clock: ManualClock) -> Callable[..., User]:
    """`log_in` with the usual arguments."""

    def attempt(
        login: str = "ann@example.org", password: str = PASSWORD, address: str | None = "192.0.2.7"
    ) -> User:
        return identity.log_in(
            database, login=login, password=password, address=address, clock=manual_clock
        )

    return attempt
