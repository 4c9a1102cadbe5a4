"""What a server or worker looks at before it begins: its key, and what it shares with others."""

import stat
from pathlib import Path

import structlog

from galley.app.store import Store, open_store
from galley.core.errors import Unavailable
from galley.core.projects.repository import ProjectRepository
from galley.core.secrets.sealing import has_key, open_sealer
from galley.engine.folders import SHARED
from galley.kit.clock import Clock
from galley.settings import Settings
from galley.storage import migrations
from galley.storage.db import Database
from galley.storage.git import GitStore

_SHOWN = 3

log = structlog.get_logger("galley.app")


def begin(settings: Settings, clock: Clock | None = None) -> Store:
    """Open the store of a server or worker. A bad key is found before a database is made.

    Raises:
        Invalid: the secret key is malformed, or others may read its file.
        SchemaUnknown: the database was written by a newer Galley, or is not Galley's.
        Unavailable: a repository of the database is not in the data folder.
    """
    if has_key(settings.data):
        open_sealer(settings.data, may_make=False)
    _check_shared(settings)
    store = open_store(settings, clock)
    _warn_if_open(settings.data)
    return store


def _warn_if_open(data: Path) -> None:
    if data.stat().st_mode & (stat.S_IWGRP | stat.S_IRWXO):
        log.warning("folder_open_to_others", folder=str(data), cure=f"chmod 700 {data}")


def _check_shared(settings: Settings) -> None:
    """On Postgres, see that the repositories of the other servers are in this data folder, too.

    On SQLite a lost repository is damage, which `galley doctor` tells of.
    """
    if settings.database_url is None:
        return
    repositories = GitStore(settings.repositories)
    lost = [project for project in _projects(settings) if not repositories.exists(project)]
    if lost:
        raise Unavailable(
            f"{repositories.root} does not hold the repository of {', '.join(lost[:_SHOWN])},"
            f" which is in the database. The folders {', '.join(SHARED)} in {settings.data} must"
            " be links to, or mounts of, those that all servers on this database share:"
            " docs/how-to/serve.md says how. If the repository is lost everywhere, restore a"
            " backup."
        )


def _projects(settings: Settings) -> list[str]:
    """The projects in the database, if there is a schema that is known."""
    database = Database(settings.database_address)
    try:
        if migrations.current_version(database) not in migrations.versions():
            return []
        with database.reading() as session:
            return [project.path for project in ProjectRepository(session).list_all()]
    finally:
        database.close()
