"""The machinery of migrations, on small versions of its own: each whole or not at all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from galley.storage import migrations
from galley.storage.db import Database
from galley.storage.migrations import SchemaUnknown

HEADER = """
import sqlalchemy as sa
from alembic import op
revision = {number!r}
down_revision = {before!r}

def upgrade():
"""
FIRST = """
    op.create_table(
        "parent", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Text)
    )
    op.create_table(
        "child",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent_id", sa.Integer, sa.ForeignKey("parent.id", ondelete="CASCADE")),
    )
"""
SECOND = """
    op.execute("UPDATE parent SET a = 'changed'")
    with op.batch_alter_table("parent") as batch:
        batch.alter_column("a", nullable=False, existing_type=sa.Text)
        batch.add_column(sa.Column("b", sa.Text))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_server: object) -> Path:
    """The server comes first: its template holds the real versions."""
    made = tmp_path / "versions"
    made.mkdir()
    monkeypatch.setattr(migrations, "VERSIONS", made)
    add(made, FIRST)
    add(made, SECOND)
    return made


def add(folder: Path, body: str) -> None:
    count = len(list(folder.glob("*.py")))
    before = f"{count:04d}" if count else None
    text = HEADER.format(number=f"{count + 1:04d}", before=before) + body
    (folder / f"{count + 1:04d}_step.py").write_text(text)


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    yield database
    database.close()


def columns(database: Database) -> set[str]:
    with database.engine.connect() as connection:
        return {column["name"] for column in sa.inspect(connection).get_columns("parent")}


def fill(database: Database) -> None:
    with database.connection() as connection:
        connection.execute(sa.text("INSERT INTO parent (id, a) VALUES (1, 'x')"))
        connection.execute(sa.text("INSERT INTO child (id, parent_id) VALUES (7, 1)"))


def test_versions_run_in_order_once(folder: Path, empty: Database) -> None:
    assert migrations.current_version(empty) is None
    with pytest.raises(SchemaUnknown, match="Run `galley migrate`"):
        migrations.check(empty)
    assert migrations.upgrade(empty, sa.MetaData()) == ["0001", "0002"]
    assert migrations.upgrade(empty, sa.MetaData()) == []
    assert migrations.current_version(empty) == "0002"
    assert columns(empty) == {"id", "a", "b"}
    migrations.check(empty)


def test_rebuilding_a_table_keeps_the_rows_that_point_at_it(folder: Path, empty: Database) -> None:
    assert migrations.upgrade(empty, sa.MetaData(), to="0001") == ["0001"]
    fill(empty)
    assert migrations.upgrade(empty, sa.MetaData()) == ["0002"]
    with empty.connection() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM child")) == 1
        assert connection.scalar(sa.text("SELECT a FROM parent")) == "changed"
        connection.execute(sa.text("DELETE FROM parent"))
        assert connection.scalar(sa.text("SELECT count(*) FROM child")) == 0


def test_a_version_that_fails_changes_nothing(folder: Path, empty: Database) -> None:
    migrations.upgrade(empty, sa.MetaData())
    add(
        folder,
        "    op.add_column('parent', sa.Column('c', sa.Text))\n    raise RuntimeError('no')\n",
    )
    with pytest.raises(RuntimeError, match="no"):
        migrations.upgrade(empty, sa.MetaData())
    assert migrations.current_version(empty) == "0002"
    assert columns(empty) == {"id", "a", "b"}


def test_a_version_that_breaks_references_is_undone(folder: Path, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    migrations.upgrade(database, sa.MetaData())
    fill(database)
    add(folder, "    op.execute('DELETE FROM parent')\n")
    with pytest.raises(SchemaUnknown, match="references of table child"):
        migrations.upgrade(database, sa.MetaData())
    with database.connection() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM parent")) == 1
    database.close()


def test_a_newer_schema_is_refused_with_the_cure(folder: Path, empty: Database) -> None:
    migrations.upgrade(empty, sa.MetaData())
    with empty.connection() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0009'"))
    for act in (lambda: migrations.upgrade(empty, sa.MetaData()), lambda: migrations.check(empty)):
        with pytest.raises(SchemaUnknown, match=r"schema 0009.*up to 0002.*install"):
            act()


def test_somebody_elses_database_is_refused(folder: Path, empty: Database) -> None:
    with empty.connection() as connection:
        connection.execute(sa.text("CREATE TABLE customers (id integer)"))
    with pytest.raises(SchemaUnknown, match="customers"):
        migrations.upgrade(empty, sa.MetaData())


def test_several_at_once_do_it_once(folder: Path, empty: Database) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: migrations.upgrade(empty, sa.MetaData()), range(3)))
    assert sorted(done) == [[], [], ["0001", "0002"]]


RUN = """
import sys
from pathlib import Path
import sqlalchemy as sa
from galley.storage import migrations
from galley.storage.db import Database
migrations.VERSIONS = Path(sys.argv[2])
migrations.upgrade(Database(sys.argv[1]), sa.MetaData())
"""


@pytest.mark.parametrize(
    ("point", "version"),
    [("migrations.applied=kill@2", "0001"), ("migrations.committed=kill", "0002")],
)
def test_a_kill_leaves_a_whole_version(
    folder: Path, empty: Database, point: str, version: str
) -> None:
    url = empty.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-c", RUN, url, str(folder)],
        env=os.environ | {"GALLEY_FAILPOINTS": point},
        check=False,
    )
    assert done.returncode == 137
    assert migrations.current_version(empty) == version
    assert ("b" in columns(empty)) == (version == "0002")
    migrations.upgrade(empty, sa.MetaData())
    assert migrations.current_version(empty) == "0002"


def test_a_draft_holds_what_the_models_have_and_the_schema_lacks(
    folder: Path, tmp_path: Path
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'scratch.db'}")
    wanted = sa.MetaData()
    sa.Table("fresh", wanted, sa.Column("id", sa.Integer, primary_key=True))
    path = migrations.draft(database, wanted, "Add fresh")
    assert path.name == "0003_add_fresh.py"
    assert "create_table('fresh'" in path.read_text()
    assert "'0002'" in path.read_text()
    database.close()
