"""The examinations of `galley doctor`. They change nothing and can run beside the server."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from galley.core.errors import GalleyError
from galley.core.events import audit
from galley.core.projects.models import Kitchen, Project
from galley.core.runs.models import artifacts, outbox
from galley.core.secrets.models import Secret, VaultConfig
from galley.core.secrets.sealing import (
    KEY_FILE,
    KEY_VARIABLE,
    SealBroken,
    Sealer,
    cure_of_no_key,
    has_key,
    open_sealer,
)
from galley.core.tables import import_models
from galley.engine.containers import find_engine
from galley.engine.executors.local import cgroup
from galley.engine.sandbox import unavailable_because
from galley.kit.clock import clock_from_environment
from galley.settings import Settings
from galley.storage import migrations
from galley.storage.blobs import BlobDamaged, BlobsAway, BlobStore, LocalBlobs, blob_store
from galley.storage.db import Database, platform_note
from galley.storage.dump import sqlite_fault
from galley.storage.git import GitFailed, GitStore
from galley.storage.gitprogram import run_git
from galley.storage.migrations import SchemaUnknown

OK, NOTE, FAULT = "ok", "note", "FAULT"
_LITTLE_ROOM_BYTES = 2_000_000_000
_NO_ROOM_BYTES = 200_000_000
_MANY = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: how bad, about what, what was seen, and what to do about it."""

    level: str
    subject: str
    text: str
    cure: str = ""

    def __str__(self) -> str:
        """`FAULT  git      ... -> what to do`."""
        cure = f" -> {self.cure}" if self.cure else ""
        return f"{self.level:<5}  {self.subject:<10}  {self.text}{cure}"


@dataclass(frozen=True, slots=True)
class _Patient:
    """What is examined."""

    settings: Settings
    database: Database
    repositories: GitStore
    deep: bool


Examination = Callable[[_Patient], Iterator[Finding]]


def examine(settings: Settings, *, deep: bool = False) -> list[Finding]:
    """All findings, in a fixed order. With `deep` every blob is read.

    What hangs on the database is left out where the database itself is at fault.
    """
    import_models()
    if not settings.data.is_dir():
        cure = "give Galley's data folder, or start the server once to make it"
        return [Finding(FAULT, "data", f"{settings.data} is not a folder", cure)]
    database = Database(settings.database_address)
    patient = _Patient(settings, database, GitStore(settings.repositories), deep)
    try:
        findings = _all(patient, (_data, _room, _programs, _isolation, _mail, _database))
        if not any(one.level == FAULT and one.subject == "database" for one in findings):
            sound = (_key, _audit, _repositories, _kitchens, _blobs, _secrets, _alerts)
            findings += _all(patient, sound)
    finally:
        database.close()
    return findings


def _all(patient: _Patient, examinations: tuple[Examination, ...]) -> list[Finding]:
    return [finding for one in examinations for finding in one(patient)]


def _data(patient: _Patient) -> Iterator[Finding]:
    folder = patient.settings.data
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IRWXO):
        cure = f"chmod 700 {folder}"
        yield Finding(FAULT, "data", f"{folder} is open to other users of this machine", cure)
    else:
        yield Finding(OK, "data", f"{folder} belongs to Galley alone")
    for root in patient.settings.missing_roots:
        text = f"{root} of GALLEY_ROOTS is not there; recipes cannot use it"
        yield Finding(NOTE, "roots", text, "make the folder, or correct the setting")


def _room(patient: _Patient) -> Iterator[Finding]:
    usage = shutil.disk_usage(patient.settings.data)
    text = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB are free"
    cure = "free some space or give Galley a larger disk"
    if usage.free < _NO_ROOM_BYTES:
        yield Finding(FAULT, "disk", text, cure)
    elif usage.free < _LITTLE_ROOM_BYTES:
        yield Finding(NOTE, "disk", text, cure)
    else:
        yield Finding(OK, "disk", text)


def _programs(patient: _Patient) -> Iterator[Finding]:
    del patient
    try:
        found = run_git(None, "version").decode().strip()
    except GitFailed as error:
        yield Finding(FAULT, "git", str(error), "install git 2.39 or newer")
        return
    numbers = [int(part) for part in found.split()[2].split(".")[:2] if part.isdigit()]
    if numbers < [2, 38]:
        text = f"{found} is too old: kitchens cannot be merged with it"
        yield Finding(FAULT, "git", text, "install git 2.39 or newer")
    elif numbers < [2, 39]:
        yield Finding(NOTE, "git", f"{found} is old", "install git 2.39 or newer")
    else:
        yield Finding(OK, "git", found)


