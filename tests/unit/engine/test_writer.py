"""The writer: group commit, answers after the commit, failures that lose nothing."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from tests.contract.live import PATIENCE_S, until

from galley.core.errors import Conflict, Invalid, NoSpace, NotFound, Unavailable
from galley.core.runs import messages as msg
from galley.core.runs import models
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.runs.plan import Plan, Retry, Source, StepPlan, Thresholds
from galley.core.runs.task import Outcome
from galley.engine.writer import Writer
from galley.kit.clock import ManualClock, SystemClock
from galley.kit.ids import new_uid
from galley.storage.db import Database

SOURCE = Source(kind="recipe", project="main/recipes", path="rec", variation="daily")


class InstantActs:
    """Finishes every attempt at once, from another thread."""

    def __init__(self, writer: Writer, *, finishes: bool = True) -> None:
        self._writer = writer
        self._finishes = finishes
        self._pool = ThreadPoolExecutor(2)
        self.adopted: list[str] = []
        self.killed: list[int] = []
        self.started: list[tuple[int, int]] = []

    def start(self, run: LiveRun, step: LiveStep) -> None:
        self.started.append((step.attempt.id, step.attempt.fence))
        if self._finishes:
            message = msg.Finished(step.attempt.id, step.attempt.fence, Outcome(state="succeeded"))
            self._pool.submit(self._writer.send, message)

    def given(self, count: int) -> list[tuple[int, int]]:
        """The first attempts (id, fence) to be started: senders are answered before that."""
        until(lambda: len(self.started) >= count, what=f"{count} starts")
        return self.started[:count]

    def adopt(self, run: LiveRun, step: LiveStep) -> None:
        self.adopted.append(step.key)

    def kill(self, attempt_id: int, worker: str | None) -> None:
        self.killed.append(attempt_id)

    def remove(self, run_id: int) -> None: ...

    def mail(self) -> None: ...

    def reschedule(self) -> None: ...


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    made = Writer(database, SystemClock())
    made.ledger.dispatcher.set_worker("local", 8)
    yield made
    made.stop()


def submit(
    steps: int = 3, companions: msg.Companions = (), *, brief: bool = False
) -> msg.SubmitOrder:
    planned = tuple(StepPlan(f"s{i}", "noop", brief=brief) for i in range(steps))
    plan = Plan(source=SOURCE, steps=planned)
    order = msg.NewOrder(new_uid(), 1, "recipe", "rec", "daily", "api", "master")
    return msg.SubmitOrder(order, msg.NewRun(new_uid(), plan), companions)


def wait_for_end(writer: Writer, count: int) -> threading.Event:
    """Set once `count` run ends were committed."""
    done, seen = threading.Event(), set()

    def look(run_id: int) -> None:
        if writer.ledger.find(run_id) is None:
            seen.add(run_id)
        if len(seen) >= count:
            done.set()

    writer.subscribe(None, look)
    return done


def count(database: Database, table: sa.Table) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_many_senders_at_once_all_get_their_answer(writer: Writer, database: Database) -> None:
    writer.start(InstantActs(writer))
    done = wait_for_end(writer, 40)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(writer.call, [submit() for _ in range(40)]))
    assert len({answer.run_id for answer in answers}) == 40
    assert done.wait(PATIENCE_S)
    with database.reading() as session:
        states = session.scalars(sa.select(models.runs.c.state).distinct()).all()
    assert states == ["succeeded"]


def test_runs_that_ended_are_counted_once_committed(writer: Writer) -> None:
    writer.start(InstantActs(writer))
    done = wait_for_end(writer, 2)
    writer.call(submit(2))
    writer.call(submit(1))
    assert done.wait(PATIENCE_S)
    assert writer.finished == {"succeeded": 2}


def test_a_refusal_reaches_its_sender(writer: Writer) -> None:
    writer.start(InstantActs(writer))
    with pytest.raises(NotFound):
        writer.call(msg.StopRun(12345, "why"))


def test_a_row_that_cannot_be_stored_fails_only_its_own_message(
    writer: Writer, database: Database
) -> None:
    writer.start(InstantActs(writer, finishes=False))
    first = submit()
    writer.call(first)
    twin = msg.SubmitOrder(first.order, submit().run)
    futures = [writer.send(message) for message in (submit(), twin, submit())]
    assert futures[0].result(PATIENCE_S).run_id
    with pytest.raises(Conflict):
        futures[1].result(PATIENCE_S)
    assert futures[2].result(PATIENCE_S).run_id
    assert count(database, models.runs) == 3


def test_a_value_that_no_row_can_hold_is_not_called_somebody_else_s_change(
    writer: Writer, database: Database
) -> None:
    writer.start(InstantActs(writer))
    row = dict.fromkeys(("principal", "method", "route", "key", "body_sha256"), "")
    lacking = {**row, "status": 200, "media_type": "", "answer": None, "is_sealed": False}
    with pytest.raises(Invalid, match="cannot keep what was sent"):
        writer.call(submit(companions=(("idempotency_key", lacking | {"created_us": 1}),)))
    made = submit()
    assert made.run is not None
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the fault
    odd = msg.SubmitOrder(made.order, msgspec.structs.replace(made.run, due_at=naive))
    futures = [writer.send(message) for message in (submit(), odd, submit())]
    with pytest.raises(Invalid, match="must be aware"):
        futures[1].result(PATIENCE_S)
    assert futures[0].result(PATIENCE_S).run_id
    assert futures[2].result(PATIENCE_S).run_id
    assert count(database, models.runs) == 2


def test_a_lost_database_tells_callers_and_keeps_reports(
    writer: Writer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts = InstantActs(writer, finishes=False)
    writer.start(acts)
    made = writer.call(submit(1))
    ((attempt, fence),) = acts.given(1)
    real = Writer._transact
    broken = threading.Event()
    broken.set()

    def transact(self: Writer, letters: Any) -> Any:
        if broken.is_set():
            raise OperationalError("commit", {}, Exception("server closed the connection"))
        return real(self, letters)

    monkeypatch.setattr(Writer, "_transact", transact)
    with pytest.raises(Unavailable) as caught:
        writer.call(submit())
    assert caught.value.retry_after_s is not None
    assert not writer.is_healthy
    report = writer.send(msg.Finished(attempt, fence, Outcome(state="succeeded")))
    broken.clear()
    assert report.result(PATIENCE_S) is True
    assert writer.is_healthy
    with database.reading() as session:
        query = sa.select(models.runs.c.state).where(models.runs.c.id == made.run_id)
        assert session.scalar(query) == "succeeded"


def test_a_writer_that_failed_finds_out_by_itself_that_it_works_again(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sends anything more to a server that says that it is not ready."""
    writer.start(InstantActs(writer, finishes=False))
    real = Writer._transact
    works = threading.Event()
    tried = threading.Event()

    def transact(self: Writer, letters: Any) -> Any:
        if not works.is_set():
            tried.set()
            raise OperationalError("commit", {}, Exception("database or disk is full"))
        return real(self, letters)

    monkeypatch.setattr(Writer, "_transact", transact)
    with pytest.raises(NoSpace):
        writer.call(submit())
    tried.clear()
    assert tried.wait(PATIENCE_S)
    assert not writer.is_healthy
    works.set()
    until(lambda: writer.is_healthy, what="a healthy writer")


