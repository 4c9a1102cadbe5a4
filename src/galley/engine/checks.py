"""Checks: a variable compared with a metric, or an expression over variables, as a gate.

A metric is a value, the name of a variable, or `{"history": "previous"}` respectively
`{"history": "average", "last": 10}` over the values of earlier runs (oldest first). Expressions
of a check with kept history may read `previous` and `average`. While there is no earlier value,
a check that needs one passes and says so.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from math import isfinite
from typing import Any

import msgspec

from galley.core.recipes.spec import PAST, CheckSpec
from galley.core.runs.task import CheckResult
from galley.engine import expressions
from galley.engine.expressions import ExpressionError

PHRASES = {
    "eq": "equal-to",
    "ne": "not-equal-to",
    "gt": "greater-than",
    "ge": "greater-than-equal-to",
    "lt": "less-than",
    "le": "less-than-equal-to",
}
"""How comparisons read in results; clients parse these words."""

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_FAILED = {"stop": "failed", "warn": "warning", "log": "logged"}
_TRUE = frozenset({"true", "yes", "y", "on", "1", "t"})
_FALSE = frozenset({"false", "no", "n", "off", "0", "f", ""})
_DATES = ("%Y%m%d", "%Y/%m/%d", "%d.%m.%Y", "%Y-%m-%d %H:%M:%S", "%Y%m%d%H%M%S")
_LONGEST_VALUE = 200
_NO_PAST = "no earlier value to compare with"
_MISSING: Any = object()


class CheckFault(ValueError):
    """The check could not be made: a value is missing or is not what it should be."""


def evaluate(
    check: CheckSpec,
    variables: Mapping[str, Any],
    history: Sequence[Any] = (),
    *,
    name: str | None = None,
    place: tuple[str, str] = ("notebook", ""),
) -> CheckResult:
    """Make one check; `name` is what the result is called, else the check's own name.

    A check that cannot be made (no such variable, not a number, ...) counts as failed and says
    why. With the action `log` the result is always `logged`. Of `history` only what the check's
    type admits is looked at, and only such a value is kept for later runs.
    """
    value: Any = None
    metric: Any = None
    history = [past for past in history if _is_kept(past, check.convert)]
    try:
        if check.expression is not None:
            value, passed, text = _expression(check, variables, history)
        else:
            value, metric, passed, text = _comparison(check, variables, history)
    except (CheckFault, ExpressionError) as fault:
        passed, text = False, str(fault)
        value = variables.get(check.variable) if check.variable else None
    status = "passed" if passed else _FAILED[check.action]
    return CheckResult(
        name=name or check.name,
        status="logged" if check.action == "log" else status,
        action=check.action,
        text=text,
        value=_plain(value),
        metric=_plain(metric),
        place=place,
        description=check.description,
        keeps_history=check.keep_history and _is_kept(value, check.convert),
    )


def compare(kind: str, left: Any, right: Any, convert: str | None) -> bool:
    """Whether two values compare so, after conversion.

    Raises:
        CheckFault: they cannot be converted or compared.
    """
    act = _COMPARE.get(kind)
    if act is None:
        raise CheckFault(f"{kind} is no comparison; use one of {', '.join(_COMPARE)}")
    left, right = converted(left, convert), converted(right, convert)
    try:
        return bool(act(left, right))
    except TypeError as error:
        raise CheckFault(
            f"{_shown(left)} ({_kind(left)}) and {_shown(right)} ({_kind(right)}) cannot be"
            " compared; give the check a type"
        ) from error


def converted(value: Any, convert: str | None) -> Any:
    """A value as `integer`, `float`, `string`, `date` or `boolean`; None leaves it as it is.

    Raises:
        CheckFault: it is not one.
    """
    if convert is None:
        return value
    maker = _CONVERSIONS.get(convert)
    if maker is None:
        raise CheckFault(f"{convert} is no type; use one of {', '.join(_CONVERSIONS)}")
    try:
        return maker(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckFault(f"{_shown(value)} is not {_ARTICLES[convert]}") from error


def _comparison(
    check: CheckSpec, variables: Mapping[str, Any], history: Sequence[Any]
) -> tuple[Any, Any, bool, str]:
    if not check.variable:
        raise CheckFault("the check names no variable")
    if check.variable not in variables:
        raise CheckFault(f"the variable {check.variable} has no value")
    value = variables[check.variable]
    if check.compare is None:
        return value, None, bool(value), f"{check.variable}={_shown(value)}"
    metric, label = _metric(check.metric, variables, history)
    left = converted(value, check.convert)
    if metric is _MISSING:
        return left, None, True, f"{_shown(left)} ({_NO_PAST})"
    right = metric if _is_average(check) else converted(metric, check.convert)
    passed = compare(check.compare, left, right, None)
    text = f"{_shown(left)} {PHRASES[check.compare]} {label}{_shown(right)}"
    return left, right, passed, text


def _is_average(check: CheckSpec) -> bool:
    """Whether the metric is an average: a number, also where the values are whole ones."""
    return isinstance(check.metric, dict) and check.metric.get("history") == "average"


def _metric(metric: Any, variables: Mapping[str, Any], history: Sequence[Any]) -> tuple[Any, str]:
    """What to compare with, and what stands before it in the text."""
    if isinstance(metric, dict) and "history" in metric:
        kind = metric["history"]
        found = _past(kind, history, metric.get("last"))
        return found, f"{kind}="
    if isinstance(metric, str) and metric in variables:
        return variables[metric], f"{metric}="
    return metric, ""


def _past(kind: str, history: Sequence[Any], last: Any) -> Any:
    """The value of the run before, or the average of earlier ones; _MISSING if there is none."""
    if not history:
        return _MISSING
    if kind == "previous":
        return history[-1]
    if kind != "average":
        raise CheckFault(f"{kind} is no history; use previous or average")
    numbers = [converted(value, "float") for value in history if _is_kept(value, "float")]
    if not numbers:
        raise CheckFault("the earlier values are no numbers, so they have no average")
    chosen = numbers[-int(last) :] if last else numbers
    return sum(chosen) / len(chosen)


def _is_kept(value: Any, convert: str | None) -> bool:
    """Whether the value can be one of a history: there is one, and it is of the check's type."""
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return False
    try:
        converted(value, convert)
    except CheckFault:
        return False
    return True


