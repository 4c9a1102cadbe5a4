"""A database in memory with a single connection, for worlds in which nothing happens at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session
from tests.conftest import build_schema

from galley.core.runs import models
from galley.storage.db import WRITES, Database, metadata, sqlite_driver

_LEDGER = (
    models.orders, models.runs, models.plans, models.steps, models.attempts, models.checks,
    models.artifacts, models.events, models.schedules, models.schedule_fires, models.outbox,
    models.inbox, models.counters,
)  # fmt: skip


_IS_DUE = f"SELECT EXISTS (SELECT 1 FROM {models.schedules.name} WHERE next_due_at <= ?)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryDatabase(Database):
    """Transactions, constraints and statements as ever; no files, pool and locks.

    A world takes half of the time that it would with them, and none of its questions is about
    those: files, kills and several processes are tests/chaos's.
    """

    def __init__(self) -> None:
        self.url = sa.make_url("sqlite://")
        self.is_sqlite = True
        self.engine = sa.create_engine(
            self.url, module=sqlite_driver, connect_args={"cached_statements": 1000}
        )
        self._only = self.engine.connect().execution_options(**{WRITES: True})
        driver = self._only.connection.driver_connection
        assert driver is not None
        driver.isolation_level = None
        driver.execute("PRAGMA foreign_keys=ON")
        self._driver = driver
        build_schema(self)
        ledger = [table for table in reversed(metadata.sorted_tables) if table in _LEDGER]
        self._emptying = [f"DELETE FROM {table.name}" for table in ledger]

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """The connection, in a transaction that commits at the end of the block."""
        self._driver.execute("BEGIN IMMEDIATE")
        with self._only.begin():
            yield self._only

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session whose reads see one moment; nothing that it writes is kept."""
        self._driver.execute("BEGIN")
        with Session(self._only, expire_on_commit=False) as session:
            yield session
            session.expunge_all()
            session.rollback()

    def is_due(self, now: datetime) -> bool:
        """Whether an order's time has come, active or not."""
        now_us = (now - _EPOCH) // timedelta(microseconds=1)
        (found,) = self._driver.execute(_IS_DUE, (now_us,)).fetchone()
        return bool(found)

    def empty(self) -> None:
        """Take every row of the ledger out."""
        for statement in self._emptying:
            self._driver.execute(statement)

    def close(self) -> None:
        """Let go of everything."""
        self._only.close()
        super().close()
