"""What the ledger promises, on both databases, without any process."""

import pytest
import sqlalchemy as sa
from tests.unit.core.runs.bench import LedgerBench, chain, drain, plan, step

from galley.core.errors import Conflict, NotFound
from galley.core.identity.actors import system_caller
from galley.core.runs import messages as msg
from galley.core.runs import models, reading, retention
from galley.core.runs.plan import Limits, Need, Retry, ScheduleSpec, Thresholds
from galley.core.runs.task import CheckResult, Outcome, Staged
from galley.kit.clock import ManualClock
from galley.kit.ids import new_uid
from galley.storage.db import Database


@pytest.fixture
def bench(database: Database, manual_clock: ManualClock) -> LedgerBench:
    return LedgerBench(database, manual_clock)


def test_a_chain_runs_in_order_and_completes_its_order(bench: LedgerBench) -> None:
    made = bench.submit(chain(3))
    assert list(drain(bench)) == ["s0", "s1", "s2"]
    assert bench.run_row(made.run_id)["state"] == "succeeded"
    assert bench.run_row(made.run_id)["steps_left"] == 0
    assert bench.order_row(made.order_id)["state"] == "completed"


def test_a_fan_uses_every_slot_and_no_more(bench: LedgerBench) -> None:
    bench.submit(plan(*(step(f"f{i}") for i in range(6))))
    assert len(bench.alive()) == 4
    bench.finish(bench.alive()[0])
    assert len(bench.alive()) == 4
    assert len(list(drain(bench))) == 5


def test_brief_steps_have_room_of_their_own_and_more_of_it(bench: LedgerBench) -> None:
    bench.submit(plan(*(step(f"f{i}") for i in range(6))))
    bench.submit(plan(*(step(f"b{i:02}", brief=True) for i in range(20))))
    assert [key[0] for key in bench.alive()].count("f") == 4
    assert [key[0] for key in bench.alive()].count("b") == 12
    bench.finish("b00")
    assert [key[0] for key in bench.alive()].count("b") == 12
    bench.finish("f0")
    assert [key[0] for key in bench.alive()].count("f") == 4
    assert len(list(drain(bench))) == 24


def test_brief_steps_and_others_start_in_one_order(bench: LedgerBench) -> None:
    bench.submit(plan(step("b0", brief=True), step("f1"), step("b2", brief=True), max_parallel=1))
    assert list(drain(bench)) == ["b0", "f1", "b2"]


def test_brief_steps_keep_their_room_over_a_restart(bench: LedgerBench) -> None:
    bench.submit(plan(*(step(f"b{i:02}", brief=True) for i in range(20))))
    assert len(bench.restart()) == 12
    bench.submit(plan(*(step(f"f{i}") for i in range(6))))
    assert [key[0] for key in bench.alive()].count("f") == 4


def test_a_plan_may_bound_its_own_parallel_steps(bench: LedgerBench) -> None:
    made = bench.submit(plan(*(step(f"f{i}") for i in range(5)), max_parallel=2))
    assert len(bench.alive()) == 2
    assert len(list(drain(bench))) == 5
    assert bench.run_row(made.run_id)["state"] == "succeeded"


def test_a_failed_step_fails_the_run_and_leaves_the_rest_unreached(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("load"), step("gate", "load"), step("publish", "gate")))
    bench.finish("load")
    bench.finish("gate", "failed", reason="rows 3 greater-than 10")
    row = bench.run_row(made.run_id)
    assert (row["state"], row["reason"]) == (
        "failed",
        "Step gate failed: rows 3 greater-than 10",
    )
    assert bench.states(made.run_id) == {
        "load": "succeeded",
        "gate": "failed",
        "publish": "unreached",
    }
    assert bench.order_row(made.order_id)["state"] == "failed"


