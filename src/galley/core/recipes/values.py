"""Kinds of variable values, in words for people, and what may replace what."""

import json
import re
from typing import Any

from galley.core.recipes.faults import SourceFault

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
MAX_VALUE_BYTES = 1_000_000
_TRUTHS = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0", "t", "f", "y", "n"})


def kind_of(value: Any) -> str:
    """What a value is, in a word for people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list | tuple) else "object"


def shown(value: Any, limit: int = 40) -> str:
    """A value, short enough for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def fitted(base: Any, value: Any) -> tuple[Any, str | None]:
    """The value as it replaces `base`, and why it cannot (None: it can).

    Text stands for a number or a truth that it spells, and for an object or list as JSON, since
    several clients send nothing but text. A secret's reference stands for anything.
    """
    wanted, given = kind_of(base), kind_of(value)
    if wanted in {given, "null"} or given == "null":
        return value, None
    if isinstance(value, str):
        return _fitted_text(wanted, value)
    if wanted == "text" and given in {"number", "true/false"}:
        return value, None
    return value, f"is {_one(given)}, but the base value is {_one(wanted)}"


def _fitted_text(wanted: str, value: str) -> tuple[Any, str | None]:
    if "#{vault://" in value or "{{" in value:
        return value, None
    if wanted == "number" and _is_number(value):
        return value, None
    if wanted == "true/false" and value.strip().lower() in _TRUTHS:
        return value, None
    if wanted in {"object", "list"}:
        from galley.core.recipes.documents import parse_json

        try:
            parsed = parse_json(value, "value")
        except SourceFault:
            parsed = None
        if kind_of(parsed) == wanted:
            return parsed, None
    return value, f"is a text ({shown(value)}), but the base value is {_one(wanted)}"


def _one(kind: str) -> str:
    return kind if kind == "null" else f"an {kind}" if kind[0] in "aeio" else f"a {kind}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
