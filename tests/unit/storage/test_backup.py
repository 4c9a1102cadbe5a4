"""Backups taken while others write restore to one moment: rows, branches and blobs together."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from galley.core.identity.models import User
from galley.core.runs.models import counters, plans
from galley.storage import db, migrations
from galley.storage.backup import (
    MANIFEST,
    BackupRefused,
    Sources,
    make_backup,
    read_manifest,
    verify_backup,
)
from galley.storage.blobs import LocalBlobs
from galley.storage.db import Database
from galley.storage.git import GitStore
from galley.storage.restore import restore_backup

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
ME = "Ann <ann@example.org>"


def sources_at(database: Database, folder: Path) -> Sources:
    return Sources(
        database=database,
        metadata=db.metadata,
        repositories=GitStore(folder / "git"),
        blobs=LocalBlobs(folder / "blobs"),
        blob_columns=(plans.c.digest,),
        folders={"logs": folder / "logs"},
    )


@pytest.fixture
def running(database: Database, tmp_path: Path) -> Sources:
    """An installation with a repository, a blob with its row, and a log."""
    sources = sources_at(database, tmp_path / "data")
    repository = sources.repositories.create("main/recipes")
    repository.start("master", message="Begin", author=ME, at=AT)
    write(sources, 0)
    (tmp_path / "data/logs/1").mkdir(parents=True)
    (tmp_path / "data/logs/1/2.log").write_text("hello\n")
    (tmp_path / "data/logs/link").symlink_to("/etc/passwd")
    return sources


def write(sources: Sources, number: int) -> None:
    """As the product does: objects and blobs first, the row that points at them last."""
    repository = sources.repositories.repository("main/recipes")
    changes: dict[str, bytes | None] = {f"f{number}": b"%d" % number}
    repository.commit("master", changes, message=str(number), author=ME, at=AT)
    digest = sources.blobs.put(b"blob %d" % number)
    with sources.database.connection() as connection:
        connection.execute(
            sa.insert(plans).values(id=number + 1, digest=digest, body=str(number), created_at=AT)
        )


@dataclass
class Restored:
    """A place that a backup was restored to."""

    data: Path
    sources: Sources

    def check(self) -> int:
        """Every row has its commit and its blob; gives the number of rows."""
        with self.sources.database.reading() as session:
            rows = session.execute(sa.select(plans.c.digest, plans.c.body)).all()
        repository = self.sources.repositories.repository("main/recipes")
        repository.fsck()
        tip = repository.tip("master")
        assert tip is not None
        files = repository.read_folder(tip)
        for row in rows:
            assert files[f"f{row.body}"] == row.body.encode()
            assert self.sources.blobs.read(row.digest) == f"blob {row.body}".encode()
        return len(rows)


Restore = Callable[[Path], Restored]


@pytest.fixture
def restore(
    database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Restore]:
    """Restores a backup into a fresh place of the same kind."""
    opened: list[Database] = []
    fresh = []

    def act(backup: Path) -> Restored:
        data = tmp_path / f"restored{len(opened)}"
        if database.is_sqlite:
            url: object = f"sqlite:///{data / 'galley.db'}"
        else:
            fresh.append(request.getfixturevalue("postgres_server").fresh())
            url = fresh[-1].__enter__()
        opened.append(Database(url))  # type: ignore[arg-type]
        sources = sources_at(opened[-1], data)
        restore_backup(backup, data, sources)
        return Restored(data, sources)

    yield act
    for one in opened:
        one.close()
    for context in fresh:
        context.__exit__(None, None, None)


def test_a_backup_restores_everything(running: Sources, tmp_path: Path, restore: Restore) -> None:
    manifest = make_backup(running, tmp_path / "backup", galley="0.1.0", now=AT)
    assert manifest.missing_blobs == []
    assert manifest.schema == migrations.versions()[-1]
    assert verify_backup(tmp_path / "backup") == manifest == read_manifest(tmp_path / "backup")
    made = restore(tmp_path / "backup")
    assert made.check() == 1
    assert (made.data / "logs/1/2.log").read_text() == "hello\n"
    assert not (made.data / "logs/link").exists()
    migrations.check(made.sources.database)
    write(made.sources, 1)
    assert made.check() == 2
    assert not list(made.data.glob(".tmp-*"))


def test_ids_are_never_given_again_after_a_restore(
    running: Sources, tmp_path: Path, restore: Restore
) -> None:
    def add(database: Database, login: str) -> int:
        with database.writing() as session:
            user = User(uid=login, login=login, name="", roles=frozenset(), created_at=AT)
            session.add(user)
            session.flush()
            return user.id

    add(running.database, "a@x")
    gone = add(running.database, "b@x")
    with running.database.connection() as connection:
        connection.execute(sa.delete(User).where(User.id == gone))
    make_backup(running, tmp_path / "backup", galley="0.1.0", now=AT)
    made = restore(tmp_path / "backup")
    assert add(made.sources.database, "c@x") > gone


def test_backups_taken_while_writing_hold_one_moment(
    running: Sources, tmp_path: Path, restore: Restore
) -> None:
    stop, number, failures = threading.Event(), [1], []

    def keep_writing() -> None:
        try:
            while not stop.is_set():
                write(running, number[0])
                number[0] += 1
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        for count in range(4):
            make_backup(running, tmp_path / f"backup{count}", galley="0.1.0", now=AT)
    finally:
        stop.set()
        writer.join()
    assert failures == []
    counts = [restore(tmp_path / f"backup{count}").check() for count in range(4)]
    assert counts == sorted(counts)
    assert counts[0] >= 1
    assert counts[-1] <= number[0]


def test_what_was_committed_before_a_backup_is_in_it(
    running: Sources, tmp_path: Path, restore: Restore
) -> None:
    for number in range(1, 4):
        write(running, number)
    make_backup(running, tmp_path / "backup", galley="0.1.0", now=AT)
    write(running, 4)
    assert restore(tmp_path / "backup").check() == 4


def test_hidden_references_are_kept_too(running: Sources, tmp_path: Path, restore: Restore) -> None:
    repository = running.repositories.repository("main/recipes")
    tip = repository.tip("master")
    assert tip is not None
    repository.open_branch("dev", tip, parent="master")
    sha = repository.commit("dev", {"only": b"here"}, message="x", author=ME, at=AT)
    repository.doom_branch("dev", keep_as="gone")
    repository.bury_branch("dev", keep_as="gone")
    make_backup(running, tmp_path / "backup", galley="0.1.0", now=AT)
    restored = restore(tmp_path / "backup").sources.repositories.repository("main/recipes")
    assert restored.kept() == {"gone": sha}
    assert restored.read(sha, "only") == b"here"
    assert (restored.folder / "HEAD").read_text() == "ref: refs/heads/master\n"


def test_blobs_that_were_lost_before_are_named(running: Sources, tmp_path: Path) -> None:
    (info,) = running.blobs.list()
    running.blobs.delete(info.sha256)
    manifest = make_backup(running, tmp_path / "backup", galley="0.1.0", now=AT)
    assert manifest.missing_blobs == [info.sha256]


def test_a_backup_wants_a_new_folder(running: Sources, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    make_backup(running, tmp_path / "backup", galley="0.1.0", now=AT)
    with pytest.raises(BackupRefused, match="new folder"):
        make_backup(running, tmp_path / "backup", galley="0.1.0", now=AT)


@pytest.fixture
def backup(running: Sources, tmp_path: Path) -> Path:
    make_backup(running, tmp_path / "backup", galley="0.1.0", now=AT)
    return tmp_path / "backup"


def test_damage_is_found_before_anything_is_restored(backup: Path, restore: Restore) -> None:
    facts = read_manifest(backup).files
    names = [name for name in facts if facts[name].size_bytes and name[:5] != "blobs"]
    for name in names[:4]:
        path = backup / name
        content = path.read_bytes()
        path.chmod(0o600)
        for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), content + b"x"):
            path.write_bytes(damaged)
            with pytest.raises(BackupRefused, match=f"damaged: {name} is not"):
                verify_backup(backup)
        path.write_bytes(content)
    (backup / names[0]).unlink()
    with pytest.raises(BackupRefused, match="is missing"):
        restore(backup)


def test_what_is_no_backup_is_told(tmp_path: Path, backup: Path) -> None:
    with pytest.raises(BackupRefused, match="is no backup"):
        verify_backup(tmp_path)
    manifest = backup / MANIFEST
    text = manifest.read_text()
    manifest.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(BackupRefused, match="format 2"):
        verify_backup(backup)
    manifest.write_text(text[:50])
    with pytest.raises(BackupRefused, match="is damaged"):
        verify_backup(backup)
    outside = text.replace('"database/', '"../database/')
    manifest.write_text(outside)
    with pytest.raises(BackupRefused, match="not inside"):
        verify_backup(backup)


def test_a_place_that_is_not_empty_is_refused(
    backup: Path, running: Sources, tmp_path: Path
) -> None:
    target = tmp_path / "full"
    target.mkdir()
    (target / "something").write_text("x")
    with pytest.raises(BackupRefused, match="not empty"):
        restore_backup(backup, target, sources_at(running.database, target))
    if not running.database.is_sqlite:
        empty = tmp_path / "empty"
        with pytest.raises(BackupRefused, match="not empty"):
            restore_backup(backup, empty, sources_at(running.database, empty))


def test_settings_and_keys_may_lie_there_already(backup: Path, tmp_path: Path) -> None:
    if read_manifest(backup).database != "sqlite":
        return
    data = tmp_path / "prepared"
    data.mkdir()
    (data / "secret.key").write_text("key")
    database = Database(f"sqlite:///{data / 'galley.db'}")
    restore_backup(backup, data, sources_at(database, data))
    assert (data / "secret.key").read_text() == "key"
    database.close()


def test_the_other_kind_of_database_is_refused(
    backup: Path, tmp_path: Path, postgres_url: str
) -> None:
    data = tmp_path / "other"
    kind = read_manifest(backup).database
    other = postgres_url if kind == "sqlite" else f"sqlite:///{data / 'galley.db'}"
    database = Database(other)
    with pytest.raises(BackupRefused, match=f"made from {kind}"):
        restore_backup(backup, data, sources_at(database, data))
    assert not data.exists()
    database.close()


def test_a_backup_of_an_unknown_schema_is_refused(backup: Path, restore: Restore) -> None:
    manifest = backup / MANIFEST
    newest = migrations.versions()[-1]
    manifest.write_text(manifest.read_text().replace(f'"schema": "{newest}"', '"schema": "9999"'))
    with pytest.raises(BackupRefused, match="schema 9999"):
        restore(backup)


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import galley.core.runs.models
from galley.storage import db
from galley.storage.backup import Sources, make_backup
from galley.storage.blobs import LocalBlobs
from galley.storage.db import Database
from galley.storage.git import GitStore
from galley.storage.restore import restore_backup
from datetime import UTC, datetime
act, url, data, backup = sys.argv[2], sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5])
sources = Sources(Database(url), db.metadata, GitStore(data / "git"), LocalBlobs(data / "blobs"))
if act == "backup":
    make_backup(sources, backup, galley="0.1.0", now=datetime.now(UTC))
else:
    restore_backup(backup, data, sources)
"""


