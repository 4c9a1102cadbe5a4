"""What people read of orders and runs, on both databases."""

import pytest
import sqlalchemy as sa
from tests.unit.core.runs.bench import LedgerBench, chain

from galley.core.identity.actors import system_caller
from galley.core.runs import messages as msg
from galley.core.runs import reading
from galley.core.runs.states import RunState
from galley.core.runs.views import OrderFilter, RunFilter
from galley.kit.clock import ManualClock
from galley.kit.ids import new_uid
from galley.kit.pages import PageRequest
from galley.storage.db import Database

ENDED = frozenset({RunState.FAILED, RunState.CANCELED})


@pytest.fixture
def bench(database: Database, manual_clock: ManualClock) -> LedgerBench:
    return LedgerBench(database, manual_clock)


def resumed(bench: LedgerBench, times: int) -> tuple[int, list[int]]:
    """An order whose run failed, was resumed, failed again, ...; its runs, newest first."""
    made = bench.submit(chain(1))
    ids = [made.run_id or 0]
    for _ in range(times):
        bench.finish("s0", "failed", reason="x")
        new = msg.NewRun(uid=new_uid(), plan=chain(1))
        ids.append(bench.send(msg.ResumeRun(ids[-1], new)).run_id)
    bench.finish("s0")
    return made.order_id, ids[::-1]


def test_runs_of_many_orders_are_counted_without_reading_them(bench: LedgerBench) -> None:
    often, ids = resumed(bench, 4)
    once, (only,) = resumed(bench, 0)
    asked: list[str] = []

    def note(_c: object, _u: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    with bench.database.reading() as session:
        sa.event.listen(bench.database.engine, "before_cursor_execute", note)
        wanted = RunFilter(order_ids=(often, once, 999))
        found = reading.newest_runs(session, system_caller(), wanted, per_order=2)
        sa.event.remove(bench.database.engine, "before_cursor_execute", note)
        shown = {key: (total, [run.id for run in runs]) for key, (total, runs) in found.items()}
        assert shown == {often: (5, ids[:2]), once: (1, [only])}
        none = reading.newest_runs(session, system_caller(), wanted, per_order=0)
        assert none == {often: (5, []), once: (1, [])}
    assert len([one for one in asked if "run." in one]) == 2  # the counts, the newest


@pytest.mark.parametrize(
    ("wanted", "orders", "runs"),
    [
        (RunFilter(states=ENDED, resumed=True), {"often"}, 2),
        (RunFilter(states=ENDED, resumed=False), set(), 0),
        (RunFilter(states=frozenset({RunState.SUCCEEDED}), resumed=False), {"often", "once"}, 1),
    ],
)
def test_orders_are_found_by_their_runs(
    bench: LedgerBench, wanted: RunFilter, orders: set[str], runs: int
) -> None:
    names = {resumed(bench, 2)[0]: "often", resumed(bench, 0)[0]: "once"}
    caller = system_caller()
    with bench.database.reading() as session:
        page = reading.list_orders(session, caller, OrderFilter(runs=wanted), PageRequest(10))
        assert {names[order.id] for order in page.items} == orders
        assert page.total == len(orders)
        counted = reading.newest_runs(session, caller, wanted, per_order=1)
        assert sum(total for key, (total, _) in counted.items() if names[key] == "often") == runs
