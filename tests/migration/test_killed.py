"""A migration that dies at a statement leaves the schema and the data of before, and goes on.

In the short test the real versions die at some statements, in the long one (GALLEY_CHAOS_LONG=1)
at every one; GALLEY_CHAOS_SEED chooses them. A version as the next one could be, which rebuilds a
full table, dies at every statement in both.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.contract.live import GALLEY
from tests.migration import killed

from galley.core.tables import import_models
from galley.storage import db, migrations
from galley.storage.db import Database

LONG = bool(os.environ.get("GALLEY_CHAOS_LONG"))
SEED = int(os.environ.get("GALLEY_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
SAMPLE = 4
REAL = migrations.VERSIONS
NEXT = """
import sqlalchemy as sa
from alembic import op
revision = {number!r}
down_revision = {before!r}


def upgrade():
    op.create_table(
        "run_note",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.BigInteger, sa.ForeignKey("run.id", ondelete="CASCADE")),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.execute("INSERT INTO run_note (id, run_id, text) SELECT id, id, reason FROM run")
    with op.batch_alter_table("run") as batch:
        batch.add_column(sa.Column("weight", sa.Integer, nullable=False, server_default="7"))
        batch.alter_column("reason", new_column_name="why", existing_type=sa.Text)
    op.execute("UPDATE step SET reason = reason || '!'")
    op.create_index("ix_run_note_run_id", "run_note", ["run_id"])
    with op.batch_alter_table("run_event") as batch:
        batch.drop_column("body")
"""
State = tuple[str | None, dict[str, str]]
"""A schema's version, and what its tables hold."""
pytestmark = pytest.mark.timeout(7200 if LONG else 1800)


@pytest.fixture(params=["sqlite", "postgres"])
def data(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose database has no table yet."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    if request.param == "postgres":
        monkeypatch.setenv("GALLEY_DATABASE_URL", request.getfixturevalue("postgres_url"))
    return folder


@pytest.fixture
def empty(data: Path) -> Iterator[Database]:
    import_models()
    database = Database(os.environ.get("GALLEY_DATABASE_URL") or f"sqlite:///{data / 'galley.db'}")
    yield database
    database.close()


def fill(database: Database, rows: int = 5) -> None:
    """Some rows in every table that there is, whose references hold."""
    found = sa.MetaData()
    found.reflect(database.engine)
    with database.connection() as connection:
        for table in found.sorted_tables:
            if table.name != "alembic_version":
                made = range(1, rows + 1)
                values = [{c.name: value_of(c, n) for c in table.columns} for n in made]
                connection.execute(sa.insert(table), values)


def value_of(column: sa.Column[Any], number: int) -> Any:
    if isinstance(column.type, sa.Boolean):
        return bool(number % 2)
    return f"{column.name} {number}" if isinstance(column.type, sa.Text) else number


def die(database: Database, versions: Path, goal: str, statements: str) -> list[dict[str, Any]]:
    """Migrate and die at each of the statements; what was found after each death."""
    address = database.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, killed.__file__, address, str(versions), goal, statements],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("goal", [path.name[:4] for path in sorted(REAL.glob("0*.py"))])
def test_every_version_can_die_at_any_statement(goal: str, empty: Database, data: Path) -> None:
    number = migrations.versions().index(goal)
    before = None
    if number:
        before = migrations.versions()[number - 1]
        migrations.upgrade(empty, db.metadata, to=before)
        fill(empty)
    first = killed.digest(empty)
    chance = random.Random(SEED)  # noqa: S311 - where to die
    some = [1, *sorted(chance.sample(range(2, 100), SAMPLE))]
    deaths = die(empty, REAL, goal, "all" if LONG else ",".join(map(str, some)))
    check_whole(deaths, (before, first), goal, None)
    assert galley("migrate", data)
    assert f"schema {migrations.versions()[-1]}, the newest" in galley("migrate", data, "--check")


def check_whole(
    deaths: list[dict[str, Any]], before: State, goal: str, after: dict[str, str] | None
) -> None:
    """After each death everything is as it was before, or, past the commit, as it is after.

    What is left to die at past the commit is the release of the lock.
    """
    found: list[State] = [(death["version"], death["digest"]) for death in deaths]
    whole = (goal, after or found[-1][1])
    assert found[0] == before, told(deaths, 0, before)
    for number, state in enumerate(found):
        assert state in (before, whole), told(deaths, number, before, whole)
        assert number == 0 or state == whole or found[number - 1] == before, told(deaths, number)


def told(deaths: list[dict[str, Any]], number: int, *expected: State) -> str:
    """What was found after that death, and the tables in which it differs from each expectation."""
    at, version, found = (deaths[number][key] for key in ("at", "version", "digest"))
    other = [
        (goal, sorted(t for t in found | tables if found.get(t) != tables.get(t)))
        for goal, tables in expected
    ]
    versions = [death["version"] for death in deaths]
    return f"seed {SEED}: at {at} of {versions}: {version}, not {other}"


def galley(command: str, data: Path, *options: str) -> str:
    done = subprocess.run(
        [GALLEY, command, "--data", str(data), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_version_that_rebuilds_full_tables_dies_at_every_statement(
    empty: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = migrations.versions()[-1]
    migrations.upgrade(empty, db.metadata)
    fill(empty)
    before = killed.content(empty)
    folder = tmp_path / "versions"
    shutil.copytree(REAL, folder, ignore=shutil.ignore_patterns("__pycache__"))
    goal = f"{int(newest) + 1:04d}"
    (folder / f"{goal}_next.py").write_text(NEXT.format(number=goal, before=newest))
    first = killed.digest(empty)
    deaths = die(empty, folder, goal, "all")
    assert [death["at"] for death in deaths] == list(range(1, len(deaths) + 1))
    assert len(deaths) > 10
    check_whole(deaths, (newest, first), goal, killed.digest(empty))
    monkeypatch.setattr(migrations, "VERSIONS", folder)
    assert migrations.current_version(empty) == goal
    check_moved(before, killed.content(empty))


def check_moved(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Every row is there, changed as the version says and not otherwise."""
    changed = {"alembic_version", "run", "step", "run_event", "run_note"}
    assert set(after) == set(before) | {"run_note"}
    for table in set(before) - changed:
        assert after[table] == before[table], table
    for table in changed - {"run_note"}:
        assert len(after[table]["rows"]) == len(before[table]["rows"]), table
    assert len(after["run_note"]["rows"]) == len(before["run"]["rows"])
    assert after["run_note"]["indexes"] == ["ix_run_note_run_id"]
    assert set(after["run"]["columns"]) == set(before["run"]["columns"]) - {"reason"} | {
        "why",
        "weight",
    }
    assert all("!" in row for row in after["step"]["rows"])
    assert "body" not in after["run_event"]["columns"]
