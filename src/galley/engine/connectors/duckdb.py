"""DuckDB database files. Many processes may load into one file: they take turns by a lock file."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import paths, rows, tables
from galley.engine.connectors.base import Batch, ConnectorCapabilities, CsvStyle, Place, Result
from galley.engine.faults import StepError, told

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.5


class DuckdbConnector:
    """Queries and loads a DuckDB file. Configuration: `database` (path), `lock-wait-s`.

    SQL sees the database and the attempt's own files, no other file and no network.
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
            connection.execute("SELECT 1")

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """Refuse: queries are not found by a pattern."""
        del config
        raise StepError(f"The wildcard {pattern} does not go with a database; name the keys.")

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """Write a query's rows to a Parquet segment, types and nulls exact."""
        sql = rows.query_of(key)
        target = into / "content"
        with self._open(config, read_only=True) as connection:
            columns = tables.described(connection, sql)
            tables.export(connection, sql, target, CsvStyle(), layout="parquet")
            counted = connection.execute(
                f"SELECT count(*) FROM read_parquet({tables.quoted(str(target))})"
            ).fetchone()
        return Batch(
            target,
            "parquet",
            columns,
            row_count=counted[0] if counted else 0,
            wish=key.format or "csv",
            wish_header=key.header,
        )

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Insert the rows in one transaction."""
        key = rows.aimed(key)
        table = key.table or ""
        batch = rows.with_header(batch, key)
        known = tables.known(self._place, batch)  # before the file is taken, so that loads overlap
        with self._open(config, batch.path.parent) as connection:
            connection.execute("BEGIN")
            count = self._load(connection, key, table, batch, known=known)
            connection.execute("COMMIT")
            connection.execute("CHECKPOINT")
        return replace(batch, row_count=count, is_file=False)

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Run statements (one transaction), or give the first value of a query."""
        sql = rows.statement_of(key)
        with self._open(config, read_only=key.operation == "scalar") as connection:
            if key.operation == "scalar":
                row = connection.execute(sql).fetchone()
                return Result(value=row[0] if row else None, row_count=1 if row else 0)
            connection.execute("BEGIN")
            connection.execute(sql)
            changed = _changed(connection)
            connection.execute("COMMIT")
            return Result(row_count=changed)

    def _load(
        self,
        connection: duckdb.DuckDBPyConnection,
        key: KeySpec,
        table: str,
        batch: Batch,
        *,
        known: Batch,
    ) -> int:
        """Insert the batch; `known` is the same one with its columns."""
        mode = rows.mode_of(key)
        target = tables.table_name(table)
        have = known.columns or ()
        present = _columns(connection, table)
        if mode == "replace":
            connection.execute(f"DROP TABLE IF EXISTS {target}")
        if mode == "replace" or (mode == "create" and not present):
            new = rows.new_columns(have, key)
            connection.execute(rows.create_sql(table, new, str, new=True))
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
        # a CSV file goes into an existing table as text, so that the table's types decide
        as_text = batch.columns is None and batch.format == "csv" and mode in {"append", "truncate"}
        match = rows.match_columns(batch, have, key, table, present)
        into = ", ".join(tables.name(m.target) for m in match)
        values = ", ".join(tables.name(m.source) for m in match)
        source = tables.reader(batch if as_text else known, as_text=as_text)
        row = connection.execute(
            f"INSERT INTO {target} ({into}) SELECT {values} FROM {source}"
        ).fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def _open(
        self, config: dict[str, Any], *folders: Path, read_only: bool = False
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        path = self._path(config, read_only=read_only)
        wait_s = float(config.get("lock-wait-s") or self._place.lock_wait_s)
        with _turn(path, wait_s, shared=read_only):
            try:
                own = (self._place.segments, *folders)
                with tables.engine(
                    self._place, *own, database=path, read_only=read_only
                ) as connection:
                    yield connection
            except duckdb.Error as error:
                raise _fault(path, error) from error

    def _path(self, config: dict[str, Any], *, read_only: bool) -> Path:
        text = config.get("database") or config.get("path")
        if not text:
            raise StepError("The configuration names no file; give it a `database`.")
        if read_only:
            return paths.find(self._place, str(text), setting="`database`").resolve()
        path = paths.destination(self._place, str(text)).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@contextmanager
def _turn(path: Path, wait_s: float, *, shared: bool) -> Iterator[None]:
    """Wait until nobody else has the file: readers together, a writer alone."""
    lock = path.with_name(f".{path.name}.lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = time.monotonic() + wait_s
    pause_s = _FIRST_PAUSE_S
    try:
        while True:
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StepError(
                        f"The database {path.name} was in use by other steps for {wait_s:g} s."
                        " Try again, or raise `lock-wait-s`.",
                        retryable=True,
                    ) from None
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        yield
    finally:
        os.close(handle)


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """A table's columns in order; none if there is no such table."""
    try:
        found = connection.execute(f"DESCRIBE {tables.table_name(table)}").fetchall()
    except duckdb.CatalogException:
        return []
    return [row[0] for row in found]


def _changed(connection: duckdb.DuckDBPyConnection) -> int | None:
    """Rows that the last statement touched, where DuckDB tells."""
    if [column[0] for column in connection.description or ()] != ["Count"]:
        return None
    row = connection.fetchone()
    return int(row[0]) if row else None


def _fault(path: Path, error: duckdb.Error) -> StepError:
    text = told(error)
    if isinstance(error, duckdb.IOException) and "lock" in text:
        return StepError(
            f"The database {path.name} is open in another program; close it there.",
            retryable=True,
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return StepError(
            f"The query needs more memory than the step has: {text}. Raise the step's memory."
        )
    return StepError(f"DuckDB ({path.name}) refused: {text}. Check the key's SQL and table.")
