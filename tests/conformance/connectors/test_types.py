"""The rarer types: decimals, bytes, moments in zones, identifiers, lists, JSON."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from tests.conformance.connectors.test_connectors import content

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import connector

RICH = """
SELECT * FROM (VALUES
  (1, 1.10::DECIMAL(10,2), '\\x00\\xFF\\x0A'::BLOB, TIMESTAMPTZ '2020-01-01 00:00:00+00',
   UUID '12345678-1234-5678-1234-567812345678', [1, NULL, 3], 12::HUGEINT,
   INTERVAL 1 DAY, TIME '10:11:12', {'a': 1, 'b': 'x'}),
  (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (3, -0.01, ''::BLOB, TIMESTAMPTZ '1969-12-31 23:59:59+00',
   UUID '00000000-0000-0000-0000-000000000000', [], 170141183460469231731687303715884105727,
   INTERVAL 0 DAY, TIME '00:00:00', {'a': NULL, 'b': '"q"'})
) AS t(id, amount, bytes, moment, uid, list, big, span, tod, pair)
"""
CREATE = {"write-mode": "create"}


def round_trip(system, config, place, batch, into):
    made = connector(system, place)
    made.write(config, KeySpec("w", "insert", table="rich", options=CREATE), batch)
    back = made.read(config, KeySpec("r", "query", sql="SELECT * FROM rich"), into())
    types, found = content(place, back)
    return types, [dict(zip(types, row, strict=True)) for row in found]


def test_duckdb_keeps_everything(place, rows, into):
    sample = rows(RICH)
    types, found = round_trip("duckdb", {"database": "x.db"}, place, sample, into)
    assert (types, [tuple(row.values()) for row in found]) == content(place, sample)


def test_postgres_keeps_values_and_nulls(postgres_config, place, rows, into):
    types, found = round_trip("postgres", postgres_config, place, rows(RICH), into)
    assert types == {
        "id": "INTEGER", "amount": "DECIMAL(10,2)", "bytes": "BLOB",
        "moment": "TIMESTAMP WITH TIME ZONE", "uid": "UUID", "list": "JSON",
        "big": "VARCHAR", "span": "INTERVAL", "tod": "TIME", "pair": "JSON",
    }  # fmt: skip
    first, nothing, last = found
    assert first["amount"] == Decimal("1.10")
    assert first["bytes"] == b"\x00\xff\n"
    assert first["moment"] == datetime(2020, 1, 1, tzinfo=UTC)
    assert first["uid"] == UUID("12345678-1234-5678-1234-567812345678")
    assert first["list"] == "[1, null, 3]"
    assert first["span"] == timedelta(days=1)
    assert set(nothing.values()) == {2, None}
    assert (last["bytes"], last["list"], last["amount"]) == (b"", "[]", Decimal("-0.01"))
    assert last["big"] == "170141183460469231731687303715884105727"


def test_sqlite_keeps_bytes_and_texts(place, rows, into):
    types, found = round_trip("sqlite", {"database": "x.db"}, place, rows(RICH), into)
    assert (types["bytes"], types["amount"], types["id"]) == ("BLOB", "VARCHAR", "BIGINT")
    first, nothing, last = found
    assert (first["bytes"], first["amount"], first["tod"]) == (b"\x00\xff\n", "1.10", "10:11:12")
    assert first["list"] == "[1,null,3]"
    assert set(nothing.values()) == {2, None}
    assert (last["bytes"], last["big"]) == (b"", "170141183460469231731687303715884105727")


@pytest.mark.parametrize("name", ["x.parquet"])
def test_parquet_keeps_everything(place, rows, into, name):
    sample = rows(
        RICH.replace("::HUGEINT", "::BIGINT").replace(
            "170141183460469231731687303715884105727", "7"
        )
    )
    files = connector("file", place)
    files.write({}, KeySpec("w", "write_file", path=name), sample)
    back = files.read({}, KeySpec("r", "read_file", path=name), into())
    assert content(place, back) == content(place, sample)


def test_postgres_arrays_of_its_own(postgres_config, place, rows, into):
    made = connector("postgres", place)
    table = "CREATE TABLE rich (id int, tags text[], numbers int[])"
    made.run(postgres_config, KeySpec("s", "statement", sql=table))
    sample = rows(
        """SELECT 1 AS id, ['a "q"', 'b,c', NULL, '', 'x\\y'] AS tags, [1, 2] AS numbers
           UNION ALL SELECT 2, NULL, []"""
    )
    made.write(postgres_config, KeySpec("w", "insert", table="rich"), sample)
    ask = KeySpec(
        "s",
        "scalar",
        sql="SELECT array_to_json(tags)::text || numbers::text FROM rich WHERE id = 1",
    )
    assert made.run(postgres_config, ask).value == '["a \\"q\\"","b,c",null,"","x\\\\y"]{1,2}'
    ask = KeySpec(
        "s", "scalar", sql="SELECT tags IS NULL AND numbers = '{}' FROM rich WHERE id = 2"
    )
    assert made.run(postgres_config, ask).value is True
    back = made.read(postgres_config, KeySpec("r", "query", table="rich"), into())
    _, found = content(place, back)
    assert found[0][2] == "[1,2]"


@pytest.mark.parametrize(
    ("values", "kind", "first"),
    [
        ("(1.5), (100.25)", "DECIMAL(18,2)", Decimal("1.50")),
        ("(1::numeric), (NULL)", "DECIMAL(18,0)", Decimal(1)),
        ("('NaN'::numeric), (1)", "VARCHAR", "1"),
        ("(1e-30::numeric), (1e30)", "VARCHAR", "0.000000000000000000000000000001"),
    ],
)
def test_postgres_numbers_of_no_declared_size(postgres_config, place, into, *, values, kind, first):
    sql = f"SELECT n FROM (VALUES {values}) AS t(n) ORDER BY n"
    back = connector("postgres", place).read(
        postgres_config, KeySpec("r", "query", sql=sql), into()
    )
    types, found = content(place, back, order="n")
    assert types == {"n": kind}
    assert found[0] == (first,)


def test_text_that_postgres_takes_for_an_end_stays_text(postgres_config, place, rows, into):
    made = connector("postgres", place)
    sample = rows("SELECT unnest(['\\.', NULL, '', 'last']) AS word")
    made.write(postgres_config, KeySpec("w", "insert", table="rich", options=CREATE), sample)
    back = made.read(postgres_config, KeySpec("r", "query", table="rich"), into())
    _, found = content(place, back, order="word NULLS FIRST")
    assert found == [(None,), ("",), ("\\.",), ("last",)]


def test_large_sums_stay_whole_numbers_in_files(place, rows, into):
    sample = rows("SELECT sum(i::BIGINT) AS total FROM range(10) t(i)")
    files = connector("file", place)
    for name, expected in {"a.csv": b"total\n45\n", "a.jsonl": b'{"total":45}\n'}.items():
        files.write({}, KeySpec("w", "write_file", path=name), sample)
        assert (place.work / name).read_bytes() == expected
    files.write({}, KeySpec("w", "write_file", path="a.parquet"), sample)
    back = files.read({}, KeySpec("r", "read_file", path="a.parquet"), into())
    assert content(place, back, order="1") == ({"total": "BIGINT"}, [(45,)])


def test_postgres_queries_of_every_shape(postgres_config, place, into):
    made = connector("postgres", place)
    for sql, expected in {
        "WITH a AS (SELECT 1 AS n) SELECT * FROM a; ": [(1,)],
        "SELECT 1 AS n -- a comment": [(1,)],
        "VALUES (1), (2)": [(1,), (2,)],
        "SELECT 1 AS n, 2 AS n": [(1, 2)],
        "SELECT '100%' AS n": [("100%",)],
    }.items():
        back = made.read(postgres_config, KeySpec("r", "query", sql=sql), into())
        _, found = content(place, back, order="1")
        assert found == expected


def test_postgres_dates_beyond_and_infinity(postgres_config, place, into):
    sql = "SELECT 'infinity'::timestamptz AS a, DATE '0001-01-01' AS b"
    back = connector("postgres", place).read(
        postgres_config, KeySpec("r", "query", sql=sql), into()
    )
    types, found = content(place, back, select="a::VARCHAR, b::VARCHAR", order="1")
    assert found == [("infinity", "0001-01-01")]
    assert types["b"] == "DATE"


def test_a_query_without_rows_is_refused(postgres_config, place, into):
    from galley.engine.faults import StepError

    for system, config in (("postgres", postgres_config), ("sqlite", {"database": "x.db"})):
        made = connector(system, place)
        made.run(config, KeySpec("s", "statement", sql="CREATE TABLE t (a INT)"))
        with pytest.raises(StepError):
            made.read(config, KeySpec("r", "query", sql="INSERT INTO t VALUES (1)"), into())
        count = made.run(config, KeySpec("c", "scalar", sql="SELECT count(*) FROM t"))
        assert count.value == 0


HOSTILE = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('https://example.com/a.parquet')",
    "ATTACH '/tmp/other.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "COPY (SELECT 1) TO '/tmp/galley-evil.csv'",
    "EXPORT DATABASE '/tmp/galley-evil'",
    "IMPORT DATABASE '/tmp/galley-evil'",
    "SET enable_external_access=true",
    "SET threads=64",
    "RESET memory_limit",
    "PRAGMA memory_limit='64GB'",
    "CREATE SECRET s (TYPE s3)",
    "SET allowed_directories=['/']",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_duckdb_sql_reaches_nothing_else(place, sql):
    from galley.engine.faults import StepError

    with pytest.raises(StepError, match="refused"):
        connector("duckdb", place).run({"database": "x.db"}, KeySpec("s", "statement", sql=sql))


@pytest.mark.parametrize(
    "sql",
    ["ATTACH DATABASE '/tmp/galley-evil.db' AS e", "VACUUM INTO '/tmp/galley-evil.db'",
     "SELECT load_extension('/tmp/x.so')", "SELECT readfile('/etc/passwd')"],
)  # fmt: skip
def test_sqlite_sql_reaches_nothing_else(place, sql):
    from galley.engine.faults import StepError

    with pytest.raises(StepError, match="refused"):
        connector("sqlite", place).run({"database": "x.db"}, KeySpec("s", "statement", sql=sql))
