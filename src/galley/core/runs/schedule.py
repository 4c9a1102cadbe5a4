"""When a recurring order is due: cron lines in a time zone, between two moments."""

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

    On the autumn change a fixed time fires once, on the spring gap at the next valid minute.

    Raises:
        Invalid: a bad cron line or an unknown time zone.
    """
    if spec.cron is None:
        return None
    start = moment(spec.start_at)
    if start is not None and start > after:
        after = start - timedelta(microseconds=1)
    try:
        due = next(_line(spec.cron, after.astimezone(_zone(spec.zone))), None)
    except CronSimError as error:
        raise Invalid(_cure(spec.cron, str(error))) from error
    end = moment(spec.end_at)
    if due is None or (end is not None and due.astimezone(UTC) > end):
        return None
    return due.astimezone(UTC)


def _line(cron: str, after: datetime) -> CronSim:
    text = _ALIASES.get(cron.strip().lower(), cron.strip())
    if len(text.split()) != _FIELDS:
        raise CronSimError("it needs five fields")
    return CronSim(text, after)


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