def _expression(
    check: CheckSpec, variables: Mapping[str, Any], history: Sequence[Any]
) -> tuple[Any, bool, str]:
    text = check.expression or ""
    names = expressions.names_in(text)
    kinds = [kind for kind in PAST if check.keep_history and kind in names]
    wanted = [kind for kind in kinds if kind not in variables]
    if wanted and not history:
        return _looked_at(check, variables, None), True, f"{text} ({_NO_PAST})"
    known = {**{kind: _past(kind, history, None) for kind in wanted}, **variables}
    value = expressions.evaluate(text, known)
    if len(names) == 1 and text.strip() == names[0]:
        return value, bool(value), f"{names[0]}={_shown(value)}"
    used = ", ".join(f"{name}={_shown(known[name])}" for name in names if name in known)
    said = f"{text} ({used})" if used else text
    return _looked_at(check, variables, value), bool(value), said


def _looked_at(check: CheckSpec, variables: Mapping[str, Any], otherwise: Any) -> Any:
    """What an expression's check is about: where it keeps a history, the variable that it names."""
    if check.keep_history and check.variable is not None and check.variable in variables:
        return variables[check.variable]
    return otherwise


def _integer(value: Any) -> int:
    if isinstance(value, bool) or value is None:
        raise ValueError(value)
    if isinstance(value, str):
        text = value.strip()
        try:
            return int(text)
        except ValueError:
            value = float(text)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or value is None:
        raise ValueError(value)
    return float(value)


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()


def _date(value: Any) -> datetime:
    """A moment; a day is its first moment, and one without a zone is UTC."""
    if isinstance(value, datetime):
        found = value
    elif isinstance(value, date):
        found = datetime.combine(value, time())
    else:
        found = _read_date(str(value).strip())
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _read_date(text: str) -> datetime:
    for form in _DATES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return datetime.fromisoformat(text)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(value)


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "float": _float,
    "string": _string,
    "date": _date,
    "boolean": _boolean,
}
_ARTICLES = {
    "integer": "an integer",
    "float": "a number",
    "string": "a text",
    "date": "a date",
    "boolean": "true or false",
}


def _kind(value: Any) -> str:
    kinds = {str: "text", int: "integer", float: "number", bool: "boolean", type(None): "nothing"}
    return kinds.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    """A value in a result's one line."""
    if isinstance(value, datetime):
        text = value.date().isoformat() if value.time() == time() else value.isoformat()
    elif isinstance(value, str):
        text = value
    else:
        text = _string(value)
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_VALUE else f"{line[:_LONGEST_VALUE]}..."


def _plain(value: Any) -> Any:
    """A value that JSON can hold."""
    return msgspec.to_builtins(value, enc_hook=str)
