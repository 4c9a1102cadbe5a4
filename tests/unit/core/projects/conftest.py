"""A seeded account with a repository, and callers of each sort."""

from collections.abc import Callable
from pathlib import Path

import pytest

from galley.core.caller import Caller
from galley.core.identity.models import User
from galley.core.identity.policy import JUDGE
from galley.core.projects.operations import seed_account
from galley.kit.clock import ManualClock
from galley.kit.ids import new_uid
from galley.storage.db import Database
from galley.storage.git import GitStore

People = Callable[..., Caller]


@pytest.fixture
def people() -> People:
    """Callers by login; a member unless roles are given."""

    def one(login: str, *roles: str) -> Caller:
        return Caller(
            judge=JUDGE,
            user_id=sum(login.encode()),
            login=f"{login}@example.org",
            name=login.title(),
            roles=frozenset(roles or {"member"}),
        )

    return one


@pytest.fixture
def ann(people: People) -> Caller:
    return people("ann")


@pytest.fixture
def admin(people: People) -> Caller:
    return people("root", "admin")


@pytest.fixture
def repositories(tmp_path: Path) -> GitStore:
    return GitStore(tmp_path / "repositories")


@pytest.fixture
def account(database: Database, repositories: GitStore, manual_clock: ManualClock) -> Database:
    """The database after the account was seeded; Ann, Bob and Eve are its users."""
    seed_account(database, repositories, manual_clock)
    with database.writing() as session:
        for name in ("ann", "bob", "eve"):
            session.add(
                User(
                    uid=new_uid(), login=f"{name}@example.org", roles=frozenset({"member"}),
                    created_at=manual_clock.now(),
                )
            )  # fmt: skip
    return database
