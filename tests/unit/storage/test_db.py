"""The two databases behave alike where the rest of Galley counts on it."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, StatementError

from galley.core.runs.models import counters, plans
from galley.storage import db
from galley.storage.db import Database, after_commit

PLAN = {"id": 1, "digest": "d", "body": "{}"}


def test_a_stored_moment_comes_back_in_utc_to_the_microsecond(database: Database) -> None:
    moment = datetime(2026, 11, 24, 13, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
    with database.connection() as connection:
        connection.execute(sa.insert(plans).values(**PLAN, created_at=moment))
    with database.reading() as session:
        stored = session.scalar(sa.select(plans.c.created_at))
    assert stored == moment
    assert stored is not None
    assert stored.tzinfo is UTC


def test_a_naive_moment_is_refused(database: Database) -> None:
    naive = datetime(2026, 11, 24, 13)  # noqa: DTZ001 - the point of the test
    with pytest.raises(StatementError, match="must be aware"), database.connection() as connection:
        connection.execute(sa.insert(plans).values(**PLAN, created_at=naive))


def test_an_exception_undoes_a_writing_block(database: Database) -> None:
    def write_and_fail() -> None:
        with database.writing() as session:
            session.execute(sa.insert(counters).values(name="x", next_id=1))
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(counters)) == 0


def test_a_reading_block_writes_nothing(database: Database) -> None:
    with database.reading() as session, pytest.raises(RuntimeError, match="writes nothing"):
        session.execute(sa.insert(counters).values(name="x", next_id=1))
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(counters)) == 0


def test_only_a_transaction_that_proves_itself_reaches_the_disk(sqlite_database: Database) -> None:
    log = Path(f"{sqlite_database.url.database}-wal")
    with sqlite_database.connection() as connection:
        db.prove_durable(connection)
    size = log.stat().st_size
    with sqlite_database.connection():
        pass
    assert log.stat().st_size == size
    with sqlite_database.connection() as connection:
        db.prove_durable(connection)
    assert log.stat().st_size > size


def test_unique_keys_hold(database: Database) -> None:
    with database.writing() as session:
        session.execute(sa.insert(counters).values(name="x", next_id=1))
    with pytest.raises(IntegrityError), database.writing() as session:
        session.execute(sa.insert(counters).values(name="x", next_id=2))


def test_an_act_after_the_commit_waits_for_the_outermost_one(database: Database) -> None:
    done: list[str] = []
    with database.writing() as session:
        after_commit(session, lambda: done.append("acted"))
        with session.begin_nested():
            session.execute(sa.insert(counters).values(name="x", next_id=1))
        assert done == []
    assert done == ["acted"]


def test_an_act_after_the_commit_finds_the_connection_back_in_the_pool(database: Database) -> None:
    held: list[int] = []
    with database.writing() as session:
        session.execute(sa.insert(counters).values(name="x", next_id=1))
        after_commit(session, lambda: held.append(database.engine.pool.checkedout()))  # type: ignore[attr-defined]
    assert held == [0]


def test_an_act_after_the_commit_is_dropped_by_a_rollback(database: Database) -> None:
    done: list[str] = []
    with database.reading() as session:
        after_commit(session, lambda: done.append("acted"))
        session.execute(sa.select(counters))
        session.rollback()
        session.execute(sa.select(counters))
        session.commit()
    assert done == []


def test_a_rolled_back_savepoint_does_not_drop_the_act(database: Database) -> None:
    done: list[str] = []
    with database.writing() as session:
        after_commit(session, lambda: done.append("acted"))
        savepoint = session.begin_nested()
        session.execute(sa.insert(counters).values(name="x", next_id=1))
        savepoint.rollback()
    assert done == ["acted"]


def test_an_act_of_a_rolled_back_savepoint_is_dropped(database: Database) -> None:
    done: list[str] = []
    with database.writing() as session:
        savepoint = session.begin_nested()
        after_commit(session, lambda: done.append("acted"))
        savepoint.rollback()
    assert done == []


def test_what_operators_are_told_of_an_unsafe_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "SAFE_SQLITE", (999, 0, 0))
    note = db.platform_note()
    assert note is not None
    assert "write-ahead-log race" in note


def pids(database: Database) -> list[int]:
    """Which processes of Postgres serve two readers at once."""
    ask = sa.text("select pg_backend_pid()")
    with database.reading() as one, database.reading() as other:
        return [one.scalars(ask).one(), other.scalars(ask).one()]


def test_a_connection_that_was_cut_while_it_rested_is_not_used(
    postgres_database: Database,
) -> None:
    """Nothing is asked on a connection before its use, and still nobody meets a dead one."""
    cut = pids(postgres_database)
    with psycopg.connect(
        postgres_database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    ) as other:
        for pid in cut:
            assert other.execute("select pg_terminate_backend(%s, 5000)", [pid]).fetchone()
    assert not set(pids(postgres_database)) & set(cut)


def test_readers_on_postgres_keep_no_transaction_and_their_statements_prepared(
    postgres_database: Database,
) -> None:
    ask = sa.select(counters.c.name).where(counters.c.next_id > 0)
    for _ in range(8):
        with postgres_database.reading() as session:
            session.execute(ask).all()
    with postgres_database.reading() as session:
        prepared = session.scalars(sa.text("select statement from pg_prepared_statements")).all()
        pid = session.scalar(sa.text("select pg_backend_pid()"))
        with postgres_database.connection() as other:
            state = sa.text("select state from pg_stat_activity where pid = :pid")
            assert other.scalar(state, {"pid": pid}) == "idle"
    assert any("ledger_counter" in statement for statement in prepared)
