"""What clients send to place an order.

Beside the vendor's own keys, order creation takes what its documentation names without spelling:
`schedule` (`now`, a cron line, or an object with `recurrence`, `start`, `end`, `zone`),
`infrastructure` (variables that name another bucket, schema or image), `source-date` (the date of
the data, also `date-of-source-data`), and `alerts` (event -> addresses, or addresses for all).
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AliasChoices, Field, field_validator, model_validator

from galley.core.errors import Invalid
from galley.core.runs.plan import ScheduleSpec
from galley.dialects.datakitchen.schemas import (
    Body,
    NodeName,
    Variables,
    alerts_of,
    structure_from_text,
)
from galley.kit.nearest import did_you_mean

_RECURRENCE = ("recurrence", "cron", "schedule")
_ZONE = ("zone", "scheduleTimeZone", "timezone")
_END = ("end", "expiration")
_SCHEDULE_KEYS = (*_RECURRENCE, *_ZONE, "start", *_END)


class ScheduleWish(Body):
    """A schedule override: a cron line between a start and an end, in a time zone.

    `recurrence` may also be called `cron` or `schedule`, `zone` also `scheduleTimeZone`. Times are
    ISO 8601 (without an offset: in `zone`) or milliseconds since 1970. Unlike elsewhere a key that
    is not known is refused: without it the order would run at once.
    """

    recurrence: str | None = Field(
        default=None,
        max_length=200,
        validation_alias=AliasChoices(*_RECURRENCE),
    )
    zone: str = Field(
        default="UTC",
        max_length=100,
        validation_alias=AliasChoices(*_ZONE),
    )
    start: str | None = Field(default=None, max_length=64)
    end: str | None = Field(default=None, max_length=64, validation_alias=AliasChoices(*_END))

    @model_validator(mode="before")
    @classmethod
    def _says_when(cls, value: Any) -> Any:
        """No key is a slip, and one of them tells a time."""
        if not isinstance(value, dict):
            return value
        for key in value:
            if key not in _SCHEDULE_KEYS:
                raise ValueError(
                    f"has no key {key[:100]!r}{did_you_mean(key, _SCHEDULE_KEYS)};"
                    f" there are {', '.join(_SCHEDULE_KEYS)}"
                )
        if all(value.get(key, "") in (None, "") for key in (*_RECURRENCE, "start")):
            raise ValueError(
                "says no time; write recurrence (or cron), such as 0 6 * * *, or start, or leave"
                " the schedule out"
            )
        return value

    @field_validator("start", "end", mode="before")
    @classmethod
    def _moment(cls, value: Any) -> Any:
        """Milliseconds become ISO 8601; text must be ISO 8601."""
        if isinstance(value, bool) or value is None:
            return value
        try:
            if isinstance(value, int | float):
                return datetime.fromtimestamp(value / 1000, UTC).isoformat()
            if isinstance(value, str):
                return datetime.fromisoformat(value).isoformat()
        except (ValueError, OverflowError, OSError) as error:
            raise ValueError(
                "must be ISO 8601, such as 2026-11-23T06:00:00+00:00, or milliseconds since 1970"
            ) from error
        return value

    def spec(self) -> ScheduleSpec:
        """The same in Galley's words. A start alone is one run at that minute.

        Raises:
            Invalid: an end without a recurrence, which would end nothing.
        """
        start, end = self._in_zone(self.start), self._in_zone(self.end)
        cron = (self.recurrence or "").strip()
        if cron not in {"", "now"}:
            return ScheduleSpec(
                cron=cron,
                zone=self.zone,
                start_at=start.isoformat() if start else None,
                end_at=end.isoformat() if end else None,
            )
        if end is not None:
            raise Invalid("schedule: an end needs a recurrence, such as 0 6 * * * (every morning).")
        return ScheduleSpec() if start is None else _once_at(start)

    def _in_zone(self, text: str | None) -> datetime | None:
        if text is None:
            return None
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
        try:
            return moment.replace(tzinfo=ZoneInfo(self.zone))
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise Invalid(
                f"schedule.zone: there is no zone {self.zone!r}; write one such as Europe/Paris."
            ) from error


def _once_at(start: datetime) -> ScheduleSpec:
    """A recurrence that has one due time: the first whole minute from `start` on."""
    minute = start.astimezone(UTC)
    if minute.second or minute.microsecond:
        minute = minute.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return ScheduleSpec(
        cron=f"{minute.minute} {minute.hour} {minute.day} {minute.month} *",
        start_at=minute.isoformat(),
        end_at=(minute + timedelta(seconds=1)).isoformat(),
        catch_up="latest",
    )


class NewOrder(Body):
    """The body of `order/create`, which may be absent altogether."""

    parameters: Variables = Field(default_factory=dict)
    schedule: ScheduleWish | None = None
    graph: list[list[NodeName]] | None = Field(
        default=None, validation_alias="graph-setting", max_length=20_000
    )
    infrastructure: Variables | None = Field(
        default=None,
        validation_alias=AliasChoices("infrastructure", "infrastructure-overrides"),
    )
    source_date: str | None = Field(
        default=None,
        max_length=64,
        validation_alias=AliasChoices("source-date", "date-of-source-data", "source_date"),
    )
    alerts: dict[str, list[str]] | None = Field(
        default=None,
        validation_alias=AliasChoices("alerts", "alert-destinations", "alert-destination"),
    )
    priority: int = Field(default=0, ge=-100, le=100)
    owner_run: str | None = Field(
        default=None, max_length=64, validation_alias="ingredient_owner_order_run"
    )

    @field_validator("schedule", mode="before")
    @classmethod
    def _schedule_of(cls, value: Any) -> Any:
        """A text is a recurrence; nothing at all leaves the variation's own."""
        value = structure_from_text(value)
        if isinstance(value, str):
            return {"recurrence": value} if value.strip() else None
        if value is None or isinstance(value, dict):
            return value
        raise ValueError(
            "write now, a cron line such as 0 6 * * *, or an object with recurrence, zone, start"
            " and end"
        )

    @field_validator("graph", mode="before")
    @classmethod
    def _edges_of(cls, value: Any) -> Any:
        """A node may stand without its list."""
        value = structure_from_text(value)
        if not isinstance(value, list):
            return value
        return [[edge] if isinstance(edge, str) else edge for edge in value]

    @field_validator("alerts", mode="before")
    @classmethod
    def _alerts_by_event(cls, value: Any) -> Any:
        """Destinations by Galley's event names; a bare list, or one address, is for every event."""
        value = structure_from_text(value)
        if value is None:
            return None
        try:
            return alerts_of(value)
        except Invalid as error:
            raise ValueError(str(error)) from error

    @field_validator("source_date")
    @classmethod
    def _date(cls, value: str | None) -> str | None:
        """A source date is a date or a moment, kept as it was written."""
        if value is not None:
            try:
                datetime.fromisoformat(value)
            except ValueError as error:
                raise ValueError("must be an ISO 8601 date, such as 2026-11-23") from error
        return value

    def schedule_spec(self) -> ScheduleSpec | None:
        """The schedule wished for; None where the variation's own applies."""
        return None if self.schedule is None else self.schedule.spec()

    def nodes(self) -> tuple[str, ...] | None:
        """The nodes of the wished graph, each once, in the order in which they stand."""
        if self.graph is None:
            return None
        return tuple(dict.fromkeys(node for edge in self.graph for node in edge))
