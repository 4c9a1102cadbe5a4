"""A run's log from its beginning, and as an archive."""

import tracemalloc
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.unit.dialects.datakitchen import views

from galley.core.runs import logs, wholelog
from galley.core.runs.views import LogLine, RunDetail

BEGAN = datetime(2026, 11, 24, tzinfo=UTC)
RUN = views.run_view().id


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def run_of(*starts: float | None) -> RunDetail:
    """A run with a step for each start of an attempt, in seconds; None: not started."""
    pattern = views.step_view().attempts[0]
    attempts = (
        replace(pattern, id=n, started_at=None if start is None else after(start))
        for n, start in enumerate(starts)
    )
    return views.detail(
        steps=tuple(views.step_view(key=f"s{a.id}", attempts=(a,)) for a in attempts)
    )


def write(folder: Path, attempt: int, lines: Iterable[tuple[float, str]], level: str = "I") -> Path:
    path = logs.log_path(folder, RUN, attempt)
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        for at, text in lines:
            stamp = after(at).isoformat(timespec="microseconds")[:26]
            file.write(f"{stamp}Z {level} {text}\n")
    return path


def texts(parts: list[wholelog.Part], levels: frozenset[str] | None = None) -> list[str]:
    return [line.text for line in wholelog.oldest_first(parts, levels)]


def test_lines_come_in_order_of_time(tmp_path: Path) -> None:
    write(tmp_path, 0, [(n, f"a{n}") for n in range(0, 20_000, 2)])
    write(tmp_path, 1, [(n, f"b{n}") for n in range(1, 20_000, 2)])
    write(tmp_path, 2, [(19_000.5, "c"), (30_000, "last")])
    detail = run_of(0, 0, 19_000, None)
    found = texts(wholelog.parts_of(tmp_path, detail, 10**9))
    assert len(found) == 20_002
    assert found[:3] == ["a0", "b1", "a2"]
    assert found[19_000:19_003] == ["a19000", "c", "b19001"]
    assert found[-1] == "last"


def test_a_step_and_levels_are_chosen(tmp_path: Path) -> None:
    write(tmp_path, 0, [(1, "fine")])
    write(tmp_path, 0, [(2, "odd")], "W")
    write(tmp_path, 1, [(3, "bad")], "E")
    detail = run_of(0, 0)
    parts = wholelog.parts_of(tmp_path, detail, 10**9)
    assert texts(parts, frozenset("WE")) == ["odd", "bad"]
    assert texts(wholelog.parts_of(tmp_path, detail, 10**9, node="s0")) == ["fine", "odd"]


def test_of_too_much_each_attempt_gives_its_end_and_short_ones_are_whole(tmp_path: Path) -> None:
    write(tmp_path, 0, [(n, f"a{n} " + "x" * 950) for n in range(1000)])
    write(tmp_path, 1, [(n, f"b{n} " + "y" * 950) for n in range(1000)])
    short = write(tmp_path, 2, [(0, "short")])
    parts = wholelog.parts_of(tmp_path, run_of(0, 0, 0), 400_000)
    assert sum(part.end - part.start for part in parts) <= 400_000
    assert parts[2].start == 0
    assert parts[2].end == short.stat().st_size
    found = texts(parts)
    kept = {letter: [text for text in found if text[0] == letter] for letter in "ab"}
    for letter, lines in kept.items():
        assert 195 < len(lines) < 205
        assert lines[-1].startswith(f"{letter}999 ")
    assert found[0] == "short"
    assert wholelog.left_out(parts) == parts[0].start + parts[1].start > 1_400_000


def test_lines_that_are_cut_or_too_long(tmp_path: Path) -> None:
    path = write(tmp_path, 0, [(1, "before"), (2, "x" * 200_000), (3, "after")])
    with path.open("a") as file:
        file.write("no log line at all\n2026-11-24T00:00:04.0")
    before, long, last = texts(wholelog.parts_of(tmp_path, run_of(0), 10**9))
    assert (before, last) == ("before", "after")
    assert 65_000 < len(long) <= 65_536


def test_a_log_that_goes_meanwhile_ends(tmp_path: Path) -> None:
    path = write(tmp_path, 0, [(n, "x" * 500) for n in range(1000)])
    lines = wholelog.oldest_first(wholelog.parts_of(tmp_path, run_of(0), 10**9))
    assert next(lines).text == "x" * 500
    path.unlink()
    assert len(list(lines)) < 100
    assert wholelog.parts_of(tmp_path, run_of(0), 10**9) == []


def test_the_archive_holds_one_text(tmp_path: Path) -> None:
    write(tmp_path, 0, [(1, "één"), (2, "two")])
    parts = wholelog.parts_of(tmp_path, run_of(0), 10**9)

    def shown(line: LogLine) -> str:
        return f"{line.step_key}: {line.text}"

    with (
        wholelog.zipped(parts, "run.txt", ["head"], shown) as archive,
        zipfile.ZipFile(archive) as made,
    ):
        assert made.namelist() == ["run.txt"]
        assert made.read("run.txt").decode() == "head\ns0: één\ns0: two\n"


def test_a_large_archive_is_not_held_in_memory(tmp_path: Path) -> None:
    for attempt in range(8):
        write(tmp_path, attempt, [(n, f"{attempt} {n * 7919 % 9973}" * 20) for n in range(15_000)])
    parts = wholelog.parts_of(tmp_path, run_of(*([0] * 8)), 20_000_000)
    tracemalloc.start()
    try:
        with wholelog.zipped(parts, "run.txt", [], lambda line: line.text) as archive:
            _, peak = tracemalloc.get_traced_memory()
            with zipfile.ZipFile(archive) as made:
                assert made.getinfo("run.txt").file_size > 10_000_000
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000
