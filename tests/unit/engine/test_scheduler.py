"""Due times fire once, missed ones follow the order's policy, faults are recorded."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from tests.unit.engine.test_writer import InstantActs

from galley.app.chores import stop_homeless
from galley.core.errors import Conflict, NotFound, Refused, Unavailable
from galley.core.identity.operations import create_user, disable_user, enable_user, system_caller
from galley.core.identity.policy import JUDGE
from galley.core.projects.operations import (
    KitchenChanges,
    create_kitchen,
    create_recipe,
    seed_account,
    update_kitchen,
)
from galley.core.runs import closing, models, reading
from galley.core.runs import messages as msg
from galley.core.runs.desk import Desk
from galley.core.runs.inbox import NotAppliedError
from galley.core.runs.plan import CompiledSource, Plan, ScheduleSpec, Source, StepPlan
from galley.engine.scheduler import Scheduler
from galley.engine.writer import Writer
from galley.kit.clock import ManualClock
from galley.kit.ids import new_uid
from galley.storage.db import Database
from galley.storage.git import GitStore

NOON = datetime.fromisoformat("2026-11-24T12:00:00+00:00")


class OneStep:
    """Compiles everything to one step, or refuses."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.system: dict[str, Any] = {}

    def compile(self, request: Any) -> CompiledSource:
        if self.fault is not None:
            raise Refused(self.fault)
        self.system = dict(request.system)
        source = Source("recipe", request.project, request.path, request.variation)
        return CompiledSource(Plan(source=source, steps=(StepPlan("a", "noop"),)))


class Bench:
    """A scheduler on a real database, with a clock that the test moves."""

    def __init__(self, database: Database, clock: ManualClock, folder: Path) -> None:
        repositories = GitStore(folder / "git")
        seed_account(database, repositories, clock)
        self.database, self.clock, self.compiler = database, clock, OneStep()
        self.writer = Writer(database, clock)
        self.writer.ledger.dispatcher.set_worker("local", 8)
        self.writer.start(InstantActs(self.writer))
        self.caller = system_caller(JUDGE)
        create_recipe(
            database,
            self.caller,
            repositories,
            "master",
            "rec",
            templates={"qs1": lambda _name, _text: {"variables.json": b"{}"}},
            clock=clock,
        )
        self.desk = Desk(database, self.writer, self.compiler, repositories, clock)  # type: ignore[arg-type]
        self.scheduler = Scheduler(self.desk, self.caller)

    def order(
        self, alerts: dict[str, list[str]] | None = None, by: int | None = None, **schedule: Any
    ) -> int:
        spec = ScheduleSpec(**{"cron": "0 * * * *", **schedule})
        order = msg.NewOrder(
            new_uid(), 1, "recipe", "rec", "v", "api", "master", spec, alerts=alerts,
            created_by=by, kitchen_id=1,
        )  # fmt: skip
        made: msg.Submitted = self.writer.call(msg.SubmitOrder(order))
        return made.order_id

    def pass_time(self, **duration: float) -> int:
        self.clock.advance(timedelta(**duration).total_seconds())
        return self.scheduler.fire_due()

    def fires(self) -> list[tuple[str, str]]:
        fires = models.schedule_fires.c
        with self.database.reading() as session:
            query = sa.select(fires.due_at, fires.outcome).order_by(fires.due_at)
            return [(f"{row.due_at:%H:%M}", row.outcome) for row in session.execute(query)]

    def value(self, column: Any) -> Any:
        with self.database.reading() as session:
            return session.scalar(sa.select(column))


