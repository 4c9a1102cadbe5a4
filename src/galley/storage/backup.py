"""Backups: the database, the repositories, blobs and files of one moment, in one folder.

The moment is fixed while every repository's writers wait for some milliseconds: references are
read, then the database's snapshot is opened. Objects and blobs are copied after that by their
hash, so no row of the backup points at something that is not in it. A manifest with the SHA-256
of every file is written last; a folder without one is no backup.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec
import sqlalchemy as sa

from galley.kit.failpoints import failpoint
from galley.kit.files import discard, fsync_folder, write_atomically
from galley.storage import migrations
from galley.storage.blobs import BlobStore, LocalBlobs, sha256_of
from galley.storage.db import Database, is_disk_full
from galley.storage.dump import Snapshot, snapshot
from galley.storage.git import GitStore
from galley.storage.gitprogram import run_git

FORMAT = 1
MANIFEST = "manifest.json"
_CHUNK_BYTES = 1 << 20
_PACK_TIMEOUT_S = 3600.0


class BackupRefused(Exception):
    """The backup cannot be made, or not be used; the text says why and what to do."""


class FileFacts(msgspec.Struct, frozen=True):
    """What the manifest says of a file."""

    size_bytes: int
    sha256: str


class RepositoryFacts(msgspec.Struct, frozen=True):
    """A repository's references, by full name, and the branch that its HEAD names."""

    head: str
    references: dict[str, str]


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds. `missing_blobs` are those that rows named and the store had lost."""

    format: int
    galley: str
    made_at: datetime
    database: str
    schema: str
    repositories: dict[str, RepositoryFacts]
    files: dict[str, FileFacts]
    missing_blobs: list[str] = []


@dataclass(frozen=True, slots=True)
class Sources:
    """What is backed up, and where it is restored to.

    `blob_columns` are the columns that name blobs; `folders` maps a name in the backup to a
    folder of plain files, copied as they are found.
    """

    database: Database
    metadata: sa.MetaData
    repositories: GitStore
    blobs: BlobStore
    blob_columns: Sequence[sa.Column[str]] = ()
    folders: Mapping[str, Path] = field(default_factory=dict)


def make_backup(sources: Sources, target: Path, *, galley: str, now: datetime) -> Manifest:
    """Write a backup into the new folder `target`; until it is whole, the folder has no name.

    Raises:
        BackupRefused: the folder is there already, or its disk is full.
        SchemaUnknown: the database is not at this Galley's schema.
        BlobDamaged, GitFailed, DumpUnusable: what is to be backed up is damaged.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupRefused(f"{target} is there already; give the backup a new folder.")
    migrations.check(sources.database)
    partial = target.with_name(f"{target.name}.partial")
    discard(partial)
    partial.mkdir(mode=0o700, parents=True)
    try:
        manifest = _write(sources, partial, galley, now)
        write_atomically(
            partial / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        )
        failpoint("backup.written")
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except BaseException as error:
        discard(partial)
        if is_disk_full(error):
            raise BackupRefused(
                f"There is no room for the backup in {target.parent.absolute()}; nothing was kept."
                " Free some space there, or give it another place."
            ) from error
        raise
    fsync_folder(target.parent)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The backup's manifest.

    Raises:
        BackupRefused: this is no backup, or one of a newer Galley.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BackupRefused(
            f"{folder} is no backup: it has no {MANIFEST} ({error.strerror})."
        ) from error
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupRefused(f"{folder / MANIFEST} is damaged: {error}.") from error
    if manifest.format != FORMAT:
        raise BackupRefused(
            f"The backup has format {manifest.format} and this Galley reads {FORMAT}; "
            f"use Galley {manifest.galley} or newer."
        )
    return manifest


def verify_backup(folder: Path) -> Manifest:
    """Check every file of a backup against its manifest.

    Raises:
        BackupRefused: a file is missing or damaged; the message names it.
    """
    manifest = read_manifest(folder)
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or path.is_symlink():
            raise BackupRefused(f"The manifest names {name}, which is not inside the backup.")
        if not path.is_file():
            raise BackupRefused(f"The backup is damaged: {name} is missing.")
        if path.stat().st_size != facts.size_bytes or sha256_of(path) != facts.sha256:
            raise BackupRefused(f"The backup is damaged: {name} is not what was written.")
    return manifest