def test_living_siblings_of_a_failed_step_may_finish_first(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("a"), step("b"), step("c", "b")))
    bench.finish("a", "failed", reason="no")
    assert bench.run_row(made.run_id)["state"] == "running"
    bench.finish("b")
    assert bench.run_row(made.run_id)["state"] == "failed"
    assert bench.states(made.run_id) == {"a": "failed", "b": "succeeded", "c": "unreached"}


def test_a_step_that_may_fail_lets_the_run_go_on(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("lint", allow_failure=True), step("ship", "lint")))
    bench.finish("lint", "failed", reason="style")
    bench.finish("ship")
    assert bench.run_row(made.run_id)["state"] == "succeeded"
    assert bench.states(made.run_id)["lint"] == "failed"


def test_conditions_choose_branches_and_skip_what_only_they_reach(bench: LedgerBench) -> None:
    made = bench.submit(
        plan(
            step("decide"),
            step("yes", Need("decide", "big")),
            step("no", Need("decide", "small")),
            step("after_no", "no"),
            step("both", "yes", "no"),
        )
    )
    bench.finish("decide", branches=("big",))
    assert bench.alive() == ["yes"]
    bench.finish("yes")
    assert bench.alive() == ["both"]
    bench.finish("both")
    assert bench.states(made.run_id) == {
        "decide": "succeeded",
        "yes": "succeeded",
        "no": "skipped",
        "after_no": "skipped",
        "both": "succeeded",
    }
    assert bench.run_row(made.run_id)["state"] == "succeeded"


def test_a_stale_or_repeated_finish_changes_nothing(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("a"), step("b", "a")))
    attempt, fence = bench.living["a"][0]
    outcome = msg.Outcome(state="succeeded")
    assert bench.send(msg.Finished(attempt, fence - 1, outcome)) is False
    assert bench.states(made.run_id)["a"] == "running"
    assert bench.send(msg.Finished(attempt, fence, outcome)) is True
    assert bench.send(msg.Finished(attempt, fence, outcome)) is False
    assert bench.alive().count("b") == 1


def test_a_failure_is_retried_after_its_pause(
    bench: LedgerBench, manual_clock: ManualClock
) -> None:
    made = bench.submit(plan(step("a", retry=Retry(attempts=2, backoff_s=10))))
    bench.finish("a", "failed", reason="flaky")
    assert bench.alive() == []
    bench.apply(msg.Tick())
    assert bench.alive() == []
    manual_clock.advance(11)
    bench.apply(msg.Tick())
    bench.finish("a", "failed", reason="flaky again")
    assert bench.run_row(made.run_id)["state"] == "failed"
    numbers = bench.rows(sa.select(models.attempts.c.number, models.attempts.c.state))
    assert sorted(map(tuple, numbers)) == [(1, "failed"), (2, "failed")]


def test_a_failure_that_cannot_be_mended_by_trying_is_not_retried(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("a", retry=Retry(attempts=3))))
    bench.finish("a", "failed", reason="check", retryable=False)
    assert bench.run_row(made.run_id)["state"] == "failed"


@pytest.mark.parametrize(("policy", "state"), [("retry", "running"), ("fail", "failed")])
def test_a_lost_attempt_follows_the_crash_policy(
    bench: LedgerBench, policy: str, state: str
) -> None:
    made = bench.submit(plan(step("a", on_crash=policy)))
    assert bench.lose("a", "killed by signal 9") is True
    assert bench.run_row(made.run_id)["state"] == state
    assert bool(bench.alive()) is (policy == "retry")


def test_stopping_a_run_kills_what_lives_and_ends_when_that_is_gone(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("a"), step("b", "a")))
    bench.send(msg.StopRun(made.run_id or 0, "Stopped by ann."))
    assert bench.killed == [bench.living["a"][0][0]]
    assert bench.run_row(made.run_id)["state"] == "running"
    bench.send(msg.StopRun(made.run_id or 0, "again"))
    bench.finish("a", "canceled", reason="killed")
    row = bench.run_row(made.run_id)
    assert (row["state"], row["reason"]) == ("canceled", "Stopped by ann.")
    assert bench.states(made.run_id) == {"a": "canceled", "b": "unreached"}
    assert bench.order_row(made.order_id)["state"] == "stopped"


