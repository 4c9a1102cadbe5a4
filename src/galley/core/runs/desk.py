"""What run operations work with, joined once by `app`."""

from dataclasses import dataclass

from galley.core.runs.ports import Compiler, RunWriter
from galley.kit.clock import Clock
from galley.storage.db import Database
from galley.storage.git import GitStore


@dataclass(frozen=True, slots=True)
class Desk:
    """The database, the ledger's writer, the compiler, the source store and the clock.

    `sends_mail`: whether alerts by mail can leave this server at all.
    """

    database: Database
    writer: RunWriter
    compiler: Compiler
    repositories: GitStore
    clock: Clock
    sends_mail: bool = True
