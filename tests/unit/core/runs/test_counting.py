"""Lists of many rows say how many there are, also when what was counted before is remembered."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from tests.unit.core.runs.bench import LedgerBench, chain, drain

from galley.core.identity.actors import system_caller
from galley.core.runs import counting, reading
from galley.core.runs import messages as msg
from galley.core.runs.states import RunState
from galley.core.runs.views import OrderFilter, RunFilter
from galley.kit.clock import ManualClock
from galley.kit.pages import PageRequest
from galley.storage.db import Database

PAGE = PageRequest(2)


@pytest.fixture
def bench(
    database: Database, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> LedgerBench:
    """Three rows are many here."""
    monkeypatch.setattr(counting, "_FEW", 2)
    return LedgerBench(database, manual_clock)


def orders(bench: LedgerBench, **wanted: object) -> int:
    with bench.database.reading() as session:
        return reading.list_orders(session, system_caller(), OrderFilter(**wanted), PAGE).total


def runs(bench: LedgerBench, *states: RunState, **wanted: object) -> int:
    found = RunFilter(states=frozenset(states) or None, **wanted)
    with bench.database.reading() as session:
        return reading.list_runs(session, system_caller(), found, PAGE).total


@pytest.fixture
def statements(bench: LedgerBench) -> Iterator[list[tuple[str, object]]]:
    asked: list[tuple[str, object]] = []

    def note(_c: object, _u: object, statement: str, values: object, *_more: object) -> None:
        asked.append((statement, values))

    sa.event.listen(bench.database.engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(bench.database.engine, "before_cursor_execute", note)


def test_what_comes_and_goes_is_counted(bench: LedgerBench) -> None:
    made = [bench.submit(chain(1)) for _ in range(4)]
    assert (orders(bench), runs(bench)) == (4, 4)
    made += [bench.submit(chain(1)) for _ in range(2)]
    assert (orders(bench), runs(bench)) == (6, 6)
    bench.send(msg.DeleteOrder(made[0].order_id))
    bench.send(msg.DeleteRun(made[1].run_id or 0))
    assert (orders(bench), runs(bench)) == (5, 4)
    bench.restart()
    bench.send(msg.DeleteOrder(made[2].order_id))
    assert (orders(bench), runs(bench)) == (4, 3)


def test_another_filter_is_another_count(bench: LedgerBench) -> None:
    for _ in range(4):
        bench.submit(chain(1))
    assert orders(bench) == orders(bench, source_path="rec") == 4
    assert orders(bench, source_path="other") == runs(bench, source_path="other") == 0
    assert runs(bench, source_path="rec") == 4


def test_a_run_counts_under_the_state_that_it_has_now(bench: LedgerBench) -> None:
    for _ in range(4):
        bench.submit(chain(1))
    assert runs(bench, RunState.RUNNING) == 4
    assert runs(bench, RunState.SUCCEEDED) == runs(bench, RunState.FAILED) == 0
    bench.finish("s0", "failed", reason="x")
    assert (runs(bench, RunState.RUNNING), runs(bench, RunState.FAILED)) == (3, 1)
    list(drain(bench))
    assert runs(bench, RunState.RUNNING) == 0
    assert (runs(bench, RunState.SUCCEEDED), runs(bench, RunState.FAILED)) == (3, 1)
    assert runs(bench, RunState.SUCCEEDED, RunState.FAILED) == 4
    late = bench.submit(chain(1))
    assert runs(bench, RunState.SUCCEEDED) == 3
    bench.finish("s0")
    assert runs(bench, RunState.SUCCEEDED) == 4
    bench.send(msg.DeleteRun(late.run_id or 0))
    assert runs(bench, RunState.SUCCEEDED) == 3


def test_what_was_counted_is_not_counted_again(
    bench: LedgerBench, statements: list[tuple[str, object]]
) -> None:
    made = [bench.submit(chain(1)) for _ in range(4)]
    assert runs(bench) == 4
    statements.clear()
    assert runs(bench) == 4
    (again,) = [
        values for text, values in statements if "count(*)" in text and "LIMIT" not in text.upper()
    ]
    assert made[-1].run_id in (again.values() if isinstance(again, dict) else again)


def test_two_databases_are_not_mixed_up(
    bench: LedgerBench, sqlite_database: Database, postgres_database: Database
) -> None:
    both = [LedgerBench(one, bench.clock) for one in (sqlite_database, postgres_database)]
    for count, one in enumerate(both, start=3):
        for _ in range(count):
            one.submit(chain(1))
    assert [runs(one) for one in both] == [3, 4]