def killed(point: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "", *arguments],
        env=os.environ | {"GALLEY_FAILPOINTS": f"{point}=kill"},
        check=False,
    )
    assert done.returncode == 137


@pytest.mark.parametrize("point", ["backup.moment", "backup.written"])
def test_a_killed_backup_is_none_and_can_be_repeated(
    sqlite_database: Database, tmp_path: Path, point: str
) -> None:
    sources = sources_at(sqlite_database, tmp_path / "data")
    sources.repositories.create("main/recipes").start("master", message="x", author=ME, at=AT)
    url = sqlite_database.url.render_as_string()
    target = tmp_path / "backup"
    killed(point, "backup", url, str(tmp_path / "data"), str(target))
    assert not target.exists()
    make_backup(sources, target, galley="0.1.0", now=AT)
    verify_backup(target)
    assert not target.with_name("backup.partial").exists()


@pytest.mark.parametrize("point", ["restore.built", "restore.loaded"])
def test_a_killed_restore_leaves_no_database(
    sqlite_database: Database, tmp_path: Path, point: str
) -> None:
    sources = sources_at(sqlite_database, tmp_path / "data")
    sources.repositories.create("main/recipes").start("master", message="x", author=ME, at=AT)
    make_backup(sources, tmp_path / "backup", galley="0.1.0", now=AT)
    data = tmp_path / "new"
    url = f"sqlite:///{data / 'galley.db'}"
    killed(point, "restore", url, str(data), str(tmp_path / "backup"))
    assert not (data / "galley.db").exists()


def test_rows_of_every_table_come_back(running: Sources, tmp_path: Path, restore: Restore) -> None:
    awkward = "tab\t back\\slash \\N new\nline 'quote' é \u2028"
    with running.database.connection() as connection:
        connection.execute(sa.insert(counters).values(name=awkward, next_id=2**62))
    make_backup(running, tmp_path / "backup", galley="0.1.0", now=AT)
    made = restore(tmp_path / "backup")
    with made.sources.database.reading() as session:
        assert session.execute(sa.select(counters)).one() == (awkward, 2**62)