def _isolation(patient: _Patient) -> Iterator[Finding]:
    reason = unavailable_because()
    if reason is None:
        which = "only where declared" if patient.settings.step_network == "declared" else "none"
        text = f"bubblewrap works; programs of recipes run behind it, network: {which}"
        yield Finding(OK, "isolation", text)
    else:
        text = f"recipes' programs reach network and files as Galley's user does: {reason}"
        yield Finding(NOTE, "isolation", text, "install bubblewrap before you let others write")
    yield _bound_of_processes()
    engine = find_engine()
    if engine is not None:
        yield Finding(OK, "containers", f"steps that name an image run with {engine.name}")
    else:
        cure = "install podman if recipes name images"
        yield Finding(NOTE, "containers", "steps that name an image cannot run", cure)


def _bound_of_processes() -> Finding:
    if cgroup.can_be_had():
        return Finding(OK, "processes", "a control group bounds the processes of each step")
    if os.geteuid() != 0:
        text = "the kernel bounds the processes of Galley's user (RLIMIT_NPROC)"
        return Finding(OK, "processes", text)
    text = "a step that only forks can outrun the count of its processes"
    cure = "run Galley as a user of its own, or as a service with Delegate=pids"
    return Finding(NOTE, "processes", text, cure)


def _mail(patient: _Patient) -> Iterator[Finding]:
    settings = patient.settings
    if settings.smtp_host is None:
        cure = "set GALLEY_SMTP_HOST if alerts name mail addresses"
        yield Finding(NOTE, "mail", "there is no mail server; alerts by mail are not sent", cure)
    else:
        yield Finding(OK, "mail", f"alerts leave by {settings.smtp_host}:{settings.smtp_port}")


def _alerts(patient: _Patient) -> Iterator[Finding]:
    lost = sa.select(outbox.c.last_error).where(outbox.c.state == "dead").order_by(outbox.c.id)
    with patient.database.reading() as session:
        faults = session.scalars(lost).all()
    if faults:
        text = f"{len(faults)} alerts were given up, the last one so: {faults[-1]}"
        yield Finding(NOTE, "alerts", text, "mend it; a run's page shows which alerts it lost")
    else:
        yield Finding(OK, "alerts", "no alert was given up")


def _key(patient: _Patient) -> Iterator[Finding]:
    data = patient.settings.data
    if not has_key(data):
        with patient.database.reading() as session:
            rows = sa.select(sa.func.count()).select_from(Secret)
            tokens = sa.select(sa.func.count(VaultConfig.sealed_token))
            sealed = (session.scalar(rows) or 0) + (session.scalar(tokens) or 0)
        text = f"there is no {data / KEY_FILE} and no {KEY_VARIABLE}"
        if sealed:
            text = f"{text}; {sealed} stored secrets stay sealed and the server does not start"
            yield Finding(FAULT, "key", text, cure_of_no_key(data))
        else:
            cure = "put the key back, or webhooks are signed with the new one that a start makes"
            yield Finding(FAULT, "key", text, cure)
        return
    try:
        open_sealer(data, may_make=False)
    except GalleyError as error:
        yield Finding(FAULT, "key", error.message, "mend it as the message says")
    else:
        yield Finding(OK, "key", "the secret key can be read")


def _database(patient: _Patient) -> Iterator[Finding]:
    database = patient.database
    place = database.url.render_as_string()
    if database.is_sqlite:
        file = patient.settings.database_file
        if not file.exists():
            cure = "give the folder of a Galley, or restore a backup"
            yield Finding(FAULT, "database", f"{file} is missing", cure)
            return
        if note := platform_note():
            yield Finding(NOTE, "sqlite", note, "install the wheel pysqlite3, or use Postgres")
    try:
        fault = _sqlite_fault(database) if database.is_sqlite else None
        if fault:
            yield Finding(FAULT, "database", f"{place}: {fault}", "restore the last backup")
            return
        migrations.check(database)
    except SchemaUnknown as error:
        yield Finding(FAULT, "database", str(error), "do what the message says")
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip().split("\n")[0]
        cure = (
            "run doctor as the user who owns the folder, on a disk that can be written"
            if database.is_sqlite
            else "start the database, or correct database_url"
        )
        state = "cannot be opened" if database.is_sqlite else "does not answer"
        yield Finding(FAULT, "database", f"{place} {state}: {reason}", cure)
    else:
        yield Finding(OK, "database", f"{place} is sound, schema {migrations.versions()[-1]}")


def _sqlite_fault(database: Database) -> str | None:
    with database.engine.connect() as connection:
        return sqlite_fault(connection.connection.driver_connection)


def _audit(patient: _Patient) -> Iterator[Finding]:
    with patient.database.reading() as session:
        fault = audit.verify(session)
        end = audit.anchor(session, at=clock_from_environment().now())
    if fault is None:
        yield Finding(OK, "audit", f"the chain is whole up to entry {end.last_id}")
    else:
        text = f"the chain breaks at entry {fault.entry_id}: {fault.reason}"
        yield Finding(FAULT, "audit", text, "find who changed the table; compare with a backup")