def test_stopping_a_finished_run_is_fine_and_an_unknown_one_is_not(bench: LedgerBench) -> None:
    made = bench.submit(chain(1))
    list(drain(bench))
    bench.send(msg.StopRun(made.run_id or 0, "late"))
    assert bench.run_row(made.run_id)["state"] == "succeeded"
    with pytest.raises(NotFound):
        bench.send(msg.StopRun(10_000, "what"))


def test_resume_keeps_what_was_finished_and_runs_the_rest(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("a"), step("b", "a"), step("c", "b")))
    bench.finish("a", exports={"rows": 7})
    bench.finish("b", "failed", reason="no")
    new = msg.NewRun(uid=new_uid(), plan=chain_like())
    again = bench.send(msg.ResumeRun(made.run_id or 0, new))
    assert bench.alive() == ["b"]
    assert bench.order_row(made.order_id)["state"] == "active"
    list(drain(bench))
    row = bench.run_row(again.run_id)
    assert (row["state"], row["resumed_from"], row["exports"]) == (
        "succeeded",
        made.run_id,
        {"rows": 7},
    )
    assert bench.run_row(made.run_id)["resumed_by"] == again.run_id
    assert row["work_id"] == made.run_id  # it works on in the same folder
    assert bench.order_row(made.order_id)["state"] == "completed"
    with pytest.raises(Conflict):
        bench.send(msg.ResumeRun(made.run_id or 0, msg.NewRun(uid=new_uid(), plan=chain_like())))


def chain_like() -> msg.Plan:
    return plan(step("a"), step("b", "a"), step("c", "b"))


def test_resume_may_skip_what_failed(bench: LedgerBench) -> None:
    made = bench.submit(chain_like())
    bench.finish("a")
    bench.finish("b", "failed", reason="no")
    new = msg.NewRun(uid=new_uid(), plan=chain_like())
    again = bench.send(msg.ResumeRun(made.run_id or 0, new, skip_failed=True))
    assert bench.alive() == ["c"]
    bench.finish("c")
    assert bench.states(again.run_id) == {"a": "succeeded", "b": "skipped", "c": "succeeded"}


def test_a_new_plan_s_variables_beat_carried_values_of_the_same_name(bench: LedgerBench) -> None:
    made = bench.submit(chain_like())
    bench.finish("a", exports={"limit": 1, "rows": 7})
    bench.finish("b", "failed", reason="no")
    new = msg.NewRun(
        uid=new_uid(),
        plan=plan(step("a"), step("b", "a"), step("c", "b"), variables={"limit": 99}),
    )
    again = bench.send(msg.ResumeRun(made.run_id or 0, new))
    list(drain(bench))
    assert bench.run_row(again.run_id)["exports"] == {"rows": 7}


def test_a_restart_adopts_what_lives_and_goes_on(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("a"), step("b", "a"), step("c"), step("d", "b", "c")))
    bench.finish("a", exports={"x": 1})
    assert sorted(bench.restart()) == ["b", "c"]
    bench.finish("b")
    bench.finish("c")
    bench.finish("d")
    row = bench.run_row(made.run_id)
    assert (row["state"], row["exports"]) == ("succeeded", {"x": 1})


def test_a_restart_remembers_a_failure_a_cancel_and_skipped_branches(bench: LedgerBench) -> None:
    failing = bench.submit(plan(step("a"), step("b"), step("c", "a")))
    bench.finish("a", "failed", reason="no")
    stopping = bench.submit(plan(step("k"), step("l", "k")))
    bench.send(msg.StopRun(stopping.run_id or 0, "Stopped by ann."))
    branching = bench.submit(
        plan(step("if"), step("y", Need("if", "y")), step("n", Need("if", "n")), step("z", "y"))
    )
    bench.finish("if", branches=("y",))
    bench.restart()
    bench.finish("b")
    bench.finish("k", "canceled")
    bench.finish("y")
    bench.finish("z")
    assert bench.run_row(failing.run_id)["state"] == "failed"
    assert bench.run_row(stopping.run_id)["state"] == "canceled"
    assert bench.run_row(branching.run_id)["state"] == "succeeded"
    assert bench.states(branching.run_id)["n"] == "skipped"


