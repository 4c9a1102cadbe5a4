"""When a recurring order is due: cron lines in a time zone, between two moments."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from galley.core.errors import Invalid
from galley.core.runs.plan import ScheduleSpec

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = 5
_SECOND, _MINUTE, _DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


def moment(text: str | None) -> datetime | None:
    """An ISO 8601 time as an aware UTC moment; without an offset it is meant as UTC.

    Raises:
        Invalid: the text is no such time.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"'{text}' is not a time. Write it as 2026-11-23T06:00:00+01:00.") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def check_schedule(spec: ScheduleSpec, now: datetime) -> None:
    """Refuse a schedule that cannot be.

    Raises:
        Invalid: a bad cron line, an unknown time zone, an end before the start, or no time ever.
    """
    start, end = moment(spec.start_at), moment(spec.end_at)
    if start is not None and end is not None and end <= start:
        raise Invalid(f"The schedule ends ({spec.end_at}) before it starts ({spec.start_at}).")
    if spec.catch_up not in {"skip", "latest", "all"}:
        raise Invalid(f"'{spec.catch_up}' is not a catch-up policy. Use skip, latest or all.")
    if spec.cron is not None and next_due(spec, now) is None:
        raise Invalid(f"The schedule '{spec.cron}' has no time left between its start and end.")


def next_due(spec: ScheduleSpec, after: datetime) -> datetime | None:
    """The first due time later than `after`, UTC; None if there is none.

    A line whose minute or hour begins with `*` is due at every minute whose reading on the zone's
    clock matches: twice in the hour that autumn repeats, not at all in the one that spring leaves
    out. Any other line names fixed times: each is due once, at its first reading, or at the first
    minute after the gap that it falls into.

    Raises:
        Invalid: a bad cron line or an unknown time zone.
    """
    if spec.cron is None:
        return None
    start = moment(spec.start_at)
    if start is not None and start > after:
        after = start - timedelta(microseconds=1)
    zone, text = _zone(spec.zone), _ALIASES.get(spec.cron.strip().lower(), spec.cron.strip())
    find = _by_the_clock if any(map(_is_open, text.split()[:2])) else _at_fixed_times
    try:
        due = find(text, after.astimezone(UTC), zone)
    except CronSimError as error:
        raise Invalid(_cure(spec.cron, str(error))) from error
    end = moment(spec.end_at)
    return None if due is None or (end is not None and due > end) else due


def _is_open(field: str) -> bool:
    return field.startswith("*")


def _readings(text: str, after: datetime) -> Iterator[datetime]:
    """The readings of a clock that the line matches, later than `after`, all without a zone.

    In a zone, cronsim misses times where the clock moves by half an hour, and after the repeated
    hour it may name one that is over: what zones do is decided here.
    """
    if len(text.split()) != _FIELDS:
        raise CronSimError("it needs five fields")
    return CronSim(text, after)


def _by_the_clock(text: str, after: datetime, zone: ZoneInfo) -> datetime | None:
    """The first minute whose reading matches: look through one offset of the zone at a time."""
    offset = _offset(after, zone)
    while True:
        reading = next(_readings(text, (after + offset).replace(tzinfo=None)), None)
        if reading is None:
            return None
        due = reading.replace(tzinfo=UTC) - offset
        change = _next_change(after + _SECOND, due, zone, offset)
        if change is None:
            return due
        after, offset = change - _SECOND, _offset(change, zone)


def _at_fixed_times(text: str, after: datetime, zone: ZoneInfo) -> datetime | None:
    """The first reading that comes later than `after` when each counts only once."""
    for reading in _readings(text, after.astimezone(zone).replace(tzinfo=None)):
        there = reading
        while (due := _first(there, zone)) is None:
            there += _MINUTE
        if due > after:
            return due
    return None


def _first(reading: datetime, zone: ZoneInfo) -> datetime | None:
    """When the zone's clock shows it for the first time; None if it never does."""
    due = reading.replace(tzinfo=zone, fold=0).astimezone(UTC)
    return due if due.astimezone(zone).replace(tzinfo=None) == reading else None


def _next_change(
    after: datetime, until: datetime, zone: ZoneInfo, offset: timedelta
) -> datetime | None:
    """The first second in [after, until] whose offset is another one; None if all are the same."""
    low = after
    while low <= until:
        high = min(low + _DAY, until)
        if _offset(low, zone) != offset:
            return low
        if _offset(high, zone) != offset:
            while high - low > _SECOND:
                middle = low + (high - low) // 2
                low, high = (middle, high) if _offset(middle, zone) == offset else (low, middle)
            return high.replace(microsecond=0)
        if high == until:
            break
        low = high
    return None


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(
            f"There is no time zone '{name}'. Use a name such as Europe/Paris."
        ) from error


def _cure(cron: str, why: str) -> str:
    return (
        f"'{cron}' is not a schedule ({why}). Write five fields: minute hour day month weekday,"
        " for example `0 6 * * 1-5`."
    )
