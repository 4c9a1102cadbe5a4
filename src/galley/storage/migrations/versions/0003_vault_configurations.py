"""Which vault a kitchen, or the account, keeps its secrets in.

A kitchen that has secrets gets a vault of its own that its children inherit, because until now they
read the secrets of the kitchens above them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "vault_config",
        sa.Column("id", _ID, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("is_private", sa.Boolean(), nullable=False),
        sa.Column("is_inheritable", sa.Boolean(), nullable=False),
        sa.Column("version", _ID, nullable=False),
        sa.Column("sealed_token", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", _ID, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault_config")),
        sa.UniqueConstraint("scope", name=op.f("uq_vault_config_scope")),
        sqlite_autoincrement=True,
    )
    op.execute(
        sa.text(
            "INSERT INTO vault_config (scope, service, url, prefix, is_private, is_inheritable,"
            " version, created_at, updated_at)"
            " SELECT scope, 'default', '', '', :no, :yes, 1, min(created_at), min(created_at)"
            " FROM secret WHERE scope <> 'account' GROUP BY scope ORDER BY scope"
        ).bindparams(no=False, yes=True)
    )


def downgrade() -> None:
    raise NotImplementedError("go back by restoring a backup made before the upgrade")
