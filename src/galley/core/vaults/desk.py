"""What operations on vaults work with."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.orm import Session

from galley.core.secrets.ports import ExternalVaults
from galley.core.secrets.sealing import Sealer
from galley.kit.clock import Clock
from galley.storage.db import Database


@dataclass(frozen=True, slots=True)
class Vaults:
    """The database, the installation's keys, the vaults elsewhere, and the clock."""

    database: Database
    sealer: Sealer
    external: ExternalVaults
    clock: Clock


class Transactions(Protocol):
    """Opens the transactions of one call; a `Database` does, too."""

    def reading(self) -> AbstractContextManager[Session]:
        """See `Database.reading`."""
        ...

    def writing(self) -> AbstractContextManager[Session]:
        """See `Database.writing`; a call's answer may be remembered in it."""
        ...
