from datetime import UTC, date, datetime

import pytest

from galley.core.recipes.spec import CheckSpec
from galley.engine.checks import CheckFault, compare, converted, evaluate

VARIABLES = {"rows": 12, "limit": 10, "text": "12", "share": 0.5, "day": "2026-11-24", "none": None}


def check(**more):
    return CheckSpec(**{"name": "c", "action": "stop", "variable": "rows", **more})


@pytest.mark.parametrize(
    ("kind", "metric", "passes", "text"),
    [
        ("eq", 12, True, "12 equal-to 12"),
        ("ne", 12, False, "12 not-equal-to 12"),
        ("gt", "limit", True, "12 greater-than limit=10"),
        ("gt", 12, False, "12 greater-than 12"),
        ("ge", 12, True, "12 greater-than-equal-to 12"),
        ("ge", 13, False, "12 greater-than-equal-to 13"),
        ("lt", 13, True, "12 less-than 13"),
        ("lt", 12, False, "12 less-than 12"),
        ("le", 12, True, "12 less-than-equal-to 12"),
        ("le", "limit", False, "12 less-than-equal-to limit=10"),
    ],
)
def test_every_comparison_and_its_text(kind, metric, passes, text):
    result = evaluate(check(compare=kind, metric=metric), VARIABLES)
    assert (result.status, result.text) == ("passed" if passes else "failed", text)
    assert result.value == 12
    assert result.metric == (10 if metric == "limit" else metric)


@pytest.mark.parametrize(
    ("action", "metric", "status"),
    [
        ("stop", 0, "passed"), ("stop", 99, "failed"), ("warn", 0, "passed"),
        ("warn", 99, "warning"), ("log", 0, "logged"), ("log", 99, "logged"),
    ],
)  # fmt: skip
def test_what_a_failure_does(action, metric, status):
    result = evaluate(check(action=action, compare="gt", metric=metric), VARIABLES)
    assert (result.status, result.action) == (status, action)


