"""The newest lines of a run's logs, and what is added: read from byte offsets, exactly once.

A cursor is `<attempt id>:<byte offset>` for every file followed, joined by commas; a browser hands
it back after a lost connection, so that no line is missing and none comes twice.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from galley.core.runs.logs import log_path, parse_line
from galley.core.runs.views import LogLine, RunDetail

FILES = 200
LINES = 500
_FIRST_BYTES = 1024 * 1024
_FIRST_BYTES_LEAST = 16 * 1024
_NEXT_BYTES = 256 * 1024
_CURSOR_LIMIT = 8192
_CURSOR = re.compile(r"(\d{1,18}):(\d{1,15})")

LEVELS: Mapping[str, frozenset[str]] = {
    "debug": frozenset({"debug", "info", "warning", "error", "output"}),
    "info": frozenset({"info", "warning", "error", "output"}),
    "warning": frozenset({"warning", "error"}),
    "error": frozenset({"error"}),
}
"""What each choice of the level filter lets through."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """The log of one attempt."""

    attempt_id: int
    step_key: str
    path: Path


@dataclass(frozen=True, slots=True)
class Tail:
    """Lines in order of time, where reading goes on, and whether older lines were left out."""

    lines: tuple[LogLine, ...]
    offsets: Mapping[int, int]
    is_cut: bool

    @property
    def cursor(self) -> str:
        """The offsets as text."""
        return ",".join(f"{key}:{offset}" for key, offset in sorted(self.offsets.items()))


def parse_cursor(text: str) -> dict[int, int]:
    """The offsets that a cursor names; anything that is not one reads as the beginning."""
    if len(text) > _CURSOR_LIMIT:
        return {}
    parts = [_CURSOR.fullmatch(part) for part in text.split(",")]
    return {int(part[1]): int(part[2]) for part in parts if part}


def log_files(logs: Path, detail: RunDetail, step_key: str | None = None) -> list[LogFile]:
    """The logs of the newest attempts (at most 200), of one step or of the whole run."""
    files = [
        LogFile(attempt.id, step.key, log_path(logs, detail.run.id, attempt.id))
        for step in detail.steps
        if step_key is None or step.key == step_key
        for attempt in step.attempts
        if attempt.started_at is not None and attempt.reused_from is None
    ]
    return sorted(files, key=lambda file: file.attempt_id)[-FILES:]


def newest(files: Sequence[LogFile], levels: Collection[str]) -> Tail:
    """The last lines of these files: at most 500, out of about the last megabyte."""
    share = max(_FIRST_BYTES_LEAST, _FIRST_BYTES // max(1, len(files)))
    lines: list[LogLine] = []
    offsets: dict[int, int] = {}
    is_cut = False
    for file in files:
        size = _size(file.path)
        start = max(0, size - share)
        parts, end = _parts(file, start, share)
        is_cut = is_cut or start > 0
        offsets[file.attempt_id] = end
        lines += _last(file, parts[1 if start > 0 else 0 :], levels)
    wanted = sorted(lines, key=lambda line: line.at)
    return Tail(tuple(wanted[-LINES:]), offsets, is_cut or len(wanted) > LINES)


def following(
    files: Sequence[LogFile], offsets: Mapping[int, int], levels: Collection[str]
) -> Tail:
    """The whole lines behind the offsets, at most 256 KiB a file; new files from their start."""
    lines: list[LogLine] = []
    reached = dict(offsets)
    for file in files:
        start = offsets.get(file.attempt_id, 0)
        if _size(file.path) > start:
            found, reached[file.attempt_id] = _read(file, start, _NEXT_BYTES)
            lines += found
        else:
            reached.setdefault(file.attempt_id, start)
    wanted = sorted((ln for ln in lines if ln.level in levels), key=lambda line: line.at)
    return Tail(tuple(wanted), reached, is_cut=False)


def first_error(lines: Sequence[LogLine], step_key: str) -> int | None:
    """Where the first error stands: one of this step if it has any, for others were overcome."""
    errors = [index for index, line in enumerate(lines) if line.level == "error"]
    own = [index for index in errors if lines[index].step_key == step_key]
    return next(iter(own or errors), None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(file: LogFile, start: int, limit: int) -> tuple[list[LogLine], int]:
    """The whole lines within `limit` bytes of `start`, and the offset behind the last of them."""
    parts, end = _parts(file, start, limit)
    parsed = (parse_line(part, file.step_key, file.attempt_id) for part in parts)
    return [line for line in parsed if line is not None], end


def _last(file: LogFile, parts: Sequence[bytes], levels: Collection[str]) -> list[LogLine]:
    """The last lines of these levels, one more than are shown: the rest is not even parsed."""
    found: list[LogLine] = []
    for part in reversed(parts):
        line = parse_line(part, file.step_key, file.attempt_id)
        if line is not None and line.level in levels:
            found.append(line)
            if len(found) > LINES:
                break
    return found[::-1]


def _parts(file: LogFile, start: int, limit: int) -> tuple[list[bytes], int]:
    """What stands on each whole line within `limit` bytes of `start`, and the offset behind."""
    try:
        with file.path.open("rb") as handle:
            handle.seek(start)
            block = handle.read(limit)
    except FileNotFoundError:
        return [], start
    whole, newline, _rest = block.rpartition(b"\n")
    if not newline:
        # A line longer than the limit is passed over; one that is still written is waited for.
        return [], start + (len(block) if len(block) == limit else 0)
    return whole.split(b"\n"), start + len(whole) + 1
