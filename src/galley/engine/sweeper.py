"""Retention and tidiness: removes what settings no longer keep, and what crashes left behind."""

import shutil
import threading
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
import structlog

from galley.core.runs import messages as msg
from galley.core.runs import models
from galley.core.runs.ports import RunWriter
from galley.core.runs.states import OrderState, RunState
from galley.engine.folders import Folders
from galley.kit.clock import Clock
from galley.storage.db import Database

_EVERY_S = 3_600.0
_BATCH = 200
log = structlog.get_logger("galley.sweeper")


class Sweeper:
    """One thread that looks around every hour.

    `keep_days` is how long finished orders and runs are kept; None keeps them for good.
    Source of the product's own default of three months: contract section 1, "Retention".
    """

    def __init__(
        self,
        database: Database,
        writer: RunWriter,
        folders: Folders,
        clock: Clock,
        *,
        keep_days: int | None,
    ) -> None:
        self._database = database
        self._writer = writer
        self._folders = folders
        self._clock = clock
        self._keep_days = keep_days
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="galley-sweeper", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def sweep(self) -> int:
        """Remove old orders and old runs of living ones, then stray folders; how many went."""
        gone = self._sweep_rows() if self._keep_days is not None else 0
        return gone + self._sweep_folders()

    def _sweep_rows(self) -> int:
        before = self._clock.now() - timedelta(days=self._keep_days or 0)
        orders, runs = models.orders.c, models.runs.c
        ended = [OrderState.COMPLETED, OrderState.FAILED, OrderState.STOPPED]
        with self._database.reading() as session:
            old_orders = session.scalars(
                sa.select(orders.id)
                .where(orders.state.in_(ended), orders.updated_at < before)
                .order_by(orders.id)
                .limit(_BATCH)
            ).all()
            old_runs = session.scalars(
                sa.select(runs.id)
                .where(
                    runs.state.in_([RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED]),
                    runs.finished_at < before,
                    runs.order_id.not_in(old_orders),
                )
                .order_by(runs.id)
                .limit(_BATCH)
            ).all()
        if old_orders:
            self._writer.call(msg.DeleteOrders(tuple(old_orders)))
        for run_id in old_runs:
            self._writer.call(msg.DeleteRun(run_id))
        return len(old_orders) + len(old_runs)

    def _sweep_folders(self) -> int:
        """Delete folders of runs that are no more, and half-made checkouts of a day ago."""
        folders = self._folders
        found = {
            folder: int(folder.name)
            for base in (folders.logs, folders.attempts, folders.work)
            for folder in _children(base)
            if folder.name.isdecimal()
        }
        known = self._known(set(found.values()))
        strays = [folder for folder, run_id in found.items() if run_id not in known]
        for folder in strays:
            shutil.rmtree(folder, ignore_errors=True)
        return len(strays)

    def _known(self, run_ids: set[int]) -> set[int]:
        known: set[int] = set()
        wanted = sorted(run_ids)
        with self._database.reading() as session:
            for start in range(0, len(wanted), 500):
                some = wanted[start : start + 500]
                query = sa.select(models.runs.c.id).where(models.runs.c.id.in_(some))
                known.update(session.scalars(query))
        return known

    def _serve(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                gone = self.sweep()
                if gone:
                    log.info("swept", removed=gone)
            except Exception:
                log.exception("sweeper_trouble")


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
