"""A surface on a real database, with the ledger's real writer and nothing else behind it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from galley.core.identity.actions import ACTIONS
from galley.core.identity.policy import JUDGE
from galley.core.runs.desk import Desk
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.secrets.sealing import Sealer
from galley.core.vaults.desk import Vaults
from galley.engine.vaults import HashiCorpVaults
from galley.engine.writer import Writer
from galley.kit.clock import ManualClock
from galley.settings import Settings
from galley.storage.blobs import blob_store
from galley.storage.db import Database
from galley.storage.git import GitStore
from galley.wire.limits import RateLimiter
from galley.wire.services import Services


class IdleActs:
    """Nothing is started in these tests."""

    def start(self, run: LiveRun, step: LiveStep) -> None: ...
    def adopt(self, run: LiveRun, step: LiveStep) -> None: ...
    def kill(self, attempt_id: int, worker: str | None) -> None: ...
    def remove(self, run_id: int) -> None: ...
    def mail(self) -> None: ...
    def reschedule(self) -> None: ...


class NoCompiler:
    """Nothing is compiled in these tests."""

    def compile(self, request: object) -> None:
        raise AssertionError("nothing is compiled here")


@pytest.fixture
def services(database: Database, manual_clock: ManualClock, tmp_path: Path) -> Iterator[Services]:
    writer = Writer(database, manual_clock)
    writer.start(IdleActs())
    repositories = GitStore(tmp_path / "git")
    settings = Settings(data=tmp_path)
    yield Services(
        settings=settings,
        database=database,
        clock=manual_clock,
        judge=JUDGE,
        sealer=Sealer(b"k" * 32),
        vaults=Vaults(database, Sealer(b"k" * 32), HashiCorpVaults(), manual_clock),
        desk=Desk(database, writer, NoCompiler(), repositories, manual_clock),
        feed=writer,
        repositories=repositories,
        blobs=blob_store(tmp_path / "blobs"),
        logs=tmp_path / "logs",
        limiter=RateLimiter(12_000, 2000, manual_clock.monotonic),
        actions=ACTIONS,
    )
    writer.stop()
