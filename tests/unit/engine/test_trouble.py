"""What the log shows of trouble in the background: outages in a line, bugs with a traceback."""

import errno

import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from galley.engine.trouble import note_trouble
from galley.storage.db import Database

log = structlog.get_logger("test")


def noted(error: Exception) -> dict[str, object]:
    with structlog.testing.capture_logs() as lines:
        note_trouble(log, "trouble", error, part="x")
    (line,) = lines
    assert (line["event"], line["part"]) == ("trouble", "x")
    return dict(line)


def failure(database: Database, statement: str) -> SQLAlchemyError:
    with pytest.raises(SQLAlchemyError) as caught, database.reading() as session:
        session.execute(sa.text(statement))
    return caught.value


def test_an_outage_is_one_line() -> None:
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    for error in (failure(away, "select 1"), OSError(errno.EIO, "Input/output error")):
        line = noted(error)
        assert (line["log_level"], "exc_info" in line) == ("warning", False)
        assert "\n" not in str(line["error"])
    away.close()


def test_a_bug_is_traced(postgres_database: Database) -> None:
    for error in (ValueError("x"), failure(postgres_database, "select nothing_of_that_name")):
        line = noted(error)
        assert (line["log_level"], line["exc_info"]) == ("error", error)
    assert isinstance(error, ProgrammingError)
