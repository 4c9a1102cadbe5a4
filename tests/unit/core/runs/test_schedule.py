"""Due times in zones, at the edges of summer time, and schedules that cannot be."""

from datetime import UTC, datetime

import pytest

from galley.core.errors import Invalid
from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.schedule import check_schedule, next_due

NOW = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)


def dues(spec: ScheduleSpec, after: datetime, count: int) -> list[str]:
    found = []
    at: datetime | None = after
    for _ in range(count):
        assert at is not None
        at = next_due(spec, at)
        found.append(at.isoformat() if at else "never")
    return found


def test_a_fixed_time_fires_once_on_the_long_night() -> None:
    spec = ScheduleSpec(cron="30 2 * * *", zone="Europe/Paris")
    assert dues(spec, NOW, 2) == ["2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"]


def test_a_time_in_the_spring_gap_fires_at_the_next_valid_minute() -> None:
    spec = ScheduleSpec(cron="30 2 * * *", zone="Europe/Paris")
    after = datetime(2027, 3, 27, 12, 0, tzinfo=UTC)
    assert dues(spec, after, 2) == ["2027-03-28T01:00:00+00:00", "2027-03-29T00:30:00+00:00"]


def test_asked_within_the_hour_that_comes_twice_a_fixed_time_is_not_over() -> None:
    spec = ScheduleSpec(cron="30 2 * * *", zone="Europe/Paris")
    after = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 2:15 for the second time
    assert dues(spec, after, 1) == ["2026-10-26T01:30:00+00:00"]


def test_where_the_clock_moves_by_half_an_hour_no_hour_is_left_out() -> None:
    spec = ScheduleSpec(cron="0 */3 * * *", zone="Australia/Lord_Howe")
    after = datetime(2026, 10, 3, 13, 0, tzinfo=UTC)
    assert dues(spec, after, 2) == ["2026-10-03T13:30:00+00:00", "2026-10-03T16:00:00+00:00"]


def test_a_list_with_a_range_and_names_is_fine_in_any_zone() -> None:
    spec = ScheduleSpec(cron="0 6,8-9 * jan-dec MON", zone="America/New_York")
    assert dues(spec, NOW, 3) == [
        "2026-10-26T10:00:00+00:00",
        "2026-10-26T12:00:00+00:00",
        "2026-10-26T13:00:00+00:00",
    ]


def test_start_and_end_bound_a_schedule() -> None:
    spec = ScheduleSpec(
        cron="@daily", start_at="2026-11-01T00:00:00+00:00", end_at="2026-11-02T00:00:00+00:00"
    )
    assert dues(spec, NOW, 3) == [
        "2026-11-01T00:00:00+00:00",
        "2026-11-02T00:00:00+00:00",
        "never",
    ]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (ScheduleSpec(cron="61 * * * *"), "61 * * * *"),
        (ScheduleSpec(cron="* * * *"), "five fields"),
        (ScheduleSpec(cron="* * * * * *"), "five fields"),
        (ScheduleSpec(cron="0 0 31 2 *"), "0 0 31 2 *"),
        (ScheduleSpec(cron="0 0 * * *", zone="Mars/Base"), "Mars/Base"),
        (ScheduleSpec(cron="0 0 * * *", zone="../etc/passwd"), "time zone"),
        (ScheduleSpec(cron="0 0 * * *", start_at="yesterday"), "yesterday"),
        (ScheduleSpec(cron="0 0 * * *", end_at="2020-01-01"), "no time left"),
        (ScheduleSpec(cron="0 0 * * *", start_at="2027-01-02", end_at="2027-01-01"), "before"),
        (ScheduleSpec(cron="0 0 * * *", catch_up="sometimes"), "sometimes"),
    ],
)
def test_a_schedule_that_cannot_be_says_what_to_mend(spec: ScheduleSpec, names: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_schedule(spec, NOW)
    assert names in caught.value.message
