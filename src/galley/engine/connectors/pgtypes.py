"""Postgres types as DuckDB's, and back."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from galley.engine.connectors import tables
from galley.engine.connectors.base import Batch, Column

if TYPE_CHECKING:
    import duckdb

_MAX_DIGITS = 38
_SAME = {
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "oid": "UINTEGER",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "time without time zone": "TIME",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
    "uuid": "UUID",
    "interval": "INTERVAL",
    "json": "JSON",
    "jsonb": "JSON",
    "bytea": "BLOB",
}
_BACK = {
    "TINYINT": "smallint",
    "SMALLINT": "smallint",
    "UTINYINT": "smallint",
    "INTEGER": "integer",
    "USMALLINT": "integer",
    "BIGINT": "bigint",
    "UINTEGER": "bigint",
    "UBIGINT": "numeric(20,0)",
    "HUGEINT": "numeric(39,0)",
    "UHUGEINT": "numeric(39,0)",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIME": "time",
    "UUID": "uuid",
    "INTERVAL": "interval",
    "BLOB": "bytea",
    "JSON": "jsonb",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
}
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_PRECISION = re.compile(r"\(\d+\)")


@dataclass(frozen=True, slots=True)
class Field:
    """A query's column: its name, and its type as Postgres writes it."""

    name: str
    type: str


def selected(column: str, kind: str) -> str:
    """How a column is asked for: arrays and what has no text form of ours come as JSON."""
    quoted = tables.name(column)
    return f"to_json({quoted})" if kind.endswith("[]") else quoted


def value_of(
    connection: "duckdb.DuckDBPyConnection", field: Field, source: Batch
) -> tuple[str, str, str]:
    """A column's name, its DuckDB type, and the expression that makes it from Postgres' text."""
    column = tables.name(field.name)
    kind = _PRECISION.sub("", field.type) if not _NUMERIC.fullmatch(field.type) else field.type
    if field.type.endswith("[]"):
        return field.name, "JSON", f"{column}::JSON"
    if kind == "bytea":
        return field.name, "BLOB", f"from_hex(substr({column}, 3))"
    declared = _NUMERIC.fullmatch(kind)
    if declared and int(declared[1]) <= _MAX_DIGITS and int(declared[2]) >= 0:
        found = f"DECIMAL({declared[1]},{declared[2]})"
    elif kind.startswith("numeric"):
        found = _measured(connection, column, source)
    else:
        found = _SAME.get(kind, "VARCHAR")
    return field.name, found, f"{column}::{found}"


def _measured(connection: "duckdb.DuckDBPyConnection", column: str, source: Batch) -> str:
    """The smallest decimal type that holds every value, or text if there is none."""
    row = connection.execute(
        f"SELECT max(length(regexp_replace(split_part({column}, '.', 1), '^-', ''))),"
        f" max(length(split_part({column}, '.', 2))),"
        f" coalesce(bool_or(NOT regexp_matches({column}, '^-?[0-9]+(\\.[0-9]+)?$')), false)"
        f" FROM {tables.reader(source)}"
    ).fetchone()
    whole, scale, odd = row or (None, None, False)
    if whole is None:
        return "DECIMAL(18,0)"
    digits = max(whole + scale, 18)
    return "VARCHAR" if odd or digits > _MAX_DIGITS else f"DECIMAL({digits},{scale})"


def declared(kind: str) -> str:
    """The Postgres type for a DuckDB one."""
    if kind in _BACK:
        return _BACK[kind]
    if kind.startswith("DECIMAL"):
        return kind.replace("DECIMAL", "numeric")
    if kind.startswith("TIMESTAMP"):
        return "timestamp"
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP")):
        return "jsonb"
    return "text"


def written(column: Column, target: str) -> str:
    """The expression that makes, from a value, the text that Postgres reads for a `target` type."""
    quoted = tables.name(column.name)
    if column.type == "BLOB":
        return f"'\\x' || hex({quoted})"
    if column.type.endswith("]") and target.endswith("[]"):
        listed = f"CAST({quoted} AS VARCHAR[])"
        items = f"list_transform({listed}, lambda x: {_ITEM})"
        joined = f"coalesce(list_aggregate({items}, 'string_agg', ','), '')"
        return f"CASE WHEN {quoted} IS NOT NULL THEN '{{' || {joined} || '}}' END"
    if column.type.endswith("]") or column.type.startswith(("STRUCT", "MAP")):
        return f"to_json({quoted})::VARCHAR"
    return f"{quoted}::VARCHAR" if column.type == "INTERVAL" else quoted


_ITEM = (
    "CASE WHEN x IS NULL THEN 'NULL' ELSE"
    " '\"' || replace(replace(x, '\\', '\\\\'), '\"', '\\\"') || '\"' END"
)
"""One element of a Postgres array literal."""
