"""The systems that steps read and write, found by name; others come by entry point."""

from importlib import import_module
from typing import TYPE_CHECKING, cast

from galley.engine.faults import StepError

if TYPE_CHECKING:
    from galley.engine.connectors.base import Connector, Place

GROUP = "galley.connectors"
"""The entry-point group in which other packages offer connectors."""

BUILT_IN = {
    "dictionary": "galley.engine.connectors.dictionary:DictionaryConnector",
    "duckdb": "galley.engine.connectors.duckdb:DuckdbConnector",
    "file": "galley.engine.connectors.file:FileConnector",
    "ftp": "galley.engine.connectors.ftp:FtpConnector",
    "http": "galley.engine.connectors.http:HttpConnector",
    "none": "galley.engine.connectors.none:NoneConnector",
    "postgres": "galley.engine.connectors.postgres:PostgresConnector",
    "s3": "galley.engine.connectors.s3:S3Connector",
    "shell": "galley.engine.connectors.shell:ShellConnector",
    "sqlite": "galley.engine.connectors.sqlite:SqliteConnector",
}


def connector(system: str, place: "Place") -> "Connector":
    """The connector of a system, ready to work at `place`.

    Raises:
        StepError: no connector of that name is installed.
    """
    known = BUILT_IN.get(system)
    if known is not None:
        module, _, attribute = known.partition(":")
        made = getattr(import_module(module), attribute)
    else:
        from importlib.metadata import entry_points

        found = entry_points(group=GROUP, name=system)
        if not found:
            raise StepError(
                f"There is no connector for {system}; there are {', '.join(sorted(BUILT_IN))}."
                " Install the package that offers it, or use another system."
            )
        made = next(iter(found)).load()
    return cast("Connector", made(place))
