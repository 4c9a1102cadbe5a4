"""Several servers on one Postgres: one leader, an inbox, and no write by a leader that is over."""

import base64
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from tests.contract.live import PATIENCE_S, until
from tests.unit.engine.test_writer import InstantActs, count, submit

from galley.core.errors import Conflict, Invalid, NotFound, Unavailable
from galley.core.runs import inbox, leadership, loading, models
from galley.core.runs import messages as msg
from galley.core.runs.ports import Capabilities
from galley.core.runs.task import Outcome
from galley.engine import cluster as clusters
from galley.engine.cluster import Cluster
from galley.engine.twins import own_process
from galley.engine.worker import WorkerLoop
from galley.engine.writer import Letter
from galley.kit.clock import SystemClock
from galley.storage.db import Database


class StillClock(SystemClock):
    """Tells the time, but nothing takes any: so no moment's load looks like an outage."""

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def _long_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody loses the lead because the machine is busy; who shall lose it, is made to."""
    monkeypatch.setattr(clusters, "LEASE_S", 600.0)


class Elsewhere(InstantActs):
    """Acts of a server whose attempts all run on other workers."""

    def start(self, run: Any, step: Any) -> None:
        self.started.append((step.attempt.id, step.attempt.fence))


class Offer:
    """An executor that only says what it offers, and what it has."""

    def __init__(self, *keys: int) -> None:
        self.has = set(keys)

    def list_keys(self) -> frozenset[str]:
        return frozenset(map(str, self.has))

    def capabilities(self) -> Capabilities:
        return Capabilities("local", 4, frozenset({"gpu"}), ())


def worker_loop(
    database: Database,
    acts: Any,
    *claimed: int,
    offer: Offer | None = None,
    leads: bool = False,
    process: str | None = None,
) -> WorkerLoop:
    """The loop of w1, where these attempts have been taken up by a process."""
    return WorkerLoop(
        database,
        "w1",
        offer or Offer(),  # type: ignore[arg-type]
        acts,
        is_claimed=lambda _run, step: step.attempt.id in claimed,
        is_served_directly=lambda: leads,
        process=process,
    )


class Noted:
    """Acts that are only written down."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []

    def start(self, _run: Any, step: Any) -> None:
        self.done.append(("start", step.attempt.id))

    def adopt(self, _run: Any, step: Any) -> None:
        self.done.append(("adopt", step.attempt.id))

    def kill(self, attempt_id: int, _worker: str | None) -> None:
        self.done.append(("kill", attempt_id))


@pytest.fixture
def join(postgres_database: Database) -> Iterator[Callable[[str], Cluster]]:
    made: list[Cluster] = []
    opened: list[Database] = []

    def start(holder: str) -> Cluster:
        database = Database(postgres_database.url)
        opened.append(database)
        cluster = Cluster(database, SystemClock(), holder)
        made.append(cluster)
        cluster.writer.ledger.dispatcher.set_worker("local", 8)
        cluster.start(InstantActs(cluster.writer))
        return cluster

    yield start
    for cluster in reversed(made):
        cluster.stop()
    for database in opened:
        database.close()


def ended(database: Database, expected: int) -> Callable[[], bool]:
    def look() -> bool:
        with database.reading() as session:
            query = sa.select(sa.func.count()).where(models.runs.c.state == "succeeded")
            return (session.scalar(query) or 0) >= expected

    return look


def take_over(cluster: Cluster) -> None:
    """Have the server look until it leads; the one that led has left."""

    def look() -> bool:
        cluster._beat()
        return cluster.leads

    until(look, what="the lead")


def test_one_leads_and_the_other_s_orders_reach_it(
    join: Callable[[str], Cluster], postgres_database: Database
) -> None:
    first, second = join("a:1"), join("b:1")
    assert first.leads
    assert not second.leads
    made = second.call(submit())
    assert made.run_id is not None
    with pytest.raises(NotFound):
        second.call(msg.StopRun(9999, "?"))
    until(ended(postgres_database, 1))
    assert count(postgres_database, models.inbox) == 2


def test_when_the_leader_leaves_another_goes_on(
    join: Callable[[str], Cluster], postgres_database: Database
) -> None:
    first, second = join("a:1"), join("b:1")
    first.call(submit())
    until(ended(postgres_database, 1))
    first.stop()
    take_over(second)
    second.call(submit())
    until(ended(postgres_database, 2))


