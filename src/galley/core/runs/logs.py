"""Logs of attempts: one file each, `<logs>/<run id>/<attempt id>.log`, readable while written.

A line is `<UTC time with microseconds>Z <level letter> <text>`; see `LEVELS`. Logs grow without
regard to their readers, so readers begin at the end and go back only as far as they need.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heapify, heapreplace
from pathlib import Path

from galley.core.runs.views import AttemptView, LogLine, RunDetail

LEVELS = {"D": "debug", "I": "info", "W": "warning", "E": "error", "O": "output"}
MAX_BYTES = 16 * 1024 * 1024
_STAMP = 27  # len("2026-11-23T22:47:02.123456Z")
_MAX_LINE = 65_536
_BLOCK = 65_536
_LATE = timedelta(minutes=1)  # a log may go on a moment after its attempt's end, on another clock
_Ranked = tuple[str, int, int, LogLine]


def log_path(logs: Path, run_id: int, attempt_id: int) -> Path:
    """Where the attempt's log is, whether or not it is there yet."""
    return logs / str(run_id) / f"{attempt_id}.log"


def parse_line(raw: bytes, step_key: str, attempt_id: int) -> LogLine | None:
    """One line of a log file, or None if it is cut or damaged."""
    text = raw.decode("utf-8", "replace")
    try:
        at = datetime.fromisoformat(text[:_STAMP])
    except ValueError:
        return None
    if at.tzinfo is not UTC:
        return None
    level = LEVELS.get(text[_STAMP + 1 : _STAMP + 2], "output")
    return LogLine(at, level, text[_STAMP + 3 :], step_key, attempt_id, text[: _STAMP - 1])


@dataclass(slots=True)
class Budget:
    """How many bytes of logs one call may still read."""

    left: int = MAX_BYTES


def newest_lines(
    logs: Path, detail: RunDetail, limit: int, budget: Budget | None = None
) -> Sequence[LogLine]:
    """A run's newest lines in order of time: at most `limit` (1 or more), fewer by the budget.

    The cost follows from what is asked, not from how much the run has written.
    """
    newest = _Newest(limit)
    budget = budget or Budget()
    for rank, key, attempt in _written(detail):
        ended = attempt.finished_at
        if budget.left <= 0 or (ended is not None and newest.is_before(ended + _LATE)):
            break
        path = log_path(logs, detail.run.id, attempt.id)
        for number, raw in enumerate(_backwards(path, budget)):
            line = parse_line(raw, key, attempt.id)
            if line is not None and not newest.take((line.stamp, rank, -number, line)):
                break
    return newest.lines()


def _written(detail: RunDetail) -> list[tuple[int, str, AttemptView]]:
    """(rank, step key, attempt) of all attempts with a log of their own, the last to end first.

    A higher rank stands later among lines of the same moment.
    """
    found = [
        (step.key, attempt)
        for step in detail.steps
        for attempt in reversed(step.attempts)
        if attempt.started_at is not None and attempt.reused_from is None
    ]
    ranked = [(rank, key, attempt) for rank, (key, attempt) in enumerate(found)]
    never = datetime.max.replace(tzinfo=UTC)
    return sorted(ranked, key=lambda item: item[2].finished_at or never, reverse=True)


@dataclass(slots=True)
class _Newest:
    """The newest of the lines that it is given, at most `limit`.

    Only a full list is made a heap: lines come newest first, the worst order to push them in.
    """

    limit: int
    heap: list[_Ranked] = field(default_factory=list)

    def take(self, ranked: _Ranked) -> bool:
        """Keep the line if it is among the newest so far; False if it is not."""
        if len(self.heap) < self.limit:
            self.heap.append(ranked)
            if len(self.heap) == self.limit:
                heapify(self.heap)
            return True
        if ranked < self.heap[0]:
            return False
        heapreplace(self.heap, ranked)
        return True

    def is_before(self, moment: datetime) -> bool:
        """Whether nothing up to that moment could be among the newest any more."""
        return len(self.heap) == self.limit and self.heap[0][-1].at > moment

    def lines(self) -> list[LogLine]:
        """What was kept, in order of time."""
        return [line for *_, line in sorted(self.heap)]


def _backwards(path: Path, budget: Budget) -> Iterator[bytes]:
    """The whole lines of a file, the last one first, each cut after 64 KiB, without its newline.

    What is still being written at the end is left out; nothing comes if there is no file (yet).
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        at = file.seek(0, 2)
        rest: bytes | None = None  # the line whose beginning is not read yet, after its newline
        while at > 0 and budget.left > 0:
            size = min(_BLOCK, at)
            at -= size
            budget.left -= size
            file.seek(at)
            first, *whole = file.read(size).split(b"\n")
            if whole:
                if rest is not None:
                    yield (whole[-1] + rest)[:_MAX_LINE]
                for line in reversed(whole[:-1]):
                    yield line[:_MAX_LINE]
                rest = first
            elif rest is not None:
                rest = (first + rest)[:_MAX_LINE]
        if at == 0 and rest is not None:
            yield rest[:_MAX_LINE]