def _write(sources: Sources, folder: Path, galley: str, now: datetime) -> Manifest:
    with _moment(sources) as (taken, repositories):
        failpoint("backup.moment")
        (folder / "database").mkdir()
        taken.write(folder / "database")
        for project, facts in repositories.items():
            _write_pack(sources.repositories, project, facts, folder / pack_name(project))
        _copy_blobs(sources.blobs, folder / "blobs")
        missing = _missing_blobs(sources, taken, LocalBlobs(folder / "blobs"))
        kind = taken.kind
    for name, place in sources.folders.items():
        copy_folder(place, folder / "folders" / name)
    return Manifest(
        format=FORMAT,
        galley=galley,
        made_at=now,
        database=kind,
        schema=migrations.versions()[-1],
        repositories=repositories,
        files=_facts(folder),
        missing_blobs=missing,
    )


@contextmanager
def _moment(sources: Sources) -> Iterator[tuple[Snapshot, dict[str, RepositoryFacts]]]:
    """Fix the moment of a backup: every repository's references and the database's snapshot."""
    store = sources.repositories
    with ExitStack() as held:
        with ExitStack() as waiting:
            for project in store.projects():
                waiting.enter_context(store.repository(project).locked())
            before = {project: _references(store, project) for project in store.projects()}
            taken = held.enter_context(snapshot(sources.database, sources.metadata))
        born_since = {project: _references(store, project) for project in store.projects()}
        yield taken, born_since | before


def _references(store: GitStore, project: str) -> RepositoryFacts:
    repository = store.repository(project)
    head = (repository.folder / "HEAD").read_text().strip().removeprefix("ref: ")
    return RepositoryFacts(head=head, references=repository.references())


def pack_name(project: str) -> str:
    """Where a project's objects lie in a backup."""
    return f"repositories/{project}.pack"


def _write_pack(store: GitStore, project: str, facts: RepositoryFacts, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = "".join(f"{sha}\n" for sha in sorted(set(facts.references.values())))
    run_git(
        store.repository(project).folder,
        "pack-objects",
        "--revs",
        "--stdout",
        "--quiet",
        stdin=wanted.encode(),
        into=path,
        timeout_s=_PACK_TIMEOUT_S,
    )


def _copy_blobs(blobs: BlobStore, folder: Path) -> None:
    copies = LocalBlobs(folder)
    folder.mkdir()
    for info in blobs.list():
        with blobs.open(info.sha256) as source:
            copies.put_stream(source, info.sha256)


def _missing_blobs(sources: Sources, taken: Snapshot, copies: BlobStore) -> list[str]:
    named: set[str] = set()
    for column in sources.blob_columns:
        named.update(taken.connection.scalars(sa.select(column).distinct()))
    return sorted(sha256 for sha256 in named if not copies.exists(sha256))


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder's plain files, each up to the size that it has now; links are left out."""
    for path, relative in _plain_files(source):
        copy = target / relative
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with path.open("rb") as file, copy.open("xb") as made:
                _copy_bytes(file, made, os.fstat(file.fileno()).st_size)
        except FileNotFoundError:  # removed a moment ago
            continue


def _copy_bytes(source: BinaryIO, made: BinaryIO, size_bytes: int) -> None:
    left = size_bytes
    while left > 0 and (chunk := source.read(min(left, _CHUNK_BYTES))):
        made.write(chunk)
        left -= len(chunk)
    made.flush()
    os.fsync(made.fileno())


def _plain_files(folder: Path) -> Iterator[tuple[Path, Path]]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if path.is_file() and not path.is_symlink():
                yield path, path.relative_to(folder)


def _facts(folder: Path) -> dict[str, FileFacts]:
    return {
        relative.as_posix(): FileFacts(path.stat().st_size, sha256_of(path))
        for path, relative in _plain_files(folder)
    }