def _repositories(patient: _Patient) -> Iterator[Finding]:
    with patient.database.reading() as session:
        projects = session.scalars(sa.select(Project.path).order_by(Project.path)).all()
    for project in projects:
        if not patient.repositories.exists(project):
            text = f"{project} has no repository in {patient.repositories.root}"
            yield Finding(FAULT, "git", text, _cure_of_no_repository(patient))
            continue
        try:
            patient.repositories.repository(project).fsck()
        except GitFailed as error:
            cure = "restore its repository from a backup"
            yield Finding(FAULT, "git", f"{project}: {error}".replace("\n", "; "), cure)
        else:
            yield Finding(OK, "git", f"{project} is sound")
    for stray in sorted(set(patient.repositories.projects()) - set(projects)):
        yield Finding(NOTE, "git", f"{stray} has a repository and no project", "move it away")


def _cure_of_no_repository(patient: _Patient) -> str:
    if patient.database.is_sqlite:
        return "restore a backup"
    return (
        f"link or mount the shared folders, {patient.repositories.root} among them, as"
        " docs/how-to/serve.md says; if it is lost everywhere, restore a backup"
    )


def _kitchens(patient: _Patient) -> Iterator[Finding]:
    with patient.database.reading() as session:
        asked = sa.select(Kitchen.name, Project.path).join(Project)
        rows = session.execute(asked.order_by(Kitchen.name)).all()
    lost = [
        row.name
        for row in rows
        if patient.repositories.exists(row.path)
        and patient.repositories.repository(row.path).tip(row.name) is None
    ]
    for name in lost:
        cure = f"make the branch {name} again with git, or delete the kitchen"
        yield Finding(FAULT, "kitchen", f"{name} has no branch", cure)
    if not lost:
        yield Finding(OK, "kitchen", f"{len(rows)} kitchens have their branches")


def _blobs(patient: _Patient) -> Iterator[Finding]:
    try:
        yield from _examine_blobs(patient)
    except BlobsAway as error:
        cure = "see that the service runs, that the bucket is there, and the key in AWS_... fits"
        yield Finding(FAULT, "blobs", str(error), cure)


def _examine_blobs(patient: _Patient) -> Iterator[Finding]:
    blobs = blob_store(patient.settings.blobs_address)
    sizes = {info.sha256: info.size_bytes for info in blobs.list()}
    asked = sa.select(artifacts.c.sha256, artifacts.c.size_bytes).distinct()
    with patient.database.reading() as session:
        named = {row.sha256: row.size_bytes for row in session.execute(asked)}
    missing = sorted(sha256 for sha256 in named if sha256 not in sizes)
    wrong = {sha256 for sha256, size in named.items() if sizes.get(sha256, size) != size}
    if patient.deep:
        wrong |= {sha256 for sha256 in sizes if not _is_whole(blobs, sha256)}
    where = "" if isinstance(blobs, LocalBlobs) else f" in {patient.settings.blobs_address}"
    for subject, names in (("are missing", missing), ("are damaged", sorted(wrong))):
        if names:
            text = f"{len(names)} blobs{where} {subject}: {', '.join(names[:_MANY])}"
            yield Finding(FAULT, "blobs", text, "copy them from a backup's folder blobs")
    if not missing and not wrong:
        checked = "read and checked" if patient.deep else "there (--deep reads them)"
        yield Finding(OK, "blobs", f"{len(sizes)} blobs{where} are {checked}")


def _is_whole(blobs: BlobStore, sha256: str) -> bool:
    try:
        blobs.read(sha256)
    except BlobDamaged:
        return False
    return True


def _secrets(patient: _Patient) -> Iterator[Finding]:
    try:
        sealer = open_sealer(patient.settings.data, may_make=False)
    except GalleyError:
        return  # told with the key
    count, shut = 0, []
    for name, sealed, place in _sealed(patient.database):
        count += 1
        if not _opens(sealer, sealed, place):
            shut.append(name)
    if shut:
        text = f"{len(shut)} of {count} secrets do not open: {', '.join(shut[:_MANY])}"
        yield Finding(FAULT, "secrets", text, "put the older key back, or write them again")
    else:
        yield Finding(OK, "secrets", f"{count} secrets open")


def _sealed(database: Database) -> Iterator[tuple[str, str, str]]:
    """What is sealed (secrets, then tokens of vaults): its name, the seal, the seal's place."""
    secrets = sa.select(Secret).order_by(Secret.scope, Secret.path)
    vaults = sa.select(VaultConfig).order_by(VaultConfig.scope)
    with database.reading() as session:
        for row in session.scalars(secrets):
            yield f"{row.scope}:{row.path}", row.sealed, row.seal_place()
        for vault in session.scalars(vaults.where(VaultConfig.sealed_token.is_not(None))):
            yield f"the token of {vault.scope}", vault.sealed_token or "", vault.seal_place()


def _opens(sealer: Sealer, text: str, place: str) -> bool:
    try:
        sealer.open(text, place)
    except SealBroken:
        return False
    return True
