"""Retention: what is old goes, with its files; what somebody still needs stays."""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.unit.engine.test_writer import InstantActs, submit

from galley.core.runs import messages as msg
from galley.core.runs import models
from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.task import Outcome, Staged
from galley.engine import sweeper
from galley.engine.folders import Folders
from galley.engine.sweeper import Sweeper
from galley.engine.writer import Writer
from galley.kit import files
from galley.kit.clock import ManualClock
from galley.kit.files import delete_folder
from galley.kit.ids import new_uid
from galley.storage.blobs import LocalBlobs
from galley.storage.db import Database


class Bench:
    """A writer, the folders of a data folder, and a sweeper with a clock that the test moves."""

    def __init__(self, database: Database, clock: ManualClock, folder: Path) -> None:
        self.database, self.clock = database, clock
        self.writer = Writer(database, clock)
        self.writer.ledger.dispatcher.set_worker("local", 8)
        self.acts = InstantActs(self.writer, finishes=False)
        self.writer.start(self.acts)
        self.folders = Folders(folder)
        self.folders.make()
        self.blobs = LocalBlobs(folder / "blobs")

    def sweeper(self, *, keep_days: int | None = 30, keep_work_days: int = 7) -> Sweeper:
        return Sweeper(
            self.database,
            self.writer,
            self.folders,
            self.blobs,
            self.clock,
            keep_days=keep_days,
            keep_work_days=keep_work_days,
        )

    def run(self, *, state: str | None = "succeeded", blob: str | None = None) -> int:
        """A one-step run, ended if `state` says how, with its folders on the disk."""
        before = len(self.acts.started)
        made: msg.Submitted = self.writer.call(submit(1))
        run_id = made.run_id or 0
        attempt, fence = self.acts.given(before + 1)[-1]
        for base in (self.folders.logs, self.folders.attempts, self.folders.work):
            (base / str(run_id)).mkdir(parents=True)
        if state is not None:
            staged = (Staged("out", "/x", blob, 1),) if blob else ()
            outcome = Outcome(state=state, staged=staged)
            self.writer.call(msg.Finished(attempt, fence, outcome))
        return run_id

    def later(self, **duration: float) -> None:
        self.clock.advance(timedelta(**duration).total_seconds())

    def kept(self) -> dict[str, list[int]]:
        return {
            base.name: sorted(int(path.name) for path in base.iterdir())
            for base in (self.folders.logs, self.folders.attempts, self.folders.work)
        }

    def run_ids(self) -> list[int]:
        with self.database.reading() as session:
            return list(session.scalars(sa.select(models.runs.c.id).order_by(models.runs.c.id)))


