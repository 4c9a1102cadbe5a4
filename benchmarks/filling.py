"""Fills a ledger with runs that have ended, in bulk: copies of runs that Galley itself has made.

What is copied are rows as the database holds them, so that the copies are as large and as
scattered over the indexes as real ones: an order, its run, the run's steps, attempts and events.
Half of the runs share their orders by the hundred, as those of schedules do; one in twenty failed,
and has told so by mail. Nothing may serve the database meanwhile.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from galley.core.runs import models
from galley.kit.ids import uuid_of
from galley.storage.db import Database, UtcTime

PER_ORDER = 500
_BATCH = 10_000
_SPREAD_US = 90 * 24 * 3600 * 1_000_000
_FAILED_OF = 20
_TABLES = (
    models.orders,
    models.runs,
    models.steps,
    models.attempts,
    models.events,
    models.outbox,
)
Row = dict[str, Any]


@dataclass(slots=True)
class Template:
    """A run with everything that hangs on it, as raw rows."""

    order: Row
    run: Row
    steps: list[Row]
    attempts: list[Row]
    events: list[Row]


def fill(database: Database, count: int) -> None:
    """Add so many ended runs, made over the last 90 days from the runs that are there."""
    with database.engine.connect() as connection:
        templates = _templates(connection)
        ids = {
            table.name: connection.scalar(sa.select(sa.func.max(table.c.id))) or 0
            for table in _TABLES
        }
        connection.rollback()
        raw = connection.connection.driver_connection
        if database.is_sqlite:
            raw.execute("PRAGMA synchronous=OFF")
        else:
            raw.autocommit = True
            raw.execute("SET session_replication_role = replica")
        maker = _Maker(templates, ids, count)
        for start in range(0, count, _BATCH):
            rows = maker.make(range(start, min(start + _BATCH, count)))
            if database.is_sqlite:
                raw.execute("BEGIN")
                for name, some in rows.items():
                    _insert(raw, name, some)
                raw.execute("COMMIT")
            else:
                with raw.transaction(), raw.cursor() as cursor:
                    for name, some in rows.items():
                        _copy(cursor, name, some)
    database.close()


def settle(database: Database) -> None:
    """What the databases do by themselves after a while: statistics, and the log written back."""
    with database.engine.connect() as connection:
        raw = connection.connection.driver_connection
        connection.rollback()
        if database.is_sqlite:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            raw.autocommit = True
            raw.execute("VACUUM ANALYZE")
            raw.execute("CHECKPOINT")
            raw.autocommit = False
    database.close()


class _Maker:
    """Makes copies; ids go on where those of the rows that are there end."""

    def __init__(self, templates: Sequence[Template], ids: dict[str, int], count: int) -> None:
        self._templates = templates
        self._ids = ids
        self._count = count
        self._order_id = 0

    def make(self, numbers: Iterable[int]) -> dict[str, list[Row]]:
        """The rows of these runs by table, parents first."""
        rows: dict[str, list[Row]] = {table.name: [] for table in _TABLES}
        for number in numbers:
            self._add(rows, number)
        return rows

    def _take(self, table: str) -> int:
        self._ids[table] += 1
        return self._ids[table]

    def _add(self, rows: dict[str, list[Row]], number: int) -> None:
        template = self._templates[number % len(self._templates)]
        later = _SPREAD_US * number // self._count - _SPREAD_US
        failed = number % _FAILED_OF == 0
        if number >= self._count // 2 or number % PER_ORDER == 0:
            self._order_id = self._take("run_order")
            state = {"state": "failed"} if failed else {}
            own = {"id": self._order_id, "uid": _uid("0", number)} | state
            rows["run_order"].append(_moved(models.orders, template.order, later) | own)
        run_id, uid = self._take("run"), _uid("1", number)
        run = {"id": run_id, "uid": uid, "order_id": self._order_id, "work_id": run_id}
        run |= {"state": "failed", "reason": "Step s0 failed."} if failed else {}
        rows["run"].append(_moved(models.runs, template.run, later) | run)
        step_ids, attempt_ids = {}, {}
        for attempt in template.attempts:
            attempt_ids[attempt["id"]] = self._take("attempt")
        for step in template.steps:
            step_ids[step["id"]] = self._take("step")
            own = {
                "id": step_ids[step["id"]],
                "run_id": run_id,
                "attempt_id": attempt_ids[step["attempt_id"]],
            }
            rows["step"].append(_moved(models.steps, step, later) | own)
        for attempt in template.attempts:
            number_of = attempt_ids[attempt["id"]]
            own = {"id": number_of, "run_id": run_id, "step_id": step_ids[attempt["step_id"]]}
            rows["attempt"].append(
                _moved(models.attempts, attempt, later) | own | {"fence": number_of}
            )
        for event in template.events:
            own = {"id": self._take("run_event"), "run_id": run_id, "order_id": self._order_id}
            rows["run_event"].append(_moved(models.events, event, later) | own)
        if failed:
            at = rows["run"][-1]["finished_at"]
            rows["outbox"].append(self._mail(uid, at))

    def _mail(self, uid: str, at: int) -> Row:
        return {
            "id": self._take("outbox"),
            "kind": "mail",
            "subject_key": f"{uid}:failure:ops@example.org",
            "body": "{}",
            "state": "sent",
            "tries": 1,
            "next_at": at,
            "last_error": "",
            "created_at": at,
        }


def _templates(connection: sa.Connection) -> list[Template]:
    """The newest runs of one and of two steps."""
    found = []
    for steps in (1, 2):
        query = "SELECT * FROM run WHERE steps_total = :steps AND state = 'succeeded'"
        (run,) = _rows(connection, f"{query} ORDER BY id DESC LIMIT 1", steps=steps)
        of_run = {
            table: _rows(connection, f"SELECT * FROM {table} WHERE run_id = :run", run=run["id"])  # noqa: S608
            for table in ("step", "attempt", "run_event")
        }
        (order,) = _rows(connection, "SELECT * FROM run_order WHERE id = :id", id=run["order_id"])
        found.append(Template(order, run, of_run["step"], of_run["attempt"], of_run["run_event"]))
    return found


def _rows(connection: sa.Connection, query: str, **values: int) -> list[Row]:
    return [dict(row) for row in connection.execute(sa.text(query), values).mappings()]


def _moved(table: sa.Table, row: Row, later: int) -> Row:
    """The row with all its times moved."""
    times = _TIMES[table.name]
    return {
        key: value + later if key in times and value is not None else value
        for key, value in row.items()
    }


_TIMES = {
    table.name: {column.name for column in table.c if isinstance(column.type, UtcTime)}
    for table in _TABLES
}


def first_order() -> str:
    """The UUID of the first order that `fill` makes, which has 500 runs."""
    return uuid_of(_uid("0", 0))


def _uid(kind: str, number: int) -> str:
    """A ULID of its own: in order of making, and older than all that are made now."""
    return f"01A000000{kind}{number:016d}"


def _insert(raw: Any, table: str, rows: Sequence[Row]) -> None:
    if rows:
        names = list(rows[0])
        marks = ",".join("?" * len(names))
        statement = f"INSERT INTO {table} ({','.join(names)}) VALUES ({marks})"  # noqa: S608
        raw.executemany(statement, _values(rows, names))


def _copy(cursor: Any, table: str, rows: Sequence[Row]) -> None:
    if rows:
        names = list(rows[0])
        with cursor.copy(f"COPY {table} ({','.join(names)}) FROM STDIN") as copy:
            for values in _values(rows, names):
                copy.write_row(values)


def _values(rows: Sequence[Row], names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    return (tuple(row[name] for name in names) for row in rows)
