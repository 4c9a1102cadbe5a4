"""What can be measured of a batch, for run-time variables and checks."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from galley.engine.connectors import tables
from galley.engine.connectors.base import Batch, Place, Result
from galley.engine.faults import StepError

_CHUNK_BYTES = 1024 * 1024
_MAX_RESULT_BYTES = 1024 * 1024


def measure(place: Place, batch: Batch, wanted: Iterable[str]) -> dict[str, Any]:
    """The wanted measures: `row_count column_count size md5 sha result schema`.

    The row count of a user's file counts all its lines, the header among them; that of rows from
    a database counts rows. `sha` is SHA-256; `result` is the first value, or the whole of a text.

    Raises:
        StepError: the content does not allow it.
    """
    return {name: _MEASURES[name](place, batch) for name in wanted}


def of_result(result: Result, wanted: Iterable[str]) -> dict[str, Any]:
    """The wanted measures of a statement, a scalar query or a program."""
    known = {"result": result.value, "row_count": result.row_count, "column_count": 1}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise StepError(
            f"{', '.join(unknown)} cannot be measured of a value; use result or row_count."
        )
    return {name: known[name] for name in wanted}


def _row_count(place: Place, batch: Batch) -> int:
    if batch.format == "binary":
        return _lines(batch)
    if batch.row_count is not None:
        return batch.row_count + _header_line(batch)
    import duckdb

    try:
        with tables.engine(place, batch.path.parent) as connection:
            return tables.count_records(connection, batch) + _header_line(batch)
    except duckdb.Error as error:
        raise StepError(tables.unreadable(batch, error)) from error


def _header_line(batch: Batch) -> int:
    has_header = batch.is_file and batch.format == "csv" and batch.csv.header
    return int(has_header and batch.path.stat().st_size > 0)


def _lines(batch: Batch) -> int:
    """Lines of any file; a last one without an end counts."""
    count, last = 0, b"\n"
    with batch.path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")


def _columns(place: Place, batch: Batch) -> dict[str, str]:
    import duckdb

    if not batch.is_table:
        raise StepError(
            "The data has no columns; give the key a `format` (csv, jsonl, json or parquet)."
        )
    try:
        with tables.engine(place, batch.path.parent) as connection:
            known = tables.typed(connection, batch)
    except duckdb.Error as error:
        raise StepError(tables.unreadable(batch, error)) from error
    return {column.name: column.type for column in known.columns or ()}


def _column_count(place: Place, batch: Batch) -> int:
    return len(_columns(place, batch))


def _size(place: Place, batch: Batch) -> int:
    del place
    return batch.path.stat().st_size


def _digest(name: str) -> Callable[[Place, Batch], str]:
    def find(place: Place, batch: Batch) -> str:
        del place
        with batch.path.open("rb") as file:
            return hashlib.file_digest(
                file, lambda: hashlib.new(name, usedforsecurity=False)
            ).hexdigest()

    return find


def _result(place: Place, batch: Batch) -> Any:
    """A value as it is, the first value of rows, or a text without its last line's end."""
    import duckdb

    if batch.value is not None:
        return batch.value
    if batch.is_table and batch.format != "json":
        if batch.path.stat().st_size == 0:
            return None
        try:
            with tables.engine(place, batch.path.parent) as connection:
                known = tables.typed(connection, batch)
                row = connection.execute(f"SELECT * FROM {tables.reader(known)} LIMIT 1").fetchone()  # noqa: S608
        except duckdb.Error as error:
            raise StepError(tables.unreadable(batch, error)) from error
        return row[0] if row else None
    if batch.path.stat().st_size > _MAX_RESULT_BYTES:
        raise StepError(f"The data is larger than {_MAX_RESULT_BYTES} bytes, too much for a value.")
    text = batch.path.read_text(encoding="utf-8", errors="replace")
    return text.removesuffix("\n").removesuffix("\r")


_MEASURES: dict[str, Callable[[Place, Batch], Any]] = {
    "row_count": _row_count,
    "column_count": _column_count,
    "size": _size,
    "md5": _digest("md5"),
    "sha": _digest("sha256"),
    "result": _result,
    "schema": _columns,
}

NAMES = frozenset(_MEASURES)
"""The names of all measures."""