@pytest.mark.parametrize(
    ("convert", "value", "expected"),
    [
        ("integer", "12", 12), ("integer", "12.0", 12), ("integer", 12.0, 12),
        ("integer", " 7 ", 7), ("integer", "9007199254740993", 9007199254740993),
        ("float", "1.5", 1.5), ("float", 3, 3.0), ("string", 12, "12"), ("string", None, "null"),
        ("string", {"a": [1]}, '{"a":[1]}'), ("boolean", "Yes", True), ("boolean", 0, False),
        ("boolean", "off", False),
        ("date", "2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("date", "20261124", datetime(2026, 11, 24, tzinfo=UTC)),
        ("date", date(2026, 11, 24), datetime(2026, 11, 24, tzinfo=UTC)),
        ("date", "2026-11-24T10:00:00Z", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        (None, "12", "12"),
    ],
)  # fmt: skip
def test_conversions(convert, value, expected):
    assert converted(value, convert) == expected


@pytest.mark.parametrize(
    ("convert", "value", "words"),
    [
        ("integer", "abc", "abc is not an integer"), ("integer", 1.5, "1.5 is not an integer"),
        ("integer", True, "true is not an integer"), ("integer", None, "null is not an integer"),
        ("integer", "inf", "inf is not an integer"), ("float", "x", "x is not a number"),
        ("date", "yesterday", "yesterday is not a date"),
        ("boolean", "maybe", "maybe is not true or false"),
        ("money", "1", "money is no type"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_says_so(convert, value, words):
    with pytest.raises(CheckFault, match=words):
        converted(value, convert)


def test_text_and_numbers_are_not_compared_by_accident():
    result = evaluate(check(variable="text", compare="gt", metric=10), VARIABLES)
    assert result.status == "failed"
    assert "12 (text) and 10 (integer) cannot be compared; give the check a type" in result.text
    typed = check(variable="text", compare="gt", metric=10, convert="integer")
    assert evaluate(typed, VARIABLES).status == "passed"


def test_dates_compare_and_read_well():
    spec = check(variable="day", compare="lt", metric="2027-01-01", convert="date")
    result = evaluate(spec, VARIABLES)
    assert (result.status, result.text) == ("passed", "2026-11-24 less-than 2027-01-01")


def test_a_missing_variable_fails_the_check():
    result = evaluate(check(variable="nope", compare="gt", metric=1), VARIABLES)
    assert (result.status, result.text) == ("failed", "the variable nope has no value")
    assert evaluate(check(variable=None, compare="gt", metric=1), VARIABLES).status == "failed"
    with pytest.raises(CheckFault, match="no comparison"):
        compare("like", 1, 2, None)


@pytest.mark.parametrize(
    ("expression", "passes", "text"),
    [
        ("rows * 2 > limit", True, "rows * 2 > limit (rows=12, limit=10)"),
        ("rows < limit", False, "rows < limit (rows=12, limit=10)"),
        ("rows", True, "rows=12"),
        ("1 == 1", True, "1 == 1"),
    ],
)
def test_expressions(expression, passes, text):
    result = evaluate(check(variable=None, expression=expression), VARIABLES)
    assert (result.status, result.text) == ("passed" if passes else "failed", text)


def test_an_expression_that_cannot_be_evaluated_fails_the_check():
    result = evaluate(check(variable=None, expression="nope > 1"), VARIABLES)
    assert (result.status, result.text) == ("failed", "the variable nope has no value")


def test_a_log_check_tells_the_value():
    for spec in (check(action="log", expression="share"), check(action="log", variable="share")):
        result = evaluate(spec, VARIABLES)
        assert (result.status, result.text, result.value) == ("logged", "share=0.5", 0.5)


@pytest.mark.parametrize(
    ("metric", "history", "status", "text"),
    [
        ({"history": "previous"}, [5, 9], "passed", "12 greater-than previous=9"),
        ({"history": "average"}, [10, 20], "failed", "12 greater-than average=15.0"),
        ({"history": "average", "last": 1}, [99, 10], "passed", "12 greater-than average=10.0"),
        ({"history": "previous"}, [], "passed", "12 (no earlier value to compare with)"),
        ({"history": "average"}, [], "passed", "12 (no earlier value to compare with)"),
        ({"history": "median"}, [1], "failed", "median is no history; use previous or average"),
        ({"history": "average"}, ["10", True, "n/a"], "passed", "12 greater-than average=10.0"),
        (
            {"history": "average"}, ["n/a"], "failed",
            "the earlier values are no numbers, so they have no average",
        ),
    ],
)  # fmt: skip
def test_history(metric, history, status, text):
    result = evaluate(check(compare="gt", metric=metric, keep_history=True), VARIABLES, history)
    assert (result.status, result.text) == (status, text)
    assert result.keeps_history


def test_an_average_of_whole_numbers_need_not_be_one():
    spec = check(compare="lt", metric={"history": "average"}, convert="integer", keep_history=True)
    result = evaluate(spec, {"rows": "12"}, [12, "13"])
    assert (result.status, result.text) == ("passed", "12 less-than average=12.5")
    assert (result.value, result.metric) == (12, 12.5)


def test_earlier_values_of_another_type_are_passed_over():
    spec = check(compare="gt", metric={"history": "previous"}, convert="integer", keep_history=True)
    assert evaluate(spec, VARIABLES, [4, "n/a", None]).text == "12 greater-than previous=4"
    assert evaluate(spec, VARIABLES, ["n/a"]).text == "12 (no earlier value to compare with)"


@pytest.mark.parametrize("value", [None, "n/a", float("nan")])
def test_a_value_that_is_none_of_the_type_is_not_kept(value):
    spec = check(compare="gt", metric=1, convert="float", keep_history=True)
    assert not evaluate(spec, {"rows": value}).keeps_history
    assert not evaluate(spec, {}).keeps_history
    assert evaluate(spec, {"rows": 0}).keeps_history


def test_a_check_that_keeps_no_history_says_so():
    assert not evaluate(check(compare="gt", metric=1), VARIABLES).keeps_history


def test_an_expression_reads_its_history():
    spec = check(
        variable=None, expression="rows < previous * 3 and rows > average", keep_history=True
    )
    assert evaluate(spec, VARIABLES, [4, 6]).status == "passed"


def test_an_expression_keeps_the_value_of_its_variable():
    spec = check(expression="rows <= previous", keep_history=True)
    first = evaluate(spec, VARIABLES)
    assert (first.status, first.value) == ("passed", 12)
    assert first.text == "rows <= previous (no earlier value to compare with)"
    second = evaluate(spec, VARIABLES, [first.value - 1])
    assert (second.status, second.value, second.keeps_history) == ("failed", 12, True)
    assert second.text == "rows <= previous (rows=12, previous=11)"
    assert not evaluate(spec, {}).keeps_history


def test_an_average_of_texts_is_explained_in_an_expression():
    spec = check(expression="rows > average", keep_history=True)
    assert "earlier values are no numbers" in evaluate(spec, VARIABLES, ["a"]).text


def test_a_variable_comes_before_history():
    spec = check(expression="previous == 3", keep_history=True)
    assert evaluate(spec, {"previous": 3, "rows": 1}, [9]).status == "passed"


def test_long_values_are_shortened_and_lines_joined():
    result = evaluate(check(variable="v", compare="eq", metric="x"), {"v": "a\n" + "b" * 5000})
    assert "\n" not in result.text
    assert len(result.text) < 300


def test_the_place_and_description_are_kept():
    spec = check(compare="gt", metric=1, description="enough")
    result = evaluate(spec, VARIABLES, place=("source", "orders"))
    assert (result.place, result.description, result.name) == (("source", "orders"), "enough", "c")