def test_a_restart_keeps_waiting_retries_waiting(
    bench: LedgerBench, manual_clock: ManualClock
) -> None:
    bench.submit(plan(step("a", retry=Retry(attempts=2, backoff_s=100))))
    bench.finish("a", "failed", reason="x")
    bench.restart()
    assert bench.alive() == []
    manual_clock.advance(120)
    bench.apply(msg.Tick())
    assert bench.alive() == ["a"]


def test_ids_are_never_given_twice(bench: LedgerBench) -> None:
    made = bench.submit(chain(1))
    list(drain(bench))
    bench.send(msg.DeleteOrder(made.order_id))
    bench.restart()
    again = bench.submit(chain(1))
    assert again.run_id == (made.run_id or 0) + 1
    assert again.order_id == made.order_id + 1


def test_deleting_a_live_order_kills_it_and_removes_every_row(bench: LedgerBench) -> None:
    made = bench.submit(chain(2))
    attempt, fence = bench.living["s0"][0]
    bench.send(msg.DeleteOrder(made.order_id))
    assert bench.killed == [attempt]
    for table in (models.orders, models.runs, models.steps, models.attempts, models.events):
        assert bench.rows(sa.select(sa.func.count()).select_from(table))[0][0] == 0
    assert bench.send(msg.Finished(attempt, fence, msg.Outcome(state="canceled"))) is False
    bench.submit(plan(*(step(f"f{i}") for i in range(5))))
    assert len([k for k in bench.alive() if k.startswith("f")]) == 4


def test_priority_goes_first_then_age(database: Database, manual_clock: ManualClock) -> None:
    bench = LedgerBench(database, manual_clock, slots=1)
    bench.submit(plan(step("first"), step("later", "first")))
    bench.submit(plan(step("low")))
    bench.submit(plan(step("high")), priority=10)
    assert list(drain(bench)) == ["first", "high", "later", "low"]


def test_a_lane_bounds_the_runs_of_a_kitchen(bench: LedgerBench) -> None:
    lane = {"lane": "kitchen:1", "lane_limit": 1}
    one = bench.submit(plan(step("a"), step("b", "a")), **lane)
    two = bench.submit(plan(step("c")), **lane)
    three = bench.submit(plan(step("d")), **lane)
    assert bench.alive() == ["a"]
    assert bench.run_row(two.run_id)["state"] == "queued"
    bench.send(msg.StopRun(two.run_id or 0, "Stopped by ann."))
    assert bench.run_row(two.run_id)["state"] == "canceled"
    bench.finish("a")
    assert bench.alive() == ["b"]
    bench.finish("b")
    assert bench.alive() == ["d"]
    bench.finish("d")
    assert [bench.run_row(r.run_id)["state"] for r in (one, two, three)] == [
        "succeeded",
        "canceled",
        "succeeded",
    ]


def test_a_paused_run_starts_nothing_until_it_goes_on(bench: LedgerBench) -> None:
    made = bench.submit(chain(2))
    bench.send(msg.PauseRun(made.run_id or 0, paused=True))
    bench.finish("s0")
    assert bench.alive() == []
    bench.send(msg.PauseRun(made.run_id or 0, paused=False))
    assert bench.alive() == ["s1"]