def test_a_leader_that_froze_past_its_lease_writes_nothing_more(
    join: Callable[[str], Cluster], postgres_database: Database
) -> None:
    first = join("a:1")
    with postgres_database.connection() as connection:
        connection.execute(models.leases.update().values(until=0))
        epoch = leadership.acquire(connection, "b:1", 600)
    assert epoch == 2
    future = first.send(submit())
    second = join("b:1")
    assert second.leads
    assert future.result(PATIENCE_S).run_id is not None  # the new leader took it out of the inbox
    assert not first.leads
    assert count(postgres_database, models.runs) == 1


def test_a_message_that_was_answered_is_never_applied_again(
    join: Callable[[str], Cluster], postgres_database: Database
) -> None:
    first, second = join("a:1"), join("b:1")
    second.call(submit())
    first.stop()
    take_over(second)
    second._feed()
    second.writer.send(msg.Tick()).result(PATIENCE_S)
    assert count(postgres_database, models.runs) == 1


def test_a_worker_gets_its_work_from_the_rows_and_reports_by_the_inbox(
    postgres_database: Database, join: Callable[[str], Cluster]
) -> None:
    database = Database(postgres_database.url)
    leader = Cluster(database, StillClock(), "a:1")
    leader.start(Elsewhere(leader.writer))
    other = join("b:1")
    acts = InstantActs(other.writer)
    acts._writer = other  # type: ignore[assignment]
    loop = worker_loop(other._database, acts)
    loop.report()
    loop.look()
    leader._beat()
    leader.call(submit())
    until(lambda: bool(loop._held()))
    loop.look()
    until(ended(postgres_database, 1))
    assert len(acts.started) == 3
    leader.stop()
    database.close()


def test_what_a_dead_worker_held_is_lost_and_tried_elsewhere(
    postgres_database: Database,
) -> None:
    leader = Cluster(postgres_database, StillClock(), "a:1")
    acts = Elsewhere(leader.writer)
    leader.start(acts)
    with postgres_database.connection() as connection:
        leadership.report_worker(connection, "w1", 4, (), 600)
    leader._beat()
    made = leader.call(submit(1))
    (old,) = acts.given(1)
    with postgres_database.connection() as connection:
        dead = models.leases.c.name == "worker:w1"
        connection.execute(models.leases.update().where(dead).values(until=0))
        leadership.report_worker(connection, "w2", 4, (), 600)
    look_at_workers(leader)
    _, new = acts.given(2)
    assert leader.send(msg.Finished(*old, Outcome(state="succeeded"))).result(PATIENCE_S) is False
    assert leader.send(msg.Finished(*new, Outcome(state="succeeded"))).result(PATIENCE_S)
    with postgres_database.reading() as session:
        query = sa.select(models.runs.c.state).where(models.runs.c.id == made.run_id)
        assert session.scalar(query) == "succeeded"
    leader.stop()


