"""A worker's loop beside a shared Postgres: report, look for own attempts, start, adopt, kill.

What a worker has to do stands in the ledger's rows, so a lost notice costs two seconds at most.
"""

import threading
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from galley.core.runs import leadership, loading, models
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.runs.ports import Executor
from galley.engine.cluster import BEAT_S, LEASE_S, WORKERS
from galley.engine.twins import own_process, require_no_twin, twin_found
from galley.engine.writer import Acts
from galley.kit.failpoints import failpoint
from galley.storage.db import Database

BACK_WITHIN_S = 60.0
"""How long a worker that was stopped may be away before its steps are given to others."""

log = structlog.get_logger("galley.worker")


class WorkerLoop:
    """Serves one worker of this process; `is_served_directly` is true while the ledger is here.

    `is_claimed` tells whether a process ever took the attempt up: then it is watched, else started.
    `process` tells this process from others that may work under the same name.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        executor: Executor,
        acts: Acts,
        *,
        is_claimed: Callable[[LiveRun, LiveStep], bool],
        is_served_directly: Callable[[], bool] = lambda: False,
        process: str | None = None,
    ) -> None:
        self._database = database
        self._name = name
        self._process = process or own_process()
        self._executor = executor
        self._acts = acts
        self._is_claimed = is_claimed
        self._is_served_directly = is_served_directly
        self._known: set[int] = set()
        self._killed: set[int] = set()
        self._let_go: set[int] = set()
        self._wake = threading.Event()
        self._stopping = False
        self._report_at = time.monotonic()
        self._has_name = False
        self._thread = threading.Thread(target=self._serve, name="galley-worker", daemon=True)

    def start(self) -> None:
        """Report, adopt what an earlier process of this name left, and serve.

        Raises:
            Unavailable: another process works under this name.
        """
        gone = require_no_twin(self._database, self._name, self._process)
        if not self.report(instead_of=gone):
            raise twin_found(self._name)
        with self._database.connection() as connection:
            connection.exec_driver_sql(f"notify {WORKERS}")
        self._thread.start()

    def stop(self) -> None:
        """Take no more work; what runs goes on and is adopted by the next process of this name."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10)
        try:
            with self._database.connection() as connection:
                leadership.retire_worker(
                    connection, self._name, BACK_WITHIN_S, process=self._process
                )
                connection.exec_driver_sql(f"notify {WORKERS}")
        except SQLAlchemyError as error:
            log.warning("worker_not_retired", error=str(error))

    def nudge(self) -> None:
        """There may be work."""
        self._wake.set()

    def report(self, *, instead_of: str | None = None) -> bool:
        """Renew this worker's lease with what it offers; False if another process has the name.

        `instead_of` is a process that had the name and is gone.
        """
        offer = self._executor.capabilities()
        with self._database.connection() as connection:
            return leadership.report_worker(
                connection,
                self._name,
                offer.slots,
                offer.tags,
                LEASE_S,
                process=self._process,
                instead_of=instead_of,
                machine=(offer.host, offer.memory_mb, offer.disk_mb),
            )

    def look(self) -> None:
        """Start what was given to this worker, watch what somebody started, kill what was canceled.

        What runs here and is not this worker's any more is killed, too: its run was deleted, or it
        was given to others while this process stood still. While the ledger is in this process
        that is all. Runs are read only where there is something new; most looks are one small
        question.
        """
        mine = {
            int(key) for key in self._executor.list_keys()
        }  # asked first: rows are there before
        is_served_directly = self._is_served_directly()
        if is_served_directly and not mine:
            return
        held = self._held()
        self._end_what_is_not_held(mine - held.keys())
        if not is_served_directly:
            self._heed(held)

    def _end_what_is_not_held(self, strays: set[int]) -> None:
        for key in strays - self._let_go:
            log.warning("attempt_not_held", attempt=key, worker=self._name)
            self._acts.kill(key, self._name)
        self._let_go = strays

    def _heed(self, held: dict[int, tuple[int, bool]]) -> None:
        """Do what the rows say that has not been done yet."""
        self._known &= held.keys()
        self._killed &= held.keys()
        fresh = {run_id for key, (run_id, _) in held.items() if key not in self._known}
        for run, step in self._living(fresh) if fresh else ():
            self._take(run, step)
        for key, (_, is_canceled) in held.items():
            if is_canceled and key in self._known and key not in self._killed:
                self._killed.add(key)
                self._acts.kill(key, self._name)

    def _take(self, run: LiveRun, step: LiveStep) -> None:
        if step.attempt.id in self._known:
            return
        self._known.add(step.attempt.id)
        failpoint("worker.taken")
        if self._is_claimed(run, step):
            self._acts.adopt(run, step)
        else:
            self._acts.start(run, step)

    def _held(self) -> dict[int, tuple[int, bool]]:
        """This worker's living attempts: id -> run's id, and whether the run was canceled."""
        a, r = models.attempts.c, models.runs.c
        query = (
            sa.select(a.id, a.run_id, r.cancel_reason.is_not(None))
            .join_from(models.attempts, models.runs, r.id == a.run_id)
            .where(a.worker == self._name, models.ATTEMPT_IS_LIVE)
        )
        with self._database.connection() as connection:
            return {key: (run, canceled) for key, run, canceled in connection.execute(query)}

    def _living(self, run_ids: set[int]) -> Sequence[tuple[LiveRun, LiveStep]]:
        """The attempts of this worker in these runs."""
        with self._database.connection() as connection:
            runs = loading.load_live(connection, run_ids)
        return [
            (run, step)
            for run in runs
            for step in run.living()
            if step.attempt.worker == self._name
        ]

    def _serve(self) -> None:
        while not self._stopping:
            try:
                self._attend()
            except SQLAlchemyError as error:
                log.warning("worker_trouble", error=str(error))
            self._wake.wait(max(self._report_at - time.monotonic(), 0.0))
            self._wake.clear()

    def _attend(self) -> None:
        """Report when it is time to, and look for work unless another process has the name."""
        if time.monotonic() >= self._report_at:
            self._report_at = time.monotonic() + BEAT_S
            self._has_name = False  # unless the report says so
            self._has_name = self.report()
            if not self._has_name:  # it stood still for long enough to be taken for dead
                log.error("name_taken", worker=self._name)
        if self._has_name:
            self.look()