def test_what_an_earlier_server_left_is_adopted(database: Database) -> None:
    first = Writer(database, SystemClock())
    first.ledger.dispatcher.set_worker("local", 8)
    first.start(InstantActs(first, finishes=False))
    first.call(submit(2))
    first.stop()
    second = Writer(database, SystemClock())
    second.ledger.dispatcher.set_worker("local", 8)
    acts = InstantActs(second)
    second.start(acts)
    second.stop()
    assert sorted(acts.adopted) == ["s0", "s1"]
    assert acts.started == []


def test_a_stopping_writer_refuses_callers_but_takes_reports(writer: Writer) -> None:
    writer.start(InstantActs(writer, finishes=False))
    writer.stop()
    with pytest.raises(Unavailable):
        writer.call(submit())


def test_a_retry_wakes_the_writer_without_any_message(database: Database) -> None:
    clock = ManualClock(SystemClock().now())
    writer = Writer(database, clock)
    writer.ledger.dispatcher.set_worker("local", 8)
    acts = InstantActs(writer, finishes=False)
    writer.start(acts)
    step = StepPlan("a", "noop", retry=Retry(attempts=2, backoff_s=5))
    plan = Plan(source=SOURCE, steps=(step,))
    order = msg.NewOrder(new_uid(), 1, "recipe", "rec", "daily", "api", "master")
    writer.call(msg.SubmitOrder(order, msg.NewRun(new_uid(), plan)))
    ((attempt, fence),) = acts.given(1)
    failed = Outcome(state="failed", reason="x")
    writer.send(msg.Finished(attempt, fence, failed)).result(PATIENCE_S)
    writer.call(msg.Tick())  # what followed the failure is done by now
    assert len(acts.started) == 1
    clock.advance(10)
    writer.call(msg.Tick())
    acts.given(2)
    writer.stop()