def test_checks_and_artefacts_are_stored_and_warnings_counted(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("a"), thresholds=Thresholds(warnings=0)), alerts=ALERTS)
    bench.finish(
        "a",
        checks=(
            CheckResult("floor", "passed", "stop", "12 greater-than 10", 12, 10),
            CheckResult("nulls", "warning", "warn", "3 equal-to 0", 3, 0, ("source", "pg")),
        ),
        staged=(Staged("out.parquet", "/x", "ab" * 32, 5),),
    )
    assert bench.run_row(made.run_id)["warnings"] == 1
    checks = bench.rows(
        sa.select(models.checks.c.name, models.checks.c.status, models.checks.c.place_name)
    )
    assert sorted(map(tuple, checks)) == [("floor", "passed", ""), ("nulls", "warning", "pg")]
    assert bench.rows(sa.select(models.artifacts.c.name))[0][0] == "out.parquet"
    told = bench.rows(sa.select(models.outbox.c.subject_key).order_by(models.outbox.c.id))
    events = [key.split(":")[1] for (key,) in told]
    assert events == ["start", "start", "warning", "success"]
    with bench.database.reading() as session:
        shown = reading.run_detail(session, system_caller(), made.run_uid or "").alerts
    assert [(alert.event, alert.place, alert.state) for alert in shown] == [
        ("start", "ann@example.org", "waiting"),
        ("start", "https://example.org/\N{HORIZONTAL ELLIPSIS}", "waiting"),
        ("warning", "ann@example.org", "waiting"),
        ("success", "ann@example.org", "waiting"),
    ]


ALERTS = {
    "start": ["ann@example.org", "https://example.org/hook", "ann@example.org"],
    "warning": ["ann@example.org"],
    "success": ["ann@example.org"],
    "over_duration": ["ann@example.org"],
}


def test_a_run_that_takes_too_long_tells_somebody_and_stops(
    bench: LedgerBench, manual_clock: ManualClock
) -> None:
    limits = Thresholds(duration_s=60, stop_on_duration=True)
    made = bench.submit(plan(step("a"), thresholds=limits), alerts=ALERTS)
    manual_clock.advance(61)
    bench.apply(msg.Tick())
    bench.restart()
    bench.apply(msg.Tick())
    bench.finish("a", "canceled")
    assert bench.run_row(made.run_id)["reason"] == "It ran for more than 60 s."
    told = bench.rows(sa.select(models.outbox.c.subject_key))
    assert sum("over_duration" in key for (key,) in told) == 1


def test_a_refused_message_leaves_its_neighbours_alone(bench: LedgerBench) -> None:
    order = msg.NewOrder(new_uid(), 1, "recipe", "rec", "daily", "api", "master")
    good = msg.SubmitOrder(order, msg.NewRun(new_uid(), chain(1)))
    replies = bench.apply(msg.StopRun(999, "?"), good, msg.PauseOrder(999))
    assert isinstance(replies[0], NotFound)
    assert isinstance(replies[1], msg.Submitted)
    assert isinstance(replies[2], NotFound)
    assert bench.alive() == ["s0"]


def test_a_due_time_fires_once(bench: LedgerBench, manual_clock: ManualClock) -> None:
    spec = ScheduleSpec(cron="0 6 * * *", zone="Europe/Paris")
    order = msg.NewOrder(new_uid(), 1, "recipe", "rec", "daily", "api", "master", spec)
    made = bench.send(msg.SubmitOrder(order))
    due = bench.rows(sa.select(models.schedules.c.next_due_at))[0][0]
    fire = msg.FireSchedule(made.order_id, due, None, msg.NewRun(new_uid(), chain(1)))
    first = bench.send(fire)
    second = bench.send(msg.FireSchedule(made.order_id, due, None, msg.NewRun(new_uid(), chain(1))))
    assert first.run_id is not None
    assert second is None
    assert bench.rows(sa.select(sa.func.count()).select_from(models.runs))[0][0] == 1


