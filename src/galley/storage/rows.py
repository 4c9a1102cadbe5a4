"""Many rows of many tables, written to Postgres in one round trip.

SQLAlchemy waits for the answer to each kind of statement, and works on each value once more: that
costs several times what is asked. All values travel as text, which each statement casts, so that
it stays one prepared statement whatever is null and however large a number is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import Column, Connection, Table
from sqlalchemy.dialects.postgresql import psycopg as dialects
from sqlalchemy.exc import DBAPIError, StatementError

Row = Mapping[str, Any]
Inserts = Sequence[tuple[Table, Iterable[Row]]]
Updates = Sequence[tuple[Table, Mapping[int, Row]]]
_DIALECT = dialects.dialect()  # type: ignore[no-untyped-call]


class _Statement:
    """Writes one row: `text` with placeholders, in the order of `columns`."""

    def __init__(self, text: str, columns: Sequence["Column[Any]"]) -> None:
        self.text = text
        self._columns = [(column.name, _reader(column), _default(column)) for column in columns]

    def values(self, row: Row) -> list[str | None]:
        """The row's values as the text that Postgres reads them from.

        Raises:
            StatementError: a value is none that its column's type knows.
        """
        found = []
        try:
            for name, process, default in self._columns:
                value = row.get(name, default)
                if process is not None:
                    value = process(value)
                found.append(None if value is None else str(value))
        except (TypeError, ValueError) as error:
            raise StatementError(str(error), self.text, None, error) from error
        return found


def write(connection: Connection, inserts: Inserts, updates: Updates) -> None:
    """Insert these rows, then change those by their ids, in this order.

    Rows to insert that name fewer columns than others get the columns' defaults.

    Raises:
        StatementError: as `connection.execute` does; nothing of the transaction may stand then.
    """
    if not inserts and not updates:
        return
    raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    text = ""
    try:
        with raw.pipeline(), raw.cursor() as cursor:
            for statement, row in _all(inserts, updates):
                text = statement.text
                cursor.execute(text, statement.values(row), prepare=True)
    except psycopg.Error as error:
        is_lost = raw.closed
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            text, None, error, psycopg.Error, connection_invalidated=is_lost, dialect=_DIALECT
        ) from error


def _all(inserts: Inserts, updates: Updates) -> Iterable[tuple[_Statement, Row]]:
    for table, rows in inserts:
        for row in rows:
            yield _insert(table, tuple(row)), row
    for table, changes in updates:
        alike: dict[tuple[str, ...], list[Row]] = defaultdict(list)
        for key, values in changes.items():
            alike[tuple(sorted(values))].append({**values, "id": key})
        for names, rows in alike.items():
            statement = _update(table, names)
            for row in rows:
                yield statement, row


@cache
def _insert(table: Table, names: tuple[str, ...]) -> _Statement:
    given = [column for column in table.c if column.name in names or column.default is not None]
    columns = ", ".join(_quoted(column) for column in given)
    values = ", ".join(_place(column) for column in given)
    text = f"INSERT INTO {table.name} ({columns}) VALUES ({values})"  # noqa: S608 - names of tables
    return _Statement(text, given)


@cache
def _update(table: Table, names: tuple[str, ...]) -> _Statement:
    given = [table.c[name] for name in names]
    changes = ", ".join(f"{_quoted(column)} = {_place(column)}" for column in given)
    where = f"{_quoted(table.c.id)} = {_place(table.c.id)}"
    text = f"UPDATE {table.name} SET {changes} WHERE {where}"  # noqa: S608 - names of tables
    return _Statement(text, [*given, table.c.id])


def _reader(column: "Column[Any]") -> Callable[[Any], Any] | None:
    return column.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)


def _default(column: "Column[Any]") -> Any:
    return column.default.arg if isinstance(column.default, sa.ColumnDefault) else None


def _quoted(column: "Column[Any]") -> str:
    return _DIALECT.identifier_preparer.format_column(column)


def _place(column: "Column[Any]") -> str:
    return f"%s::{column.type.compile(_DIALECT)}"
