"""`galley migrate`, `backup`, `restore` and `doctor`: all may be used while the server runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galley.cli.common import data_option, load_settings, require_installation
from galley.cli.place import prepare

if TYPE_CHECKING:
    from galley.settings import Settings
    from galley.storage.backup import Sources

_BACKUP_FOLDERS = ("logs", "files")


@click.command()
@data_option
@click.option("--check", is_flag=True, help="Change nothing; only tell what would be done.")
@click.option("--draft", hidden=True, help="For developers: write the next version's file.")
def migrate(data: Path, check: bool, draft: str | None) -> None:
    """Bring the database to this version's schema; safe to repeat.

    `galley serve` does it by itself. An empty folder becomes a new Galley, to which users can be
    added before its first start.
    """
    from galley.core.tables import import_models
    from galley.storage import migrations
    from galley.storage.db import Database, metadata

    import_models()
    settings = load_settings(data=data)
    if draft is not None:
        _draft(draft)
        return
    if check:
        require_installation(settings)
    else:
        prepare(settings)
    database = Database(settings.database_address)
    try:
        before = migrations.current_version(database)
        if check:
            migrations.check(database)
            click.echo(f"The database is at schema {before}, the newest.")
            return
        done = migrations.upgrade(database, metadata)
    finally:
        database.close()
    if done:
        click.echo(f"Migrated the database from {before or 'nothing'} to schema {done[-1]}.")
    else:
        click.echo(f"The database is at schema {before}; nothing to do.")


def _draft(message: str) -> None:
    import tempfile

    from galley.storage import migrations
    from galley.storage.db import Database, metadata

    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/scratch.db")
        path = migrations.draft(database, metadata, message)
        database.close()
    click.echo(str(path))


@click.command()
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@data_option
@click.option("--without-logs", is_flag=True, help="Leave the logs of runs out.")
@click.option("--without-files", is_flag=True, help="Leave DATA/files out.")
def backup(target: Path, data: Path, without_logs: bool, without_files: bool) -> None:
    """Save everything of one moment into the new folder TARGET.

    Not in it: galley.toml and the secret key. Keep a copy of the key elsewhere; without it the
    backup's secrets stay sealed.
    """
    from galley.kit.clock import clock_from_environment
    from galley.storage.backup import make_backup

    left_out = {"logs"} if without_logs else set[str]()
    left_out |= {"files"} if without_files else set()
    settings = load_settings(data=data)
    with _faults_told(), _sources(settings, left_out=left_out, must_exist=True) as sources:
        if target.resolve().is_relative_to(data.resolve()):
            raise click.UsageError(
                f"{target} lies in the data folder, and would be lost with it. Name a folder"
                " elsewhere, best on another disk."
            )
        now = clock_from_environment().now()
        manifest = make_backup(sources, target, galley=version("galley-server"), now=now)
    size = sum(facts.size_bytes for facts in manifest.files.values())
    click.echo(f"Saved {len(manifest.files)} files, {size / 1e6:.1f} MB, in {target}.")
    click.echo("The secret key is not in it: keep a copy of it somewhere else.")
    if manifest.missing_blobs:
        raise click.ClickException(
            f"The backup is made, but {len(manifest.missing_blobs)} blobs that rows name were lost "
            f"before it ({manifest.missing_blobs[0]}, ...). Run `galley doctor`."
        )


@click.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@partial(data_option, required=False)
@click.option("--check", is_flag=True, help="Only check the backup; restore nothing.")
def restore(source: Path, data: Path | None, check: bool) -> None:
    """Bring the backup SOURCE back into the empty folder DATA.

    DATA may hold galley.toml and secret.key already, and with --check need not be named. Everything
    is checked before it is used.
    """
    from galley.storage.backup import verify_backup
    from galley.storage.restore import restore_backup

    with _faults_told():
        if check:
            manifest = verify_backup(source)
            click.echo(f"The backup of {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC is whole.")
            return
        if data is None:
            raise click.UsageError("Name the folder to restore into: --data DATA.")
        with _sources(load_settings(data=data)) as sources:
            manifest = restore_backup(source, data, sources)
    click.echo(f"Restored the state of {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC into {data}.")
    if not (data / "secret.key").exists():
        click.echo(
            f"Put the secret key back into {data / 'secret.key'} (mode 600), or set "
            "GALLEY_SECRET_KEY, before the server starts: with stored secrets it does not start "
            "without, and with another key webhooks are signed anew."
        )


@click.command()
@data_option
@click.option("--deep", is_flag=True, help="Read and check every blob, too.")
def doctor(data: Path, deep: bool) -> None:
    """Look for damage, missing programs and settings that will hurt; changes nothing.

    One line for each finding, with its cure. The exit status is 1 if anything is at fault.
    """
    from galley.cli.doctor import FAULT, examine

    findings = examine(load_settings(data=data), deep=deep)
    for finding in findings:
        click.echo(str(finding))
    faults = sum(finding.level == FAULT for finding in findings)
    if faults:
        raise click.exceptions.Exit(1)


@contextmanager
def _sources(
    settings: "Settings", *, left_out: set[str] | None = None, must_exist: bool = False
) -> "Iterator[Sources]":
    """Everything that a backup is made from, or restored to."""
    from galley.core.runs.models import artifacts
    from galley.core.tables import import_models
    from galley.storage.backup import Sources
    from galley.storage.blobs import blob_store
    from galley.storage.db import Database, metadata
    from galley.storage.git import GitStore

    if must_exist:
        require_installation(settings)
    import_models()
    database = Database(settings.database_address)
    folders = {name: settings.data / name for name in _BACKUP_FOLDERS}
    try:
        yield Sources(
            database=database,
            metadata=metadata,
            repositories=GitStore(settings.repositories),
            blobs=blob_store(settings.blobs_address),
            blob_columns=(artifacts.c.sha256,),
            folders={n: place for n, place in folders.items() if n not in (left_out or ())},
        )
    finally:
        database.close()


@contextmanager
def _faults_told() -> Iterator[None]:
    """Faults of backups in one line, without a traceback."""
    from galley.storage.backup import BackupRefused
    from galley.storage.blobs import BlobDamaged
    from galley.storage.dump import DumpUnusable
    from galley.storage.git import GitFailed

    try:
        yield
    except (BackupRefused, BlobDamaged, DumpUnusable, GitFailed) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"{place}{error.strerror or error}.") from error
