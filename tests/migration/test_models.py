"""What the migrations build is what the models declare, on both databases."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from galley.core.tables import import_models
from galley.storage import db, migrations
from galley.storage.db import Database


@pytest.fixture
def migrated(empty_url: str, database_of_models: Database) -> Iterator[Database]:
    import_models()  # which another test of this process may have needed in part only
    database = Database(empty_url)
    migrations.upgrade(database, db.metadata)
    yield database
    database.close()


@pytest.fixture
def database_of_models(empty_url: str, request: pytest.FixtureRequest) -> Database:
    """The database that `create_all` makes, of the same kind as `migrated`."""
    kind = "sqlite" if empty_url.startswith("sqlite") else "postgres"
    made: Database = request.getfixturevalue(f"{kind}_database")
    return made


def test_the_migrations_build_what_the_models_declare(migrated: Database) -> None:
    options = {"compare_type": True, "compare_server_default": True}
    with migrated.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, db.metadata) == []


def test_both_ways_give_the_same_tables_keys_and_constraints(
    migrated: Database, database_of_models: Database
) -> None:
    ours, theirs = describe(migrated), describe(database_of_models)
    assert set(ours) == set(theirs)
    assert len(ours) > 20
    for table, facts in theirs.items():
        assert ours[table] == facts, table


def describe(database: Database) -> dict[str, Any]:
    """Each table by everything that the database itself tells about it."""
    with database.engine.connect() as connection:
        inspector = sa.inspect(connection)
        return {
            table: {
                "columns": [plain(column) for column in inspector.get_columns(table)],
                "primary": inspector.get_pk_constraint(table),
                "foreign": by_name(inspector.get_foreign_keys(table)),
                "unique": by_name(inspector.get_unique_constraints(table)),
                "indexes": by_name(inspector.get_indexes(table)),
                "checks": by_name(inspector.get_check_constraints(table)),
                "never reused": keeps_ids(connection, table),
            }
            for table in inspector.get_table_names()
        }


def by_name(facts: Any) -> list[dict[str, str]]:
    return sorted((plain(fact) for fact in facts), key=lambda fact: fact["name"])


def plain(fact: Any) -> dict[str, str]:
    """Comparable: SQL fragments by their text, everything else as it prints."""
    options = {key: str(value) for key, value in fact.get("dialect_options", {}).items()}
    return {key: repr(value) for key, value in {**fact, "dialect_options": options}.items()}


def keeps_ids(connection: sa.Connection, table: str) -> bool:
    """Whether a deleted row's id is never given out again."""
    if connection.dialect.name != "sqlite":
        return True
    asked = sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
    return "AUTOINCREMENT" in str(connection.scalar(asked, {"name": table}))
