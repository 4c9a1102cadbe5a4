"""Restoring a backup into an empty place, whole or not at all.

Everything is built beside its final place and checked; the database comes last, so a restore that
was cut short leaves a folder without a database, which nobody takes for a finished one.
"""

from pathlib import Path

from galley.kit.failpoints import failpoint
from galley.kit.files import TEMPORARY, discard, fsync_folder, write_atomically
from galley.storage import migrations
from galley.storage.backup import (
    BackupRefused,
    Manifest,
    RepositoryFacts,
    Sources,
    copy_folder,
    pack_name,
    verify_backup,
)
from galley.storage.blobs import LocalBlobs
from galley.storage.db import Database
from galley.storage.dump import SQLITE_FILE, load_sqlite, load_tables
from galley.storage.git import GitStore
from galley.storage.gitprogram import run_git

ALLOWED = frozenset({"galley.toml", "secret.key", "lost+found"})
"""What may lie in the data folder before a restore: settings and keys are not in backups."""

_INDEX_TIMEOUT_S = 3600.0


def restore_backup(backup: Path, data: Path, target: Sources) -> Manifest:
    """Restore a backup into the data folder `data` and the places of `target`.

    The target's repositories, blobs and folders lie below `data` or elsewhere; a SQLite database
    lies at `data`/galley.db. Afterwards the schema is the newest.

    Raises:
        BackupRefused: the backup is damaged, or the target is not empty.
        SchemaUnknown: the backup was made by a newer Galley.
        DumpUnusable, GitFailed, BlobDamaged: a part of it cannot be used.
    """
    manifest = verify_backup(backup)
    _check_target(manifest, data, target)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    building = data / f"{TEMPORARY}restore"
    discard(building)
    building.mkdir(mode=0o700)
    try:
        _restore_repositories(backup, manifest, GitStore(building / "git"))
        _restore_blobs(backup, manifest, target)
        folders = {name: building / "folders" / name for name in target.folders}
        for name, place in folders.items():
            copy_folder(backup / "folders" / name, place)
        failpoint("restore.built")
        _put_in_place(building / "git", target.repositories.root)
        for name, place in folders.items():
            _put_in_place(place, target.folders[name])
        _restore_database(backup, manifest, data, building, target)
    finally:
        discard(building)
    fsync_folder(data)
    return manifest


def _check_target(manifest: Manifest, data: Path, target: Sources) -> None:
    if data.exists() and not data.is_dir():
        raise BackupRefused(f"{data} is not a folder.")
    there = {path.name for path in data.iterdir()} if data.is_dir() else set[str]()
    others = sorted(name for name in there - ALLOWED if not name.startswith(TEMPORARY))
    if others:
        raise BackupRefused(
            f"{data} is not empty ({', '.join(others[:3])}); restore into a new folder."
        )
    if manifest.schema not in migrations.versions():
        raise BackupRefused(
            f"The backup has schema {manifest.schema}, which this Galley does not know; "
            f"restore it with Galley {manifest.galley} or newer."
        )
    kind = target.database.url.get_backend_name()
    if kind != manifest.database:
        raise BackupRefused(
            f"The backup was made from {manifest.database} and would go to {kind}; "
            "set the same kind of database for the restored Galley."
        )
    if not target.database.is_sqlite and migrations.current_version(target.database) is not None:
        raise BackupRefused(
            f"The database {target.database.url.render_as_string()} is not empty; "
            "give the restored Galley a new one."
        )


def _restore_repositories(backup: Path, manifest: Manifest, store: GitStore) -> None:
    for project, facts in manifest.repositories.items():
        repository = store.create(project, facts.head.removeprefix("refs/heads/"))
        if facts.references:
            _index_pack(repository.folder, backup / pack_name(project))
            _write_references(repository.folder, facts)
        repository.fsck(timeout_s=_INDEX_TIMEOUT_S)


def _index_pack(repository: Path, pack: Path) -> None:
    with pack.open("rb") as file:
        run_git(
            repository, "index-pack", "--stdin", "--strict", stdin=file, timeout_s=_INDEX_TIMEOUT_S
        )


def _write_references(repository: Path, facts: RepositoryFacts) -> None:
    lines = [f"{sha} {name}\n" for name, sha in sorted(facts.references.items())]
    write_atomically(repository / "packed-refs", "".join(lines).encode(), mode=0o644)


def _restore_blobs(backup: Path, manifest: Manifest, target: Sources) -> None:
    copies = LocalBlobs(backup / "blobs")
    for name in manifest.files:
        top, _, rest = name.partition("/")
        if top == "blobs":
            sha256 = Path(rest).name
            target.blobs.put_file(copies.path_of(sha256), sha256)


def _restore_database(
    backup: Path, manifest: Manifest, data: Path, building: Path, target: Sources
) -> None:
    """Load, upgrade, compare; on SQLite the file gets its name only after that."""
    dump = backup / "database"
    if not target.database.is_sqlite:
        migrations.upgrade(target.database, target.metadata, to=manifest.schema)
        load_tables(dump, target.database, target.metadata)
        migrations.upgrade(target.database, target.metadata)
        return
    made = building / SQLITE_FILE
    load_sqlite(dump, made)
    database = Database(f"sqlite:///{made}")
    try:
        migrations.upgrade(database, target.metadata)
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()
    failpoint("restore.loaded")
    made.chmod(0o600)
    made.rename(data / SQLITE_FILE)


def _put_in_place(built: Path, final: Path) -> None:
    """Rename a finished folder to its place; an empty one that is there gives way."""
    if not built.exists():
        return
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if final.is_dir():
        final.rmdir()
    built.rename(final)
    fsync_folder(final.parent)
