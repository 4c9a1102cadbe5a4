"""Migrates a database again and again, and dies each time at another statement.

A program of its own, for its children end by os._exit. Arguments: the database's address, the
folder of versions, the version to go to, and the statements to die at (`3,17`, or `all`). For each
death it prints one line of JSON: the statement, the schema's version and a digest of each
table.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from galley.core.tables import import_models
from galley.storage import migrations
from galley.storage.db import Database, metadata

DIED = 137
MOST = 5000


def die_at(database: Database, statement: int) -> None:
    """End the process before its n-th statement; a commit counts as one."""
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os._exit(DIED)

    event.listen(database.engine, "before_cursor_execute", count)
    event.listen(database.engine, "commit", count)


def has_died(address: str, goal: str, statement: int) -> bool:
    """Migrate in a child that dies at the statement, if it gets there."""
    child = os.fork()
    if child == 0:
        try:
            database = Database(address)
            die_at(database, statement)
            migrations.upgrade(database, metadata, to=goal)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - told by the parent
            os.write(2, f"statement {statement}: {error}\n".encode())
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in {0, DIED}:
        raise SystemExit(f"the migration failed before statement {statement}")
    return code == DIED


def content(database: Database) -> dict[str, Any]:
    """Every table's columns and rows."""
    with database.engine.connect() as connection:
        inspector = sa.inspect(connection)
        found = {}
        for table in sorted(inspector.get_table_names()):
            columns = sorted(column["name"] for column in inspector.get_columns(table))
            wanted = ", ".join(f'"{column}"' for column in columns)
            rows = connection.exec_driver_sql(f'SELECT {wanted} FROM "{table}"')
            found[table] = {
                "columns": columns,
                "rows": sorted(repr(tuple(row)) for row in rows),
                "indexes": sorted(str(index["name"]) for index in inspector.get_indexes(table)),
            }
        return found


def digest(database: Database) -> dict[str, str]:
    """A short text for the content of each table."""
    return {
        table: hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        for table, facts in content(database).items()
    }


def main(address: str, versions: str, goal: str, statements: str) -> None:
    migrations.VERSIONS = Path(versions)
    import_models()
    import alembic.command  # noqa: F401 - so that no child has to

    wanted = range(1, MOST) if statements == "all" else map(int, statements.split(","))
    for statement in wanted:
        if not has_died(address, goal, statement):
            return
        database = Database(address)
        version, found = migrations.current_version(database), digest(database)
        database.close()
        print(json.dumps({"at": statement, "version": version, "digest": found}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
