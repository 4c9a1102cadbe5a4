"""Rows that go straight to the driver arrive as those that SQLAlchemy sends one by one."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from galley.core.runs import models
from galley.storage import rows
from galley.storage.db import Database, is_outcome_unknown

NOW = datetime(2026, 11, 25, 1, 2, 3, 456789, tzinfo=UTC)
ORDER = {
    "uid": "it's 100 % \\ \N{SNOWMAN} $1", "project_id": 2**62, "kitchen": None,
    "source_kind": "", "source_path": "a\nb", "variation": "v", "origin": "api", "state": "active",
    "schedule": None, "parameters": {"a": ["\0", 1.5, None]}, "created_at": NOW, "updated_at": NOW,
}  # fmt: skip


def stored(database: Database, table: sa.Table) -> list[dict[str, Any]]:
    with database.reading() as session:
        query = sa.select(table).order_by(table.c.id)
        return [dict(found) for found in session.execute(query).mappings()]


def test_values_arrive_as_they_were_and_missing_ones_as_their_defaults(
    database: Database,
) -> None:
    bare, full = {"id": 1, **ORDER}, {"id": 2, **ORDER, "uid": "2", "priority": -5, "alerts": []}
    with database.connection() as connection:
        rows.write(connection, [(models.orders, [bare, full])], [])
    found = stored(database, models.orders)
    with database.connection() as connection:
        connection.execute(models.orders.delete())
        connection.execute(models.orders.insert(), bare)
        connection.execute(models.orders.insert(), full)
    assert found == stored(database, models.orders)
    assert found[0]["parameters"] == ORDER["parameters"]
    assert [(row["priority"], row["created_by_login"]) for row in found] == [(0, ""), (-5, "")]


def test_changes_reach_the_rows_of_their_ids_in_whatever_columns(
    database: Database,
) -> None:
    new = [{"id": n, **ORDER, "uid": str(n)} for n in (1, 2, 3)]
    changes = {1: {"state": "failed"}, 3: {"state": "stopped", "priority": 7, "schedule": {}}}
    with database.connection() as connection:
        rows.write(connection, [(models.orders, new)], [(models.orders, changes)])
    found = stored(database, models.orders)
    told = [(row["state"], row["priority"], row["schedule"]) for row in found]
    assert told == [("failed", 0, None), ("active", 0, None), ("stopped", 7, {})]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.1, 1e-300, -1.5e300])
def test_floats_keep_every_bit(database: Database, value: float) -> None:
    with database.connection() as connection:
        connection.exec_driver_sql("create temporary table floats (id bigint, value float)")
        table = sa.Table(
            "floats", sa.MetaData(), sa.Column("id", sa.BigInteger), sa.Column("value", sa.Float)
        )
        rows.write(connection, [(table, [{"id": 1, "value": value}])], [])
        found = connection.scalar(sa.select(table.c.value))
    assert repr(found) == repr(None if database.is_sqlite and math.isnan(value) else value)


def test_a_row_that_stands_in_the_way_of_another_voids_them_all(database: Database) -> None:
    void(database, {"uid": "1"}, IntegrityError)


@pytest.mark.parametrize("odd", [{"state": "a\0b"}, {"priority": 2**40}])
def test_a_value_that_no_column_holds_voids_all_rows(
    postgres_database: Database, odd: dict[str, Any]
) -> None:
    void(postgres_database, odd, DataError)


def void(database: Database, odd: dict[str, Any], error: type[Exception]) -> None:
    new = [{"id": 1, **ORDER, "uid": "1"}, {"id": 2, **ORDER, "uid": "2"} | odd]
    with pytest.raises(error), database.connection() as connection:
        rows.write(connection, [(models.orders, new)], [(models.orders, {1: {"priority": 1}})])
    assert stored(database, models.orders) == []


@pytest.mark.parametrize("is_new", [True, False])
def test_half_a_character_is_refused_like_any_value_that_cannot_be_sent(
    database: Database, is_new: bool
) -> None:
    odd = {"state": "\ud800"}
    inserts = [(models.orders, [{"id": 1, **ORDER, **(odd if is_new else {})}])]
    updates = [] if is_new else [(models.orders, {1: odd})]
    refused = pytest.raises(StatementError, match="surrogates not allowed")
    with refused, database.connection() as connection:
        rows.write(connection, inserts, updates)
    assert stored(database, models.orders) == []


def test_a_connection_that_breaks_on_the_way_is_not_used_again(
    postgres_database: Database,
) -> None:
    def write_on_a_broken_one() -> None:
        with postgres_database.connection() as connection:
            pid = connection.scalar(sa.text("select pg_backend_pid()"))
            with postgres_database.connection() as other:
                other.execute(sa.text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            rows.write(connection, [(models.orders, [{"id": 1, **ORDER}])], [])

    with pytest.raises(DBAPIError) as caught:
        write_on_a_broken_one()
    assert is_outcome_unknown(caught.value)
    for _ in range(3):
        assert stored(postgres_database, models.orders) == []


def test_the_first_statement_begins_the_transaction_that_all_stand_or_fall_with(
    postgres_database: Database,
) -> None:
    text = "update run_order set state = %s where id = %s"
    with postgres_database.connection() as connection:
        rows.write(connection, [(models.orders, [{"id": 1, **ORDER}])], [])
    with postgres_database.connection() as connection:
        assert rows.change_first(connection, text, ("failed", 1)) == 1
        assert rows.change_first(connection, text, ("failed", 2)) == 0
        connection.rollback()
    assert stored(postgres_database, models.orders)[0]["state"] == "active"
    with pytest.raises(DataError), postgres_database.connection() as connection:
        rows.change_first(connection, "select 1 / %s::integer", (0,))
