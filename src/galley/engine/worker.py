"""A worker's loop beside a shared Postgres: report, look for own attempts, start, adopt, kill.

What a worker has to do stands in the ledger's rows, so a lost notice costs two seconds at most.
"""

import threading
from collections.abc import Callable, Sequence

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from galley.core.runs import leadership, loading, models
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.runs.ports import Executor
from galley.core.runs.states import ATTEMPT_LIVE
from galley.engine.cluster import BEAT_S, LEASE_S
from galley.engine.writer import Acts
from galley.storage.db import Database

log = structlog.get_logger("galley.worker")


class WorkerLoop:
    """Serves one worker of this process; `is_served_directly` is true while the ledger is here."""

    def __init__(
        self,
        database: Database,
        name: str,
        executor: Executor,
        acts: Acts,
        *,
        is_served_directly: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._name = name
        self._executor = executor
        self._acts = acts
        self._is_served_directly = is_served_directly
        self._known: set[int] = set()
        self._killed: set[int] = set()
        self._is_first_look = True
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="galley-worker", daemon=True)

    def start(self) -> None:
        """Report, adopt what an earlier process of this name left, and serve."""
        self.report()
        self._thread.start()

    def stop(self) -> None:
        """Take no more work; what runs goes on and is adopted by the next process of this name."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def nudge(self) -> None:
        """There may be work."""
        self._wake.set()

    def report(self) -> None:
        """Renew this worker's lease with what it offers."""
        offer = self._executor.capabilities()
        with self._database.connection() as connection:
            leadership.report_worker(connection, self._name, offer.slots, offer.tags, LEASE_S)

    def look(self) -> None:
        """Start what was given to this worker, adopt what it had, kill what was canceled."""
        mine = self._mine()
        living = {step.attempt.id for _, step in mine}
        for run, step in mine:
            attempt_id = step.attempt.id
            if attempt_id not in self._known:
                self._known.add(attempt_id)
                if self._is_first_look:
                    self._acts.adopt(run, step)
                else:
                    self._acts.start(run, step)
            if run.cancel_reason is not None and attempt_id not in self._killed:
                self._killed.add(attempt_id)
                self._acts.kill(attempt_id, self._name)
        self._is_first_look = False
        self._known &= living
        self._killed &= living

    def _mine(self) -> Sequence[tuple[LiveRun, LiveStep]]:
        a = models.attempts.c
        with self._database.connection() as connection:
            query = sa.select(a.run_id).where(a.worker == self._name, a.state.in_(ATTEMPT_LIVE))
            run_ids = set(connection.scalars(query))
            runs = loading.load_live(connection, run_ids) if run_ids else []
        return [
            (run, step)
            for run in runs
            for step in run.living()
            if step.attempt.worker == self._name
        ]

    def _serve(self) -> None:
        while not self._stopping:
            try:
                self.report()
                if not self._is_served_directly():
                    self.look()
            except SQLAlchemyError as error:
                log.warning("worker_trouble", error=str(error))
            self._wake.wait(BEAT_S)
            self._wake.clear()
