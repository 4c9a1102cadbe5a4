"""A process that only runs steps, beside servers that share its Postgres and its data folder."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from galley.app.beginning import begin
from galley.app.parts import (
    claims_of,
    history_of,
    make_executor,
    secrets_of,
    tell_steps,
    worker_name,
)
from galley.core.errors import Invalid
from galley.engine.cluster import Cluster
from galley.engine.executors.local import LocalExecutor
from galley.engine.launcher import Launcher
from galley.engine.strays import end_strays
from galley.engine.worker import WorkerLoop
from galley.settings import Settings


@dataclass(slots=True)
class Worker:
    """A worker's parts, in the order in which they start."""

    name: str
    executor: LocalExecutor
    launcher: Launcher
    cluster: Cluster
    loop: WorkerLoop
    tidy: Callable[[], None]

    def start(self) -> None:
        """Report, adopt what an earlier worker of this name left, and take work."""
        self.executor.start(self.launcher)
        self.cluster.start(self.launcher)
        self.loop.start()
        threading.Thread(target=self.tidy, name="galley-strays", daemon=True).start()

    def stop(self) -> None:
        """Take no more work; steps go on and are adopted by the next worker of this name."""
        self.loop.stop()
        self.executor.stop()
        self.launcher.close()
        self.cluster.stop()


def build_worker(settings: Settings, name: str | None = None) -> Worker:
    """Join a worker's parts.

    Raises:
        Invalid: the settings name no Postgres: on SQLite the one server runs all steps itself.
        KeyMissing: secrets are stored, and their key is not here.
    """
    if settings.database_url is None:
        raise Invalid(
            "A worker needs a Postgres that it shares with a server; set GALLEY_DATABASE_URL."
            " On SQLite `galley serve` runs the steps itself."
        )
    tell_steps(settings)
    store = begin(settings)
    store.require_key()
    name = name or f"{worker_name(settings)}-worker"
    cluster = Cluster(store.database, store.clock, name, may_lead=False)
    folder = settings.data.absolute() / "executor" / name
    executor = make_executor(settings, folder, name, store.clock)
    launcher = Launcher(
        writer=cluster,
        executors={name: executor},
        folders=store.folders,
        repositories=store.repositories,
        blobs=store.blobs,
        secrets=lambda run, wanted: secrets_of(store, run, wanted),
        history=lambda run, step_key: history_of(store, run, step_key),
        roots=tuple(str(root) for root in settings.roots),
        timeout_s=settings.step_limits.timeout_s or None,
    )
    loop = WorkerLoop(store.database, name, executor, launcher, is_claimed=claims_of(store))
    cluster.on_work(loop.nudge)
    return Worker(
        name,
        executor,
        launcher,
        cluster,
        loop,
        tidy=lambda: end_strays(store.database, name, executor, store.folders),
    )
