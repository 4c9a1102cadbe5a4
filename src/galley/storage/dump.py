"""One moment of the database, written to a folder and read back from it.

SQLite gives its file, Postgres each table as COPY text. A snapshot is opened at one moment and
may be written out later, while others go on writing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import sqlalchemy as sa

from galley.kit.files import fsync_folder
from galley.storage.db import Database, open_sqlite

SQLITE_FILE = "galley.db"
CONTENTS_FILE = "tables.json"


class DumpUnusable(Exception):
    """The dump cannot be read back here; the text says why."""


class Contents(msgspec.Struct, frozen=True):
    """What a Postgres dump holds: the columns of each table in order, and the last ids given."""

    tables: dict[str, list[str]]
    last_ids: dict[str, int]


class Snapshot:
    """The database as it was when the snapshot was opened."""

    def __init__(self, connection: sa.Connection, metadata: sa.MetaData) -> None:
        self.connection = connection
        self._tables = metadata.sorted_tables

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.connection.dialect.name

    def write(self, folder: Path) -> None:
        """Write the whole database into the folder, durably."""
        if self.kind == "sqlite":
            _write_sqlite(self.connection, folder / SQLITE_FILE)
        else:
            self._write_tables(folder)
        fsync_folder(folder)

    def _write_tables(self, folder: Path) -> None:
        for table in self._tables:
            columns = ", ".join(_quoted(column.name) for column in table.columns)
            _copy_out(
                self.connection,
                f"COPY (SELECT {columns} FROM {_quoted(table.name)}) TO STDOUT",  # noqa: S608
                folder / f"{table.name}.copy",
            )
        contents = Contents(
            tables={
                str(table.name): [str(column.name) for column in table.columns]
                for table in self._tables
            },
            last_ids=self._last_ids(),
        )
        _write_durably(folder / CONTENTS_FILE, msgspec.json.encode(contents))

    def _last_ids(self) -> dict[str, int]:
        """The last id that each table's sequence gave, so that none is ever given again."""
        found = {}
        for table in self._tables:
            sequence = _sequence(self.connection, table)
            if sequence is not None:
                asked = sa.text(f"SELECT last_value FROM {sequence} WHERE is_called")  # noqa: S608
                last = self.connection.scalar(asked)
                if last is not None:
                    found[str(table.name)] = int(last)
        return found


@contextmanager
def snapshot(database: Database, metadata: sa.MetaData) -> Iterator[Snapshot]:
    """Open a snapshot: from here on it shows one moment, whatever others write."""
    level = {} if database.is_sqlite else {"isolation_level": "REPEATABLE READ"}
    with database.engine.connect().execution_options(**level) as connection:
        connection.exec_driver_sql("SELECT count(*) FROM alembic_version")  # fixes the moment
        yield Snapshot(connection, metadata)
        connection.rollback()


def load_sqlite(folder: Path, target: Path) -> None:
    """Put the dump's file at `target`, which must not be there.

    Raises:
        DumpUnusable: the file is damaged.
    """
    source = open_sqlite(f"file:{quote(str(folder / SQLITE_FILE))}?mode=ro&immutable=1")
    made = open_sqlite(str(target))
    try:
        source.backup(made)
        fault = sqlite_fault(made)
    finally:
        made.close()
        source.close()
    if fault is not None:
        raise DumpUnusable(f"{folder / SQLITE_FILE} is damaged: {fault}")
    _fsync(target)
    fsync_folder(target.parent)


def load_tables(folder: Path, database: Database, metadata: sa.MetaData) -> None:
    """Fill the empty tables of a Postgres database from the dump, all or nothing.

    Raises:
        DumpUnusable: the dump is of other tables.
    """
    contents = msgspec.json.decode((folder / CONTENTS_FILE).read_bytes(), type=Contents)
    unknown = set(contents.tables) - set(metadata.tables)
    if unknown:
        raise DumpUnusable(f"the dump has tables that this Galley does not know: {sorted(unknown)}")
    with database.connection() as connection:
        for table in metadata.sorted_tables:
            columns = contents.tables.get(table.name)
            if columns is None:
                continue
            named = ", ".join(map(_quoted, columns))
            _copy_in(
                connection,
                f"COPY {_quoted(table.name)} ({named}) FROM STDIN",
                folder / f"{table.name}.copy",
            )
        for name, last in contents.last_ids.items():
            sequence = _sequence(connection, metadata.tables[name])
            connection.execute(sa.select(sa.func.setval(sequence, last)))


def sqlite_fault(connection: Any) -> str | None:
    """The first thing that SQLite finds wrong with a database, None if it is sound."""
    (told, *_more) = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if told[0] != "ok":
        return str(told[0])
    broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    return f"table {broken[0][0]} refers to rows that are not there" if broken else None


def _write_sqlite(connection: sa.Connection, path: Path) -> None:
    raw: Any = connection.connection.driver_connection
    made = open_sqlite(str(path))
    try:
        raw.backup(made)
        made.execute("PRAGMA journal_mode=DELETE")
        fault = sqlite_fault(made)
    finally:
        made.close()
    if fault is not None:
        raise DumpUnusable(f"the database is damaged: {fault}")
    _fsync(path)


def _copy_out(connection: sa.Connection, statement: str, path: Path) -> None:
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor, path.open("xb") as file:
        with cursor.copy(statement) as copy:
            for chunk in copy:
                file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _copy_in(connection: sa.Connection, statement: str, path: Path) -> None:
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor, path.open("rb") as file, cursor.copy(statement) as copy:
        while chunk := file.read(1 << 20):
            copy.write(chunk)


def _sequence(connection: sa.Connection, table: sa.Table) -> str | None:
    """The sequence that numbers a table's rows, quoted as SQL needs it."""
    column = table.autoincrement_column
    if column is None:
        return None
    asked = sa.select(sa.func.pg_get_serial_sequence(_quoted(table.name), column.name))
    found: str | None = connection.scalar(asked)
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
