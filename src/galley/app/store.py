"""What lies below everything: the data folder, the database, the keys, git and blobs."""

import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa

from galley.core.secrets.models import Secret, VaultConfig
from galley.core.secrets.sealing import Sealer, open_sealer
from galley.engine.folders import Folders
from galley.kit.clock import Clock, clock_from_environment
from galley.settings import Settings
from galley.storage import migrations
from galley.storage.blobs import BlobStore, blob_store
from galley.storage.db import Database, metadata
from galley.storage.git import GitStore

MODELS = (
    "galley.core.events.models",
    "galley.core.identity.models",
    "galley.core.projects.models",
    "galley.core.runs.models",
    "galley.core.secrets.models",
)
"""The modules that declare Galley's tables."""


@dataclass
class Store:
    """Opened first, closed last."""

    data: Path
    database: Database
    repositories: GitStore
    blobs: BlobStore
    folders: Folders
    clock: Clock

    @cached_property
    def sealer(self) -> Sealer:
        """The installation's keys. A first key is made only while nothing is sealed.

        Raises:
            Invalid: the secret key is malformed, or others may read it.
            KeyMissing: there is no key, and secrets are stored.
        """
        return open_sealer(self.data, may_make=not self._is_sealed())

    def require_key(self) -> None:
        """See that the key of what is sealed is here; none is made.

        Raises:
            Invalid, KeyMissing: see `sealer`.
        """
        if self._is_sealed():
            open_sealer(self.data, may_make=False)

    def _is_sealed(self) -> bool:
        with self.database.reading() as session:
            tokens = sa.select(VaultConfig.id).where(VaultConfig.sealed_token.is_not(None))
            asked = (sa.select(Secret.id).limit(1), tokens.limit(1))
            return any(session.scalar(query) is not None for query in asked)


def import_models() -> None:
    """Let `storage.db.metadata` know every table."""
    for name in MODELS:
        importlib.import_module(name)


def open_store(settings: Settings, clock: Clock | None = None) -> Store:
    """Open (and on first use make) the data folder and the database at its newest schema.

    Raises:
        SchemaUnknown: the database was written by a newer Galley, or is not Galley's.
    """
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    folders = Folders(settings.data.absolute())
    folders.make()
    database = Database(settings.database_address, pool_size=settings.database_pool)
    import_models()
    migrations.upgrade(database, metadata)
    return Store(
        data=settings.data,
        database=database,
        repositories=GitStore(settings.repositories),
        blobs=blob_store(settings.blobs_address),
        folders=folders,
        clock=clock or clock_from_environment(),
    )
