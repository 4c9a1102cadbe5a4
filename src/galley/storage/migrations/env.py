"""What Alembic runs: the connection and the metadata are handed in by `upgrade`."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

given = context.config.attributes


def _after_version(
    ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]
) -> None:
    """Check each version inside its own transaction."""
    del step, heads, run_args
    given["applied"](ctx.connection)


def _plain_type(kind: str, thing: Any, _autogenerate: Any) -> str | Literal[False]:
    """Write our own column types down as what the database sees: a version never changes later."""
    if kind == "type" and isinstance(thing, sa.types.TypeDecorator):
        return f"sa.{thing.impl_instance!r}"
    return False


def _run() -> None:
    connection: sa.Connection = given["connection"]
    context.configure(
        connection=connection,
        target_metadata=given["metadata"],
        transactional_ddl=True,
        transaction_per_migration=True,
        render_as_batch=True,
        render_item=_plain_type,
        compare_type=True,
        compare_server_default=True,
        on_version_apply=_after_version,
    )
    with context.begin_transaction():
        context.run_migrations()


_run()
