"""Alerts of a project: those of every run in all of its kitchens."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("project", sa.Column("alerts", sa.Text(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("go back by restoring a backup made before the upgrade")
