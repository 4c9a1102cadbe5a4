"""The `tests` of a file: checks of variables, in object and in expression form."""

import ast
import re
from typing import Any

from galley.core.recipes.formats.reading import Section
from galley.core.recipes.spec import PAST, CheckSpec
from galley.core.recipes.values import kind_of
from galley.core.runs.task import MOST_RUNS

_NAME = re.compile(r"[A-Za-z0-9_./ \-]{1,256}\Z")
_ACTIONS = {"stop-on-error": "stop", "warning": "warn", "log": "log"}
_PREFIX = "test-contents-as-"
_CONVERSIONS = ("integer", "float", "string", "date", "boolean")
COMPARISONS = {
    "equal-to": "eq",
    "equals": "eq",
    "==": "eq",
    "=": "eq",
    "not-equal-to": "ne",
    "not-equals": "ne",
    "!=": "ne",
    "greater-than": "gt",
    ">": "gt",
    "greater-than-equal-to": "ge",
    "greater-than-or-equal-to": "ge",
    ">=": "ge",
    "less-than": "lt",
    "<": "lt",
    "less-than-equal-to": "le",
    "less-than-or-equal-to": "le",
    "<=": "le",
}
_SHOWN = (
    "equal-to, not-equal-to, greater-than, greater-than-equal-to, less-than, less-than-equal-to"
)


def read_checks(owner: Section) -> tuple[CheckSpec, ...]:
    """The checks below `tests`."""
    found = []
    for name, section in owner.sections("tests").items():
        if not _NAME.match(name):
            section.fault(
                "is no name for a test: use at most 256 letters, digits, underscores, dots or"
                " slashes."
            )
        if section.data:
            found.append(_check(name, section))
        else:
            section.fault("is empty; give the test a `test-variable` and a `test-logic`.")
    return tuple(found)


def may_keep_history(source: str) -> bool:
    """Whether a file that only a run can render may hold a check that looks back."""
    return "keep-history" in source or "historic-calculation" in source


def read_conversion(section: Section, key: str = "type") -> str | None:
    """What a value is converted to before it is compared, or None."""
    text = section.text(key).strip().lower()
    if not text:
        return None
    word = text.removeprefix(_PREFIX)
    if word not in _CONVERSIONS:
        choices = ", ".join(_PREFIX + known for known in _CONVERSIONS)
        section.fault(f"is '{text}'; write one of {choices}.", key)
        return None
    return word


def read_comparison(section: Section, key: str) -> str | None:
    """The comparison that a key names, in Galley's words."""
    text = section.text(key).strip()
    word = COMPARISONS.get(text.lower().replace("_", "-"))
    if word is None:
        said = f"is '{text}'" if text else "is missing"
        section.fault(f"{said}; write one of {_SHOWN}.", key)
    return word


def _check(name: str, section: Section) -> CheckSpec:
    action = section.text("action", default="stop-on-error").strip().lower()
    if action not in _ACTIONS:
        section.fault(f"is '{action}'; write stop-on-error, warning or log.", "action")
    variable = section.name("test-variable")
    logic = section.raw("test-logic")
    common: dict[str, Any] = {
        "name": name,
        "action": _ACTIONS.get(action, "stop"),
        "variable": variable,
        "convert": read_conversion(section),
        "description": section.text("description"),
        "keep_history": bool(section.flag("keep-history", default=False)),
        "over": section.texts("applies-to-keys"),
    }
    section.warn_of_unknown()
    if isinstance(logic, str) and logic.strip():
        _check_expression(section, logic)
        if common["keep_history"] and variable is None and _names(logic).intersection(PAST):
            section.fault(
                "is missing; name the variable whose earlier values the expression reads.",
                "test-variable",
            )
        return CheckSpec(**common, expression=logic.strip())
    if isinstance(logic, dict):
        return _comparison(section, common)
    if logic is None and variable is not None and common["action"] == "log":
        return CheckSpec(**common)
    if logic is None or logic == "":
        section.fault(
            "is missing; write an object with `test-compare` and `test-metric`, or an expression.",
            "test-logic",
        )
    else:
        section.fault(f"is a {kind_of(logic)}; write an object or an expression.", "test-logic")
    return CheckSpec(**common)


def _comparison(section: Section, common: dict[str, Any]) -> CheckSpec:
    logic = section.section("test-logic")
    compare = read_comparison(logic, "test-compare")
    if not logic.has("test-metric") and "test-metric" not in logic.data:
        logic.fault("is missing; give the value or the variable to compare with.", "test-metric")
    if common["variable"] is None:
        section.fault("is missing; name the variable to test.", "test-variable")
    metric = logic.raw("test-metric")
    logic.warn_of_unknown()
    if isinstance(metric, dict):
        metric = _historic(logic.section("test-metric"))
        common["keep_history"] = True
    return CheckSpec(**common, compare=compare, metric=metric)


def _historic(section: Section) -> dict[str, Any]:
    """A metric from earlier runs: `{"history": previous | average, "last": how many runs}`."""
    text = section.text("historic-calculation").strip().lower()
    word = {"previous-value": "previous", "previous": "previous", "average": "average"}.get(text)
    if word is None:
        section.fault(f"is '{text}'; write previous-value or average.", "historic-calculation")
    last = section.whole("last", "number-of-runs", minimum=1, maximum=MOST_RUNS)
    section.warn_of_unknown()
    return {"history": word or "previous", **({"last": last} if last else {})}


def _names(text: str) -> set[str]:
    """The names in an expression; none if it is faulty."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _check_expression(section: Section, text: str) -> None:
    try:
        ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is too deep"
        section.fault(
            f"is no expression ({reason}): {text.strip()[:80]}. Write one over variables, such as"
            " `bad_rows * 100 < all_rows`.",
            "test-logic",
        )
