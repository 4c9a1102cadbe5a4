"""How facts are put into words on pages: states, durations, moments, sizes, values. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from galley.core.runs.states import AttemptState, OrderState, RunState, StepState
from galley.core.runs.views import RunView

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400
_KILO = 1000
_SIZE_UNITS = ("kB", "MB", "GB", "TB")
_UNITS = ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min"), (1, "s"))
_VALUE_LIMIT = 2000
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Look:
    """How a state shows: its word, its icon's name, and its tone (a CSS class, never alone)."""

    word: str
    icon: str
    tone: str


_LOOKS: Mapping[str, Look] = {
    RunState.QUEUED: Look("Queued", "clock", "idle"),
    RunState.RUNNING: Look("Running", "running", "live"),
    RunState.SUCCEEDED: Look("Succeeded", "check", "good"),
    RunState.FAILED: Look("Failed", "cross", "bad"),
    RunState.CANCELED: Look("Canceled", "stop", "off"),
    StepState.WAITING: Look("Waiting", "clock", "idle"),
    StepState.READY: Look("Ready", "clock", "idle"),
    StepState.SKIPPED: Look("Skipped", "skip", "off"),
    StepState.UNREACHED: Look("Not reached", "dash", "off"),
    AttemptState.STARTING: Look("Starting", "running", "live"),
    AttemptState.LOST: Look("Lost", "warn", "bad"),
    OrderState.ACTIVE: Look("Active", "running", "live"),
    OrderState.PAUSED: Look("Paused", "pause", "warn"),
    OrderState.COMPLETED: Look("Completed", "check", "good"),
    OrderState.STOPPED: Look("Stopped", "stop", "off"),
    # outcomes of checks
    "passed": Look("Passed", "check", "good"),
    "warning": Look("Warning", "warn", "warn"),
    "logged": Look("Logged", "info", "idle"),
}


def look_of(state: str) -> Look:
    """The look of any state of an order, run, step or attempt, or of a check's outcome.

    Raises:
        KeyError: a state that the table does not know; a test keeps it complete.
    """
    return _LOOKS[str(state)]


def duration_text(seconds: float | None) -> str:
    """Seconds in the unit that readers compare by: `0.42 s`, `12.3 s`, `4 min 05 s`, `2 h 03 min`.

    None reads as an en dash.
    """
    if seconds is None:
        return "\N{EN DASH}"
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < _MINUTE_S - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S:02} h"


def elapsed_s(start: datetime | None, end: datetime | None, now: datetime) -> float | None:
    """Seconds from `start` to `end`, or to `now` while there is no end; None before the start."""
    return None if start is None else ((end or now) - start).total_seconds()


def moment_text(at: datetime | None) -> str:
    """A moment in UTC to the second, `2026-11-23 22:51:04`; None reads as an en dash."""
    return "\N{EN DASH}" if at is None else at.strftime("%Y-%m-%d %H:%M:%S")


def ago_text(at: datetime | None, now: datetime) -> str:
    """How long ago, in one unit: `just now`, `3 min ago`, `2 d ago`; in the future, `in 3 min`."""
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    size = abs(seconds)
    if size < 5:  # noqa: PLR2004 -- too short for a reader to care
        return "just now"
    unit_s, unit = next(pair for pair in _UNITS if size >= pair[0])
    if seconds < 0:
        return f"in {round(size / unit_s)} {unit}"
    return f"{int(size // unit_s)} {unit} ago"


def size_text(size_bytes: int) -> str:
    """Bytes in decimal units with three figures: `812 B`, `4.10 kB`, `38.2 MB`."""
    if size_bytes < _KILO:
        return f"{size_bytes} B"
    size, step = float(size_bytes), 0
    while size >= _KILO and step < len(_SIZE_UNITS):
        size, step = size / _KILO, step + 1
    digits = 2 if size < 10 else 1 if size < 100 else 0  # noqa: PLR2004 -- three figures
    return f"{size:.{digits}f} {_SIZE_UNITS[step - 1]}"


def count_text(count: int) -> str:
    """A whole number with thin spaces between thousands, as ISO 31-0 writes it."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def value_text(value: Any) -> str:
    """A variable's value: text as it is, all else as JSON; at most 2,000 characters."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = plain_text(text)
    return text if len(text) <= _VALUE_LIMIT else f"{text[:_VALUE_LIMIT]}\N{HORIZONTAL ELLIPSIS}"


def short_id(uuid: str) -> str:
    """The end of a UUID, which tells ids apart: their beginnings are times, and much alike."""
    return f"\N{HORIZONTAL ELLIPSIS}{uuid[-8:]}"


def run_title(run: RunView) -> str:
    """A run in a browser's tab: how it goes first, for that is what one looks for there."""
    return f"{look_of(run.state).word}: {plain_text(run.source_path)}"


def plain_text(text: str) -> str:
    """The text without terminal sequences; other controls and direction marks show as a box."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ANSI.sub("", text))


def cut_text(text: str, limit: int) -> str:
    """The text in at most `limit` characters, ended by an ellipsis where something is missing."""
    return text if len(text) <= limit else f"{text[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"