def test_a_result_that_cannot_be_stored_fails_its_step_and_nothing_else(
    writer: Writer, database: Database
) -> None:
    acts = InstantActs(writer, finishes=False)
    writer.start(acts)
    made = writer.call(submit(1))
    bad = Outcome(state="failed", reason="a byte \0 here", retryable=False)
    ((attempt, fence),) = acts.given(1)
    writer.send(msg.Finished(attempt, fence, bad)).result(PATIENCE_S)
    assert writer.call(submit(1)).run_id
    assert writer.is_healthy
    with database.reading() as session:
        query = sa.select(models.runs.c.state).where(models.runs.c.id == made.run_id)
        assert session.scalar(query) == "failed"


def test_an_act_that_fails_ends_nothing(writer: Writer) -> None:
    class Clumsy(InstantActs):
        def start(self, run: LiveRun, step: LiveStep) -> None:
            super().start(run, step)
            if step.attempt.number == 1:
                raise RuntimeError("clumsy")

    acts = Clumsy(writer, finishes=False)
    writer.start(acts)
    writer.call(submit(1))
    acts.given(2)
    writer.call(msg.Tick())
    assert len(acts.started) == 2
    assert writer.is_healthy


def test_a_start_shares_the_commit_of_the_end_that_follows_soon(
    writer: Writer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts = InstantActs(writer, finishes=False)
    writer.start(acts)
    writer.call(submit(2))
    (first, fence), (second, _) = acts.given(2)
    writer.send(msg.Started(second, fence + 1, {"pid": 2})).result(PATIENCE_S)  # nothing follows
    monkeypatch.setattr("galley.engine.writer._GATHER_S", 30.0)
    batches: list[list[str]] = []
    transact = writer._transact

    def noted(letters: Any) -> Any:
        batches.append([type(letter.message).__name__ for letter in letters])
        return transact(letters)

    monkeypatch.setattr(writer, "_transact", noted)
    writer.send(msg.Started(first, fence, {"pid": 1}))
    writer.send(msg.Finished(first, fence, Outcome(state="succeeded"))).result(PATIENCE_S)
    assert [set(batch) - {"Tick"} for batch in batches] == [{"Started", "Finished"}]
    with database.reading() as session:
        row = session.execute(sa.select(models.attempts).where(models.attempts.c.id == first)).one()
    assert (row.state, row.handle) == ("succeeded", {"pid": 1})


def test_ends_share_a_commit_while_the_worker_has_enough_in_hand(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts = InstantActs(writer, finishes=False)
    writer.start(acts)
    writer.call(submit(30, brief=True))
    given = acts.given(24)  # 8 that run, 16 ahead of them
    monkeypatch.setattr("galley.engine.writer._GATHER_S", 30.0)
    batches: list[int] = []
    transact = writer._transact

    def noted(letters: Any) -> Any:
        batches.append(sum(isinstance(letter.message, msg.Finished) for letter in letters))
        return transact(letters)

    monkeypatch.setattr(writer, "_transact", noted)
    done = Outcome(state="succeeded")
    replies = [writer.send(msg.Finished(attempt, fence, done)) for attempt, fence in given[:9]]
    assert replies[-1].result(PATIENCE_S)
    assert [count for count in batches if count] == [9]


def test_time_limits_are_looked_at_under_load(database: Database) -> None:
    clock = ManualClock(SystemClock().now())
    writer = Writer(database, clock)
    writer.ledger.dispatcher.set_worker("local", 8)
    acts = InstantActs(writer, finishes=False)
    writer.start(acts)
    limits = Thresholds(duration_s=1, stop_on_duration=True)
    plan = Plan(source=SOURCE, steps=(StepPlan("a", "noop"),), thresholds=limits)
    order = msg.NewOrder(new_uid(), 1, "recipe", "rec", "daily", "api", "master")
    writer.call(msg.SubmitOrder(order, msg.NewRun(new_uid(), plan)))
    clock.advance(5)
    writer.call(msg.Started(10_000, 1))
    until(lambda: acts.killed, what="the end of what takes too long")
    writer.stop()
