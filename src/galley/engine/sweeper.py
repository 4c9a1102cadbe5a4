"""Retention and tidiness: removes what settings no longer keep, and what crashes left behind."""

import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from galley.core.runs import messages as msg
from galley.core.runs import models
from galley.core.runs.ports import RunWriter
from galley.core.runs.states import RUN_FINAL
from galley.engine.folders import Folders
from galley.engine.trouble import note_trouble
from galley.kit.clock import Clock
from galley.kit.files import DOOMED, delete_folder
from galley.storage.blobs import BlobStore
from galley.storage.db import Database

_EVERY_S = 3_600.0
_BATCH = 200
_UNUSED_TREE = timedelta(days=7)
_LOOSE_BLOB = timedelta(days=2)  # longer than a backup takes: it copies blobs after the rows
log = structlog.get_logger("galley.sweeper")


class Sweeper:
    """One thread that looks around every hour.

    `keep_days` is how long finished orders and runs are kept; None keeps them for good.
    `keep_work_days` is how long the files that a finished run's steps shared stay; its results
    are kept apart, as blobs, as long as the run. Source of the product's own default of three
    months: contract section 1, "Retention".
    """

    def __init__(
        self,
        database: Database,
        writer: RunWriter,
        folders: Folders,
        blobs: BlobStore,
        clock: Clock,
        *,
        keep_days: int | None,
        keep_work_days: int,
    ) -> None:
        self._database = database
        self._writer = writer
        self._folders = folders
        self._blobs = blobs
        self._clock = clock
        self._keep_days = keep_days
        self._keep_work_days = keep_work_days
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
        """Remove old orders, runs of living ones, and files that nobody needs; how many."""
        gone = self._sweep_rows() if self._keep_days is not None else 0
        gone += self._sweep_runs_folders() + self._sweep_work() + self._sweep_trees()
        gone += self._sweep_doomed()
        return gone + self._sweep_blobs()

    def _sweep_rows(self) -> int:
        """Remove what is old, one batch after another while they are full."""
        gone = 0
        while not self._stop.is_set():
            found = self._sweep_batch()
            gone += found
            if found < _BATCH:
                break
        return gone

    def _sweep_batch(self) -> int:
        before = self._clock.now() - timedelta(days=self._keep_days or 0)
        orders, runs = models.orders.c, models.runs.c
        with self._database.reading() as session:
            old_orders = session.scalars(
                sa.select(orders.id)
                .where(models.ORDER_IS_OVER, orders.updated_at < before)
                .order_by(orders.updated_at, orders.id)
                .limit(_BATCH)
            ).all()
            old_runs = session.scalars(
                sa.select(runs.id)
                .where(
                    runs.state.in_(RUN_FINAL),
                    runs.finished_at < before,
                    runs.order_id.not_in(old_orders),
                )
                .order_by(runs.finished_at, runs.id)
                .limit(_BATCH)
            ).all()
        if old_orders:
            self._writer.call(msg.DeleteOrders(tuple(old_orders)))
        for run_id in old_runs:
            self._writer.call(msg.DeleteRun(run_id))
        return len(old_orders) + len(old_runs)

    def _sweep_runs_folders(self) -> int:
        """Delete logs and control files of runs that are no more."""
        found = [*_numbered(self._folders.logs), *_numbered(self._folders.attempts)]
        known = self._among(models.runs.c.id, {number for _, number in found})
        return _delete(folder for folder, number in found if number not in known)

    def _sweep_work(self) -> int:
        """Delete shared folders whose runs are gone, or ended all of them long enough ago."""
        found = _numbered(self._folders.work)
        numbers = {number for _, number in found}
        runs = models.runs.c
        since = self._clock.now() - timedelta(days=self._keep_work_days)
        still = models.RUN_IS_LIVE | (runs.finished_at >= since)
        # The first run of a chain gave the folder its number; the others resumed one.
        needed = self._among(runs.id, numbers, still, runs.work_id == runs.id)
        needed |= self._among(runs.work_id, numbers, still, runs.resumed_from.is_not(None))
        return _delete(folder for folder, number in found if number not in needed)

    def _sweep_trees(self) -> int:
        """Delete checked-out trees that no step used for a week; they are made again at need."""
        before = (self._clock.now() - _UNUSED_TREE).timestamp()
        return _delete(tree for tree in _children(self._folders.trees) if _age(tree) < before)

    def _sweep_doomed(self) -> int:
        """Go on with folders whose deletion a crash interrupted."""
        folders = self._folders
        bases = (folders.logs, folders.attempts, folders.work, folders.trees)
        found = (path for base in bases for path in _children(base))
        return _delete(path for path in found if path.name.startswith(DOOMED))

    def _sweep_blobs(self) -> int:
        """Delete blobs that no artefact names, and half-written ones."""
        before = self._clock.now() - _LOOSE_BLOB
        gone = self._blobs.sweep(now=self._clock.now())
        old = (blob.sha256 for blob in self._blobs.list() if blob.modified_at < before)
        while some := set(islice(old, _BATCH)):
            loose = some - self._named(some)
            gone += sum(self._delete_blob(sha256, before) for sha256 in loose)
        return gone

    def _delete_blob(self, sha256: str, before: datetime) -> bool:
        """Delete a loose blob, unless a run published the same content since that was looked up.

        One whose row is not written yet has put the blob, so that it is not old any more.
        """
        if self._named({sha256}):
            return False
        return self._blobs.delete_old(sha256, before=before)

    def _named(self, hashes: set[str]) -> set[str]:
        return self._among(models.artifacts.c.sha256, hashes)

    def _among(self, column: Any, values: set[Any], *where: Any) -> set[Any]:
        """Which of the values are in the column (of rows that fulfil the rest)."""
        found: set[Any] = set()
        wanted = sorted(values)
        with self._database.reading() as session:
            for start in range(0, len(wanted), 500):
                some = column.in_(wanted[start : start + 500])
                found.update(session.scalars(sa.select(column).where(some, *where)))
        return found

    def _serve(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                gone = self.sweep()
                if gone:
                    log.info("swept", removed=gone)
            except Exception as error:  # noqa: BLE001 - this thread must go on
                note_trouble(log, "sweeper_trouble", error)


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _numbered(folder: Path) -> list[tuple[Path, int]]:
    """The folders that are named by a run's number."""
    return [(path, int(path.name)) for path in _children(folder) if path.name.isdecimal()]


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return datetime.now(UTC).timestamp()


def _delete(folders: Iterable[Path]) -> int:
    """Delete folders; how many are gone. What cannot be deleted is tried again next time."""
    gone = 0
    for folder in folders:
        try:
            delete_folder(folder)
        except OSError as error:
            log.warning("not_deleted", folder=str(folder), error=str(error))
        else:
            gone += 1
    return gone