def test_a_scheduled_order_stays_active_between_runs_and_can_pause(bench: LedgerBench) -> None:
    spec = ScheduleSpec(cron="0 6 * * *")
    order = msg.NewOrder(new_uid(), 1, "recipe", "rec", "daily", "api", "master", spec)
    made = bench.send(msg.SubmitOrder(order))
    due = bench.rows(sa.select(models.schedules.c.next_due_at))[0][0]
    bench.send(msg.FireSchedule(made.order_id, due, due, msg.NewRun(new_uid(), chain(1))))
    list(drain(bench))
    assert bench.order_row(made.order_id)["state"] == "active"
    bench.send(msg.PauseOrder(made.order_id))
    assert bench.order_row(made.order_id)["state"] == "paused"
    bench.send(msg.UnpauseOrder(made.order_id, due))
    bench.send(msg.StopOrder(made.order_id, "enough"))
    assert bench.order_row(made.order_id)["state"] == "stopped"
    assert bench.rows(sa.select(models.schedules.c.next_due_at))[0][0] is None
    with pytest.raises(Conflict):
        bench.send(msg.PauseOrder(made.order_id))


def test_equal_plans_are_stored_once(bench: LedgerBench) -> None:
    bench.submit(chain(2))
    bench.submit(chain(2))
    bench.restart()
    bench.submit(chain(2))
    assert bench.rows(sa.select(sa.func.count()).select_from(models.plans))[0][0] == 1


def test_a_plan_that_was_purged_meanwhile_is_stored_again(
    bench: LedgerBench, manual_clock: ManualClock
) -> None:
    made = bench.submit(chain(1))
    list(drain(bench))
    bench.send(msg.DeleteOrder(made.order_id))
    manual_clock.advance(60)
    assert retention.purge_plans(bench.database, manual_clock.now()) == 1
    again = bench.submit(chain(1))
    list(drain(bench))
    assert bench.run_row(again.run_id)["state"] == "succeeded"


def test_a_run_without_steps_has_succeeded(bench: LedgerBench) -> None:
    made = bench.submit(plan())
    assert bench.run_row(made.run_id)["state"] == "succeeded"


def test_steps_wait_for_a_worker_with_their_tags(bench: LedgerBench) -> None:
    bench.submit(plan(step("gpu", tags=("gpu",), limits=Limits(memory_mb=5)), step("plain")))
    assert bench.alive() == ["plain"]
    bench.ledger.dispatcher.set_worker("big", 1, ["gpu"])
    bench.apply(msg.Tick())
    assert bench.alive() == ["gpu", "plain"]


@pytest.mark.parametrize("count", [3000])
def test_a_long_chain_of_skips_needs_no_recursion(bench: LedgerBench, count: int) -> None:
    made = bench.submit(
        plan(
            step("if"),
            step("s0", Need("if", "never")),
            *(step(f"s{i}", f"s{i - 1}") for i in range(1, count)),
        )
    )
    bench.finish("if", branches=("other",))
    assert bench.run_row(made.run_id)["state"] == "succeeded"


def test_events_tell_the_story_in_order(bench: LedgerBench) -> None:
    made = bench.submit(chain(1))
    list(drain(bench))
    query = sa.select(models.events.c.kind).where(models.events.c.run_id == made.run_id)
    kinds = [kind for (kind,) in bench.rows(query.order_by(models.events.c.id))]
    assert kinds == ["run.queued", "run.started", "step.started", "step.finished", "run.finished"]


def test_a_deleted_run_gives_its_place_in_the_lane_away(bench: LedgerBench) -> None:
    lane = {"lane": "kitchen:1", "lane_limit": 1}
    first = bench.submit(chain(1), **lane)
    second = bench.submit(chain(1), **lane)
    bench.send(msg.DeleteOrder(first.order_id))
    assert bench.run_row(second.run_id)["state"] == "running"


