from datetime import UTC, datetime, timedelta

import pytest

from galley.core.runs.states import AttemptState, OrderState, RunState, StepState
from galley.web import present

NOW = datetime(2026, 11, 23, 22, 51, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    "state", [*RunState, *StepState, *AttemptState, *OrderState, "passed", "warning", "logged"]
)
def test_every_state_has_a_word_an_icon_and_a_tone(state):
    look = present.look_of(state)
    assert look.word
    assert look.icon
    assert look.tone in {"good", "bad", "warn", "live", "idle", "off"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\N{EN DASH}"),
        (-1, "0.00 s"),
        (0.419, "0.42 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (86_400 * 2 + 3600 * 3, "2 d 03 h"),
    ],
)
def test_durations_read_in_the_unit_that_fits(seconds, text):
    assert present.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("before_s", "text"),
    [
        (1, "just now"),
        (59, "59 s ago"),
        (61, "1 min ago"),
        (7300, "2 h ago"),
        (200_000, "2 d ago"),
        (-7300, "in 2 h"),
        (-90 * 86_400 + 9, "in 90 d"),
    ],
)
def test_moments_read_as_how_long_ago(before_s, text):
    assert present.ago_text(NOW - timedelta(seconds=before_s), NOW) == text
    assert present.ago_text(None, NOW) == "never"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (38_204_118, "38.2 MB"),
        (482_113, "482 kB"),
        (5 * 10**9, "5.00 GB"),
        (7 * 10**15, "7000 TB"),
    ],
)
def test_sizes_have_three_figures(size, text):
    assert present.size_text(size) == text


def test_counts_are_grouped_by_thousands():
    assert present.count_text(336_776) == "336\u202f776"


def test_what_a_program_wrote_loses_its_terminal_tricks():
    assert present.plain_text("\x1b[31mred\x1b[0m \x1b]0;title\x07x") == "red x"
    assert present.plain_text("a\x00b\u202ec") == "a\ufffdb\ufffdc"
    assert present.plain_text("tab\tand\nline") == "tab\tand\nline"


def test_values_show_as_text_or_json_and_are_cut():
    assert present.value_text("vault://a/b") == "vault://a/b"
    assert present.value_text({"a": [1, None, True]}) == '{"a":[1,null,true]}'
    assert present.value_text("x" * 3000) == "x" * 2000 + "…"
    assert present.cut_text("abcdef", 4) == "abc…"
