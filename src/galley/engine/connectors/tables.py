"""Files of rows, read and written by DuckDB: CSV, JSON lines, JSON and Parquet, nulls kept exact.

In CSV an unquoted empty field is no value and a quoted one is empty text, both ways. Text that
looks like a number but would change as one ("007") stays text.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galley.engine.connectors.base import Batch, Column, CsvStyle, Place
from galley.engine.faults import StepError, told
from galley.kit.failpoints import failpoint
from galley.kit.files import fsync_folder

if TYPE_CHECKING:
    import duckdb

_MIN_MEMORY_MB = 64
_KEPT_MEMORY = 0.75  # the rest of the attempt's memory is for the process itself
_JSON_TEXT = re.compile(
    r'"(?:[^"]|"")*"|\b(?:TIMESTAMP(?:_S|_MS|_NS)?(?: WITH TIME ZONE)?|DATE|TIME|UUID)\b'
)
_NUMBER_TYPES = ("BIGINT", "DOUBLE", "HUGEINT", "INTEGER", "UBIGINT", "DECIMAL")
_LARGE = frozenset({"HUGEINT", "UHUGEINT"})
_ENCODINGS = frozenset({"utf-8", "utf-16", "latin-1"})
_ADVICE = ("Possible", "file =", "LINE ")
_LONGEST_SAYING = 400
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def name(text: str) -> str:
    """An SQL identifier, quoted."""
    return '"' + text.replace('"', '""') + '"'


def table_name(text: str) -> str:
    """A possibly dotted table name, each part quoted. Quoted parts may hold dots."""
    parts = re.findall(r'"((?:[^"]|"")+)"|([^."]+)', text)
    if not parts:
        raise StepError("The table's name is empty; name it in `table`.")
    return ".".join(name(inner.replace('""', '"') or bare) for inner, bare in parts)


def format_of(path: str, wanted: str | None) -> str:
    """The format of a file: the one wanted, or what its name's ending says, else `binary`."""
    return wanted or _SUFFIXES.get(Path(path).suffix.lower(), "binary")


def csv_style(options: dict[str, Any], path: str, header: bool | None) -> CsvStyle:
    """How a key's CSV file is written: its header, `delimiter`, `encoding`, and `null`."""
    delimiter = options.get("delimiter") or ("\t" if path.lower().endswith(".tsv") else ",")
    encoding = str(options.get("encoding") or "utf-8").lower().replace("utf8", "utf-8")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise StepError(f"The delimiter {delimiter!r} is not one character; use for instance `;`.")
    if encoding not in _ENCODINGS:
        raise StepError(f"The encoding {encoding} is not one of {', '.join(sorted(_ENCODINGS))}.")
    null = options.get("null")
    return CsvStyle(
        header=header is not False,
        delimiter=delimiter,
        encoding=encoding,
        also_null=None if null is None else str(null),
    )


