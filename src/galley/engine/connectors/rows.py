"""What all sinks with tables share: which columns get which values, and how tables are made."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import tables
from galley.engine.connectors.base import Batch, Column
from galley.engine.faults import StepError

MODES = ("append", "create", "replace", "truncate")
"""What becomes of the table: `append` needs it to be there, `create` makes it if it is missing,
`replace` makes it anew, `truncate` empties it first."""


_INSERT = re.compile(r"\s*insert\s+into\s+([^\s(]+)\s*(?:\(([^)]*)\))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Match:
    """One column of an insert: its name in the table, and its name in the batch."""

    target: str
    source: str


def mode_of(key: KeySpec) -> str:
    """What the key's `write-mode` says, else `append`."""
    mode = str(key.options.get("write-mode") or "append")
    if mode not in MODES:
        raise StepError(f"The write-mode {mode} is not one of {', '.join(MODES)}.")
    return mode


def aimed(key: KeySpec) -> KeySpec:
    """The key with its table and columns, also when only an INSERT statement names them.

    Raises:
        StepError: it names no table.
    """
    if key.table:
        return key
    found = _INSERT.match(key.sql or "")
    if found is None:
        raise StepError("The key names no table; give it a `table`.")
    columns = tuple(part.strip().strip('"') for part in (found[2] or "").split(",") if part.strip())
    return msgspec.structs.replace(key, table=found[1], columns=key.columns or columns)


def query_of(key: KeySpec) -> str:
    """The key's SQL, or the whole of its table."""
    if key.sql and key.sql.strip():
        return key.sql.strip().rstrip(";")
    if key.table:
        return f"SELECT * FROM {tables.table_name(key.table)}"
    raise StepError("The key has neither `sql` nor a `table`; give it one of them.")


def statement_of(key: KeySpec) -> str:
    """The key's SQL, which it must have."""
    if not key.sql or not key.sql.strip():
        raise StepError("The key has no `sql`; write the statement there.")
    return key.sql.strip()


def with_header(batch: Batch, key: KeySpec) -> Batch:
    """The batch as the sink's key reads it: `header` tells whether a CSV's first line is names."""
    if batch.format != "csv" or not batch.is_file or key.header is None:
        return batch
    return replace(batch, csv=replace(batch.csv, header=key.header))


def match_columns(
    batch: Batch, have: Sequence[Column], key: KeySpec, table: str, present: Sequence[str]
) -> list[Match]:
    """Which column of the batch goes where: by the key's `columns`, by name, or by position.

    `have` are the batch's columns in order, `present` the table's. Names count when the batch
    has real ones (a CSV file without a header has none).

    Raises:
        StepError: a column has no counterpart.
    """
    folded = {column.lower(): column for column in present}
    if key.columns:
        _same_count(len(have), len(key.columns), table, "names in `columns`")
        wanted = list(key.columns)
    elif batch.format == "csv" and not batch.csv.header:
        _same_count(len(have), len(present), table, "columns of the table")
        wanted = list(present)
    else:
        wanted = [column.name for column in have]
    unknown = [column for column in wanted if column.lower() not in folded]
    if unknown:
        raise StepError(
            f"The table {table} has no column {', '.join(unknown)}; it has {', '.join(present)}."
            " Rename them in the source, or list the table's names in `columns`."
        )
    return [
        Match(folded[target.lower()], column.name)
        for target, column in zip(wanted, have, strict=True)
    ]


def _same_count(have: int, want: int, table: str, what: str) -> None:
    if have != want:
        raise StepError(f"{have} columns cannot fill the {want} {what} of {table}.")


def new_columns(have: Sequence[Column], key: KeySpec) -> list[Column]:
    """The columns of a table that is to be made: the batch's, under the names in `columns`."""
    if not have:
        raise StepError("The data is empty and has no columns, so no table can be made from it.")
    if not key.columns:
        return list(have)
    _same_count(len(have), len(key.columns), key.table or "", "names in `columns`")
    return [Column(name, c.type) for name, c in zip(key.columns, have, strict=True)]


def create_sql(
    table: str, columns: Sequence[Column], type_of: Callable[[str], str], *, new: bool
) -> str:
    """The statement that makes a table."""
    fields = ", ".join(f"{tables.name(c.name)} {type_of(c.type)}" for c in columns)
    maybe = "" if new else "IF NOT EXISTS "
    return f"CREATE TABLE {maybe}{tables.table_name(table)} ({fields})"
