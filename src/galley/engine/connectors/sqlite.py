"""SQLite database files. What a value is decides its type, because SQLite columns have none."""

import csv
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import paths, rows, tables
from galley.engine.connectors.base import (
    Batch,
    Column,
    ConnectorCapabilities,
    CsvStyle,
    Place,
    Result,
)
from galley.engine.faults import StepError, told

try:
    import pysqlite3 as sqlite_driver
except ImportError:  # no wheel for this platform
    sqlite_driver = sqlite3

_ROWS_AT_ONCE = 5000
_NULL = "\\N"
_SCALARS: Final = ("BIGINT", "INTEGER", "SMALLINT", "TINYINT", "UINTEGER", "USMALLINT", "UTINYINT")
_TYPES = {
    "DOUBLE": "REAL",
    "FLOAT": "REAL",
    "BOOLEAN": "BOOLEAN",
    "BLOB": "BLOB",
    "DATE": "DATE",
}


class SqliteConnector:
    """Queries and loads a SQLite file. Configuration: `database` (path), `lock-wait-s`.

    Option of a sink's key: `write-mode` (see `rows.MODES`).
    """

    capabilities = ConnectorCapabilities(
        reads=frozenset({"query"}),
        writes=frozenset({"insert"}),
        runs=frozenset({"scalar", "statement"}),
        options=frozenset({"write-mode"}),
    )

    def __init__(self, place: Place) -> None:
        self._place = place

    def test(self, config: dict[str, Any]) -> None:
        """The file opens as a database."""
        with self._open(config, read_only=True) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """Refuse: queries are not found by a pattern."""
        del config
        raise StepError(f"The wildcard {pattern} does not go with a database; name the keys.")

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """Write a query's rows to a CSV segment with the types that its values have."""
        target = into / "content"
        with self._open(config, read_only=True) as connection:
            cursor = connection.execute(rows.query_of(key))
            if cursor.description is None:
                raise StepError("The SQL gives no rows; use a statement for what changes data.")
            names = distinct([entry[0] for entry in cursor.description])
            count, kinds = _spill(cursor, len(names), target)
        columns = tuple(
            Column(name, _type_of(kind)) for name, kind in zip(names, kinds, strict=True)
        )
        raw = Batch(target, "csv", columns, CsvStyle(header=False, null=_NULL), row_count=count)
        batch = _unhex(self._place, raw, into) if _has_blob(columns) else raw
        return replace(batch, wish=key.format or "csv", wish_header=key.header)

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Insert the rows in one transaction."""
        key = rows.aimed(key)
        table = key.table or ""
        batch = rows.with_header(batch, key)
        known = tables.known(self._place, batch)
        import duckdb

        try:
            with (
                tables.engine(self._place, batch.path.parent) as reader,
                self._open(config) as connection,
            ):
                connection.execute("BEGIN IMMEDIATE")
                count = self._load(connection, reader, key, table, known)
                connection.execute("COMMIT")
        except duckdb.Error as error:
            raise StepError(tables.unreadable(batch, error)) from error
        return replace(batch, row_count=count, is_file=False)

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Run statements in one transaction, or give the first value of a query."""
        sql = rows.statement_of(key)
        with self._open(config, read_only=key.operation == "scalar") as connection:
            if key.operation == "scalar":
                row = connection.execute(sql).fetchone()
                return Result(value=row[0] if row else None, row_count=1 if row else 0)
            before = connection.total_changes
            connection.execute("BEGIN IMMEDIATE")
            for statement in _statements(sql):
                connection.execute(statement)
            connection.execute("COMMIT")
            return Result(row_count=connection.total_changes - before)

    def _load(self, connection: Any, reader: Any, key: KeySpec, table: str, known: Batch) -> int:
        mode = rows.mode_of(key)
        target = tables.table_name(table)
        have = known.columns or ()
        present = _columns(connection, table)
        if mode == "replace":
            connection.execute(f"DROP TABLE IF EXISTS {target}")
        if mode == "replace" or (mode == "create" and not present):
            new = rows.new_columns(have, key)
            connection.execute(rows.create_sql(table, new, _sqlite_type, new=True))
            present = [column.name for column in new]
        elif not present:
            raise StepError(
                f"The database has no table {table}. Create it first, or set `write-mode` to"
                " create or replace."
            )
        if mode == "truncate":
            connection.execute(f"DELETE FROM {target}")
        if not have:
            return 0
        match = rows.match_columns(known, have, key, table, present)
        into = ", ".join(tables.name(m.target) for m in match)
        marks = ", ".join("?" for _ in match)
        reader.execute(f"SELECT {_plain(have)} FROM {tables.reader(known)}")
        cursor = connection.executemany(
            f"INSERT INTO {target} ({into}) VALUES ({marks})", _fetched(reader)
        )
        return int(cursor.rowcount)

    @contextmanager
    def _open(self, config: dict[str, Any], *, read_only: bool = False) -> Iterator[Any]:
        text = config.get("database") or config.get("path")
        if not text:
            raise StepError("The configuration names no file; give it a `database`.")
        if read_only:
            path = paths.find(self._place, str(text), setting="`database`").resolve()
        else:
            path = paths.destination(self._place, str(text)).resolve()
            path.parent.mkdir(parents=True, exist_ok=True)
        mode = "ro" if read_only else "rwc"
        wait_s = float(config.get("lock-wait-s") or self._place.lock_wait_s)
        try:
            connection = sqlite_driver.connect(
                f"{path.as_uri()}?mode={mode}", uri=True, timeout=wait_s, isolation_level=None
            )
            try:
                connection.set_authorizer(_authorize)
                connection.execute("PRAGMA trusted_schema=OFF")
                yield connection
            finally:
                connection.close()
        except (sqlite_driver.Error, sqlite_driver.Warning) as error:
            raise _fault(path, error, wait_s) from error