def test_a_report_outlives_an_absent_database(
    join: Callable[[str], Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = join("a:1"), join("b:1")
    away = sa.exc.OperationalError("insert", {}, OSError("gone"))

    def fail(*_arguments: object) -> None:
        raise away

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "put", fail)
        patch.setattr(inbox, "read_reply", fail)
        second._collect("nobody waits for this")
        report = second.send(msg.Finished(999, 1, Outcome(state="succeeded")))
        second._send_reports()
        assert not report.done()
        with pytest.raises(Unavailable):
            second.call(submit())
        handed = Letter(msg.Lost(998, 1, "gone"))
        second.deposed([handed, Letter(msg.Tick())])
        assert not handed.reply.done()
    second._beat()
    assert (
        report.result(PATIENCE_S) is False
    )  # nobody knows the attempt, but the leader has heard of it
    assert handed.reply.result(PATIENCE_S) is False
    assert first.leads


def test_reports_that_wait_go_to_the_own_writer_once_it_leads(
    join: Callable[[str], Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = join("a:1"), join("b:1")

    def fail(*_arguments: object) -> None:
        raise sa.exc.OperationalError("insert", {}, OSError("gone"))

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "put", fail)
        report = second.send(msg.Finished(999, 1, Outcome(state="succeeded")))
        first.stop()
        take_over(second)
        assert report.result(PATIENCE_S) is False


def test_a_worker_watches_what_was_taken_up_and_starts_the_rest_even_at_its_first_look(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Cluster(postgres_database, StillClock(), "a:1")
    acts = Elsewhere(leader.writer)
    leader.start(acts)
    with postgres_database.connection() as connection:
        leadership.report_worker(connection, "w1", 4, (), 600)
    leader._beat()
    runs = [leader.call(submit(1)).run_id for _ in range(2)]
    (first, _), (second, _) = acts.given(2)
    noted = Noted()
    loop = worker_loop(postgres_database, noted, first)
    loop.look()
    assert sorted(noted.done) == [("adopt", first), ("start", second)]
    with monkeypatch.context() as patch:
        patch.setattr(loading, "load_live", None)  # nothing is new: no run is read
        loop.look()
        leader.call(msg.StopRun(runs[1], "enough"))
        loop.look()
        loop.look()
    assert noted.done[2:] == [("kill", second)]
    leader.stop()


def test_a_worker_that_stops_gets_no_more_work_and_loses_nothing(
    postgres_database: Database,
) -> None:
    leader = Cluster(postgres_database, StillClock(), "a:1")
    acts = Elsewhere(leader.writer)
    leader.start(acts)
    loop = worker_loop(postgres_database, Noted())
    loop.report()
    leader._beat()
    leader.call(submit(1))
    loop.stop()
    leader._beat()
    leader.call(submit(1))
    leader.call(msg.Tick())  # what followed the order is done by now
    assert len(acts.started) == 1
    states = sa.select(models.attempts.c.state).order_by(models.attempts.c.id)
    with postgres_database.reading() as session:
        assert "lost" not in session.scalars(states).all()
    loop.report()
    leader._beat()
    leader.send(msg.Tick()).result(PATIENCE_S)
    acts.given(2)
    leader.stop()


@pytest.mark.parametrize("message", [msg.DeleteOrder, msg.DeleteRun])
def test_a_worker_kills_what_was_deleted_under_its_hands(
    postgres_database: Database, message: Any
) -> None:
    leader = Cluster(postgres_database, StillClock(), "a:1")
    acts = Elsewhere(leader.writer)
    leader.start(acts)
    with postgres_database.connection() as connection:
        leadership.report_worker(connection, "w1", 4, (), 600)
    leader._beat()
    kept, gone = leader.call(submit(1)), leader.call(submit(1))
    (first, _), (second, _) = acts.given(2)
    noted, offer = Noted(), Offer()
    loop = worker_loop(postgres_database, noted, offer=offer)
    loop.look()
    offer.has = {first, second}
    assert sorted(noted.done) == [("start", first), ("start", second)]
    leader.call(message(gone.order_id if message is msg.DeleteOrder else gone.run_id))
    loop.look()
    loop.look()
    assert noted.done[2:] == [("kill", second)]
    assert kept.run_id is not None
    leader.stop()


@pytest.mark.parametrize("leads", [False, True])
def test_a_worker_that_stood_still_kills_what_was_given_to_others(
    postgres_database: Database, leads: bool
) -> None:
    leader = Cluster(postgres_database, StillClock(), "a:1")
    acts = Elsewhere(leader.writer)
    leader.start(acts)
    with postgres_database.connection() as connection:
        leadership.report_worker(connection, "w1", 4, (), 600)
    leader._beat()
    leader.call(submit(1))
    ((old, _),) = acts.given(1)
    noted = Noted()
    loop = worker_loop(postgres_database, noted, offer=Offer(old), leads=leads)
    loop.look()
    noted.done.clear()
    with postgres_database.connection() as connection:
        dead = models.leases.c.name == "worker:w1"
        connection.execute(models.leases.update().where(dead).values(until=0))
        leadership.report_worker(connection, "w2", 4, (), 600)
    look_at_workers(leader)
    loop.report()
    loop.look()
    loop.look()
    assert noted.done == [("kill", old)]
    leader.stop()


def unanswered(database: Database) -> int:
    with database.reading() as session:
        query = sa.select(sa.func.count()).where(models.inbox.c.done_at.is_(None))
        return session.scalar(query) or 0


def put_row(database: Database, uid: str, body: str, kind: str = "?") -> None:
    row = {"uid": uid, "kind": kind, "body": body, "created_at": SystemClock().now()}
    with database.connection() as connection:
        connection.execute(models.inbox.insert(), row)


@pytest.mark.parametrize("body", ["no base64 \u2713", "", "wQ==", "gaR0eXBlpE5vbmU="])
def test_a_row_that_nobody_understands_is_answered_and_stops_nobody(
    join: Callable[[str], Cluster], postgres_database: Database, body: str
) -> None:
    put_row(postgres_database, "0", body)
    first, second = join("a:1"), join("b:1")
    put_row(postgres_database, "1", body)
    assert second.call(submit(), timeout_s=PATIENCE_S).run_id
    until(lambda: unanswered(postgres_database) == 0)
    with postgres_database.reading() as session:
        is_done, fault = inbox.read_reply(session.connection(), "1")
    assert is_done
    assert isinstance(fault, Unavailable)
    assert "another version" in fault.message
    assert (first.trouble(), second.trouble()) == (None, None)


def test_a_bug_on_the_way_does_not_end_the_thread(
    join: Callable[[str], Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = join("a:1"), join("b:1")
    met = threading.Event()

    def fail(*_arguments: object) -> None:
        met.set()
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "take", fail)
        late = second.send(submit())
        assert met.wait(PATIENCE_S)
    assert late.result(PATIENCE_S).run_id
    assert first.trouble() is None


def test_readiness_sees_a_dead_thread_and_a_missing_leader(
    join: Callable[[str], Cluster], postgres_database: Database
) -> None:
    first = join("a:1")
    lone = Cluster(postgres_database, SystemClock(), "w", may_lead=False)
    assert "has ended" in str(lone.trouble())
    lone.start(InstantActs(lone.writer))
    assert lone.trouble() is None
    first.stop()
    assert "has ended" in str(first.trouble())
    assert lone.trouble() == "no server leads"
    with pytest.raises(Unavailable, match="stays queued"):
        lone.call(submit(), timeout_s=0.1)
    assert lone._waiting == {}
    lone.stop()


def test_what_cannot_be_stored_is_refused_at_the_server_that_was_asked(
    join: Callable[[str], Cluster],
    postgres_database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = join("a:1"), join("b:1")
    order = submit()
    second.call(order)
    with pytest.raises(Conflict, match="same change first"):
        second.call(msg.SubmitOrder(order.order, submit().run), timeout_s=PATIENCE_S)
    huge = msgspec.structs.replace(submit().order, priority=10**12)
    with pytest.raises(Invalid, match="out of range"):
        second.call(msg.SubmitOrder(huge), timeout_s=PATIENCE_S)

    def fail(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(first.writer.ledger._commands, "handle", fail)
        with pytest.raises(inbox.NotAppliedError, match="RuntimeError"):
            second.call(submit(), timeout_s=PATIENCE_S)
    assert unanswered(postgres_database) == 0
    assert second._waiting == {}


def test_an_end_that_cannot_be_stored_is_put_plainly_for_a_worker_too(
    postgres_database: Database, join: Callable[[str], Cluster]
) -> None:
    database = Database(postgres_database.url)
    leader = Cluster(database, StillClock(), "a:1")
    acts = Elsewhere(leader.writer)
    leader.start(acts)
    other = join("b:1")
    with database.connection() as connection:
        leadership.report_worker(connection, "w1", 4, (), 600)
    leader._beat()
    leader.call(submit(1))
    (given,) = acts.given(1)
    told = other.send(msg.Finished(*given, Outcome(state="failed", reason="a\0b")))
    assert told.result(PATIENCE_S) is True
    assert unanswered(postgres_database) == 0
    with database.reading() as session:
        assert session.scalars(sa.select(models.attempts.c.state)).first() == "failed"
    leader.stop()
    database.close()


def test_a_report_that_cannot_travel_holds_up_no_other(join: Callable[[str], Cluster]) -> None:
    first, second = join("a:1"), join("b:1")
    odd = second.send(msg.Started(1, 1, {"pid": object()}))
    assert second.send(msg.Lost(998, 1, "gone")).result(PATIENCE_S) is False
    with pytest.raises(TypeError):
        odd.result(0)
    assert first.leads


def look_at_workers(leader: Cluster) -> None:
    """Have the leader look at the workers, and wait until the ledger has heard of it."""
    assert leader._seen is not None
    leader._seen.result(PATIENCE_S)
    leader._beat()
    leader._seen.result(PATIENCE_S)
    leader.send(msg.Tick()).result(PATIENCE_S)


@contextmanager
def leading_with_a_step_on(
    database: Database, worker: str
) -> Iterator[tuple[Cluster, Callable[[], str | None]]]:
    """A leader `a:1` whose only worker holds a step, and how its attempt stands."""
    leader = Cluster(database, StillClock(), "a:1")
    leader.start(Elsewhere(leader.writer))
    with database.connection() as connection:
        leadership.report_worker(connection, worker, 4, (), 600)
    leader._beat()
    leader.call(submit(1))

    def state() -> str | None:
        with database.reading() as session:
            states = sa.select(models.attempts.c.state).order_by(models.attempts.c.id)
            return session.scalars(states).first()

    yield leader, state
    leader.stop()


def end_lease(database: Database, worker: str) -> None:
    dead = models.leases.c.name == f"worker:{worker}"
    with database.connection() as connection:
        connection.execute(models.leases.update().where(dead).values(until=0))


def test_after_an_outage_workers_get_time_to_report_before_they_are_dead(
    postgres_database: Database,
) -> None:
    with leading_with_a_step_on(postgres_database, "w1") as (leader, state):
        leader._beat_at -= 60  # the database was away for all
        end_lease(postgres_database, "w1")
        look_at_workers(leader)
        assert state() == "starting"
        leader._patient_until = 0
        look_at_workers(leader)
        assert state() == "lost"


def test_while_commits_hang_no_worker_is_dead(postgres_database: Database) -> None:
    with leading_with_a_step_on(postgres_database, "w1") as (leader, state):
        with leader._beating:
            hanging = leader._seen = Future()  # the last message about workers is not committed yet
            leader._seen_at -= 10
        end_lease(postgres_database, "w1")
        leader._beat()
        hanging.set_result(None)
        look_at_workers(leader)
        assert state() == "starting"  # now the workers have time to report
        leader._patient_until = 0
        look_at_workers(leader)
        assert state() == "lost"


def test_the_worker_in_the_leaders_own_process_is_never_dead(postgres_database: Database) -> None:
    with leading_with_a_step_on(postgres_database, "a:1") as (leader, state):
        end_lease(postgres_database, "a:1")
        look_at_workers(leader)
        assert state() == "starting"


def test_a_message_that_was_answered_in_an_earlier_reign_takes_no_second_effect(
    postgres_database: Database,
) -> None:
    with leading_with_a_step_on(postgres_database, "w1") as (leader, _):
        with postgres_database.connection() as connection:
            run_id = connection.scalar(sa.select(models.runs.c.id))
            pause = msg.PauseRun(run_id, paused=True)
            uid = inbox.put(connection, pause, SystemClock().now())
        until(lambda: unanswered(postgres_database) == 0)
        leader.call(msg.PauseRun(run_id, paused=False))
        epoch = leader._epoch
        assert epoch is not None
        leader.writer.post(Letter(pause, uid=uid))  # it waited here while others led
        other = leader.send(submit(1))
        assert other.result(PATIENCE_S).run_id
        assert leader.leads
        assert (leader._epoch or 0) > epoch
        with postgres_database.reading() as session:
            paused = sa.select(models.runs.c.paused).where(models.runs.c.id == run_id)
            assert session.scalar(paused) is False


@pytest.mark.parametrize(
    ("kind", "odd", "state"),
    [("Finished", {"outcome": {"state": 5}}, "failed"), ("Lost", {"reason": [5]}, "lost")],
)
def test_an_end_of_another_version_still_ends_the_attempt(
    postgres_database: Database, kind: str, odd: dict[str, Any], state: str
) -> None:
    with leading_with_a_step_on(postgres_database, "w1") as (leader, seen):
        a = models.attempts.c
        with postgres_database.reading() as session:
            attempt_id, fence = session.execute(sa.select(a.id, a.fence)).one()
        told = {"type": kind, "attempt_id": attempt_id, "fence": fence, "new": 1} | odd
        body = base64.b64encode(msgspec.msgpack.encode(told)).decode()
        put_row(postgres_database, "1", body, kind)
        leader._feed()
        until(lambda: seen() == state)
        assert unanswered(postgres_database) == 0
        with postgres_database.reading() as session:
            reason = session.scalar(sa.select(a.reason).where(a.id == attempt_id))
        assert "another version" in str(reason)


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_leader_that_freezes_within_a_transaction_keeps_nobody_from_leading(
    postgres_database: Database, in_pipeline: bool
) -> None:
    def lead(holder: str, ttl_s: float = 0.3) -> int | None:
        with postgres_database.connection() as connection:
            connection.exec_driver_sql("set local lock_timeout = 60000")
            return leadership.acquire(connection, holder, ttl_s)

    assert lead("a:1") == 1
    address = postgres_database.url.set(drivername="postgresql")
    frozen = psycopg.connect(address.render_as_string(hide_password=False))
    with ExitStack() as stack:
        if in_pipeline:  # as within a group of rows: the database waits for more of them
            stack.enter_context(frozen.pipeline())
        frozen.execute("update lease set until = until where name = 'leader'")
        if in_pipeline:
            frozen.pgconn.send_flush_request()
            frozen.pgconn.flush()
        until(lambda: not is_led(postgres_database), what="the end of the lease")
        assert lead("b:1", ttl_s=600) is None  # at once: it may only be slow
        assert until(lambda: lead("b:1"), what="a new leader") == 2
        stack.pop_all()
    with pytest.raises(psycopg.Error):
        frozen.commit()
    frozen.close()


def test_a_restarted_leader_does_not_wait_for_what_its_dead_self_left(
    postgres_database: Database,
) -> None:
    with postgres_database.connection() as connection:
        assert leadership.acquire(connection, "a:1", 60) == 1
    dead = postgres_database.engine.connect()
    dead.begin()
    leadership.hold(dead, "a:1", 1, 60)
    with postgres_database.connection() as connection:
        connection.exec_driver_sql("set local lock_timeout = 60000")
        assert leadership.acquire(connection, "a:1", 60) == 2
    with pytest.raises(SQLAlchemyError):
        dead.commit()
    dead.close()


def is_led(database: Database) -> bool:
    with database.reading() as session:
        return leadership.is_led(session.connection())


def test_who_may_not_lead_does_not_wait_for_the_leader_s_transaction(
    postgres_database: Database,
) -> None:
    with postgres_database.connection() as connection:
        assert leadership.acquire(connection, "a:1", 60) == 1
    with postgres_database.connection() as busy:
        leadership.hold(busy, "a:1", 1, 60)
        with postgres_database.connection() as connection:
            connection.exec_driver_sql("set local lock_timeout = 60000")
            assert leadership.acquire(connection, "b:1", 60) is None


ELSEWHERE = "another-boot/1/1/1"
"""A process on a machine that cannot be seen from here."""


def workers(database: Database) -> dict[str, tuple[int, bool]]:
    with database.connection() as connection:
        return {w.name: (w.slots, w.is_alive) for w in leadership.list_workers(connection)}


def test_a_second_process_of_a_name_does_not_begin_and_disturbs_nobody(
    postgres_database: Database,
) -> None:
    first = worker_loop(postgres_database, Noted())
    first.start()
    second = worker_loop(postgres_database, Noted(), process=ELSEWHERE)
    with pytest.raises(Unavailable, match=r"delete worker\.id in it"):
        second.start()
    second.stop()
    assert workers(postgres_database) == {"w1": (4, True)}
    assert first.report()
    first.stop()
    second.start()  # the first has left in good order
    second.stop()


def test_the_successor_of_a_killed_process_begins_at_once(postgres_database: Database) -> None:
    boot, space, pid, _ = own_process().split("/")
    killed = worker_loop(postgres_database, Noted(), process=f"{boot}/{space}/{pid}/1")
    assert killed.report()
    successor = worker_loop(postgres_database, Noted())
    with postgres_database.connection() as connection:  # it may not wait for the lease to end
        connection.execute(models.leases.update().values(until=2_000_000_000_000))
    successor.start()
    assert killed.report() is False
    successor.stop()


def test_a_process_that_cannot_be_seen_is_waited_for_until_it_is_silent(
    postgres_database: Database,
) -> None:
    loop = worker_loop(postgres_database, Noted())
    with postgres_database.connection() as connection:
        leadership.report_worker(connection, "w1", 4, (), 0.7, process=ELSEWHERE)
    loop.start()
    loop.stop()


def test_a_process_that_reports_while_it_is_waited_for_is_a_twin(
    postgres_database: Database,
) -> None:
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(0.2):
            with postgres_database.connection() as connection:
                leadership.report_worker(connection, "w1", 4, (), 600, process=ELSEWHERE)

    twin = threading.Thread(target=report)
    with postgres_database.connection() as connection:
        leadership.report_worker(connection, "w1", 4, (), 600, process=ELSEWHERE)
    twin.start()
    try:
        with pytest.raises(Unavailable, match="Another process works as w1"):
            worker_loop(postgres_database, Noted()).start()
    finally:
        ended.set()
        twin.join()


def test_notices_do_without_a_look_around(
    join: Callable[[str], Cluster], postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages, answers, changes, work, workers and an empty chair: each is told at once."""
    first, second = two_that_listen(join, postgres_database, monkeypatch)
    woken = threading.Event()
    second.on_work(woken.set)
    loop = worker_loop(postgres_database, Noted())
    loop.start()
    until(lambda: first.writer.ledger.dispatcher.knows("w1"), what="the worker seen")
    woken.clear()
    changed = threading.Event()
    second.subscribe(None, lambda _run: changed.set())
    assert second.call(submit()).run_id
    assert changed.wait(60)
    until(lambda: woken.is_set() or second.call(submit()) is None, what="work for the other")
    loop.stop()
    first.stop()
    until(lambda: second.leads, what="the second in the first's place")


_LISTENERS = (
    "pg_stat_activity where datname = current_database() and query ilike 'listen %'"
    " and state = 'idle'"
)


def two_that_listen(
    join: Callable[[str], Cluster], database: Database, monkeypatch: pytest.MonkeyPatch
) -> tuple[Cluster, Cluster]:
    """A leader and a follower that do nothing but what notices ask for."""
    monkeypatch.setattr(clusters, "BEAT_S", 600.0)
    both = join("a:1"), join("b:1")
    until(lambda: heard_by(database) == 2, what="two that listen")
    return both


def heard_by(database: Database) -> int:
    """How many connections to this database have begun to listen."""
    query = f"select count(*) from {_LISTENERS}"
    with database.reading() as session:
        return session.scalar(sa.text(query)) or 0


def test_a_leader_is_not_woken_by_its_own_commits(
    join: Callable[[str], Cluster], postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "BEAT_S", 600.0)
    first = join("a:1")
    until(lambda: heard_by(postgres_database) == 1, what="one that listens")
    looks: list[str] = []

    @sa.event.listens_for(first._database.engine, "before_cursor_execute")
    def _note(_c: object, _cursor: object, statement: str, *_more: object) -> None:
        if "FROM inbox" in statement or "FROM lease" in statement:
            looks.append(statement)

    for n in range(1, 11):
        first.call(submit())
        until(ended(postgres_database, n), what="the end of the run")
    with postgres_database.connection() as connection:  # heard after all of the above
        inbox.put(connection, msg.Tick(), SystemClock().now())
    until(lambda: unanswered(postgres_database) == 0, what="the answer")
    assert 1 <= len(looks) <= 4  # the last message, and what may be left of beginning to listen


def test_changes_are_announced_only_where_another_server_may_listen(
    join: Callable[[str], Cluster], postgres_database: Database
) -> None:
    first = join("a:1")
    address = postgres_database.url.set(drivername="postgresql")
    with psycopg.connect(
        address.render_as_string(hide_password=False), autocommit=True
    ) as listening:
        listening.execute(f"listen {inbox.TOUCHED}")
        first.call(submit())
        until(ended(postgres_database, 1), what="the end of the run")
        loop = worker_loop(postgres_database, Noted())
        loop.start()
        until(lambda: first.writer.ledger.dispatcher.knows("w1"), what="the worker seen")
        made = first.call(submit())
        heard = next(listening.notifies(timeout=PATIENCE_S))
        assert heard.payload == str(made.run_id)
        loop.stop()


def test_a_server_whose_connection_was_cut_has_its_listeners_look(
    join: Callable[[str], Cluster], postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells it again what was said while it was deaf."""
    _, second = two_that_listen(join, postgres_database, monkeypatch)
    looked = threading.Event()
    second.subscribe(7, lambda _run: looked.set())
    cut = f"select pg_terminate_backend(pid, 5000) from {_LISTENERS}"
    with postgres_database.connection() as connection:
        assert connection.scalars(sa.text(cut)).all() == [True, True]
    looked.clear()
    until(looked.is_set, what="a look at what may have changed")
