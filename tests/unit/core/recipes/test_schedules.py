from datetime import UTC, datetime
from typing import Any

import pytest

from galley.core.errors import Invalid
from galley.core.recipes.faults import Faults
from galley.core.recipes.formats.reading import Section
from galley.core.recipes.formats.schedules import Settings, convert_repeat, read_settings

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def read(**entry: Any) -> tuple[Settings, list[str]]:
    faults = Faults()
    named = {name.replace("_", "-"): value for name, value in entry.items()}
    section = Section(named, "variations.json", "schedule-setting-list.s", faults)
    settings = read_settings(section, NOW)
    return settings, [i.description for i in faults.issues if i.severity == "error"]


@pytest.mark.parametrize("text", ["now", "NOW", "", " "])
def test_now_and_nothing_mean_once(text: str) -> None:
    settings, issues = read(schedule=text, max_ram=2048, max_disk="4096", max_threads=3)
    assert not issues
    assert settings.schedule is None
    assert (settings.limits.memory_mb, settings.limits.disk_mb) == (2048, 4096)
    assert settings.max_parallel == 3


@pytest.mark.parametrize(
    "cron",
    [
        "0 6 * * 1-5",
        "*/15 * * * *",
        "0 6,18 1-7 JAN-mar Mon,wed",
        "5,10-20 0 * * 7",
        "0 0 * * SUN",
        "0 0 29 2 *",
        "@daily",
    ],
)
def test_cron_lines_with_names_ranges_and_lists_are_taken(cron: str) -> None:
    settings, issues = read(schedule=cron, scheduleTimeZone="Europe/Paris")
    assert not issues
    assert settings.schedule is not None
    assert (settings.schedule.cron, settings.schedule.zone) == (cron, "Europe/Paris")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"schedule": "0 0 31 2 *"}, "0 0 31 2 *"),
        ({"schedule": "* * * * * *"}, "more often than once a minute"),
        ({"schedule": "0 25 * * *"}, "0 25 * * *"),
        ({"schedule": "0 6 * *"}, "no schedule"),
        ({"schedule": "every day"}, "no schedule"),
        (
            {"schedule": "0 6 * * *", "scheduleTimeZone": "Mars/Base"},
            "cannot be: There is no time zone 'Mars/Base'",
        ),
        ({"schedule": "0 6 * * *", "scheduleTimeZone": "../../etc/passwd"}, "time zone"),
        ({"schedule": "0 6 * * *", "end": "2020-01-01"}, "no time left"),
        ({"schedule": "0 6 * * *", "start": "soon"}, "'soon' is not a time"),
        ({"schedule": "0 6 * * *", "catch_up": "never"}, "skip, latest, all"),
        ({"schedule": {"a": 1}}, "write a text"),
        ({"schedule": "R/2026-01-01T00:00:00Z/PT30S"}, "every PT30S"),
        ({"schedule": "R/2026-01-01T00:00:00Z/P2D"}, "five cron fields cannot say"),
        ({"schedule": "R/yesterday/P1D"}, "'YESTERDAY' is not a time"),
        ({"schedule": "R/2026-01-01T00:00:00Z/soon"}, "no repeating interval"),
        ({"max_ram": "much"}, "write a number"),
        ({"max_ram": -1}, "at least 1"),
        ({"max_threads": 1.5}, "whole number"),
        ({"epsilon": "15 minutes"}, "ISO 8601 duration"),
    ],
)
def test_what_cannot_be_is_refused_with_its_cure(entry: dict[str, Any], says: str) -> None:
    _, issues = read(**entry)
    assert len(issues) == 1
    assert "schedule-setting-list.s" in issues[0]
    assert says in issues[0]


@pytest.mark.parametrize(
    ("text", "zone", "cron"),
    [
        ("R/2026-11-23T06:30:00Z/PT24H", "UTC", "30 6 * * *"),
        ("R/2026-11-23T06:30:00Z/P1D", "Europe/Paris", "30 7 * * *"),
        ("R/2026-11-23T06:30:00+01:00/P1D", "UTC", "30 5 * * *"),
        ("R/2026-11-23T06:30:00Z/P1W", "UTC", "30 6 * * 1"),
        ("R/2026-11-22T06:30:00Z/P7D", "UTC", "30 6 * * 0"),
        ("R/2026-11-23T01:30:00Z/PT6H", "UTC", "30 1,7,13,19 * * *"),
        ("R/2026-11-23T00:00:00Z/PT6H", "UTC", "0 */6 * * *"),
        ("R/2026-11-23T00:05:00Z/PT1H", "UTC", "5 * * * *"),
        ("R/2026-11-23T00:05:00Z/PT15M", "UTC", "5,20,35,50 * * * *"),
        ("R/2026-11-23T00:00:00Z/PT1M", "UTC", "* * * * *"),
        ("R/2026-11-23T00:00:00Z/PT3600S", "UTC", "0 * * * *"),
        ("R/2026-11-23T06:00:00Z/P1M", "UTC", "0 6 23 * *"),
        ("R/2026-11-23T06:00:00Z/P1Y", "UTC", "0 6 23 11 *"),
        ("R/PT24H", "UTC", "0 0 * * *"),
        ("R-1/2026-11-23T06:00:00Z/PT24H", "UTC", "0 6 * * *"),
    ],
)
def test_repeats_become_cron(text: str, zone: str, cron: str) -> None:
    found = convert_repeat(text, zone)
    assert (found.cron, found.zone, found.end_at) == (cron, zone, None)


def test_a_bounded_repeat_ends() -> None:
    found = convert_repeat("R3/2026-11-23T06:00:00Z/PT24H", "UTC")
    assert found.start_at == "2026-11-23T06:00:00+00:00"
    assert found.end_at == "2026-11-25T06:00:00+00:00"


@pytest.mark.parametrize(
    "text",
    [
        "R/2026-01-31T06:00:00Z/P1M",
        "R/2026-11-23T06:00:00Z/PT90M",
        "R/2026-11-23T06:00:00Z/P2M",
        "R/2026-11-23T06:00:00Z/PT0S",
        "R3/P1D",
        "R/x",
    ],
)
def test_repeats_that_cron_cannot_say_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        convert_repeat(text, "UTC")
    assert text in caught.value.message
