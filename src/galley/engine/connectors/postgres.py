"""Postgres (and what speaks its protocol), in bulk by COPY, types and nulls exact."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import pgaccess, pgtypes, rows, tables
from galley.engine.connectors.base import (
    Batch,
    Column,
    ConnectorCapabilities,
    CsvStyle,
    Place,
    Result,
)
from galley.engine.connectors.sqlite import distinct
from galley.engine.faults import StepError, told

if TYPE_CHECKING:
    import psycopg

_CHUNK_BYTES = 256 * 1024
_PIPED = CsvStyle(header=False, quote_all=True)


class PostgresConnector:
    """Queries and loads Postgres.

    Configuration: `hostname`, `port`, `database`, `username`, `password`, `sslmode`,
    `connect-timeout-s`, `schema` (put first on the search path). See `pgaccess` for which servers.

    Options of a key: `write-mode` (see `rows.MODES`), `timeout-s` of each statement.
    """

    capabilities = ConnectorCapabilities(
        reads=frozenset({"query"}),
        writes=frozenset({"insert"}),
        runs=frozenset({"scalar", "statement"}),
        options=frozenset({"write-mode", "timeout-s"}),
    )

    def __init__(self, place: Place) -> None:
        self._place = place

    def test(self, config: dict[str, Any]) -> None:
        """The server lets us in."""
        with self._open(config, {}) as connection:
            connection.execute("SELECT 1")

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """Refuse: queries are not found by a pattern."""
        del config
        raise StepError(f"The wildcard {pattern} does not go with a database; name the keys.")

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """Copy a query's rows out, with the types that the server declares."""
        sql = rows.query_of(key)
        raw = into / "raw"
        with self._open(config, key.options) as connection:
            fields = _describe(connection, sql)
            count = _copy_out(connection, sql, fields, raw)
        target = into / "content"
        columns = self._typed(fields, raw, target)
        raw.unlink()
        return Batch(
            target,
            "parquet",
            columns,
            row_count=count,
            wish=key.format or "csv",
            wish_header=key.header,
        )

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Insert the rows in one transaction."""
        key = rows.aimed(key)
        table = key.table or ""
        batch = rows.with_header(batch, key)
        with self._open(config, key.options) as connection, connection.transaction():
            count = self._load(connection, key, table, batch)
        return replace(batch, row_count=count, is_file=False)

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Run statements in one transaction, or give the first value of a query."""
        sql = rows.statement_of(key)
        with self._open(config, key.options) as connection, connection.transaction():
            cursor = connection.execute(sql.encode())
            if key.operation != "scalar":
                touched = 0
                while True:
                    touched += max(cursor.rowcount, 0)
                    if not cursor.nextset():
                        return Result(row_count=touched)
            if cursor.description is None:
                raise StepError("The SQL gives no rows; use a statement for what changes data.")
            row = cursor.fetchone()
            return Result(value=row[0] if row else None, row_count=1 if row else 0)

    def _typed(
        self, fields: Sequence[pgtypes.Field], raw: Path, target: Path
    ) -> tuple[Column, ...]:
        """Turn the copied text into a Parquet segment; numbers of no declared size are measured."""
        import duckdb

        texts = tuple(Column(field.name, "VARCHAR") for field in fields)
        source = Batch(raw, "csv", texts, _PIPED)
        try:
            with tables.engine(self._place, raw.parent) as connection:
                found = [pgtypes.value_of(connection, field, source) for field in fields]
                values = ", ".join(f"{value} AS {tables.name(name)}" for name, _, value in found)
                select = f"SELECT {values} FROM {tables.reader(source)}"
                tables.export(connection, select, target, CsvStyle(), layout="parquet")
        except duckdb.Error as error:
            raise StepError(
                f"The rows could not be kept with their types: {told(error)}."
            ) from error
        return tuple(Column(name, kind) for name, kind, _ in found)

    def _load(
        self, connection: "psycopg.Connection[Any]", key: KeySpec, table: str, batch: Batch
    ) -> int:
        import duckdb

        mode = rows.mode_of(key)
        try:
            with tables.engine(self._place, batch.path.parent) as reader:
                known = tables.typed(reader, batch)
                have = known.columns or ()
                present = self._prepare(connection, key, table, have, mode)
                if not have:
                    return 0
                match = rows.match_columns(batch, have, key, table, list(present))
                as_text = batch.columns is None and batch.format == "csv"
                kinds = [Column(c.name, "VARCHAR") if as_text else c for c in have]
                values = ", ".join(
                    pgtypes.written(column, present[pair.target])
                    for column, pair in zip(kinds, match, strict=True)
                )
                source = tables.reader(batch if as_text else known, as_text=as_text)
                piped = batch.path.with_name("piped")
                tables.export(reader, f"SELECT {values} FROM {source}", piped, _PIPED, layout="csv")
        except duckdb.Error as error:
            raise StepError(tables.unreadable(batch, error)) from error
        return _copy_in(connection, table, [pair.target for pair in match], piped)

    def _prepare(
        self,
        connection: "psycopg.Connection[Any]",
        key: KeySpec,
        table: str,
        have: Sequence[Column],
        mode: str,
    ) -> dict[str, str]:
        """Make the table as the mode says; gives its columns and their types."""
        target = tables.table_name(table)
        present = _columns(connection, table)
        if mode == "replace":
            connection.execute(f"DROP TABLE IF EXISTS {target}".encode())
        if mode == "replace" or (mode == "create" and not present):
            new = rows.new_columns(have, key)
            sql = rows.create_sql(table, new, pgtypes.declared, new=True)
            connection.execute(sql.encode())
            return {column.name: pgtypes.declared(column.type) for column in new}
        if not present:
            raise StepError(
                f"The database has no table {table}. Create it first, or set `write-mode` to"
                " create or replace."
            )
        if mode == "truncate":
            connection.execute(f"DELETE FROM {target}".encode())
        return present

    @contextlib.contextmanager
    def _open(
        self, config: dict[str, Any], options: dict[str, Any]
    ) -> Iterator["psycopg.Connection[Any]"]:
        host, connection = pgaccess.connect(self._place, config, options)
        import psycopg

        lost = False
        try:
            with connection:
                try:
                    yield connection
                except psycopg.Error:
                    lost = bool(connection.closed or connection.broken)
                    raise
        except psycopg.Error as error:
            raise _fault(host, error, lost=lost) from error


