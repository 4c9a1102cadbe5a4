"""The functions that a template may call.

Plain functions only, never classes: a class would hand out its unguarded methods.
"""

import calendar
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date as _date
from datetime import datetime, timedelta
from typing import Any

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_MONTHS = 12
_MAX_ITEMS = 100_000
_MAX_DIGITS = 4_000

_Day = _date | datetime


def add_days(day: Any, count: Any) -> _Day:
    """The day `count` days later; earlier when negative."""
    return _day(day) + timedelta(days=int(count))


def add_weeks(day: Any, count: Any) -> _Day:
    """The day `count` weeks later."""
    return _day(day) + timedelta(weeks=int(count))


def add_months(day: Any, count: Any) -> _Day:
    """The same day `count` months later, or that month's last day."""
    start = _day(day)
    months = start.year * _MONTHS + start.month - 1 + int(count)
    year, month = months // _MONTHS, months % _MONTHS + 1
    return start.replace(
        year=year, month=month, day=min(start.day, calendar.monthrange(year, month)[1])
    )


def add_years(day: Any, count: Any) -> _Day:
    """The same day `count` years later; 29 February becomes 28 where there is none."""
    return add_months(day, int(count) * _MONTHS)


def date(year: Any, month: Any, day: Any) -> _date:
    """That calendar day."""
    return _date(int(year), int(month), int(day))


def date_format(day: Any, pattern: Any) -> str:
    """The day or moment written by a strftime pattern, such as `%Y%m%d`."""
    return _day(day).strftime(str(pattern))


def to_truth(value: Any = False) -> bool:
    """Whether text says yes (true, yes, on, 1, ...); other values by Python's rule."""
    return value.strip().lower() in _TRUE if isinstance(value, str) else bool(value)


def split(text: Any, separator: Any = None) -> list[str]:
    """The parts of a text between separators."""
    return str(text).split(None if separator is None else str(separator))


def to_integer(value: Any = 0, base: int = 10) -> int:
    """A whole number from text or a number."""
    if isinstance(value, str):
        if len(value) > _MAX_DIGITS:
            raise ValueError(f"int() takes at most {_MAX_DIGITS} digits")
        return int(value, base)
    return int(value)


def to_float(value: Any = 0.0) -> float:
    """A number with a fraction from text or a number."""
    return float(value)


def to_text(value: Any = "") -> str:
    """A value as text."""
    return str(value)


def to_list(items: Iterable[Any] = ()) -> list[Any]:
    """The items as a list."""
    return _bounded(items)


def to_dict(items: Any = (), **named: Any) -> dict[Any, Any]:
    """An object from pairs, another object or named values."""
    return dict(items, **named)


def to_tuple(items: Iterable[Any] = ()) -> tuple[Any, ...]:
    """The items, fixed."""
    return tuple(_bounded(items))


def distinct(items: Iterable[Any] = ()) -> list[Any]:
    """The items without repeats, in their order."""
    return list(dict.fromkeys(_bounded(items)))


def numbered(items: Iterable[Any], start: int = 0) -> list[tuple[int, Any]]:
    """The items with their numbers."""
    return list(enumerate(_bounded(items), start))


def paired(*lists: Iterable[Any]) -> list[tuple[Any, ...]]:
    """The items of several lists side by side, as many as the shortest has."""
    return list(zip(*(_bounded(items) for items in lists), strict=False))


def backwards(items: Iterable[Any]) -> list[Any]:
    """The items, last first."""
    return _bounded(items)[::-1]


def ordered(items: Iterable[Any], *, reverse: bool = False) -> list[Any]:
    """The items in order."""
    return sorted(_bounded(items), reverse=bool(reverse))


def power(base: Any, exponent: Any) -> Any:
    """`base` to the `exponent`; results of more than some thousand digits are refused."""
    if (
        isinstance(base, int)
        and isinstance(exponent, int)
        and abs(base) > 1
        and exponent * math.log10(abs(base)) > _MAX_DIGITS
    ):
        raise ValueError(f"the result would have more than {_MAX_DIGITS} digits")
    return base**exponent


def _is_any(items: Iterable[Any]) -> bool:
    """Whether one of the items is true."""
    return any(items)


def _are_all(items: Iterable[Any]) -> bool:
    """Whether all of the items are true."""
    return all(items)


def _bounded(items: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if len(found) >= _MAX_ITEMS:
            raise ValueError(f"more than {_MAX_ITEMS} items")
        found.append(item)
    return found


def _day(value: Any) -> _Day:
    if isinstance(value, _date):
        return value
    try:
        return datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ValueError(f"'{value}' is no date; write it as 2026-11-23") from error


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add_days": add_days,
    "add_weeks": add_weeks,
    "add_months": add_months,
    "add_years": add_years,
    "date": date,
    "date_format": date_format,
    "split": split,
    "bool": to_truth,
    "int": to_integer,
    "float": to_float,
    "str": to_text,
    "list": to_list,
    "dict": to_dict,
    "tuple": to_tuple,
    "set": distinct,
    "enumerate": numbered,
    "zip": paired,
    "reversed": backwards,
    "sorted": ordered,
    "pow": power,
    "any": _is_any,
    "all": _are_all,
    "abs": abs,
    "chr": chr,
    "divmod": divmod,
    "hex": hex,
    "len": len,
    "max": max,
    "min": min,
    "ord": ord,
    "repr": repr,
    "round": round,
    "sum": sum,
}
