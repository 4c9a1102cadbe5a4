"""Rows that nothing refers to go; what a live run or a late answer needs stays."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from tests.unit.engine.test_writer import submit

from galley.core.runs import models, retention
from galley.core.runs.ledger import Ledger
from galley.kit.clock import ManualClock
from galley.storage.db import Database


def count(database: Database, table: sa.Table) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)


def test_what_is_old_and_needed_by_nobody_goes(
    database: Database, manual_clock: ManualClock
) -> None:
    old = manual_clock.now()
    with database.connection() as connection:
        Ledger().apply(connection, [submit(1)], old)
    with database.reading() as session:
        uid = session.scalar(sa.select(models.runs.c.uid))
        order_id = session.scalar(sa.select(models.orders.c.id))
    manual_clock.advance(86_400)
    now = manual_clock.now()
    alert: dict[str, Any] = {
        "kind": "mail", "body": {}, "tries": 1, "next_at": old, "last_error": "", "created_at": old,
    }  # fmt: skip
    message = {"kind": "Tick", "body": "", "created_at": old}
    plan = {"body": "{}", "created_at": old}
    with database.connection() as connection:
        connection.execute(
            models.inbox.insert(),
            [message | {"uid": f"m{n}", "done_at": old if n < 5 else None} for n in range(6)],
        )
        connection.execute(
            models.plans.insert(),
            [plan | {"id": 100 + n, "digest": f"d{n}"} for n in range(5)]
            + [{"id": 200, "digest": "new", "body": "{}", "created_at": now}],
        )
        connection.execute(
            models.outbox.insert(),
            [
                alert | {"id": 1, "state": "sent", "subject_key": f"{uid}:start:a@b"},
                alert | {"id": 2, "state": "waiting", "subject_key": "gone:start:a@b"},
                *(
                    alert | {"id": n, "state": state, "subject_key": f"gone{n}:start:a@b"}
                    for n, state in ((3, "sent"), (4, "dead"), (5, "sent"))
                ),
            ],
        )
        connection.execute(
            models.schedule_fires.insert(),
            [
                {"order_id": order_id, "due_at": old + timedelta(hours=n * 6), "outcome": "fired"}
                for n in range(5)
            ],
        )
    assert retention.purge_inbox(database, now) == 5
    assert retention.purge_plans(database, now) == 5
    assert retention.purge_outbox(database, now) == 3
    assert retention.purge_fires(database, now) == 4
    left = [models.inbox, models.plans, models.outbox, models.schedule_fires, models.runs]
    assert [count(database, table) for table in left] == [1, 2, 2, 1, 1]
    assert retention.purge_outbox(database, now) == 0
