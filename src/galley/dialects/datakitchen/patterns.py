"""Regular expressions that clients send, kept from taking for ever.

Python's engine backtracks: `(a+)+$` needs minutes for an order's 36 characters. So only patterns
are run whose work is bounded: a repeat of open length stands over one character, and there are
at most three of them.
"""

import re
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from galley.core.errors import Invalid

MAX_LENGTH = 200
_MAX_OPEN = 3
_MAX_FIXED = 100
_ANY = ".*"
_REPEATS = frozenset({codes.MAX_REPEAT, codes.MIN_REPEAT})
_SINGLE = frozenset({codes.LITERAL, codes.NOT_LITERAL, codes.IN, codes.ANY, codes.CATEGORY})
_PLAIN = _SINGLE | {codes.AT}


def search_pattern(text: str | None) -> re.Pattern[str] | None:
    """The pattern of a search, any letter case; None where everything matches.

    Raises:
        Invalid: no regular expression, or one whose work has no bound.
    """
    if text is None or text in {"", _ANY}:
        return None
    if len(text) > MAX_LENGTH:
        raise Invalid(f"search: at most {MAX_LENGTH} characters, please; this has {len(text)}.")
    try:
        tree = parser.parse(text)
        pattern = re.compile(text, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise Invalid(
            f"search: {text!r} is no regular expression ({error}). Escape special characters by \\."
        ) from error
    if _open_repeats(tree, within=1) > _MAX_OPEN:
        raise _too_costly(text)
    return pattern


def _too_costly(text: str) -> Invalid:
    return Invalid(
        f"search: {text!r} could take for ever. Use at most {_MAX_OPEN} repeats (* + ?), each of"
        " a single character, and no references or look-arounds."
    )


def _open_repeats(tree: Any, *, within: int) -> int:
    """How many repeats of open length the tree has, counted as often as fixed repeats run them."""
    found = 0
    for code, detail in tree:
        if code in _REPEATS:
            low, high, inner = detail
            if low != high:
                if len(inner) != 1 or inner[0][0] not in _SINGLE:
                    return _MAX_OPEN + 1
                found += within
            elif high * within > _MAX_FIXED:
                return _MAX_OPEN + 1
            else:
                found += _open_repeats(inner, within=within * high)
        elif code is codes.SUBPATTERN:
            found += _open_repeats(detail[3], within=within)
        elif code is codes.BRANCH:
            if within > 1:
                return _MAX_OPEN + 1
            found += sum(_open_repeats(branch, within=within) for branch in detail[1])
        elif code not in _PLAIN:
            return _MAX_OPEN + 1
    return found