def test_a_run_that_paused_while_it_waited_takes_no_other_s_turn(bench: LedgerBench) -> None:
    lane = {"lane": "kitchen:1", "lane_limit": 1}
    bench.submit(chain(1), **lane)
    second = bench.submit(plan(step("b")), **lane)
    bench.send(msg.PauseRun(second.run_id or 0, paused=True))
    bench.send(msg.PauseRun(second.run_id or 0, paused=False))
    bench.finish("s0")
    third = bench.submit(plan(step("c")), **lane)
    bench.finish("b")
    assert bench.run_row(third.run_id)["state"] == "running"


def test_a_paused_run_at_the_head_lets_the_next_one_pass(bench: LedgerBench) -> None:
    lane = {"lane": "kitchen:1", "lane_limit": 1}
    bench.submit(chain(1), **lane)
    second = bench.submit(plan(step("b")), **lane)
    third = bench.submit(plan(step("c")), **lane)
    bench.send(msg.PauseRun(second.run_id or 0, paused=True))
    bench.finish("s0")
    assert bench.run_row(third.run_id)["state"] == "running"
    bench.finish("c")
    bench.send(msg.PauseRun(second.run_id or 0, paused=False))
    assert bench.alive() == ["b"]


def test_a_cancel_reaches_attempts_that_a_restart_adopts(bench: LedgerBench) -> None:
    made = bench.submit(chain(2))
    bench.send(msg.StopRun(made.run_id or 0, "Stopped by ann."))
    bench.killed.clear()
    bench.restart()
    assert bench.killed == [bench.living["s0"][0][0]]


def test_deleting_orders_passes_over_what_is_gone(bench: LedgerBench) -> None:
    one, two = bench.submit(chain(1)), bench.submit(chain(1))
    bench.send(msg.DeleteOrders((one.order_id, 999, two.order_id)))
    assert bench.rows(sa.select(sa.func.count()).select_from(models.orders))[0][0] == 0


def test_resuming_a_run_leaves_its_schedule_as_it_is(bench: LedgerBench) -> None:
    made = bench.submit(chain(1), schedule=ScheduleSpec(cron="0 6 * * *"))
    bench.finish("s0", "failed", reason="x")
    bench.send(msg.PauseOrder(made.order_id))
    bench.send(msg.ResumeRun(made.run_id or 0, msg.NewRun(uid=new_uid(), plan=chain(1))))
    assert bench.order_row(made.order_id)["state"] == "paused"


def test_a_step_that_is_lost_again_and_again_has_failed(
    bench: LedgerBench, manual_clock: ManualClock
) -> None:
    made = bench.submit(plan(step("a", retry=Retry(attempts=2, backoff_s=1))))
    for _ in range(3):
        bench.lose("a", "killed by signal 9")
        manual_clock.advance(60)
        bench.apply(msg.Tick())
    bench.restart()
    for _ in range(3):
        bench.lose("a", "killed by signal 9")
        manual_clock.advance(60)
        bench.apply(msg.Tick())
    row = bench.run_row(made.run_id)
    assert row["state"] == "failed"
    assert "lost 6 times" in row["reason"]


def test_losses_do_not_use_up_the_retries_of_failures(
    bench: LedgerBench, manual_clock: ManualClock
) -> None:
    bench.submit(plan(step("a", retry=Retry(attempts=2, backoff_s=1))))
    bench.lose("a")
    bench.finish("a", "failed", reason="flaky")
    manual_clock.advance(60)
    bench.apply(msg.Tick())
    assert bench.alive() == ["a"]


@pytest.mark.parametrize("policy", ["retry", "fail"])
def test_an_attempt_that_never_ran_is_made_anew_whatever_the_crash_policy(
    bench: LedgerBench, manual_clock: ManualClock, policy: str
) -> None:
    retry = Retry(attempts=2, backoff_s=1)
    made = bench.submit(plan(step("a", on_crash=policy, retry=retry)))
    old = bench.living["a"][0]
    assert bench.never_run("a") is True
    assert bench.send(msg.Finished(*old, Outcome(state="succeeded"))) is False
    (new,) = bench.living["a"]
    assert new[0] != old[0]
    assert bench.restart() == ["a"]
    bench.finish("a", "failed", reason="flaky")  # the only failure: a second try is left
    manual_clock.advance(60)
    bench.apply(msg.Tick())
    bench.finish("a")
    assert bench.run_row(made.run_id)["state"] == "succeeded"
    tried = sa.select(models.attempts.c.state).order_by(models.attempts.c.id)
    assert [row.state for row in bench.rows(tried)] == ["unreached", "failed", "succeeded"]


