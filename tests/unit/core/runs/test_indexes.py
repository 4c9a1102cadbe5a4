"""What is asked often is answered from an index, however many runs have ended."""

import pytest
import sqlalchemy as sa

from galley.core.runs import models
from galley.storage.db import Database

COUNT = sa.select(sa.func.count())


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (COUNT.where(models.RUN_IS_LIVE), "ix_run_live"),
        (COUNT.where(models.ATTEMPT_IS_LIVE), "ix_attempt_live"),
        (COUNT.where(models.runs.c.plan_id == sa.literal_column("7")), "ix_run_plan_id"),
        (COUNT.where(models.ORDER_IS_OPEN), "ix_run_order_open"),
        (
            sa.select(models.orders.c.id)
            .where(models.ORDER_IS_OVER, models.orders.c.updated_at < sa.literal_column("7"))
            .order_by(models.orders.c.updated_at),
            "ix_run_order_ended",
        ),
        (
            COUNT.where(
                models.runs.c.state.in_([sa.literal_column("'failed'")]), models.RUN_IS_UNWELL
            ),
            "ix_run_unwell",
        ),
        (COUNT.where(models.runs.c.finished_at < sa.literal_column("7")), "ix_run_finished_at"),
        (
            COUNT.where(
                models.runs.c.work_id == sa.literal_column("7"),
                models.runs.c.resumed_from.is_not(None),
            ),
            "ix_run_resumed_work_id",
        ),
        (
            COUNT.where(models.schedule_fires.c.due_at < sa.literal_column("7")),
            "ix_schedule_fire_due_at",
        ),
        (COUNT.where(models.artifacts.c.sha256 == sa.literal_column("'a'")), "ix_artifact_sha256"),
    ],
)
def test_an_index_answers(database: Database, query: sa.Select[int], index: str) -> None:
    made = query.compile(database.engine, compile_kwargs={"render_postcompile": True})
    with database.connection() as connection:
        if database.is_sqlite:
            how = connection.execute(sa.text(f"EXPLAIN QUERY PLAN {made}"))
        else:
            connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
            how = connection.execute(sa.text(f"EXPLAIN {made}"))
        assert index in "\n".join(str(row) for row in how)
