"""Many rows of many tables, written with as little work on each as can be.

SQLAlchemy works on each statement and each value for longer than the database does, and on Postgres
waits for an answer to each kind of statement. Here statements are made once and rows go straight to
the driver: on Postgres all of them in one round trip, with all values as text that the statement
casts, so that it stays one prepared statement whatever is null and however large a number is. Rows
to insert go there as one JSON document for each statement, since an execution costs more than a row
on both sides; changes go one by one, so that each finds its row by the index, whatever the planner
thinks of the table's size.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Column, Connection, Dialect, Table
from sqlalchemy.exc import DBAPIError, StatementError

from galley.storage.db import WRITES

Row = Mapping[str, Any]
Inserts = Sequence[tuple[Table, Iterable[Row]]]
Updates = Sequence[tuple[Table, Mapping[Any, Row]]]
_Many = list[tuple["_Statement", list[list[Any]]]]
_POSTGRES = "postgresql"


class _Statement:
    """Writes one row: `text` with placeholders, in the order of `columns`.

    Where `takes_many` is set, its one placeholder takes a JSON array of rows.
    """

    def __init__(
        self,
        text: str,
        columns: Sequence["Column[Any]"],
        dialect: Dialect,
        *,
        takes_many: bool = False,
    ) -> None:
        self.text = text
        self.takes_many = takes_many
        self._as_text = dialect.name == _POSTGRES
        self._columns = [
            (column.name, _reader(column, dialect), _default(column)) for column in columns
        ]

    def values(self, row: Row) -> list[Any]:
        """The row's values as the driver takes them.

        Raises:
            StatementError: a value is none that its column's type knows.
        """
        found = []
        try:
            for name, process, default in self._columns:
                value = row.get(name, default)
                if process is not None:
                    value = process(value)
                found.append(_text(value) if self._as_text and value is not None else value)
        except (TypeError, ValueError) as error:
            raise StatementError(str(error), self.text, None, error) from error
        return found

    def document(self, rows: list[list[Any]]) -> list[Any]:
        """The values of many rows as the one that a statement takes which takes many."""
        names = [name for name, _, _ in self._columns]
        named = [dict(zip(names, values, strict=True)) for values in rows]
        return [msgspec.json.encode(named).decode()]


def write(connection: Connection, inserts: Inserts, updates: Updates) -> None:
    """Insert these rows, then change those by their primary keys, in this order.

    Rows to insert that name fewer columns than others get the columns' defaults.

    Raises:
        StatementError: as `connection.execute` does; nothing of the transaction may stand then.
        RuntimeError: the connection is one that reads.
    """
    if not connection.get_execution_options().get(WRITES):
        raise RuntimeError("a reading session writes nothing")
    many = _statements(connection.dialect, inserts, updates)
    if not many:
        return
    send = _send_to_postgres if connection.dialect.name == _POSTGRES else _send_to_sqlite
    with _driver(connection, many[0][0].text) as raw:
        send(raw, many)


def change_first(connection: Connection, text: str, values: Sequence[Any]) -> int:
    """Begin a transaction on Postgres with this statement, in one round trip; the rows it changed.

    `text` is the driver's, with its placeholders.

    Raises:
        StatementError: as `connection.execute` does.
    """
    with _driver(connection, text) as raw, raw.cursor() as cursor:
        with raw.pipeline():
            cursor.execute(text, values, prepare=True)
        return int(cursor.rowcount)


@contextmanager
def _driver(connection: Connection, text: str) -> Iterator[Any]:
    """The driver's own connection; its errors become those of SQLAlchemy."""
    raw: Any = connection.connection.driver_connection
    module: Any = connection.dialect.loaded_dbapi
    try:
        yield raw
    except UnicodeEncodeError as error:
        raise StatementError(str(error), text, None, error) from error
    except module.Error as error:
        is_lost = bool(getattr(raw, "closed", False))
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            text, None, error, module.Error, connection_invalidated=is_lost
        ) from error


def _text(value: Any) -> str:
    """The value as text that the statement casts.

    Raises:
        TypeError: it is of a type that text does not tell.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | float):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as text")


def _send_to_postgres(raw: Any, many: _Many) -> None:
    with raw.pipeline(), raw.cursor() as cursor:
        for statement, rows in many:
            executions = [statement.document(rows)] if statement.takes_many else rows
            for values in executions:
                cursor.execute(statement.text, values, prepare=True)


def _send_to_sqlite(raw: Any, many: _Many) -> None:
    for statement, rows in many:
        raw.executemany(statement.text, rows)


def _statements(dialect: Dialect, inserts: Inserts, updates: Updates) -> _Many:
    """Each statement with the values of its rows, in the order in which they are to be written."""
    many: _Many = []
    for table, rows in inserts:
        alike: dict[tuple[str, ...], list[Row]] = defaultdict(list)
        for row in rows:
            alike[tuple(row)].append(row)
        many += [_with(_insert(dialect, table, names), some) for names, some in alike.items()]
    for table, changes in updates:
        alike = defaultdict(list)
        for key, values in changes.items():
            alike[tuple(sorted(values))].append({**values, _key_of(table).name: key})
        many += [_with(_update(dialect, table, names), some) for names, some in alike.items()]
    return many


def _with(statement: _Statement, rows: list[Row]) -> tuple[_Statement, list[list[Any]]]:
    return statement, [statement.values(row) for row in rows]


@cache
def _insert(dialect: Dialect, table: Table, names: tuple[str, ...]) -> _Statement:
    given = [column for column in table.c if column.name in names or column.default is not None]
    columns = ", ".join(_quoted(column, dialect) for column in given)
    if dialect.name == _POSTGRES:
        kinds = ", ".join(f"{_quoted(c, dialect)} {c.type.compile(dialect)}" for c in given)
        source = f"json_to_recordset(%s::json) AS new({kinds})"
        text = f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {source}"  # noqa: S608
        return _Statement(text, given, dialect, takes_many=True)
    values = ", ".join(_place(column, dialect) for column in given)
    text = f"INSERT INTO {table.name} ({columns}) VALUES ({values})"  # noqa: S608 - names of tables
    return _Statement(text, given, dialect)


@cache
def _update(dialect: Dialect, table: Table, names: tuple[str, ...]) -> _Statement:
    given = [*(table.c[name] for name in names), _key_of(table)]
    *changes, where = (
        f"{_quoted(column, dialect)} = {_place(column, dialect)}" for column in given
    )
    text = f"UPDATE {table.name} SET {', '.join(changes)} WHERE {where}"  # noqa: S608 - as above
    return _Statement(text, given, dialect)


def _key_of(table: Table) -> "Column[Any]":
    (key,) = table.primary_key.columns
    return key


def _reader(column: "Column[Any]", dialect: Dialect) -> Callable[[Any], Any] | None:
    return column.type.dialect_impl(dialect).bind_processor(dialect)


def _default(column: "Column[Any]") -> Any:
    return column.default.arg if isinstance(column.default, sa.ColumnDefault) else None


def _quoted(column: "Column[Any]", dialect: Dialect) -> str:
    return dialect.identifier_preparer.format_column(column)


def _place(column: "Column[Any]", dialect: Dialect) -> str:
    return f"%s::{column.type.compile(dialect)}" if dialect.name == _POSTGRES else "?"
