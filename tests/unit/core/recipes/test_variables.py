from datetime import UTC, datetime
from typing import Any

import pytest

from galley.core.recipes.faults import Faults
from galley.core.recipes.formats import system
from galley.core.recipes.variables import Resolved, gather, resolve, resolve_deferred

SYSTEM = {"CurrentKitchen": "dev", "now": datetime(2026, 11, 23, tzinfo=UTC)}


def resolved(
    base: dict[str, Any],
    variation: dict[str, Any] | None = None,
    kitchen: dict[str, Any] | None = None,
    order: dict[str, Any] | None = None,
) -> tuple[Resolved, Faults]:
    faults = Faults()
    levels = [
        ("base", "variables.json", "variable-list", base),
        ("variation", "variations.json", "override-setting-list.s", variation or {}),
    ]
    above = [("kitchen", kitchen or {}), ("parameter", order or {})]
    found = gather(levels, above, system.NAMES, faults)
    return resolve(found, SYSTEM, system.NAMES, faults), faults


def test_the_highest_level_wins_and_is_named() -> None:
    found, faults = resolved(
        {"a": 1, "b": 1, "c": 1, "d": 1}, {"b": 2, "c": 2, "d": 2}, {"c": 3, "d": 3}, {"d": 4}
    )
    assert found.values == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert found.origins == {"a": "base", "b": "variation", "c": "kitchen", "d": "parameter"}
    assert not faults.issues


def test_a_dictionary_is_overridden_as_a_whole() -> None:
    found, _ = resolved({"db": {"host": "a", "port": 1}}, None, {"db": {"host": "b"}})
    assert found.values == {"db": {"host": "b"}}


def test_variables_use_other_variables_and_keep_their_kinds() -> None:
    found, faults = resolved(
        {
            "a": "{{b}}/{{n}}",
            "b": "{{c}}!",
            "c": "x",
            "n": 5,
            "stamp": "{{date_format(now, '%Y%m%d')}}",
            "where": "{{CurrentKitchen}}",
            "l": ["{{c}}", 1, {"k": "{{n}}"}],
        },
        {"c": "y{{n}}"},
    )
    assert not faults.issues
    assert found.values == {
        "a": "y5!/5",
        "b": "y5!",
        "c": "y5",
        "n": 5,
        "stamp": "20261123",
        "where": "dev",
        "l": ["y5", 1, {"k": "5"}],
    }
    assert found.uses_clock


def test_what_comes_from_above_is_data_and_never_rendered() -> None:
    found, faults = resolved(
        {"a": "{{p}}", "b": "{{a}}", "p": "x", "k": ""}, None, {"k": "{{a}}"}, {"p": "{{7*7}}"}
    )
    assert not faults.issues
    assert found.values == {"a": "{{7*7}}", "b": "{{7*7}}", "p": "{{7*7}}", "k": "{{a}}"}


def test_a_dictionary_may_use_its_own_entries() -> None:
    found, faults = resolved(
        {"db": {"url": "pg://{{db.host}}/{{db.name}}", "host": "{{h}}", "name": "n"}, "h": "x"}
    )
    assert not faults.issues
    assert found.values["db"] == {"url": "pg://x/n", "host": "x", "name": "n"}


def test_circles_are_named() -> None:
    _, faults = resolved({"a": "{{b}}", "b": "{{c}}", "c": "{{a}}"})
    assert "a -> b -> c -> a" in faults.issues[0].description


def test_a_variable_that_only_uses_itself_is_a_fault() -> None:
    _, faults = resolved({"a": "{{a}}"})
    assert faults.has_errors


def test_names_that_nobody_defines_are_kept_for_the_steps_to_explain() -> None:
    found, faults = resolved({"a": "x{{rows}}", "b": "{{a}}"})
    assert not faults.issues
    assert found.deferred == {"a": "x{{rows}}", "b": "{{a}}"}
    assert list(found.unknown) == ["rows"]
    done = resolve_deferred(found.deferred, {"rows": 3}, system.NAMES, faults)
    assert done == {"a": "x3", "b": "x3"}


def test_names_of_a_run_wait_for_it() -> None:
    found, faults = resolved({"a": "{{CurrentOrderRunId}}-{{x}}", "x": 1})
    assert not faults.issues
    assert not found.unknown
    known = {"x": 1, "CurrentOrderRunId": "{{x}}"}
    assert resolve_deferred(found.deferred, known, system.NAMES, faults) == {"a": "{{x}}-1"}
    assert resolve_deferred(found.deferred, {"x": 1}, system.NAMES, Faults()) == {}


@pytest.mark.parametrize(
    ("base", "override", "kinds"),
    [
        (10, {"a": 1}, ("object", "number")),
        (10, "many", ("text", "number")),
        (10, [1], ("list", "number")),
        (10, True, ("true/false", "number")),
        ("x", {"a": 1}, ("object", "text")),
        ("x", [], ("list", "text")),
        ({"a": 1}, 5, ("number", "object")),
        ({"a": 1}, "text", ("text", "object")),
        ({"a": 1}, "[1]", ("text", "object")),
        ([1], {"a": 1}, ("object", "list")),
        (True, 7, ("number", "true/false")),
        (True, "maybe", ("text", "true/false")),
    ],
)
def test_an_override_of_another_kind_is_refused_with_both_kinds(
    base: Any, override: Any, kinds: tuple[str, str]
) -> None:
    _, faults = resolved({"limit": base}, None, None, {"limit": override})
    issue = faults.issues[0]
    assert issue.severity == "error"
    assert issue.file == "the order's parameters"
    assert "limit" in issue.description
    assert all(kind in issue.description for kind in kinds)


@pytest.mark.parametrize(
    ("base", "override", "expected"),
    [
        (10, "11", "11"),
        (10, 1.5, 1.5),
        ("x", 5, 5),
        ("x", False, False),
        (True, "false", "false"),
        ({"a": 1}, '{"a": 2}', {"a": 2}),
        ([1], "[2]", [2]),
        ({"a": 1}, "#{vault://x/y}", "#{vault://x/y}"),
        (None, {"a": 1}, {"a": 1}),
        (10, None, None),
    ],
)
def test_an_override_that_fits_is_taken(base: Any, override: Any, expected: Any) -> None:
    found, faults = resolved({"limit": base}, None, {"limit": override})
    assert not faults.issues
    assert found.values["limit"] == expected


@pytest.mark.parametrize("name", ["1a", "a-b", "a b", "", "é", "a.b"])
def test_a_bad_name_is_refused(name: str) -> None:
    _, faults = resolved({name: 1})
    assert "name of a variable" in faults.issues[0].description


def test_system_names_cannot_be_taken() -> None:
    found, faults = resolved({"CurrentKitchen": "mine", "a": "{{CurrentKitchen}}"})
    assert found.values["a"] == "dev"
    assert [issue.severity for issue in faults.issues] == ["error"]
    assert "only the server sets" in faults.issues[0].description
    _, faults = resolved({"a": "x"}, None, None, {"now": "y"})
    assert faults.issues[0].description.startswith("`now` is a system variable")


def test_a_huge_value_is_refused() -> None:
    _, faults = resolved({"a": "x"}, None, None, {"a": "y" * 1_000_001})
    assert "larger than" in faults.issues[0].description
    _, faults = resolved({"a": "x"}, None, None, {"a": "y" * 1_000_000})
    assert not faults.issues
