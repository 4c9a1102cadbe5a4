"""Due times in many zones over ten years, against a reading of the rule that shares no code.

The rule is that of docs/how-to/schedule-and-alert.md. With GALLEY_CHAOS_LONG all zones and lines
over ten years, instead of some over one. GALLEY_CHAOS_SEED draws other cron lines.
"""

import calendar
import os
import random
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.schedule import next_due

YEARS = 10 if os.environ.get("GALLEY_CHAOS_LONG") else 1
SEED = int(os.environ.get("GALLEY_CHAOS_SEED", "0")) or 20261124
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
LAST = datetime(2026 + YEARS, 1, 1, tzinfo=UTC)
MINUTES = int((LAST - FIRST).total_seconds()) // 60
BLOCK = 15
"""No zone has changed its offset within a quarter of an hour since 1972."""
AROUND = (1 if YEARS == 1 else 2) * 24 * 60
DENSE = 400 * YEARS
"""Lines with more due times than this are looked at for a day or two around each change only."""
ZONES = (
    "Europe/Paris", "Australia/Lord_Howe", "Africa/Cairo", "America/Havana",
    "Europe/London", "Europe/Lisbon", "Europe/Athens", "Europe/Chisinau", "Europe/Dublin",
    "Atlantic/Azores", "America/Scoresbysund", "America/Nuuk", "America/St_Johns",
    "America/Halifax", "America/New_York", "America/Chicago", "America/Denver",
    "America/Phoenix", "America/Los_Angeles", "America/Anchorage", "America/Adak",
    "America/Santiago", "America/Punta_Arenas", "America/Asuncion", "America/Sao_Paulo",
    "Pacific/Easter", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Norfolk",
    "Australia/Sydney", "Australia/Adelaide", "Australia/Brisbane", "Africa/Casablanca",
    "Africa/El_Aaiun", "Asia/Beirut", "Asia/Jerusalem", "Asia/Gaza", "Asia/Kolkata",
    "Asia/Kathmandu", "Antarctica/Troll",
)  # fmt: skip
FIXED = (
    "30 2 * * *", "0 0 * * *", "15,45 1-3 * * *", "0 3 * * sun", "30 0 1 * *", "59 23 * * *",
    "* * * * *", "0 * * * *", "*/20 * * * *", "5 */3 * * *", "30 */1 * * sun", "*/30 0-3 * * *",
    "0 */3 * * *", "45 2 25-31 3,10 sun",
)  # fmt: skip
"""Lines that look for trouble; the others are drawn."""
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def drawn_field(rng: random.Random, low: int, high: int, names: tuple[str, ...] = ()) -> str:
    """A number, a list, a range or steps."""
    a, b = sorted(rng.sample(range(low, high + 1), 2))
    kind = rng.choice(("one", "list", "range", "steps", "star", "names" if names else "one"))
    if kind == "names":
        return names[rng.randrange(len(names))]
    return {
        "one": f"{a}",
        "list": f"{b},{a}",
        "range": f"{a}-{b}",
        "steps": f"{a}-{b}/{rng.randint(2, 5)}",
        "star": rng.choice(("*", f"*/{rng.randint(2, 9)}")),
    }[kind]


def drawn_lines(count: int) -> list[str]:
    rng = random.Random(SEED)  # noqa: S311 - seeded on purpose
    found = []
    while len(found) < count:
        day = rng.choice(("*", "*", drawn_field(rng, 1, 28)))
        month = rng.choice(("*", "*", drawn_field(rng, 1, 12, MONTHS)))
        weekday = rng.choice(("*", "*", drawn_field(rng, 0, 6, DAYS)))
        hours = rng.choice((drawn_field(rng, 0, 3), drawn_field(rng, 0, 23)))
        found.append(f"{drawn_field(rng, 0, 59)} {hours} {day} {month} {weekday}")
    return found


LINES = (*FIXED, *drawn_lines(4 if YEARS == 1 else 16))


# --- the rule, read once more


