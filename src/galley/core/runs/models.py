"""The ledger's tables. Plain tables, no mapped classes: only the ledger writes the run state."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)

from galley.storage.db import Document, Id, UtcTime, metadata


def _key() -> "Column[int]":
    return Column("id", Id, primary_key=True, autoincrement=False)


counters = Table(
    "ledger_counter",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next_id", Id, nullable=False),
)
"""The next free id of each ledger table: ids are never used twice, also after a deletion."""

plans = Table(
    "plan",
    metadata,
    _key(),
    Column("digest", Text, nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

orders = Table(
    "run_order",
    metadata,
    _key(),
    Column("uid", Text, nullable=False, unique=True),
    Column("project_id", Id, nullable=False),
    Column("kitchen", Text),
    Column("kitchen_id", Id),  # a name may come again, an id never does
    Column("source_kind", Text, nullable=False),
    Column("source_path", Text, nullable=False),
    Column("variation", Text, nullable=False),
    Column("origin", Text, nullable=False),  # api, schedule, push, resume, ...
    Column("state", Text, nullable=False),
    Column("schedule", Document),  # ScheduleSpec, or NULL for one run now
    Column("parameters", Document, nullable=False),
    Column("only_steps", Document),
    Column("alerts", Document),
    Column("source_date", Text),
    Column("priority", Integer, nullable=False, default=0),
    Column("parent_run_id", Id),
    Column("created_by", Id),
    Column("created_by_login", Text, nullable=False, default=""),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Index(None, "kitchen_id", "id"),
    Index(
        "ix_run_order_open",
        "state",
        sqlite_where=sa.text("state in ('active','paused')"),
        postgresql_where=sa.text("state in ('active','paused')"),
    ),
    Index(
        "ix_run_order_ended",
        "updated_at",
        sqlite_where=sa.text("state in ('completed','failed','stopped')"),
        postgresql_where=sa.text("state in ('completed','failed','stopped')"),
    ),
)

runs = Table(
    "run",
    metadata,
    _key(),
    Column("uid", Text, nullable=False, unique=True),
    Column("order_id", Id, ForeignKey(orders.c.id, ondelete="CASCADE"), nullable=False),
    Column("plan_id", Id, ForeignKey(plans.c.id), nullable=False),
    Column("project_id", Id, nullable=False),
    Column("kitchen", Text),
    Column("kitchen_id", Id),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("paused", Boolean, nullable=False, default=False),
    Column("cancel_reason", Text),
    Column("priority", Integer, nullable=False, default=0),
    Column("lane", Text),
    Column("lane_limit", Integer),
    Column("parameters", Document, nullable=False),
    Column("exports", Document, nullable=False),
    Column("source_date", Text),
    Column("due_at", UtcTime),
    Column("resumed_from", Id),
    Column("work_id", Id, nullable=False),  # the first run of a chain of resumed ones
    Column("resumed_by", Id),
    Column("warnings", Integer, nullable=False, default=0),
    Column("alerts", Document, nullable=False),  # event -> destinations
    Column("steps_total", Integer, nullable=False),
    Column("steps_left", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Index(None, "order_id", "id"),
    Index(None, "kitchen_id", "id"),
    Index(None, "plan_id"),
    Index(
        "ix_run_finished_at",
        "finished_at",
        sqlite_where=sa.text("finished_at is not null"),
        postgresql_where=sa.text("finished_at is not null"),
    ),
    Index(
        "ix_run_resumed_work_id",
        "work_id",
        sqlite_where=sa.text("resumed_from is not null"),
        postgresql_where=sa.text("resumed_from is not null"),
    ),
    Index(
        "ix_run_unwell",
        "state",
        "id",
        sqlite_where=sa.text("state in ('failed','canceled')"),
        postgresql_where=sa.text("state in ('failed','canceled')"),
    ),
    Index(
        "ix_run_live",
        "state",
        sqlite_where=sa.text("state in ('queued','running')"),
        postgresql_where=sa.text("state in ('queued','running')"),
    ),
)

steps = Table(
    "step",
    metadata,
    _key(),
    Column("run_id", Id, ForeignKey(runs.c.id, ondelete="CASCADE"), nullable=False),
    Column("key", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("attempt_id", Id, nullable=False),
    Column("exports", Document),
    Column("branches", Document),
    Column("timings", Document),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    UniqueConstraint("run_id", "key"),
)

attempts = Table(
    "attempt",
    metadata,
    _key(),
    Column("run_id", Id, ForeignKey(runs.c.id, ondelete="CASCADE"), nullable=False),
    Column("step_id", Id, ForeignKey(steps.c.id, ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("fence", Id, nullable=False, default=0),
    Column("executor", Text),
    Column("worker", Text),
    Column("handle", Document),
    Column("not_before", UtcTime),
    Column("exit_code", Integer),
    Column("usage", Document),
    Column("reused_from", Id),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    UniqueConstraint("step_id", "number"),
    Index(None, "run_id"),
    Index(
        "ix_attempt_live",
        "state",
        sqlite_where=sa.text("state in ('starting','running')"),
        postgresql_where=sa.text("state in ('starting','running')"),
    ),
)

checks = Table(
    "check_result",
    metadata,
    _key(),
    Column("run_id", Id, ForeignKey(runs.c.id, ondelete="CASCADE"), nullable=False),
    Column("step_id", Id, nullable=False),
    Column("attempt_id", Id, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("value", Document),
    Column("metric", Document),
    Column("place_kind", Text, nullable=False),
    Column("place_name", Text, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("series", Text),  # LiveRun.series, where the check keeps its values
    Column("created_at", UtcTime, nullable=False),
    Index(None, "run_id"),
    Index(
        "ix_check_result_series",
        "series",
        "id",
        sqlite_where=sa.text("series is not null"),
        postgresql_where=sa.text("series is not null"),
    ),
)

artifacts = Table(
    "artifact",
    metadata,
    _key(),
    Column("run_id", Id, ForeignKey(runs.c.id, ondelete="CASCADE"), nullable=False),
    Column("step_id", Id, nullable=False),
    Column("attempt_id", Id, nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size_bytes", Id, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index(None, "run_id", "name"),
    Index(None, "sha256"),
)

events = Table(
    "run_event",
    metadata,
    _key(),  # the sequence that event streams resume from
    Column("run_id", Id, nullable=False),
    Column("order_id", Id, nullable=False),
    Column("kind", Text, nullable=False),  # run.queued, run.started, step.finished, ...
    Column("body", Document, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index(None, "run_id", "id"),
)

leases = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("epoch", Id, nullable=False),
    Column("until", Float, nullable=False),  # seconds since 1970 by the database's clock
    Column("body", Document),
)

schedules = Table(
    "schedule",
    metadata,
    Column("order_id", Id, ForeignKey(orders.c.id, ondelete="CASCADE"), primary_key=True),
    Column("cron", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("next_due_at", UtcTime),
    Column("end_at", UtcTime),
    Column("catch_up", Text, nullable=False),
    Column("catch_up_limit", Integer, nullable=False),
    Index(None, "next_due_at"),
)

schedule_fires = Table(
    "schedule_fire",
    metadata,
    Column("order_id", Id, ForeignKey(orders.c.id, ondelete="CASCADE"), primary_key=True),
    Column("due_at", UtcTime, primary_key=True),
    Column("run_id", Id),
    Column("outcome", Text, nullable=False),  # fired, skipped, refused
    Column("reason", Text, nullable=False, default=""),
    Index(None, "due_at"),
)

outbox = Table(
    "outbox",
    metadata,
    _key(),
    Column("kind", Text, nullable=False),  # mail, webhook
    Column("subject_key", Text, nullable=False),  # what is unique about it, so that it is sent once
    Column("body", Document, nullable=False),
    Column("state", Text, nullable=False),  # waiting, sent, dead
    Column("tries", Integer, nullable=False, default=0),
    Column("next_at", UtcTime, nullable=False),
    Column("last_error", Text, nullable=False, default=""),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("kind", "subject_key"),
    Index(None, "state", "next_at"),
)

inbox = Table(
    "inbox",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("reply", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("done_at", UtcTime),
    Index(None, "done_at", "created_at"),
)


def _among(column: "Column[str]", *values: str) -> Any:
    """The condition of a partial index, in the very words that let the database use it."""
    return column.in_(sa.bindparam(None, values, expanding=True, literal_execute=True))


RUN_IS_LIVE = _among(runs.c.state, "queued", "running")
RUN_IS_UNWELL = _among(runs.c.state, "failed", "canceled")
ORDER_IS_OPEN = _among(orders.c.state, "active", "paused")
ORDER_IS_OVER = _among(orders.c.state, "completed", "failed", "stopped")
ATTEMPT_IS_LIVE = _among(attempts.c.state, "starting", "running")
