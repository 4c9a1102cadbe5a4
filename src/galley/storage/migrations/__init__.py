"""The schema's versions: `0001_....py` and on, each whole or not at all, also under `kill -9`.

Alembic runs them; it is imported only when there is something to run. A schema newer than this
Galley is refused, so that an old program never writes into it.
"""

import fcntl
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from galley.kit.failpoints import failpoint
from galley.storage.db import Database

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(__file__).parent
VERSIONS = _FOLDER / "versions"
"""Where the versions lie, one file each."""

_VERSION = re.compile(r"(\d{4})_\w+\.py\Z")
_TABLE = "alembic_version"
_LOCK_KEY = 0x47414C4C  # of Postgres's advisory lock


class SchemaUnknown(Exception):
    """The database has a schema that this Galley cannot work with; the text says what to do."""


def versions() -> list[str]:
    """All versions that this Galley knows, oldest first."""
    found = (_VERSION.match(path.name) for path in VERSIONS.iterdir())
    return sorted(match.group(1) for match in found if match)


def has_versions() -> bool:
    """Whether there is any migration at all."""
    return bool(versions())


def current_version(database: Database) -> str | None:
    """The version of the database's schema, None for a database without tables.

    Raises:
        SchemaUnknown: there are tables, but not Galley's.
    """
    with database.engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        if _TABLE in tables:
            found: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {_TABLE}"))  # noqa: S608 - a constant
            return found
    if tables:
        raise SchemaUnknown(
            f"The database {database.url.render_as_string()} has tables that Galley did not make "
            f"({', '.join(sorted(tables)[:3])}, ...). Give Galley a database of its own."
        )
    return None


def check(database: Database) -> None:
    """Refuse to work with a schema that is not exactly this Galley's.

    Raises:
        SchemaUnknown: it is older, newer, or not Galley's; the message names the cure.
    """
    current, newest = current_version(database), versions()[-1]
    _refuse_newer(current)
    if current != newest:
        raise SchemaUnknown(
            f"The database has schema {current or 'none'} and this Galley needs {newest}. "
            "Run `galley migrate`."
        )


def upgrade(database: Database, metadata: sa.MetaData, *, to: str | None = None) -> list[str]:
    """Bring the schema to the newest version (or to `to`); gives the versions it went through.

    Safe to repeat, to kill, and to call from several servers at once. Each version is one
    transaction.

    Raises:
        SchemaUnknown: the schema is newer than this Galley, or not Galley's.
    """
    goal = to or versions()[-1]
    current = current_version(database)
    _refuse_newer(current)
    if current is not None and current >= goal:
        return []
    with _alone(database):
        before = current_version(database)
        _run(database, metadata, goal)
    return [version for version in versions() if (before or "") < version <= goal]


def _refuse_newer(current: str | None) -> None:
    known = versions()
    if current is not None and current not in known:
        raise SchemaUnknown(
            f"The database has schema {current}, and this Galley knows them up to {known[-1]}. "
            "A newer Galley has been here: install that one, or restore a backup made before it."
        )


def draft(database: Database, metadata: sa.MetaData, message: str) -> Path:
    """Write the next version's file: what the models declare and the newest version lacks.

    For developers; `database` is a scratch one, which is upgraded first. Read and mend the file
    before committing it: Alembic sees no renames and moves no data.
    """
    from alembic import command

    with _alone(database), _schema_connection(database) as connection:
        settings = _settings(connection, metadata)
        if has_versions():
            command.upgrade(settings, "head")
        number = f"{len(versions()) + 1:04d}"
        made: Any = command.revision(settings, message, autogenerate=True, rev_id=number)
    path = Path(made.path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.strip().startswith("# ###")))
    return path


def _run(database: Database, metadata: sa.MetaData, goal: str) -> None:
    from alembic import command

    with _schema_connection(database) as connection:
        command.upgrade(_settings(connection, metadata), goal)
    failpoint("migrations.committed")


def _settings(connection: sa.Connection, metadata: sa.MetaData) -> "Config":
    from alembic.config import Config

    settings = Config(stdout=io.StringIO())
    options = {
        "script_location": _FOLDER,
        "version_locations": VERSIONS,
        "path_separator": "newline",
        "file_template": "%%(rev)s_%%(slug)s",
    }
    for name, value in options.items():
        settings.set_main_option(name, str(value))
    settings.attributes.update(connection=connection, metadata=metadata, applied=_applied)
    return settings


@contextmanager
def _schema_connection(database: Database) -> Iterator[sa.Connection]:
    """A connection on which tables can be rebuilt without their rows' children being deleted."""
    with database.engine.connect().execution_options(galley_writes=True) as connection:
        if not database.is_sqlite:
            yield connection
            return
        raw = connection.connection.driver_connection
        assert raw is not None  # noqa: S101 - a checked-out connection has one
        raw.execute("PRAGMA foreign_keys=OFF")
        try:
            yield connection
        finally:
            connection.rollback()
            raw.execute("PRAGMA foreign_keys=ON")


def _applied(connection: sa.Connection) -> None:
    """Called in each version's transaction, after its changes."""
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise SchemaUnknown(f"the migration would break references of table {broken[0][0]}")
    failpoint("migrations.applied")


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Keep other servers from migrating at the same time; ends with this process at the latest."""
    if database.is_sqlite:
        path = Path(f"{database.url.database}.migrating")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    with database.engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
