"""The database under everything: SQLite or Postgres behind one small interface.

Whatever differs between the two lives here. Sessions are short: `reading()` only reads,
`writing()` is a transaction that commits when its block ends (`BEGIN IMMEDIATE` on SQLite, so that
two read-then-write calls queue instead of failing).
"""

import errno
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, ExecutionContext, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session, SessionTransaction
from sqlalchemy.types import BigInteger, Integer, Text, TypeDecorator

from galley.kit.failpoints import failpoint

try:
    import pysqlite3 as sqlite_driver
except ImportError:  # no wheel for this platform
    sqlite_driver = sqlite3

SAFE_SQLITE = (3, 51, 3)
"""The first release without the write-ahead-log race. Source: sqlite.org, March 2026."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
WRITES = "galley_writes"
"""The execution option of connections that write."""
_TAKEN_STATES = frozenset({"23503", "23505"})  # of Postgres: foreign key, unique
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILING = frozenset({errno.EIO, errno.EROFS, errno.ESTALE})
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=5000",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "mmap_size=0",
    "wal_autocheckpoint=1000",
    "journal_size_limit=67108864",
    "temp_store=MEMORY",
)

Id = BigInteger().with_variant(Integer(), "sqlite")
"""The type of every integer key: 64 bits on both databases."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Base(DeclarativeBase):
    """The root of all mapped classes; they share `metadata` with the ledger's plain tables."""

    metadata = metadata


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC moment, stored as integer microseconds since 1970 on both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """Refuse naive moments; count microseconds."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time must be aware")
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Give the moment back, in UTC."""
        del dialect
        return None if value is None else _EPOCH + value * _MICROSECOND


class Document(TypeDecorator[Any]):
    """A JSON document in a text column, encoded and decoded by msgspec."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Encode; None stays NULL."""
        del dialect
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """Decode into plain dictionaries, lists and scalars."""
        del dialect
        return None if value is None else msgspec.json.decode(value)


class Database:
    """One open database: an engine, its sessions, and what it can do.

    `url` is a SQLAlchemy address (`sqlite:////path/galley.db`, `postgresql+psycopg://...`).
    """

    def __init__(self, url: str | URL, *, pool_size: int = 10) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(self.url) if self.is_sqlite else _postgres(self.url, pool_size)
        self._writer = self.engine.execution_options(**{WRITES: True})
        # A transaction around reads would see no one moment on Postgres either (each statement has
        # its own), would cost two round trips, and its rollback all prepared statements.
        how = {} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        self._reader = self.engine.execution_options(**how)
        event.listen(self._reader, "before_cursor_execute", _refuse_to_write)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that reads: on SQLite one moment, on Postgres one with each statement.

        Raises:
            RuntimeError: it was used to insert, update or delete.
        """
        with Session(self._reader, expire_on_commit=False, autoflush=False) as session:
            yield session
            session.expunge_all()  # a rollback would blank what was read, also for later use
            session.rollback()

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that commits at the end of its block, or rolls back on an exception."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session
            failpoint("session.before_commit")
        failpoint("session.after_commit")

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A plain connection in a writing transaction, for SQL without the ORM."""
        with self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of every pooled connection."""
        self.engine.dispose()


def _postgres(url: URL, pool_size: int) -> Engine:
    from galley.storage.postgres import make_engine  # of no use where there is SQLite only

    return make_engine(url, pool_size)


def _refuse_to_write(
    _connection: Connection,
    _cursor: Any,
    _statement: str,
    _parameters: Any,
    context: ExecutionContext | None,
    _many: bool,
) -> None:
    if getattr(context, "is_crud", False):
        raise RuntimeError("a reading session writes nothing")


def _sqlite(url: URL) -> Engine:
    engine = sa.create_engine(
        url,
        module=sqlite_driver,
        poolclass=sa.pool.QueuePool if url.database not in {None, "", ":memory:"} else None,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _open(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def after_commit(session: Session, act: Callable[[], None]) -> None:
    """Do something once the session's transaction is committed; after a rollback it never is.

    Called inside a savepoint, it hangs on that savepoint, too. The session's connection is back in
    the pool by then: many at once would else wait for each other to let one go.
    """
    waiting, due = [act], list[Callable[[], None]]()
    place = session.get_nested_transaction()

    @event.listens_for(session, "after_commit")
    def _done(committed: Session) -> None:
        if waiting and not committed.in_nested_transaction():
            due.append(waiting.pop())

    @event.listens_for(session, "after_transaction_end")
    def _let_go(_session: Session, ended: SessionTransaction) -> None:
        if due and ended.parent is None:
            due.pop()()

    @event.listens_for(session, "after_soft_rollback")
    def _undone(_session: Session, undone: SessionTransaction) -> None:
        if undone is place or undone.parent is None:
            waiting.clear()


def open_sqlite(address: str) -> Any:
    """A plain connection of the same SQLite that the engine uses; `address` is a path or a URI."""
    return sqlite_driver.connect(address, uri=address.startswith("file:"))


def sqlite_is_safe() -> bool:
    """Whether the linked SQLite is free of the write-ahead-log race."""
    return tuple(sqlite_driver.sqlite_version_info) >= SAFE_SQLITE


def is_disk_full(error: BaseException) -> bool:
    """Whether a database error or an OSError means that there is no room left."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    text = str(error).lower()
    return "disk is full" in text or "no space left" in text or "could not extend file" in text


def is_disk_failing(error: BaseException) -> bool:
    """Whether an OSError means that the disk itself refuses, as when it cannot make data durable.

    An operator has to look at it; what was asked for may succeed then.
    """
    return isinstance(error, OSError) and error.errno in _FAILING


def prove_durable(connection: Connection) -> None:
    """Write something that says nothing, so that the commit shows whether the disk takes it.

    SQLite commits a transaction without changes on any disk, and so on a full or failing one.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA user_version = 0")


def is_taken(error: IntegrityError) -> bool:
    """Whether a row of that key is there already, or one that it names has gone."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state in _TAKEN_STATES
    return str(error.orig).startswith(("UNIQUE", "FOREIGN KEY"))


def is_outcome_unknown(error: BaseException) -> bool:
    """Whether a transaction that failed so may have been committed all the same.

    The connection broke; or SQLite wrote the commit and could not make it durable: it counts as
    undone until another is written over it, and as done if the process dies before.
    """
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or "disk i/o error" in str(error.orig).lower()


def is_connection_lost(error: BaseException) -> bool:
    """Whether the database went away, so that the same work may succeed later."""
    return is_outcome_unknown(error) or isinstance(error, OperationalError)


def platform_note() -> str | None:
    """A warning for operators when the SQLite in use can corrupt a busy file, else None."""
    if sqlite_is_safe():
        return None
    return (
        f"SQLite {sqlite_driver.sqlite_version} on {sys.platform} has a known write-ahead-log race;"
        " install pysqlite3 or use Postgres."
    )