@pytest.fixture
def bench(database: Database, manual_clock: ManualClock, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(database, manual_clock, tmp_path)
    yield made
    made.writer.stop()


def test_a_due_time_makes_one_run_and_the_next_time_is_known(bench: Bench) -> None:
    bench.order()
    assert bench.pass_time(minutes=59) == 0
    assert bench.pass_time(minutes=1) == 1
    assert bench.scheduler.fire_due() == 0
    assert bench.fires() == [("13:00", "fired")]
    assert f"{bench.value(models.schedules.c.next_due_at):%H:%M}" == "14:00"
    assert bench.value(models.runs.c.due_at).hour == 13


def test_a_run_whose_mail_cannot_leave_says_so_from_its_start(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = {"failure": ["ann@example.org", "https://x.org/h"], "success": ["ann@example.org"]}
    bench.order(alerts=alerts)
    bench.pass_time(hours=1)
    bench.scheduler = Scheduler(replace(bench.desk, sends_mail=False), bench.caller)
    bench.pass_time(hours=1)
    with bench.database.reading() as session:
        ids = session.scalars(sa.select(models.runs.c.id).order_by(models.runs.c.id)).all()
        silent, told = (reading.run_detail(session, bench.caller, one) for one in ids)
    assert silent.plan.warnings == ()
    ((place, text),) = told.plan.warnings
    assert (place, text.startswith("will not reach ann@example.org: ")) == ("alerts", True)
    assert "GALLEY_SMTP_HOST" in text
    assert [record.levelname for record in caplog.records if text in record.message] == ["WARNING"]


def test_a_paused_order_fires_nothing_and_goes_on_with_the_next_time(bench: Bench) -> None:
    order_id = bench.order()
    bench.writer.call(msg.PauseOrder(order_id))
    assert bench.pass_time(hours=2) == 0
    later = bench.clock.now() + timedelta(hours=1)
    bench.writer.call(msg.UnpauseOrder(order_id, later))
    assert bench.pass_time(hours=1) == 1
    assert bench.fires() == [("15:00", "fired")]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("skip", ["skipped", "skipped", "fired"]),
        ("latest", ["skipped", "skipped", "fired"]),
        ("all", ["fired", "fired", "fired"]),
    ],
)
def test_missed_times_follow_the_policy(bench: Bench, policy: str, expected: list[str]) -> None:
    bench.order(catch_up=policy)
    bench.clock.advance(timedelta(hours=3, minutes=1).total_seconds())
    while bench.scheduler.fire_due():
        pass
    assert [outcome for _, outcome in bench.fires()] == expected


def test_catching_up_stops_at_its_limit(bench: Bench) -> None:
    bench.order(catch_up="all", catch_up_limit=2)
    bench.clock.advance(timedelta(hours=5, minutes=10).total_seconds())
    while bench.scheduler.fire_due():
        pass
    assert [o for _, o in bench.fires()] == ["skipped"] * 3 + ["fired"] * 2


def test_latest_fires_the_last_missed_time_even_when_it_is_old(bench: Bench) -> None:
    bench.order(catch_up="latest")
    bench.clock.advance(timedelta(hours=2, minutes=30).total_seconds())
    while bench.scheduler.fire_due():
        pass
    assert bench.fires() == [("13:00", "skipped"), ("14:00", "fired")]


def test_a_recipe_that_no_longer_compiles_is_recorded_and_the_schedule_goes_on(
    bench: Bench,
) -> None:
    bench.order()
    bench.compiler.fault = "variations.json: no variation v"
    bench.pass_time(hours=1)
    bench.compiler.fault = None
    bench.pass_time(hours=1)
    assert bench.fires() == [("13:00", "refused"), ("14:00", "fired")]
    assert bench.value(models.schedule_fires.c.reason) == "variations.json: no variation v"


def test_the_last_due_time_completes_the_order(bench: Bench) -> None:
    bench.order(end_at="2026-11-24T13:30:00+00:00")
    bench.pass_time(hours=1)
    assert bench.value(models.orders.c.state) == "completed"
    assert bench.value(models.schedules.c.next_due_at) is None


def test_a_scheduled_run_names_whoever_ordered_it(bench: Bench) -> None:
    with bench.database.writing() as session:
        ann = create_user(
            session, email="ann@example.org", name="Ann", password=None, clock=bench.clock
        )
    bench.order(by=ann.id)
    bench.pass_time(hours=1)
    system = bench.compiler.system
    assert (system["user"], system["user_name"]) == ("ann@example.org", "Ann")


def test_the_schedule_of_a_disabled_user_makes_no_runs_and_says_why(bench: Bench) -> None:
    with bench.database.writing() as session:
        ann = create_user(session, email="ann@example.org", password=None, clock=bench.clock)
        disable_user(session, ann, clock=bench.clock)
    bench.order(by=ann.id)
    bench.pass_time(hours=1)
    bench.pass_time(hours=1)
    assert bench.fires() == [("13:00", "refused"), ("14:00", "refused")]
    assert "The user ann@example.org, who placed the order, is disabled." in bench.value(
        models.schedule_fires.c.reason
    )
    assert bench.value(sa.func.count(models.runs.c.id)) == 0
    with bench.database.writing() as session:
        enable_user(session, ann, clock=bench.clock)
    bench.pass_time(hours=1)
    assert bench.fires()[-1] == ("15:00", "fired")


