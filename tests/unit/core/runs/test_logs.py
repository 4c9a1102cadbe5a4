"""The newest lines of a run are found from the end of its logs, whatever lies before them."""

import time
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.unit.dialects.datakitchen import views

from galley.core.runs import logs
from galley.core.runs.views import RunDetail

BEGAN = datetime(2026, 11, 24, tzinfo=UTC)
RUN = views.run_view().id


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def run_of(*ends: float | None) -> RunDetail:
    """A run with a step for each end of an attempt, in seconds; None: it still runs."""
    pattern = views.step_view().attempts[0]
    attempts = (
        replace(pattern, id=n, started_at=BEGAN, finished_at=None if end is None else after(end))
        for n, end in enumerate(ends)
    )
    return views.detail(
        steps=tuple(views.step_view(key=f"s{a.id}", attempts=(a,)) for a in attempts)
    )


def write(folder: Path, attempt: int, lines: Iterable[tuple[float, str]], rest: str = "") -> None:
    path = logs.log_path(folder, RUN, attempt)
    path.parent.mkdir(exist_ok=True)
    texts = (f"{after(at).isoformat(timespec='microseconds')[:26]}Z I {text}" for at, text in lines)
    path.write_text("".join(f"{text}\n" for text in texts) + rest)


def texts_of(folder: Path, detail: RunDetail, limit: int) -> list[str]:
    return [line.text for line in logs.newest_lines(folder, detail, limit)]


def test_lines_of_several_attempts_are_merged_by_time(tmp_path: Path) -> None:
    write(tmp_path, 0, [(n, f"a{n}") for n in range(0, 60_000, 2)], rest="2026-11-24T half a li")
    write(tmp_path, 1, [(n, f"b{n}") for n in range(1, 60_000, 2)])
    write(tmp_path, 3, [(5, "c5"), (59_999, "c59999")])
    detail = run_of(60_000, 60_000, 60_000, None)
    assert texts_of(tmp_path, detail, 4) == ["b59997", "a59998", "b59999", "c59999"]
    both = texts_of(tmp_path, detail, 60_002)
    assert len(both) == 60_002
    assert both[:3] == ["a0", "b1", "a2"]
    assert len(texts_of(tmp_path, detail, 1_000_000)) == 60_002


def test_a_line_longer_than_a_block_keeps_its_beginning(tmp_path: Path) -> None:
    write(tmp_path, 0, [(1, "before"), (2, "x" * 200_000), (3, "after")])
    first, long, last = texts_of(tmp_path, run_of(4), 10)
    assert (first, last) == ("before", "after")
    assert 65_000 < len(long) <= 65_536
    assert set(long) == {"x"}


def test_one_call_reads_a_bounded_number_of_bytes(tmp_path: Path) -> None:
    write(tmp_path, 0, [(n, "x" * 10_000) for n in range(1000)])
    budget = logs.Budget(left=1_000_000)
    found = logs.newest_lines(tmp_path, run_of(1000), 5000, budget)
    assert 90 < len(found) < 110
    assert found[-1].at == after(999)
    assert budget.left <= 0
    assert logs.newest_lines(tmp_path, run_of(1000), 5000, budget) == []


def test_the_end_of_a_huge_log_costs_no_more_than_that_of_a_small_one(tmp_path: Path) -> None:
    write(tmp_path, 0, [(n, f"line {n}") for n in range(2000)])
    path = logs.log_path(tmp_path, RUN, 0)
    tail = path.read_bytes()
    with path.open("wb") as file:
        file.truncate(1_000_000_000 - len(tail))  # a hole, which takes no room
        file.seek(0, 2)
        file.write(b"\n" + tail)
    tracemalloc.start()
    begun = time.process_time()
    found = texts_of(tmp_path, run_of(None), 1000)
    took_s = time.process_time() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[-1] == "line 1999"
    assert len(found) == 1000
    assert peak < 2_000_000
    assert took_s < 1


def test_a_log_that_ended_before_all_that_is_wanted_is_not_opened(tmp_path: Path) -> None:
    write(tmp_path, 0, [(1, "old")])
    write(tmp_path, 1, [(5000, "new"), (5001, "newer")])
    logs.log_path(tmp_path, RUN, 0).write_bytes(b"x" * 1_000_000)
    budget = logs.Budget()
    assert len(logs.newest_lines(tmp_path, run_of(2, 5002), 2, budget)) == 2
    assert budget.left > logs.MAX_BYTES - 1000
