"""Logs of attempts: one file each, `<logs>/<run id>/<attempt id>.log`, readable while written.

A line is `<UTC time with microseconds>Z <level letter> <text>`; see `LEVELS`.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from galley.core.runs.views import LogLine, RunDetail, StepView

LEVELS = {"D": "debug", "I": "info", "W": "warning", "E": "error", "O": "output"}
_STAMP = 27  # len("2026-11-23T22:47:02.123456Z")
_MAX_LINE = 65_536


def log_path(logs: Path, run_id: int, attempt_id: int) -> Path:
    """Where the attempt's log is, whether or not it is there yet."""
    return logs / str(run_id) / f"{attempt_id}.log"


def parse_line(raw: bytes, step_key: str, attempt_id: int) -> LogLine | None:
    """One line of a log file, or None if it is cut or damaged."""
    text = raw.decode("utf-8", "replace")
    try:
        at = datetime.fromisoformat(text[: _STAMP - 1]).replace(tzinfo=UTC)
    except ValueError:
        return None
    level = LEVELS.get(text[_STAMP + 1 : _STAMP + 2], "output")
    return LogLine(at, level, text[_STAMP + 3 :], step_key, attempt_id)


def read_step(logs: Path, run_id: int, step: StepView) -> Iterator[LogLine]:
    """The lines of all the step's attempts, oldest attempt first."""
    for attempt in reversed(step.attempts):
        yield from read_attempt(logs, run_id, attempt.id, step.key)


def read_attempt(logs: Path, run_id: int, attempt_id: int, step_key: str) -> Iterator[LogLine]:
    """The lines of one attempt; nothing if its log is not there (yet)."""
    try:
        file = log_path(logs, run_id, attempt_id).open("rb")
    except FileNotFoundError:
        return
    with file:
        while raw := file.readline(_MAX_LINE):
            if not raw.endswith(b"\n") and len(raw) < _MAX_LINE:
                return  # still being written
            line = parse_line(raw.rstrip(b"\n"), step_key, attempt_id)
            if line is not None:
                yield line


def read_run(
    logs: Path,
    detail: RunDetail,
    *,
    step_key: str | None = None,
    levels: Iterable[str] | None = None,
    limit: int | None = None,
) -> list[LogLine]:
    """A run's lines in order of time; at most `limit`, the newest ones."""
    wanted = None if levels is None else frozenset(levels)
    lines = [
        line
        for step in detail.steps
        if step_key is None or step.key == step_key
        for line in read_step(logs, detail.run.id, step)
        if wanted is None or line.level in wanted
    ]
    lines.sort(key=lambda line: line.at)
    return lines if limit is None else lines[-limit:]
