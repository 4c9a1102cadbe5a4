"""What checks keep from run to run, on both databases."""

from typing import Any

import msgspec
import pytest
from tests.unit.core.runs.bench import SOURCE, LedgerBench, plan, step

from galley.core.runs import messages as msg
from galley.core.runs.history import read_history
from galley.core.runs.loading import load_live
from galley.core.runs.plan import Plan, Retry
from galley.core.runs.task import MOST_RUNS, CheckResult
from galley.kit.clock import ManualClock
from galley.kit.ids import new_uid
from galley.storage.db import Database

PLACE = ("source", "orders")


@pytest.fixture
def bench(database: Database, manual_clock: ManualClock) -> LedgerBench:
    return LedgerBench(database, manual_clock)


def kept(value: Any, name: str = "rows", **more: Any) -> CheckResult:
    facts = {"status": "passed", "action": "stop", "text": "", "place": PLACE}
    return CheckResult(name=name, value=value, keeps_history=True, **{**facts, **more})


def run(bench: LedgerBench, *checks: CheckResult, state: str = "succeeded", **more: Any) -> None:
    bench.submit(plan(step("count")), **more)
    bench.finish("count", state, checks=checks)


def seen(bench: LedgerBench, wanted: Plan | None = None, **more: Any) -> dict[str, list[Any]]:
    """What a run that begins now finds; it is then canceled."""
    made = bench.submit(wanted or plan(step("count")), **more)
    found = read(bench, made.run_id)
    bench.send(msg.StopRun(made.run_id or 0, "looked"))
    bench.finish("count", "canceled")
    return found


def read(bench: LedgerBench, run_id: int | None) -> dict[str, list[Any]]:
    with bench.database.connection() as connection:
        (live,) = load_live(connection, [run_id or 0])
    with bench.database.reading() as session:
        return read_history(session, live, "count")


def test_values_of_all_orders_come_oldest_first_also_of_runs_that_failed(
    bench: LedgerBench,
) -> None:
    assert seen(bench) == {}
    run(bench, kept(3), kept("eu", "region"))
    run(bench, kept(0, status="failed"), state="failed")
    run(bench, kept(5), kept(0.5, "share", place=("notebook", "")))
    assert seen(bench) == {
        "source/orders/rows": [3, 0, 5],
        "source/orders/region": ["eu"],
        "notebook//share": [0.5],
    }


def test_what_is_missing_too_long_or_not_kept_does_not_count(bench: LedgerBench) -> None:
    run(bench, kept(None), kept("x" * 2000, "long"), kept("x" * 900, "short"))
    run(bench, CheckResult("rows", "passed", "stop", "", 7, place=PLACE))
    run(bench, kept(float("nan")))
    assert seen(bench) == {"source/orders/short": ["x" * 900]}


def test_other_sources_variations_and_steps_have_their_own(bench: LedgerBench) -> None:
    run(bench, kept(3))
    weekly = msgspec.structs.replace(SOURCE, variation="weekly")
    other = Plan(source=weekly, steps=(step("count"),))
    assert seen(bench, other) == {}
    bench.submit(plan(step("other")))
    bench.finish("other", checks=(kept(9),))
    assert seen(bench) == {"source/orders/rows": [3]}


def test_runs_that_still_work_or_began_later_do_not_count(bench: LedgerBench) -> None:
    early = bench.submit(plan(step("first"), step("count", "first")))
    bench.submit(plan(step("count"), step("more", "count")))
    late = bench.submit(plan(step("later")))
    bench.finish("count", checks=(kept(4),))
    assert read(bench, late.run_id) == {}
    bench.finish("more")
    assert read(bench, late.run_id) == {"source/orders/rows": [4]}
    assert read(bench, early.run_id) == {}


def test_only_the_last_attempt_of_a_step_counts(bench: LedgerBench) -> None:
    made = bench.submit(plan(step("count", retry=Retry(2, backoff_s=0))))
    bench.finish("count", "failed", reason="no", checks=(kept(1),))
    assert read(bench, made.run_id) == {}
    bench.finish("count", checks=(kept(2),))
    assert seen(bench) == {"source/orders/rows": [2]}


def test_a_chain_of_resumed_runs_counts_once_and_not_for_itself(bench: LedgerBench) -> None:
    run(bench, kept(1))
    made = bench.submit(plan(step("count"), step("load", "count")))
    bench.finish("count", "failed", checks=(kept(2),))
    wanted = msg.NewRun(uid=new_uid(), plan=plan(step("count"), step("load", "count")))
    resumed = bench.send(msg.ResumeRun(made.run_id or 0, wanted))
    assert read(bench, resumed.run_id) == {"source/orders/rows": [1]}
    bench.finish("count", checks=(kept(3),))
    bench.finish("load")
    assert seen(bench) == {"source/orders/rows": [1, 3]}


def test_no_more_than_a_hundred_runs_are_looked_back_on(bench: LedgerBench) -> None:
    for number in range(MOST_RUNS + 5):
        run(bench, kept(number))
    assert seen(bench) == {"source/orders/rows": list(range(5, MOST_RUNS + 5))}
