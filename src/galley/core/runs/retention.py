"""Forgets rows that nothing refers to any more, a few at a time, so that nobody waits for it.

The ledger's writer deletes orders and runs; what is deleted here belongs to none that lives.
Every function may run on several servers at once, and may be repeated.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from galley.core.runs import models
from galley.storage.db import Database

BATCH = 100


def purge_inbox(database: Database, before: datetime) -> int:
    """Delete messages that were answered before then; how many."""
    box = models.inbox.c
    return _in_batches(database, models.inbox, box.uid, box.done_at < before)


def purge_plans(database: Database, before: datetime) -> int:
    """Delete plans made before then that no run has; how many."""
    plans = models.plans.c
    unused = ~sa.exists().where(models.runs.c.plan_id == plans.id)
    return _in_batches(database, models.plans, plans.id, unused, plans.created_at < before)


def purge_outbox(database: Database, before: datetime) -> int:
    """Delete alerts last due before then that are sent or dead, of runs that are over; how many.

    Those of a live run say what it has told already.
    """
    box, runs = models.outbox.c, models.runs.c
    is_live = (
        sa.select(runs.id).where(models.RUN_IS_LIVE, box.subject_key.startswith(runs.uid)).exists()
    )
    ended = box.state.in_(("sent", "dead"))
    return _in_batches(database, models.outbox, box.id, ended, box.next_at < before, ~is_live)


def purge_fires(database: Database, before: datetime) -> int:
    """Delete the records of schedules' times that were due before then; how many."""
    fires = models.schedule_fires.c
    gone = 0
    while True:
        query = sa.select(fires.order_id, fires.due_at).where(fires.due_at < before).limit(BATCH)
        with database.reading() as session:
            keys = [tuple(row) for row in session.execute(query)]
        if keys:
            this_one = sa.tuple_(fires.order_id, fires.due_at)
            with database.connection() as connection:
                connection.execute(models.schedule_fires.delete().where(this_one.in_(keys)))
        gone += len(keys)
        if len(keys) < BATCH:
            return gone


def _in_batches(database: Database, table: sa.Table, key: Any, *where: Any) -> int:
    """Delete these rows: looked up outside of the transaction, which then is a short one."""
    gone = 0
    while True:
        with database.reading() as session:
            keys = session.scalars(sa.select(key).where(*where).limit(BATCH)).all()
        if not keys:
            return gone
        try:
            with database.connection() as connection:
                gone += connection.execute(table.delete().where(key.in_(keys))).rowcount
        except IntegrityError:
            return gone  # one of them was just taken into use; the others go next time
        if len(keys) < BATCH:
            return gone
