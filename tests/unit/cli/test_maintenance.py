"""`galley migrate`, `backup`, `restore` and `doctor` on a real data folder, on both databases."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from galley.app import build
from galley.app.store import Store, open_store
from galley.cli.maintenance import backup, doctor, migrate, restore
from galley.cli.secrets import rewrap, webhook_key
from galley.cli.users import add_user
from galley.core.events.models import audit_entries
from galley.core.identity.actors import system_caller
from galley.core.identity.operations import create_user
from galley.core.projects import operations as projects
from galley.core.projects.models import Kitchen
from galley.core.runs.models import artifacts, orders, outbox, plans, runs
from galley.core.secrets.models import Secret, VaultService
from galley.core.secrets.operations import put_secret
from galley.core.secrets.sealing import KeyMissing, new_key_text
from galley.core.vaults.configuring import WantedVault, configure
from galley.settings import Settings
from galley.storage import migrations
from galley.storage.blobs import BlobsAway, LocalBlobs
from galley.storage.db import Database
from galley.storage.dump import Snapshot


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@dataclass
class Installation:
    """A data folder with a user, a kitchen, a secret and an artifact."""

    data: Path
    store: Store
    blob: str

    def doctor(self, *options: str) -> Result:
        return run(doctor, "--data", self.data, *options)

    def faults(self) -> list[str]:
        result = self.doctor()
        lines = [line for line in result.output.splitlines() if line.startswith("FAULT")]
        assert result.exit_code == bool(lines), result.output
        return lines


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose database is migrated; Postgres is told as an operator would."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_template"), data / "galley.db")
    else:
        database: Database = request.getfixturevalue("postgres_database")
        url = database.url.render_as_string(hide_password=False)
        monkeypatch.setenv("GALLEY_DATABASE_URL", url)
    return data


@pytest.fixture
def empty_place(tmp_path: Path, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a data folder that was never used."""
    if not empty_url.startswith("sqlite"):
        monkeypatch.setenv("GALLEY_DATABASE_URL", empty_url)
    return tmp_path / "data"


@pytest.fixture
def installation(place: Path) -> Iterator[Installation]:
    store = open_store(Settings(data=place))
    projects.seed_account(store.database, store.repositories, store.clock)
    me = system_caller()
    with store.database.writing() as session:
        create_user(session, email="ann@example.org", password=None, clock=store.clock)
        put_secret(session, me, store.sealer, path="a/b", value="hidden", clock=store.clock)
        projects.create_kitchen(
            session, me, store.repositories, name="dev", parent="master", clock=store.clock
        )
    yield Installation(place, store, add_artifact(store))
    store.database.close()


def add_artifact(store: Store) -> str:
    sha256 = store.blobs.put(b"report")
    now = store.clock.now()
    common = {"project_id": 1, "parameters": {}, "created_at": now, "state": "finished"}
    with store.database.connection() as connection:
        connection.execute(sa.insert(plans).values(id=1, digest="d", body="{}", created_at=now))
        connection.execute(
            sa.insert(orders).values(
                id=1,
                uid="o",
                source_kind="recipe",
                source_path="r",
                variation="v",
                origin="api",
                updated_at=now,
                **common,
            )
        )
        connection.execute(
            sa.insert(runs).values(
                id=1,
                uid="r",
                order_id=1,
                plan_id=1,
                work_id=1,
                exports={},
                alerts={},
                steps_total=1,
                steps_left=0,
                **common,
            )
        )
        connection.execute(
            sa.insert(artifacts).values(
                id=1,
                run_id=1,
                step_id=1,
                attempt_id=1,
                name="report",
                sha256=sha256,
                size_bytes=6,
                media_type="text/plain",
                created_at=now,
            )
        )
    return sha256


def test_migrate_makes_the_schema_and_then_has_nothing_to_do(empty_place: Path) -> None:
    newest = migrations.versions()[-1]
    told = run(migrate, "--data", empty_place, "--check")
    assert told.exit_code == 1
    first = run(migrate, "--data", empty_place)
    assert (first.exit_code, first.output) == (
        0,
        f"Migrated the database from nothing to schema {newest}.\n",
    )
    assert "nothing to do" in run(migrate, "--data", empty_place).output
    assert "the newest" in run(migrate, "--data", empty_place, "--check").output