@pytest.fixture
def bench(database: Database, manual_clock: ManualClock, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(database, manual_clock, tmp_path / "data")
    yield made
    made.writer.stop()


def test_old_orders_go_with_their_files_and_young_ones_stay(bench: Bench) -> None:
    bench.run()
    bench.later(days=29)
    young = bench.run()
    living = bench.run(state=None)
    bench.later(days=2)
    bench.sweeper().sweep()
    assert bench.run_ids() == [young, living]
    assert bench.kept() == {
        "logs": [young, living],
        "attempts": [young, living],
        "work": [young, living],
    }


def test_shared_files_go_sooner_than_the_run_but_never_under_a_living_one(bench: Bench) -> None:
    done = bench.run()
    living = bench.run(state=None)
    bench.later(days=8)
    bench.sweeper().sweep()
    assert bench.run_ids() == [done, living]
    assert bench.kept() == {"logs": [done, living], "attempts": [done, living], "work": [living]}


def test_a_resumed_run_keeps_the_folder_of_the_run_it_goes_on_with(bench: Bench) -> None:
    failed = bench.run(state="failed")
    bench.later(days=6)
    new = msg.NewRun(new_uid(), submit(1).run.plan)  # type: ignore[union-attr]
    bench.writer.call(msg.ResumeRun(failed, new))
    bench.later(days=6)
    bench.sweeper().sweep()
    assert bench.kept()["work"] == [failed]


def test_old_runs_of_a_living_schedule_go_one_by_one(bench: Bench) -> None:
    order = msg.NewOrder(
        new_uid(), 1, "recipe", "rec", "v", "api", "master", ScheduleSpec(cron="0 6 * * *")
    )
    made = bench.writer.call(msg.SubmitOrder(order))
    due = bench.clock.now()
    run = submit(1).run
    bench.writer.call(msg.FireSchedule(made.order_id, due, due + timedelta(days=60), run))
    (given,) = bench.acts.given(1)
    bench.writer.call(msg.Finished(*given, Outcome(state="succeeded")))
    bench.later(days=31)
    bench.sweeper().sweep()
    assert bench.run_ids() == []
    with bench.database.reading() as session:
        assert session.scalars(sa.select(models.orders.c.state)).all() == ["active"]


def test_without_a_limit_rows_stay_for_good(bench: Bench) -> None:
    run = bench.run()
    bench.later(days=4000)
    bench.sweeper(keep_days=None).sweep()
    assert bench.run_ids() == [run]


def test_blobs_that_nothing_names_go_after_two_days(bench: Bench) -> None:
    named, loose = bench.blobs.put(b"named"), bench.blobs.put(b"loose")
    bench.run(blob=named)
    bench.sweeper().sweep()
    assert bench.blobs.exists(loose)
    _move_to(bench.clock, max(blob.modified_at for blob in bench.blobs.list()), days=3)
    bench.sweeper(keep_days=None).sweep()
    assert bench.blobs.exists(named)
    assert not bench.blobs.exists(loose)


def test_a_blob_that_a_run_publishes_during_the_sweep_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    again, recorded = bench.blobs.put(b"again"), bench.blobs.put(b"recorded")
    _move_to(bench.clock, max(blob.modified_at for blob in bench.blobs.list()), days=3)
    looked_up = Sweeper._named

    def publish(self: Sweeper, hashes: set[str]) -> set[str]:
        """Right after the sweep has asked what is named, a run publishes."""
        named = looked_up(self, hashes)
        if len(hashes) == 2:
            bench.run(blob=recorded)
            at = bench.clock.now().timestamp()
            os.utime(bench.blobs.path_of(again), (at, at))
        return named

    monkeypatch.setattr(Sweeper, "_named", publish)
    bench.sweeper(keep_days=None).sweep()
    assert bench.blobs.exists(again)
    assert bench.blobs.exists(recorded)


def test_a_sweep_goes_on_while_there_is_more_than_one_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "_BATCH", 2)
    for _ in range(5):
        bench.run()
    bench.later(days=31)
    bench.sweeper().sweep()
    assert bench.run_ids() == []


def test_trees_that_no_step_used_for_a_week_go(bench: Bench) -> None:
    old, used = bench.folders.trees / "old", bench.folders.trees / "used"
    for tree, days in ((old, 8), (used, 1)):
        tree.mkdir()
        at = (bench.clock.now() - timedelta(days=days)).timestamp()
        os.utime(tree, (at, at))
    bench.sweeper().sweep()
    assert [tree.name for tree in bench.folders.trees.iterdir()] == ["used"]


def test_a_deletion_that_a_crash_interrupted_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = bench.run()
    folders = bench.folders
    for base in (folders.logs, folders.attempts, folders.work, folders.trees):
        (base / "99").mkdir()
        (base / "99" / "half").write_text("left")
        (base / ".gone-98").mkdir()
    with monkeypatch.context() as crash:
        crash.setattr(files, "failpoint", _crash)
        for base in (folders.logs, folders.attempts, folders.work, folders.trees):
            with pytest.raises(SystemError):
                delete_folder(base / "99")
    assert bench.sweeper().sweep() == 8
    for base in (folders.logs, folders.attempts, folders.work):
        assert [path.name for path in base.iterdir()] == [str(kept)]
    assert list(folders.trees.iterdir()) == []


def test_what_cannot_be_deleted_is_told_and_hinders_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (97, 98, 99):
        (bench.folders.logs / str(number)).mkdir()

    def delete(folder: Path) -> None:
        if folder.name == "98":
            raise OSError(13, "Permission denied", str(folder))
        delete_folder(folder)

    monkeypatch.setattr(sweeper, "delete_folder", delete)
    assert bench.sweeper().sweep() == 2
    assert [path.name for path in bench.folders.logs.iterdir()] == ["98"]


def _crash(_name: str) -> None:
    raise SystemError


def _move_to(clock: ManualClock, start: datetime, *, days: int) -> None:
    """Let the test's clock stand some days after a moment of the machine's clock."""
    clock.advance((start + timedelta(days=days) - clock.now()).total_seconds())