def _describe(connection: "psycopg.Connection[Any]", sql: str) -> list[pgtypes.Field]:
    """A query's columns: their names, and their types as SQL text (`numeric(10,2)`)."""
    from psycopg import errors

    low = connection.pgconn
    for answer in (
        low.prepare(b"galley_query", sql.encode()),
        low.describe_prepared(b"galley_query"),
    ):
        if answer.error_message:
            raise errors.lookup(_sqlstate(answer))(answer.error_message.decode())
    if answer.nfields == 0:
        raise StepError("The SQL gives no rows; use a statement for what changes data.")
    names = distinct([(answer.fname(i) or b"").decode() for i in range(answer.nfields)])
    asked = [(answer.ftype(i), answer.fmod(i)) for i in range(answer.nfields)]
    marks = ", ".join("format_type(%s::oid, %s)" for _ in asked)
    values = [value for pair in asked for value in pair]
    row = connection.execute(f"SELECT {marks}".encode(), values).fetchone() or ()
    return [pgtypes.Field(name, kind) for name, kind in zip(names, row, strict=True)]


def _sqlstate(answer: Any) -> str:
    from psycopg.pq import DiagnosticField

    return (answer.error_field(DiagnosticField.SQLSTATE) or b"42601").decode()


def _copy_out(
    connection: "psycopg.Connection[Any]", sql: str, fields: Sequence[pgtypes.Field], target: Path
) -> int:
    """Write the rows as headless CSV; gives their number."""
    names = ", ".join(tables.name(f"c{i}") for i in range(len(fields)))
    values = ", ".join(pgtypes.selected(f"c{i}", field.type) for i, field in enumerate(fields))
    command = f"COPY (SELECT {values} FROM ({sql}\n) AS q({names})) TO STDOUT (FORMAT csv)"
    with connection.cursor() as cursor, target.open("xb") as file:
        with cursor.copy(command.encode()) as copy:
            for chunk in copy:
                file.write(chunk)
        return cursor.rowcount


def _copy_in(
    connection: "psycopg.Connection[Any]", table: str, columns: Sequence[str], source: Path
) -> int:
    into = ", ".join(tables.name(column) for column in columns)
    command = f"COPY {tables.table_name(table)} ({into}) FROM STDIN (FORMAT csv)"
    with connection.cursor() as cursor:
        with cursor.copy(command.encode()) as copy, source.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                copy.write(chunk)
        return cursor.rowcount


def _columns(connection: "psycopg.Connection[Any]", table: str) -> dict[str, str]:
    """A table's columns in order with their types; none if there is no such table."""
    found = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [tables.table_name(table)],
    )
    return dict(found.fetchall())


def _fault(host: str, error: "psycopg.Error", *, lost: bool) -> StepError:
    from psycopg import OperationalError, errors

    if isinstance(error, errors.QueryCanceled):
        return StepError(f"Postgres at {host} ended the statement: {told(error)}.")
    if lost or isinstance(error, errors.AdminShutdown):
        return StepError(
            f"The connection to Postgres at {host} was cut: {told(error)}. Nothing was kept; try"
            " again when the server is well.",
            retryable=True,
        )
    return StepError(
        f"Postgres at {host} refused: {told(error)}. Check the key's SQL and table.",
        retryable=isinstance(error, OperationalError),
    )