def test_what_cannot_be_started_at_all_has_failed_in_the_end(
    bench: LedgerBench, manual_clock: ManualClock
) -> None:
    made = bench.submit(plan(step("a")))
    for tried in range(21):
        assert bench.run_row(made.run_id)["state"] == "running", tried
        bench.never_run("a", "no template")
        manual_clock.advance(600)
        bench.apply(msg.Tick())
        if tried == 10:
            assert bench.restart() == ["a"]
    row = bench.run_row(made.run_id)
    assert row["state"] == "failed"
    assert "could not be started 21 times; last: no template" in row["reason"]


def test_an_attempt_that_never_ran_ends_a_run_that_was_stopped(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("a")))
    bench.send(msg.StopRun(made.run_id or 0, "Stopped by ann."))
    bench.never_run("a")
    assert bench.run_row(made.run_id)["state"] == "canceled"


def test_a_worker_that_a_new_leader_meets_keeps_what_it_holds(bench: LedgerBench) -> None:
    bench.submit(plan(*(step(f"f{i}") for i in range(6))))
    bench.ledger.reset()
    bench.ledger.dispatcher.drop_worker("local")
    bench.apply(msg.Tick())
    seen = msg.WorkerSeen("local", 4, (), is_alive=True)
    bench.apply(msg.WorkersSeen((seen,)))
    assert len(set(bench.started)) == 4


def test_what_ends_in_the_batch_that_reads_a_ledger_back_is_not_looked_for(
    bench: LedgerBench,
) -> None:
    bench.submit(plan(step("a")))
    attempt, fence = bench.living["a"].pop()
    bench.ledger.reset()
    lost = msg.Lost(attempt, fence, "no template", never_ran=True)
    with bench.database.connection() as connection:
        turn = bench.ledger.apply(connection, [lost], bench.clock.now()).turn
    assert turn.adoptions == []
    assert [step.attempt.number for _, step in turn.starts] == [2]


def test_what_follows_a_skipped_failure_runs_after_a_restart_too(bench: LedgerBench) -> None:
    made = bench.submit(chain(4))
    bench.finish("s0")
    bench.finish("s1", "failed", retryable=False)
    new = msg.NewRun(uid="again", plan=chain(4))
    again = bench.send(msg.ResumeRun(made.run_id or 0, new, skip_failed=True))
    assert bench.restart() == ["s2"]
    assert list(drain(bench)) == ["s2", "s3"]
    assert bench.states(again.run_id) == {
        "s0": "succeeded", "s1": "skipped", "s2": "succeeded", "s3": "succeeded"
    }  # fmt: skip


def test_a_stop_that_comes_in_the_batch_of_a_run_s_end_changes_nothing(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("a")))
    attempt, fence = bench.living["a"].pop()
    finished = msg.Finished(attempt, fence, Outcome(state="succeeded"))
    replies = bench.apply(
        finished,
        msg.StopRun(made.run_id or 0, "Stopped by ann."),
        msg.PauseRun(made.run_id or 0, paused=True),
    )
    row = bench.run_row(made.run_id)
    assert (row["state"], row["cancel_reason"], row["paused"]) == ("succeeded", None, False)
    assert [isinstance(reply, Conflict) for reply in replies] == [False, False, True]
    told = bench.rows(sa.select(models.events.c.kind).where(models.events.c.kind == "run.finished"))
    assert len(told) == 1
