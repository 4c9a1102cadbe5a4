"""What holds for every system with tables: inserts, modes, statements, transactions."""

import pytest
from tests.conformance.connectors.rigs import SAMPLE
from tests.conformance.connectors.test_connectors import content

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import connector
from galley.engine.faults import StepError


def test_rows_for_a_table_that_is_not_there_are_refused(base, system, rows):
    with pytest.raises(StepError, match=r"no table orders.*write-mode"):
        system.write(base.config, KeySpec("w", "insert", table="orders"), rows(SAMPLE))


def test_a_column_that_is_not_there_is_named(base, system, rows):
    system.write(base.config, base.write, rows("SELECT 1 AS id, 'a' AS name"))
    with pytest.raises(StepError, match="no column wrong; it has id, name"):
        system.write(base.config, base.write, rows("SELECT 1 AS id, 'a' AS wrong"))


def test_a_failed_insert_keeps_nothing(base, system, place, rows, into):
    table = "CREATE TABLE strict (id INTEGER NOT NULL)"
    system.run(base.config, KeySpec("s", "statement", sql=table))
    bad = rows("SELECT CASE WHEN i < 5000 THEN i END AS id FROM range(5001) t(i)")
    with pytest.raises(StepError):
        system.write(base.config, KeySpec("w", "insert", table="strict"), bad)
    count = KeySpec("c", "scalar", sql="SELECT count(*) FROM strict")
    assert system.run(base.config, count).value == 0


@pytest.mark.parametrize("mode", ["append", "create", "replace", "truncate"])
def test_write_modes(base, system, rows, mode):
    system.write(base.config, base.write, rows("SELECT 1 AS id"))
    key = KeySpec("w", "insert", table="orders", options={"write-mode": mode})
    written = system.write(base.config, key, rows("SELECT 2 AS id UNION ALL SELECT 3"))
    assert written.row_count == 2
    count = system.run(base.config, KeySpec("c", "scalar", sql="SELECT count(*) FROM orders"))
    assert count.value == (3 if mode in {"append", "create"} else 2)


def test_an_unknown_write_mode_is_refused(base, system, rows):
    key = KeySpec("w", "insert", table="orders", options={"write-mode": "upsert"})
    with pytest.raises(StepError, match="upsert is not one of append, create, replace, truncate"):
        system.write(base.config, key, rows("SELECT 1 AS id"))


def test_csv_text_goes_into_the_types_of_the_table(base, system, place, into):
    table = "CREATE TABLE parts (code VARCHAR(10), amount INTEGER)"
    system.run(base.config, KeySpec("s", "statement", sql=table))
    source = place.work / "parts.csv"
    source.write_text('code,amount\n007,1\n"",2\n,3\n')
    files = connector("file", place)
    batch = files.read({}, KeySpec("p", "read_file", path="parts.csv"), into())

    system.write(base.config, KeySpec("w", "insert", table="parts"), batch)

    back = system.read(base.config, KeySpec("r", "query", sql="SELECT * FROM parts"), into())
    _, found = content(place, back, order="amount")
    assert found == [("007", 1), ("", 2), (None, 3)]


def test_a_headless_csv_goes_by_position(base, system, place, into):
    table = "CREATE TABLE pairs (a INTEGER, b VARCHAR(10))"
    system.run(base.config, KeySpec("s", "statement", sql=table))
    (place.work / "pairs.csv").write_text("1,x\n2,y\n")
    key = KeySpec("p", "read_file", path="pairs.csv", header=False)
    batch = connector("file", place).read({}, key, into())

    system.write(base.config, KeySpec("w", "insert", table="pairs"), batch)

    value = KeySpec("c", "scalar", sql="SELECT count(*) FROM pairs WHERE a = 2 AND b = 'y'")
    assert system.run(base.config, value).value == 1


def test_bulk_insert_by_statement_names_table_and_columns(base, system, rows):
    system.run(base.config, KeySpec("s", "statement", sql="CREATE TABLE two (a INT, b INT)"))
    key = KeySpec("w", "insert", sql="INSERT INTO two (b, a) VALUES (?, ?)")
    system.write(base.config, key, rows("SELECT 1 AS x, 2 AS y"))
    value = KeySpec("c", "scalar", sql="SELECT a * 10 + b FROM two")
    assert system.run(base.config, value).value == 21


def test_statements_run_in_one_transaction(base, system):
    made = "CREATE TABLE log (n INT); INSERT INTO log VALUES (1); INSERT INTO log VALUES (2)"
    system.run(base.config, KeySpec("s", "statement", sql=made))
    bad = "INSERT INTO log VALUES (3); INSERT INTO nowhere VALUES (1)"
    with pytest.raises(StepError, match="nowhere"):
        system.run(base.config, KeySpec("s", "statement", sql=bad))
    count = KeySpec("c", "scalar", sql="SELECT count(*) FROM log")
    assert system.run(base.config, count).value == 2
