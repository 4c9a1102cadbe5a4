"""Templates of the plainest kind: text with `{{ name }}` or `{{ name.key }}` in it, no more.

Most templates of recipes are such ones. They are filled in here as Jinja would do it, without the
milliseconds that parsing and compiling one by Jinja costs. Whatever is not certain to come out the
same is left to Jinja.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PART = re.compile(rf"\{{\{{[ \t\n]*({_NAME}(?:\.{_NAME})*)[ \t\n]*\}}\}}")
_WORDS = frozenset(
    """
    and or not in is if else elif for true false none True False None self super caller loop
    varargs kwargs import from as with without context recursive ignore missing
    """.split()  # noqa: SIM905 - words are easier to read
)


@lru_cache(maxsize=4096)
def parts_of(source: str) -> tuple[str, ...] | None:
    """Text, name, text, name, ..., text; None if the template is of another kind."""
    if "{%" in source or "{#" in source or "\r" in source:
        return None
    parts = tuple(_PART.split(source))
    if any("{{" in text or text.endswith("{") for text in parts[::2]):
        return None
    return parts


def roots_of(parts: tuple[str, ...], taken: Collection[str]) -> frozenset[str] | None:
    """The variables that the parts name; None if one is a word of Jinja's or `taken` otherwise."""
    roots = frozenset(path.partition(".")[0] for path in parts[1::2])
    if not roots.isdisjoint(_WORDS) or any(root in taken for root in roots):
        return None
    return roots


def values_of(parts: tuple[str, ...], variables: Mapping[str, Any]) -> list[Any] | None:
    """The value of each name in the parts; None if one is not certain."""
    found = []
    for path in parts[1::2]:
        root, *keys = path.split(".")
        if root not in variables:
            return None
        value = variables[root]
        for key in keys:
            if type(value) is not dict or key not in value or hasattr(value, key):
                return None
            value = value[key]
        found.append(value)
    return found


def with_stand_ins(source: str, unknown: Collection[str], hold: Callable[[str], str]) -> str:
    """The plain template with `hold(expression)` for each expression that needs such a name."""
    return _PART.sub(
        lambda found: hold(found[0]) if found[1].partition(".")[0] in unknown else found[0], source
    )


def joined(
    parts: tuple[str, ...], values: list[Any], write: Callable[[Any, str], str]
) -> list[str]:
    """The parts with the values written into them; `write` is told the text before each value."""
    found = [parts[0]]
    for number, value in enumerate(values):
        found.append(write(value, parts[2 * number]))
        found.append(parts[2 * number + 2])
    return found
