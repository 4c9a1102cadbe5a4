"""Indexes that keep the whole of a large ledger from being looked through.

That of the orders' states parts in two, because a planner likes it better than any range.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create("ix_run_finished_at", "run", ["finished_at"], "finished_at is not null")
    _create("ix_run_resumed_work_id", "run", ["work_id"], "resumed_from is not null")
    _create("ix_run_unwell", "run", ["state", "id"], "state in ('failed','canceled')")
    op.drop_index("ix_run_order_state", "run_order")
    _create("ix_run_order_open", "run_order", ["state"], "state in ('active','paused')")
    _create(
        "ix_run_order_ended",
        "run_order",
        ["updated_at"],
        "state in ('completed','failed','stopped')",
    )
    op.create_index("ix_schedule_fire_due_at", "schedule_fire", ["due_at"], unique=False)


def _create(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        name,
        table,
        columns,
        unique=False,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def downgrade() -> None:
    raise NotImplementedError("go back by restoring a backup made before the upgrade")
