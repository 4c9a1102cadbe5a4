"""What every connector is and speaks: batches of rows in files, and the place where it works.

No rows cross this interface in memory: a batch is a file segment plus what is known about it.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from galley.core.recipes.spec import KeySpec
from galley.engine.console import Console
from galley.engine.outbound import OutboundPolicy, policy_from_environment

DEFAULT_MEMORY_MB = 2048
TABLE_FORMATS = frozenset({"csv", "jsonl", "json", "parquet"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name and its type, in DuckDB's words."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class CsvStyle:
    """How a CSV file is written: an unquoted `null` is no value, a quoted one is text.

    `also_null` is a second mark for no value in files that are read ("NA"); `quote_all` puts
    every value of files that are written in quotes.
    """

    header: bool = True
    delimiter: str = ","
    null: str = ""
    encoding: str = "utf-8"
    quote_all: bool = False
    also_null: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A file segment: its path, its format (`csv jsonl json parquet binary`) and its columns.

    `columns` None means: to be found from the file itself. `row_count` is the number of records,
    if known. `is_file` says that a user's file stands behind it, so that its row count is that of
    its lines, the header among them. `wish` and `wish_header` are the form in which a file sink
    writes it when it has no wish of its own. `value` is the whole content of a single value.
    """

    path: Path
    format: str
    columns: tuple[Column, ...] | None = None
    csv: CsvStyle = CsvStyle()
    row_count: int | None = None
    is_file: bool = False
    wish: str | None = None
    wish_header: bool | None = None
    value: Any = None

    @property
    def is_table(self) -> bool:
        """Whether the content has rows and columns."""
        return self.format in TABLE_FORMATS

    def named(self, path: Path) -> "Batch":
        """The same batch at another path."""
        return replace(self, path=path)


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement or a program gave: a value (None if it has none), and rows touched."""

    value: Any = None
    row_count: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectorCapabilities:
    """Which operations of `KeySpec` a connector knows, and which settings of its keys.

    `reads`, `writes` and `runs` hold names of operations; `wildcard` tells whether keys can be
    made at run time; `options` are the names it understands in `KeySpec.options`.
    """

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    runs: frozenset[str] = frozenset()
    wildcard: bool = False
    options: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step works: its folders, its log and its limits.

    `folder` is the attempt's own, `work` the run's shared one, `roots` the installation's file
    areas; `tree` holds the source's files, read-only.
    """

    folder: Path
    work: Path
    console: Console
    tree: Path | None = None
    roots: tuple[Path, ...] = ()
    memory_mb: int = DEFAULT_MEMORY_MB
    threads: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    outbound: OutboundPolicy = field(default_factory=policy_from_environment)
    lock_wait_s: float = 600.0

    @property
    def segments(self) -> Path:
        """The attempt's folder for file segments."""
        return self.folder / "segments"


class Connector(Protocol):
    """One kind of system. Made anew for each step with the place where the step works.

    Every method raises StepError (what, where, how to mend) and nothing else on a user's fault.
    """

    capabilities: ConnectorCapabilities

    def __init__(self, place: Place) -> None: ...

    def test(self, config: dict[str, Any]) -> None:
        """Reach the system with this configuration, or say why not."""
        ...

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """The names that a wildcard stands for, sorted."""
        ...

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """Fetch the key's rows or bytes into a new file of the folder `into`."""
        ...

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Bring the batch to the key's place, whole or not at all; gives what was written."""
        ...

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Carry out a statement, a scalar query or a program."""
        ...
