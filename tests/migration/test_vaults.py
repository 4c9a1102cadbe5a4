"""Kitchens that had secrets before there were vaults keep them, and hand them down as before."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from galley.storage import db, migrations
from galley.storage.db import Database


@pytest.fixture
def older(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    migrations.upgrade(database, db.metadata, to="0002")
    yield database
    database.close()


def test_kitchens_with_secrets_get_a_vault_that_is_inherited(older: Database) -> None:
    with older.connection() as connection:
        for scope, path, at in (
            ("account", "a", 1),
            ("kitchen:12", "a", 5),
            ("kitchen:12", "b", 3),
            ("kitchen:7", "a", 4),
        ):
            connection.execute(
                sa.text(
                    "INSERT INTO secret (scope, path, version, sealed, created_at, updated_at)"
                    " VALUES (:scope, :path, 1, 's', :at, :at)"
                ),
                {"scope": scope, "path": path, "at": at},
            )
    migrations.upgrade(older, db.metadata)
    with older.reading() as session:
        rows = session.execute(sa.text("SELECT * FROM vault_config ORDER BY scope"))
        found = [row._asdict() for row in rows]
    whole = {
        "service": "default", "url": "", "prefix": "", "is_private": False, "is_inheritable": True,
        "version": 1, "sealed_token": None, "updated_by": None,
    }  # fmt: skip
    assert [{**row, "id": 0} for row in found] == [
        {"id": 0, "scope": "kitchen:12", "created_at": 3, "updated_at": 3, **whole},
        {"id": 0, "scope": "kitchen:7", "created_at": 4, "updated_at": 4, **whole},
    ]
    assert all(row["id"] for row in found)
