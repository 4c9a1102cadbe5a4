"""Schedules of recipes: `now`, five-field cron, or an older ISO 8601 repeat, in a time zone."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from galley.core.errors import Invalid
from galley.core.recipes.formats.reading import Section
from galley.core.runs.plan import Limits, ScheduleSpec
from galley.core.runs.schedule import check_schedule, moment

_REPEAT = re.compile(r"R(?P<count>-?\d*)/(?:(?P<start>[^/]*)/)?(?P<period>P[^/]+)\Z", re.IGNORECASE)
_DURATION = re.compile(
    r"P(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?\Z",
    re.IGNORECASE,
)
_CRON_FIELDS = 5
_SECONDS_FIELDS = 6
_HOUR, _DAY = 60, 24 * 60
_LAST_COMMON_DAY = 28
_CURE = "Write five fields: minute hour day month weekday, for example `0 6 * * 1-5`."
_ALSO = (
    "start", "end", "catch-up", "catch-up-limit", "description",
    "name", "owner", "async",
)  # fmt: skip
"""Asked for only with some schedules; the last three are of old recipes and say nothing to us."""
_LATER = ("epsilon",)
_CATCH_UP = ("skip", "latest", "all")


@dataclass(frozen=True, slots=True)
class Settings:
    """One entry of the schedules' list: when, and what the run may use."""

    schedule: ScheduleSpec | None = None
    limits: Limits = field(default_factory=Limits)
    max_parallel: int | None = None


def read_settings(section: Section, now: datetime) -> Settings:
    """The entry, checked; `schedule` None means: resources only, or run now."""
    epsilon = section.text("epsilon")
    if epsilon and _minutes(epsilon) is None and not _DURATION.match(epsilon):
        section.fault(f"is '{epsilon}', no ISO 8601 duration; write such as PT15M.", "epsilon")
    limits = Limits(
        memory_mb=section.whole("max-ram", minimum=1),
        disk_mb=section.whole("max-disk", minimum=1),
    )
    schedule = _schedule(section)
    if schedule is not None:
        schedule = _checked(section, schedule, now)
    found = Settings(schedule, limits, section.whole("max-threads", minimum=1))
    section.warn_of_unknown(also=_ALSO, later=_LATER)
    return found


def convert_repeat(text: str, zone: str) -> ScheduleSpec:
    """An ISO 8601 repeating interval as a cron schedule.

    Raises:
        Invalid: it is no such interval, or cron cannot say it; the message names the cure.
    """
    match = _REPEAT.match(text.strip())
    minutes = _minutes(match["period"]) if match else None
    if match is None or not _DURATION.match(match["period"]):
        raise Invalid(f"'{text}' is no repeating interval such as R/2026-11-23T06:00:00Z/PT24H.")
    start = moment(_aware_text(match["start"])) if match["start"] else None
    local = (start or datetime(2000, 1, 1, tzinfo=UTC)).astimezone(_zone(zone))
    if start is None:
        local = local.replace(hour=0, minute=0)
    cron = _cron_of(match["period"], minutes, local)
    if cron is None:
        raise Invalid(
            f"'{text}' repeats every {match['period']}, which five cron fields cannot say. {_CURE}"
        )
    return ScheduleSpec(
        cron=cron,
        zone=zone,
        start_at=start.isoformat() if start else None,
        end_at=_end(match["count"], start, minutes, text),
    )


def _schedule(section: Section) -> ScheduleSpec | None:
    text = section.text("schedule").strip()
    zone = section.text("scheduleTimeZone", "schedule-time-zone", default="UTC").strip() or "UTC"
    if not text or text.lower() == "now":
        return None
    if text[0] in "Rr" and "/" in text:
        try:
            return convert_repeat(text, zone)
        except Invalid as error:
            section.fault(f"cannot be: {error.message}", "schedule")
            return None
    fields = len(text.split())
    if fields == _SECONDS_FIELDS:
        section.fault(
            f"'{text}' has six fields: nothing runs more often than once a minute. {_CURE}",
            "schedule",
        )
        return None
    if fields != _CRON_FIELDS and not text.startswith("@"):
        section.fault(f"'{text}' is no schedule. {_CURE}", "schedule")
        return None
    catch_up = section.text("catch-up", default="skip")
    if catch_up not in _CATCH_UP:
        section.fault(f"is '{catch_up}'; write one of {', '.join(_CATCH_UP)}.", "catch-up")
        catch_up = "skip"
    return ScheduleSpec(
        cron=text,
        zone=zone,
        start_at=section.name("start"),
        end_at=section.name("end"),
        catch_up=catch_up,
        catch_up_limit=section.whole("catch-up-limit", minimum=1, maximum=1000) or 10,
    )


def _checked(section: Section, schedule: ScheduleSpec, now: datetime) -> ScheduleSpec | None:
    try:
        check_schedule(schedule, now)
    except Invalid as error:
        section.fault(f"cannot be: {error.message}", "schedule")
        return None
    return schedule


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(
            f"There is no time zone '{name}'. Use a name such as Europe/Paris."
        ) from error


def _aware_text(text: str) -> str:
    return text.upper().replace("Z", "+00:00")


def _minutes(period: str) -> int | None:
    """A period of weeks, days, hours and minutes in minutes; None if it has other parts."""
    match = _DURATION.match(period.strip())
    if match is None or match["years"] or match["months"] or float(match["seconds"] or 0) % 60:
        return None
    parts = {name: int(match[name] or 0) for name in ("weeks", "days", "hours", "minutes")}
    days = parts["weeks"] * 7 + parts["days"]
    seconds = int(float(match["seconds"] or 0))
    return days * _DAY + parts["hours"] * _HOUR + parts["minutes"] + seconds // 60


def _cron_of(  # noqa: PLR0911 - one answer per kind of period
    period: str, minutes: int | None, start: datetime
) -> str | None:
    if minutes is None:
        return _calendar_cron(period, start)
    if minutes <= 0:
        return None
    if minutes < _HOUR and _HOUR % minutes == 0:
        return f"{_every(start.minute % minutes, minutes, _HOUR)} * * * *"
    if minutes % _HOUR == 0 and minutes < _DAY and _DAY % minutes == 0:
        hours = minutes // _HOUR
        return f"{start.minute} {_every(start.hour % hours, hours, 24)} * * *"
    if minutes == _DAY:
        return f"{start.minute} {start.hour} * * *"
    if minutes == 7 * _DAY:
        return f"{start.minute} {start.hour} * * {start.isoweekday() % 7}"
    return None


def _calendar_cron(period: str, start: datetime) -> str | None:
    parts = _DURATION.match(period)
    if parts is None or start.day > _LAST_COMMON_DAY:
        return None
    given = {name: int(float(value)) for name, value in parts.groupdict().items() if value}
    if given == {"months": 1}:
        return f"{start.minute} {start.hour} {start.day} * *"
    if given in ({"years": 1}, {"months": 12}):
        return f"{start.minute} {start.hour} {start.day} {start.month} *"
    return None


def _every(first: int, step: int, size: int) -> str:
    if step == 1:
        return "*"
    return f"*/{step}" if first == 0 else ",".join(map(str, range(first, size, step)))


def _end(count: str, start: datetime | None, minutes: int | None, text: str) -> str | None:
    """When a bounded repeat is over."""
    if count in {"", "-1"}:
        return None
    if start is None or minutes is None or int(count) < 1:
        raise Invalid(
            f"'{text}' repeats {count} times, which needs a start and a period in days or less."
            " Write R/ and give the schedule an `end`."
        )
    return (start + timedelta(minutes=minutes * (int(count) - 1))).isoformat()