@contextmanager
def engine(
    place: Place, *folders: Path, database: Path | None = None, read_only: bool = False
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A DuckDB connection that can reach these folders, its database, and nothing else.

    Raises:
        duckdb.Error: the database cannot be opened.
    """
    import duckdb

    memory_mb = max(int(place.memory_mb * _KEPT_MEMORY), _MIN_MEMORY_MB)
    spill = place.folder / "spill"
    spill.mkdir(exist_ok=True)
    connection = duckdb.connect(
        str(database or ":memory:"),
        read_only=read_only,
        config={
            "threads": str(place.threads),
            "memory_limit": f"{memory_mb}MB",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_unsigned_extensions": "false",
            "temp_directory": str(spill),
        },
    )
    try:
        connection.execute("SET TimeZone='UTC'")
        connection.execute("SET python_enable_replacements=false")
        connection.execute("SET preserve_insertion_order=true")
        reach = ", ".join(quoted(f"{folder}/") for folder in folders)
        connection.execute(f"SET allowed_directories=[{reach}]")
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        yield connection
    finally:
        connection.close()


def reader(batch: Batch, *, as_text: bool = False) -> str:
    """The SQL table function that reads a batch's file; with `as_text` CSV values stay text.

    Raises:
        StepError: the batch has no rows and columns.
    """
    path = quoted(str(batch.path))
    if batch.format == "parquet":
        return _parquet_reader(batch, path)
    if batch.format in {"json", "jsonl"}:
        return _json_reader(batch, path)
    if batch.format != "csv":
        raise StepError(
            f"The data is {batch.format}, not a table: give the source's key a `format`"
            " (csv, jsonl, json or parquet)."
        )
    style = batch.csv
    settings = [
        f"header={str(style.header).lower()}",
        f"delim={quoted(style.delimiter)}",
        """quote='"'""",
        """escape='"'""",
        f"nullstr={_nulls(style)}",
        "allow_quoted_nulls=false",
        "strict_mode=true",
        "max_line_size=16777216",
    ]
    if style.encoding != "utf-8":
        settings.append(f"encoding={quoted(style.encoding)}")
    if batch.columns is not None and not as_text:
        settings.append(f"auto_detect=false, columns={_struct(batch.columns)}")
    elif as_text:
        settings.append("all_varchar=true")
    else:
        settings.append("sample_size=-1")
    return f"read_csv({path}, {', '.join(settings)})"


def _nulls(style: CsvStyle) -> str:
    if style.also_null is None:
        return quoted(style.null)
    return f"[{quoted(style.null)}, {quoted(style.also_null)}]"


def _parquet_reader(batch: Batch, path: str) -> str:
    """Integers of 128 bits get their type back: Parquet has none for them."""
    large = [column for column in batch.columns or () if column.type in _LARGE]
    if not large:
        return f"read_parquet({path})"
    values = ", ".join(f"{name(c.name)}::{c.type} AS {name(c.name)}" for c in large)
    return f"(SELECT * REPLACE ({values}) FROM read_parquet({path}))"


def _json_reader(batch: Batch, path: str) -> str:
    layout = "newline_delimited" if batch.format == "jsonl" else "auto"
    known = f", columns={_struct(batch.columns)}" if batch.columns is not None else ""
    return (
        f"read_json({path}, format='{layout}', sample_size=-1, map_inference_threshold=-1,"
        f" maximum_object_size=67108864{known})"
    )


def _struct(columns: tuple[Column, ...]) -> str:
    fields = ", ".join(f"{quoted(column.name)}: {quoted(column.type)}" for column in columns)
    return "{" + fields + "}"


def described(connection: "duckdb.DuckDBPyConnection", sql: str) -> tuple[Column, ...]:
    """The columns of a query."""
    rows = connection.execute(f"DESCRIBE {sql}").fetchall()
    return tuple(Column(row[0], row[1]) for row in rows)


def typed(connection: "duckdb.DuckDBPyConnection", batch: Batch) -> Batch:
    """The batch with its columns' names and types, found from its whole content if need be."""
    if batch.columns is not None or not batch.is_table:
        return batch
    if batch.format in {"csv", "jsonl", "json"} and batch.path.stat().st_size == 0:
        return replace(batch, columns=())
    columns = described(connection, f"SELECT * FROM {reader(batch)}")
    if batch.format in {"json", "jsonl"}:
        columns = tuple(Column(c.name, _JSON_TEXT.sub(_as_text, c.type)) for c in columns)
        columns = _narrowed(connection, replace(batch, columns=columns))
    if batch.format == "csv":
        columns = _keep_text(connection, batch, columns)
    return replace(batch, columns=columns)


def known(place: Place, batch: Batch) -> Batch:
    """As `typed`, with an engine of its own.

    Raises:
        StepError: the file is not what its format says.
    """
    import duckdb

    try:
        with engine(place, batch.path.parent) as connection:
            return typed(connection, batch)
    except duckdb.Error as error:
        raise StepError(unreadable(batch, error)) from error


def _as_text(match: re.Match[str]) -> str:
    found = match.group()
    return found if found.startswith('"') else "VARCHAR"


def _narrowed(connection: "duckdb.DuckDBPyConnection", batch: Batch) -> tuple[Column, ...]:
    """Whole numbers as BIGINT where they fit: the look at JSON calls some of them larger."""
    columns = batch.columns or ()
    large = [c for c in columns if c.type in {"HUGEINT", "UBIGINT"}]
    if not large:
        return columns
    tests = ", ".join(
        f"count({name(c.name)}) = count(try_cast({name(c.name)} AS BIGINT))" for c in large
    )
    row = connection.execute(f"SELECT {tests} FROM {reader(batch)}").fetchone()
    fits = {c.name for c, hit in zip(large, row or (), strict=True) if hit}
    return tuple(Column(c.name, "BIGINT") if c.name in fits else c for c in columns)


def _keep_text(
    connection: "duckdb.DuckDBPyConnection", batch: Batch, columns: tuple[Column, ...]
) -> tuple[Column, ...]:
    """Leave numbers with leading zeros or a plus sign as the text that they are."""
    numeric = [c for c in columns if c.type.startswith(_NUMBER_TYPES)]
    if not numeric:
        return columns
    tests = ", ".join(
        f"coalesce(bool_or(regexp_matches({name(c.name)}, '^(\\+|-?0[0-9])')), false)"
        for c in numeric
    )
    row = connection.execute(f"SELECT {tests} FROM {reader(batch, as_text=True)}").fetchone()
    changed = {c.name for c, hit in zip(numeric, row or (), strict=True) if hit}
    return tuple(Column(c.name, "VARCHAR") if c.name in changed else c for c in columns)


def count_records(connection: "duckdb.DuckDBPyConnection", batch: Batch) -> int:
    """How many records the file has, its header not among them."""
    if batch.path.stat().st_size == 0:
        return 0
    row = connection.execute(f"SELECT count(*) FROM {reader(batch, as_text=True)}").fetchone()
    return int(row[0]) if row else 0


def export(
    connection: "duckdb.DuckDBPyConnection",
    select: str,
    path: Path,
    style: CsvStyle,
    *,
    layout: str,
) -> None:
    """Write a query's rows to `path`: a temporary name, fsync, rename.

    Raises:
        StepError: the query or the disk failed.
    """
    import duckdb

    temporary = path.with_name(f".{path.name}.tmp")
    target = f"{quoted(str(temporary))} ({_form(layout, style)})"
    try:
        if layout == "parquet":
            _copy_exact(connection, select, target)
        else:
            connection.execute(f"COPY ({select}) TO {target}")
        settle(temporary, path)
    except duckdb.Error as error:
        raise StepError(f"The rows could not be written as {layout}: {told(error)}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _copy_exact(connection: "duckdb.DuckDBPyConnection", select: str, target: str) -> None:
    """Write Parquet without loss: DuckDB would make doubles of 128-bit integers."""
    import duckdb

    large = [c.name for c in described(connection, select) if c.type in _LARGE]
    if not large:
        connection.execute(f"COPY ({select}) TO {target}")
        return
    for kind in ("BIGINT", "DECIMAL(38,0)", "VARCHAR"):
        values = ", ".join(f"{name(column)}::{kind} AS {name(column)}" for column in large)
        exact = f"SELECT * REPLACE ({values}) FROM ({select})"
        try:
            connection.execute(f"COPY ({exact}) TO {target}")
        except duckdb.ConversionException:
            if kind == "VARCHAR":
                raise
        else:
            return


def _form(layout: str, style: CsvStyle) -> str:
    if layout == "parquet":
        return "FORMAT parquet, COMPRESSION zstd"
    if layout == "jsonl":
        return "FORMAT json, ARRAY false"
    if layout == "json":
        return "FORMAT json, ARRAY true"
    everything = ", FORCE_QUOTE *" if style.quote_all else ""
    return (
        f"FORMAT csv, HEADER {str(style.header).lower()}, DELIMITER {quoted(style.delimiter)},"
        f" NULLSTR {quoted(style.null)}, QUOTE '\"', ESCAPE '\"'{everything}"
    )


def settle(temporary: Path, path: Path) -> None:
    """Make a finished file durable under its own name."""
    handle = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    failpoint("connector.table_written")
    temporary.replace(path)
    failpoint("connector.table_named")
    fsync_folder(path.parent)


def convert(place: Place, batch: Batch, path: Path, layout: str, style: CsvStyle) -> Batch:
    """The batch written anew in another format or CSV style, at `path`.

    Raises:
        StepError: the file is not what its format says, or the disk failed.
    """
    import duckdb

    try:
        with engine(place, batch.path.parent, path.parent) as connection:
            known = typed(connection, batch)
            if known.columns == ():
                return _nothing(path, layout, style)
            source = known if batch.format != "csv" or layout != "csv" else batch
            text = source is batch and batch.columns is None
            export(
                connection,
                f"SELECT * FROM {reader(source, as_text=text)}",
                path,
                style,
                layout=layout,
            )
            rows = batch.row_count
            return Batch(path, layout, known.columns, style, rows)
    except duckdb.Error as error:
        raise StepError(unreadable(batch, error)) from error


def _nothing(path: Path, layout: str, style: CsvStyle) -> Batch:
    """An empty file in another format: no columns, no rows."""
    if layout == "parquet":
        raise StepError("The file is empty, so it has no columns and cannot become Parquet.")
    path.write_bytes(b"[]\n" if layout == "json" else b"")
    return Batch(path, layout, (), style, 0)


def _said(error: Exception) -> str:
    """The facts of DuckDB's many lines about a file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = []
    for line in lines:
        if line.startswith(_ADVICE):
            break
        if not line.startswith("Original Line"):
            kept.append(line)
    return told(ValueError("; ".join(kept or lines[:1])[:_LONGEST_SAYING]))


def unreadable(batch: Batch, error: Exception) -> str:
    """Why a file could not be read as what its format says."""
    return (
        f"The file is not readable as {batch.format}: {_said(error)}. Check its content, or give"
        " the key another `format`, `delimiter` or `encoding`."
    )
