"""The engine for Postgres, with what makes a statement there as cheap as it can be.

A round trip costs more than most of the statements that Galley sends, so none is made that says
nothing: connections are not tried before each use, and the ones used last are used first, for their
statements are prepared.
"""

import select
import time
from collections.abc import Sequence
from typing import Any, overload

import psycopg
import sqlalchemy as sa
from sqlalchemy import Engine, event
from sqlalchemy.engine import URL

_TRUSTED_S = 30.0
"""A connection that rested for longer may have been cut without a word, as by a firewall."""
_PREPARED = 400
"""How many statements a connection keeps prepared: more than Galley has in frequent use."""
_RESTED = "galley_rested_at"


def make_engine(url: URL, pool_size: int) -> Engine:
    """Connections that keep their commits, `pool_size` of them open, at most twice as many."""
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_use_lifo=True,
        connect_args={
            "options": "-c synchronous_commit=on -c timezone=UTC",
            "cursor_factory": _Cursor,
        },
    )

    @event.listens_for(engine, "connect")
    def _open(connection: "psycopg.Connection[Any]", _record: Any) -> None:
        connection.prepared_max = _PREPARED

    @event.listens_for(engine, "checkin")
    def _rest(_connection: Any, record: Any) -> None:
        record.info[_RESTED] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _try(connection: Any, record: Any, _proxy: Any) -> None:
        rested_at = record.info.get(_RESTED)
        if rested_at is None:  # it is new
            return
        if time.monotonic() - rested_at < _TRUSTED_S and not _has_news(connection):
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise sa.exc.DisconnectionError(str(error)) from error

    return engine


def _has_news(connection: "psycopg.Connection[Any]") -> bool:
    """Whether something came over a connection that nothing was asked on: mostly its end."""
    if connection.closed:
        return True
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    return bool(look.poll(0))


class _Columns(Sequence[psycopg.Column]):
    """What describes the columns of a result, each made when it is looked at.

    SQLAlchemy looks once for each kind of statement; to make them costs as much as a small query.
    """

    def __init__(self, cursor: "psycopg.Cursor[Any]", count: int) -> None:
        self._cursor, self._count = cursor, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> psycopg.Column: ...
    @overload
    def __getitem__(self, index: slice) -> list[psycopg.Column]: ...
    def __getitem__(self, index: int | slice) -> psycopg.Column | list[psycopg.Column]:
        if isinstance(index, slice):
            return [psycopg.Column(self._cursor, i) for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return psycopg.Column(self._cursor, index % self._count)


class _Cursor(psycopg.Cursor[Any]):
    @property
    def description(self) -> Any:
        result = self.pgresult
        if result is None or not result.nfields:
            return super().description
        return _Columns(self, result.nfields)