def values(
    field: str, low: int, high: int, names: tuple[str, ...] = (), first: int = 0
) -> set[int]:
    """The numbers that a field of a cron line stands for."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            numbers = range(low, high + 1)
        else:
            ends = [names.index(e) + first if e in names else int(e) for e in span.split("-")]
            numbers = range(ends[0], ends[-1] + 1)
        found.update(numbers[:: int(step or 1)])
    return found


@cache
def readings(line: str) -> list[int]:
    """Every reading of a calendar without zones that the line matches, in minutes since 1970.

    Day of the month and day of the week must both hold if either begins with `*`, else one of them.
    """
    minute, hour, day, month, weekday = line.split()
    minutes, hours = sorted(values(minute, 0, 59)), sorted(values(hour, 0, 23))
    days, months = values(day, 1, 31), values(month, 1, 12, MONTHS, 1)
    weekdays = values(weekday, 0, 6, DAYS)
    need_both = day.startswith("*") or weekday.startswith("*")
    found = []
    on = (FIRST - timedelta(days=2)).date()
    while on < (LAST + timedelta(days=2)).date():
        by_day, by_weekday = on.day in days, (on.weekday() + 1) % 7 in weekdays
        holds = (by_day and by_weekday) if need_both else (by_day or by_weekday)
        if on.month in months and holds:
            midnight = minute_of(datetime(on.year, on.month, on.day, tzinfo=UTC))
            found += [midnight + h * 60 + m for h in hours for m in minutes]
        on = date.fromordinal(on.toordinal() + 1)
    return found


def minute_of(at: datetime) -> int:
    return calendar.timegm(at.utctimetuple()) // 60


@cache
def spans(zone: str) -> list[tuple[int, int, int]]:
    """(from, until, minutes east) of each time in which the zone's clock only goes forward."""
    info, start = ZoneInfo(zone), minute_of(FIRST)
    found: list[tuple[int, int, int]] = []
    for at in range(start - BLOCK, start + MINUTES + BLOCK, BLOCK):
        local = datetime.fromtimestamp(at * 60, info)
        east = minute_of(local.replace(tzinfo=UTC)) - at
        if not found or found[-1][2] != east:
            found.append((at, at, east))
        found[-1] = (found[-1][0], at + BLOCK, east)
    return found


def expected(line: str, zone: str) -> list[int]:
    """The due times of the line, in minutes since 1970, walking with the zone's clock."""
    matching = readings(line)
    follows_the_clock = any(field.startswith("*") for field in line.split()[:2])
    due, highest = [], None
    for start, until, east in spans(zone):
        shown, last = start + east, until + east
        if not follows_the_clock and highest is not None:
            if any(True for _ in between(matching, highest, shown)):
                due.append(start)  # the gap that it falls into is over
            shown = max(shown, highest)  # what was shown before counts no second time
        due += [reading - east for reading in between(matching, shown, last)]
        highest = last if highest is None else max(highest, last)
    first = minute_of(FIRST)
    return [at for at in sorted(set(due)) if first <= at < first + MINUTES]


def between(matching: list[int], low: int, high: int) -> Iterator[int]:
    for index in range(bisect_left(matching, low), len(matching)):
        if matching[index] >= high:
            return
        yield matching[index]


def windows(zone: str, count: int) -> list[tuple[int, int]]:
    """What is looked at: everything, or what surrounds each change."""
    first = minute_of(FIRST)
    if count <= DENSE:
        return [(first, first + MINUTES)]
    changes = [start for start, _, _ in spans(zone)[1:]] or [first + AROUND]
    return [(at - AROUND, at + AROUND) for at in changes if first + AROUND <= at]


ASKED = ZONES[:4] if YEARS == 1 else ZONES


@pytest.mark.parametrize("zone", ASKED)
def test_every_line_is_due_when_the_rule_says(zone: str) -> None:
    wrong = []
    for line in LINES:
        wanted = expected(line, zone)
        for low, high in windows(zone, len(wanted)):
            want = wanted[bisect_left(wanted, low) : bisect_left(wanted, high)]
            got = chain(line, zone, low, high)
            if got != want:
                odd = sorted(set(got) ^ set(want))[:3]
                shown = [datetime.fromtimestamp(at * 60, UTC).isoformat() for at in odd]
                wrong.append(f"{line}: {len(got)} for {len(want)}, first {shown}")
    assert not wrong, f"seed {SEED}, {zone}\n" + "\n".join(wrong)


def chain(line: str, zone: str, low: int, high: int) -> list[int]:
    """What Galley names one after the other in [low, high)."""
    spec, found = ScheduleSpec(cron=line, zone=zone), []
    at = datetime.fromtimestamp(low * 60 - 1, UTC)
    while True:
        due = next_due(spec, at)
        assert due is None or due > at, f"{line} in {zone} after {at}: {due}"
        if due is None or minute_of(due) >= high:
            return found
        found.append(minute_of(due))
        at = due


@pytest.mark.parametrize("zone", ASKED)
def test_whenever_it_is_asked_the_next_due_time_is_the_next(zone: str) -> None:
    """Also from within the hour that comes twice, and from odd seconds."""
    rng = random.Random(SEED)  # noqa: S311 - seeded on purpose
    changes = [start for start, _, _ in spans(zone)[1:]]
    for line in LINES:
        wanted = expected(line, zone)
        for change in changes[:: max(1, len(changes) // 4)]:
            for _ in range(6):
                at = datetime.fromtimestamp((change + rng.uniform(-90, 150)) * 60, UTC)
                index = bisect_left(wanted, minute_of(at) + 1)
                want = wanted[index] if index < len(wanted) else None
                due = next_due(ScheduleSpec(cron=line, zone=zone), at)
                got = minute_of(due) if due and due < LAST else None
                assert got == want, f"seed {SEED}: {line} in {zone} after {at}: {due}"