def _authorize(action: int, first: str | None, *_others: str | None) -> int:
    """Keep SQL inside its own file."""
    attach: int = sqlite3.SQLITE_ATTACH
    denied = action == attach and bool(first) and first != ":memory:"
    return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK


def distinct(names: Sequence[str]) -> list[str]:
    """Column names made different where a query repeats them (`id`, `id_1`)."""
    used: set[str] = set()
    given: list[str] = []
    for name in names:
        free, number = name or "column", 0
        while free.lower() in used:
            number += 1
            free = f"{name}_{number}"
        used.add(free.lower())
        given.append(free)
    return given


class _Nothing:
    """Writes itself as the mark for no value, unquoted, because csv takes it for a number."""

    def __float__(self) -> float:
        return 0.0

    def __str__(self) -> str:
        return _NULL


_NOTHING = _Nothing()


def _spill(cursor: Any, width: int, target: Path) -> tuple[int, list[set[type]]]:
    """Write all rows as CSV; gives their number and the Python types seen in each column."""
    kinds: list[set[type]] = [set() for _ in range(width)]
    count = 0
    with target.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        while chunk := cursor.fetchmany(_ROWS_AT_ONCE):
            count += len(chunk)
            for kind, column in zip(kinds, zip(*chunk, strict=True), strict=True):
                kind.update(map(type, column))
            writer.writerows([_cell(value) for value in row] for row in chunk)
    return count, kinds


def _cell(value: Any) -> Any:
    if value is None:
        return _NOTHING
    return value.hex() if isinstance(value, bytes) else value


def _type_of(kinds: set[type]) -> str:
    found = kinds - {type(None)}
    if found == {int}:
        return "BIGINT"
    if found and found <= {int, float}:
        return "DOUBLE"
    return "BLOB" if found == {bytes} else "VARCHAR"


def _has_blob(columns: Sequence[Column]) -> bool:
    return any(column.type == "BLOB" for column in columns)


def _unhex(place: Place, raw: Batch, into: Path) -> Batch:
    """Rows with bytes become Parquet, since CSV can only hold them as text."""
    columns = raw.columns or ()
    as_text = replace(
        raw,
        columns=tuple(Column(c.name, "VARCHAR") if c.type == "BLOB" else c for c in columns),
    )
    values = ", ".join(
        f"from_hex({tables.name(c.name)}) AS {tables.name(c.name)}"
        if c.type == "BLOB"
        else tables.name(c.name)
        for c in columns
    )
    target = into / "typed"
    with tables.engine(place, into) as connection:
        select = f"SELECT {values} FROM {tables.reader(as_text)}"
        tables.export(connection, select, target, CsvStyle(), layout="parquet")
    raw.path.unlink()
    return Batch(target, "parquet", columns, row_count=raw.row_count)


def _plain(columns: Iterable[Column]) -> str:
    """Values in the types that SQLite has: integers, reals, text and bytes."""
    return ", ".join(_plain_value(tables.name(c.name), c.type) for c in columns)


def _plain_value(column: str, kind: str) -> str:
    if kind in _SCALARS or kind in {"DOUBLE", "FLOAT", "VARCHAR", "BLOB"}:
        return column
    if kind == "BOOLEAN":
        return f"{column}::INTEGER"
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "JSON")):
        return f"to_json({column})::VARCHAR"
    return f"{column}::VARCHAR"


def _fetched(reader: Any) -> Iterator[Any]:
    chunks = iter(lambda: reader.fetchmany(_ROWS_AT_ONCE), [])
    return itertools.chain.from_iterable(chunks)


def _sqlite_type(kind: str) -> str:
    if kind in _SCALARS:
        return "INTEGER"
    return _TYPES.get(kind, "TEXT")


def _columns(connection: Any, table: str) -> list[str]:
    found = connection.execute("SELECT name FROM pragma_table_info(?)", (table.strip('"'),))
    return [row[0] for row in found.fetchall()]


def _statements(sql: str) -> Iterator[str]:
    """The single statements of a script, cut where SQLite itself says that one is complete."""
    part = ""
    for piece in sql.split(";"):
        part += piece + ";"
        if sqlite3.complete_statement(part):
            if part.strip(" \t\r\n;"):
                yield part
            part = ""
    if part.strip(" \t\r\n;"):
        yield part


def _fault(path: Path, error: Exception, wait_s: float) -> StepError:
    text = told(error)
    if "locked" in text or "busy" in text:
        return StepError(
            f"The database {path.name} was locked by another program for {wait_s:g} s.",
            retryable=True,
        )
    if "unable to open" in text:
        return StepError(f"The database {path.name} cannot be opened. Check `database`.")
    if "not authorized" in text:
        return StepError(
            f"SQLite ({path.name}) refused: SQL may not attach other files. Use a second source."
        )
    return StepError(f"SQLite ({path.name}) refused: {text}. Check the key's SQL and table.")