def test_a_healthy_installation_has_no_faults(installation: Installation) -> None:
    assert installation.faults() == []
    output = installation.doctor("--deep").output
    assert "is sound, schema" in output
    assert "the chain is whole up to entry" in output
    assert "2 kitchens have their branches" in output
    assert "1 secrets open" in output
    assert "1 blobs are read and checked" in output


def test_a_backup_is_restored_and_found_healthy(
    installation: Installation, tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (installation.data / "logs" / "1").mkdir()
    (installation.data / "logs/1/1.log").write_text("a line\n")
    saved = run(backup, tmp_path / "saved", "--data", installation.data)
    assert saved.exit_code == 0, saved.output
    assert "keep a copy" in saved.output
    assert "is whole" in run(restore, tmp_path / "saved", "--check").output
    target = tmp_path / "again"
    if installation.store.database.is_sqlite:
        again(installation, tmp_path / "saved", target)
        return
    with request.getfixturevalue("postgres_server").fresh() as url:
        monkeypatch.setenv("GALLEY_DATABASE_URL", url.render_as_string(hide_password=False))
        again(installation, tmp_path / "saved", target)


def again(installation: Installation, saved: Path, target: Path) -> None:
    done = run(restore, saved, "--data", target)
    assert done.exit_code == 0, done.output
    assert "Put the secret key back" in done.output
    shutil.copy(installation.data / "secret.key", target / "secret.key")
    printed = [run(webhook_key, "--data", place).output for place in (installation.data, target)]
    assert printed[0] == printed[1]
    assert re.fullmatch("whsec_[A-Za-z0-9+/]{43}=\n", printed[0])
    checked = run(doctor, "--data", target, "--deep")
    assert checked.exit_code == 0, checked.output
    assert (target / "logs/1/1.log").read_text() == "a line\n"
    store = open_store(Settings(data=target))
    with store.database.reading() as session:
        assert projects.get_kitchen(session, system_caller(), "dev").parent == "master"
    assert store.blobs.read(installation.blob) == b"report"
    store.database.close()
    refused = run(restore, saved, "--data", target)
    assert refused.exit_code == 1
    assert "is not empty" in refused.output


def test_a_backup_does_not_go_into_the_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert run(migrate, "--data", data).exit_code == 0
    refused = run(backup, data / "saved", "--data", data)
    assert refused.exit_code == 2
    assert "lies in the data folder" in refused.output
    assert not (data / "saved").exists()


def test_a_restore_needs_a_place(tmp_path: Path) -> None:
    refused = run(restore, tmp_path)
    assert refused.exit_code == 2
    assert "--data DATA" in refused.output


def test_logs_can_be_left_out(installation: Installation, tmp_path: Path) -> None:
    (installation.data / "logs" / "x.log").write_text("a line\n")
    (installation.data / "files" / "x.csv").write_text("a,b\n")
    done = run(backup, tmp_path / "saved", "--data", installation.data, "--without-logs")
    assert done.exit_code == 0
    assert not (tmp_path / "saved/folders/logs").exists()
    assert (tmp_path / "saved/folders/files/x.csv").exists()


def test_a_backup_of_nothing_is_refused(tmp_path: Path) -> None:
    done = run(backup, tmp_path / "saved", "--data", tmp_path / "none")
    assert done.exit_code == 1
    assert "holds no Galley" in done.output
    assert not (tmp_path / "saved").exists()


def test_a_backup_that_has_no_room_says_so_and_leaves_nothing(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Snapshot, _folder: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Snapshot, "write", full)
    done = run(backup, tmp_path / "saved", "--data", installation.data)
    assert done.exit_code == 1
    assert f"no room for the backup in {tmp_path}" in done.output
    assert sorted(path.name for path in tmp_path.iterdir() if "saved" in path.name) == []


def test_what_is_no_backup_is_not_restored(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    done = run(restore, tmp_path / "saved", "--data", tmp_path / "data")
    assert done.exit_code == 1
    assert "is no backup" in done.output
    assert not (tmp_path / "data").exists()


def test_lost_and_damaged_blobs_are_found(installation: Installation) -> None:
    path = installation.store.blobs.path_of(installation.blob)  # type: ignore[attr-defined]
    path.chmod(0o600)
    path.write_bytes(b"rePort")
    assert installation.faults() == []
    assert "1 blobs are damaged" in installation.doctor("--deep").output
    path.write_bytes(b"short")
    (fault,) = installation.faults()
    assert "1 blobs are damaged" in fault
    path.unlink()
    (fault,) = installation.faults()
    assert "1 blobs are missing" in fault
    assert "copy them from a backup" in fault


def test_a_blob_store_that_is_away_is_found(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_self: LocalBlobs) -> None:
        raise BlobsAway("The blob store s3://b cannot be used: connection refused")

    monkeypatch.setattr(LocalBlobs, "list", away)
    (fault,) = installation.faults()
    assert "connection refused" in fault
    assert "the bucket is there" in fault


def test_a_changed_audit_entry_is_found(installation: Installation) -> None:
    with installation.store.database.connection() as connection:
        connection.execute(
            sa.update(audit_entries).where(audit_entries.c.id == 1).values(actor="mallory")
        )
    (fault,) = installation.faults()
    assert "the chain breaks at entry 1" in fault


def test_a_lost_branch_and_a_damaged_repository_are_found(installation: Installation) -> None:
    repository = installation.store.repositories.repository("main/recipes")
    repository.doom_branch("dev", keep_as="dev")
    repository.bury_branch("dev", keep_as="dev")
    (fault,) = installation.faults()
    assert "dev has no branch" in fault
    for path in (repository.folder / "objects").glob("??/*"):
        path.unlink()
    faults = installation.faults()
    assert any("main/recipes: git fsck" in fault for fault in faults)
    shutil.rmtree(repository.folder)
    (fault,) = installation.faults()
    assert "main/recipes has no repository" in fault
    on_sqlite = installation.store.database.is_sqlite
    assert ("restore a backup" if on_sqlite else "link or mount the shared folders") in fault


def test_a_wrong_key_is_found(installation: Installation) -> None:
    key = installation.data / "secret.key"
    key.write_text(new_key_text())
    (fault,) = installation.faults()
    assert "1 of 1 secrets do not open: account:a/b" in fault


def test_the_token_of_a_vault_is_a_secret_too(installation: Installation) -> None:
    store, me = installation.store, system_caller()
    vault = WantedVault(VaultService.EXTERNAL, url="https://vault.example.com", token="hush")
    with store.database.writing() as session:
        configure(session, me, store.sealer, {"dev": vault}, store.clock)
        session.execute(sa.delete(Secret))
    assert "1 secrets open" in installation.doctor().output
    key = installation.data / "secret.key"
    kept = key.read_text()
    key.write_text(new_key_text())
    (fault,) = installation.faults()
    assert "1 of 1 secrets do not open: the token of kitchen:2" in fault
    key.unlink()
    (fault,) = installation.faults()
    assert "1 stored secrets stay sealed" in fault
    with pytest.raises(KeyMissing):
        build(Settings(data=installation.data))
    key.write_text(f"{new_key_text()}\n{kept}")
    key.chmod(0o600)
    assert installation.faults() == []
    rewrapped = run(rewrap, "--data", installation.data)
    assert rewrapped.output == "Secrets brought under the newest key: 1.\n"


def test_a_lost_key_is_not_replaced_while_secrets_are_stored(installation: Installation) -> None:
    key = installation.data / "secret.key"
    kept = key.read_text()
    key.unlink()
    (fault,) = installation.faults()
    assert "1 stored secrets stay sealed" in fault
    assert f"Put it back into {key}" in fault
    assert f"openssl rand -base64 32 > {key}" in fault
    with pytest.raises(KeyMissing, match=re.escape(f"Put it back into {key}")):
        build(Settings(data=installation.data))
    assert not key.exists()
    added = run(add_user, "bob@example.org", "--data", installation.data)
    assert added.exit_code == 0, added.output
    assert not key.exists()
    key.write_text(kept)
    key.chmod(0o600)
    assert installation.faults() == []


def test_a_lost_key_without_secrets_is_told(installation: Installation) -> None:
    with installation.store.database.writing() as session:
        session.execute(sa.delete(Secret))
    (installation.data / "secret.key").unlink()
    (fault,) = installation.faults()
    assert "webhooks are signed with the new one" in fault


def test_a_newer_schema_is_a_fault(installation: Installation) -> None:
    with installation.store.database.connection() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    (fault,) = installation.faults()
    assert "A newer Galley has been here" in fault
    done = run(migrate, "--data", installation.data)
    assert isinstance(done.exception, migrations.SchemaUnknown)


def test_an_open_data_folder_is_a_fault(installation: Installation) -> None:
    installation.data.chmod(0o755)
    (fault,) = installation.faults()
    assert f"chmod 700 {installation.data}" in fault


def test_missing_programs_are_told(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    output = installation.doctor().output
    assert "install git 2.39 or newer" in output
    assert "install podman if recipes name images" in output


@pytest.mark.parametrize(
    ("version", "told"),
    [("2.30.2", "is too old: kitchens cannot be merged"), ("2.38.1", "is old"), ("2.47.0", "")],
)
def test_a_git_that_is_too_old_is_told(
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    version: str,
    told: str,
) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "git"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = version ] && exec echo "git version {version}"\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    output = installation.doctor().output
    assert f"git version {version} {told}".strip() in output
    assert ("install git 2.39 or newer" in output) == bool(told)


def test_alerts_that_go_nowhere_are_told(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = installation.doctor().output
    assert "there is no mail server" in output
    assert "set GALLEY_SMTP_HOST" in output
    assert "no alert was given up" in output
    now = installation.store.clock.now()
    with installation.store.database.connection() as connection:
        connection.execute(
            sa.insert(outbox).values(
                id=1, kind="mail", subject_key="r:failure:a@x.org", body={}, state="dead", tries=0,
                next_at=now, last_error="Nobody answered.", created_at=now,
            )
        )  # fmt: skip
    monkeypatch.setenv("GALLEY_SMTP_HOST", "smtp.example.org")
    output = installation.doctor().output
    assert "1 alerts were given up, the last one so: Nobody answered." in output
    assert "alerts leave by smtp.example.org:25" in output


def test_a_root_that_is_not_there_is_told(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "some").mkdir()
    monkeypatch.setenv("GALLEY_ROOTS", f"{tmp_path}/some,{tmp_path}/none")
    output = installation.doctor().output
    assert f"note   roots       {tmp_path}/none of GALLEY_ROOTS is not there" in output
    assert output.count("roots") == 1


def test_a_full_disk_is_a_fault(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    (fault,) = installation.faults()
    assert "0.0 GB of" in fault


def test_no_data_folder_is_a_fault(tmp_path: Path) -> None:
    done = run(doctor, "--data", tmp_path / "none")
    assert done.exit_code == 1
    assert "is not a folder" in done.output


def test_a_damaged_sqlite_file_is_a_fault(tmp_path: Path) -> None:
    store = open_store(Settings(data=tmp_path / "data"))
    with store.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.database.close()
    file = tmp_path / "data" / "galley.db"
    content = bytearray(file.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    file.write_bytes(content)
    done = run(doctor, "--data", tmp_path / "data")
    assert done.exit_code == 1
    assert "FAULT  database" in done.output
    file.unlink()
    assert "is missing" in run(doctor, "--data", tmp_path / "data").output


def test_the_commands_are_in_the_program(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "galley"
    done = subprocess.run(
        [program, "migrate", "--data", tmp_path / "data"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Migrated the database" in done.stdout


def test_deleting_and_making_kitchens_leaves_a_healthy_state(installation: Installation) -> None:
    store, me = installation.store, system_caller()
    with store.database.writing() as session:
        projects.delete_kitchen(session, me, store.repositories, "dev", store.clock)
    assert installation.faults() == []
    with store.database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Kitchen)) == 1