@pytest.mark.parametrize(
    "shut_out", [{"staff": ["bob@example.org"]}, {"roles": {"ann@example.org": "Guest"}}]
)
def test_the_schedule_of_somebody_who_may_no_longer_order_there_makes_no_runs(
    bench: Bench, shut_out: dict[str, Any]
) -> None:
    def change(**parts: Any) -> None:
        with bench.database.writing() as session:
            update_kitchen(
                session, bench.caller, "master", changes=KitchenChanges(**parts), clock=bench.clock
            )

    with bench.database.writing() as session:
        ann, _bob = (
            create_user(session, email=f"{who}@example.org", password=None, clock=bench.clock)
            for who in ("ann", "bob")
        )
    bench.order(by=ann.id)
    bench.order()
    change(**shut_out)
    bench.pass_time(hours=1)
    assert sorted(bench.fires()) == [("13:00", "fired"), ("13:00", "refused")]
    fires = models.schedule_fires.c
    with bench.database.reading() as session:
        reason = session.scalar(sa.select(fires.reason).where(fires.outcome == "refused"))
    assert "ann@example.org, who placed the order, may no longer place orders in the kitchen" in (
        reason or ""
    )
    change(staff=[], roles={})
    bench.pass_time(hours=1)
    assert bench.fires()[2:] == [("14:00", "fired"), ("14:00", "fired")]


def dev_kitchen(bench: Bench) -> int:
    """Makes a kitchen of one and the same name, again and again; its id."""
    with bench.database.writing() as session:
        made = create_kitchen(
            session, bench.caller, bench.desk.repositories,
            name="dev", parent="master", clock=bench.clock,
        )  # fmt: skip
        return made.id


def schedule_in(bench: Bench, kitchen_id: int) -> int:
    order = msg.NewOrder(
        new_uid(), 1, "recipe", "rec", "v", "api", "dev", ScheduleSpec("0 * * * *"),
        kitchen_id=kitchen_id,
    )  # fmt: skip
    made: msg.Submitted = bench.writer.call(msg.SubmitOrder(order))
    return made.order_id


@pytest.mark.parametrize("told", [True, False])
def test_a_kitchen_of_the_same_name_does_not_take_over_schedules(
    bench: Bench, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = dev_kitchen(bench)
    order_id = schedule_in(bench, old)

    def die(name: str) -> None:
        assert name == "runs.kitchen_deleted"
        if not told:
            raise SystemError

    monkeypatch.setattr(closing, "failpoint", die)
    with suppress(SystemError), bench.database.writing() as session:
        closing.delete_kitchen(bench.desk, session, bench.caller, "dev")
    assert dev_kitchen(bench) != old
    fired = bench.pass_time(hours=1)
    assert bench.value(sa.func.count(models.runs.c.id)) == 0
    if not told:
        assert fired == 1
        assert bench.fires() == [("13:00", "skipped")]
        assert closing.stop_homeless(bench.desk) == [old]
        bench.writer.call(msg.Tick())
    assert closing.stop_homeless(bench.desk) == []
    assert bench.value(models.orders.c.state) == "stopped"
    assert bench.value(models.schedules.c.next_due_at) is None
    with pytest.raises(Conflict, match=r"only a paused order can go on"):
        bench.writer.call(msg.UnpauseOrder(order_id, bench.clock.now()))


@pytest.mark.parametrize("fault", [NotAppliedError("met a KeyError"), Unavailable("busy")])
def test_a_kitchen_is_deleted_though_the_ledger_fails(
    bench: Bench, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = dev_kitchen(bench)
    schedule_in(bench, old)

    def fail(_message: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(bench.writer, "call", fail)
        with bench.database.writing() as session:
            closing.delete_kitchen(bench.desk, session, bench.caller, "dev")
        chore = stop_homeless(bench.desk)  # waits for nobody, and tells once
        patch.setattr(bench.writer, "send", lambda _message: None)
        with capture_logs() as logs:
            chore()
            chore()
    assert [entry["kitchen_id"] for entry in logs if "kitchen_id" in entry] == [old]
    chore()
    bench.writer.call(msg.Tick())
    assert closing.stop_homeless(bench.desk) == []


def test_nothing_is_accepted_into_a_kitchen_that_went_meanwhile(bench: Bench) -> None:
    old = dev_kitchen(bench)
    with bench.database.writing() as session:
        closing.delete_kitchen(bench.desk, session, bench.caller, "dev")
    dev_kitchen(bench)
    with pytest.raises(NotFound, match="deleted meanwhile"):
        schedule_in(bench, old)
