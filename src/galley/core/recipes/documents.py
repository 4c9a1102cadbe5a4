"""Reads JSON that users wrote: strictly, with limits, and with errors that say where."""

import json
import re
from typing import Any

from galley.core.recipes.faults import SourceFault

MAX_BYTES = 1_000_000
MAX_DEPTH = 64
_INTEGERS = range(-(2**63), 2**64)
_LONGEST_INTEGER = 20
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def decode(content: bytes, file: str) -> str:
    """The text of a file.

    Raises:
        SourceFault: it is not UTF-8, or too large.
    """
    if len(content) > MAX_BYTES:
        raise SourceFault(
            file, f"is larger than {MAX_BYTES:,} bytes. Move data into a file that a step reads."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceFault(
            file, f"is not UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from error


def parse_json(text: str, file: str) -> Any:
    """The document that the text holds.

    Raises:
        SourceFault: no valid JSON, a key twice, NaN, a number that is too large, too deep.
    """
    try:
        document = json.loads(
            text,
            object_pairs_hook=_without_twins,
            parse_constant=_refuse_constant,
            parse_int=_bounded_integer,
        )
    except json.JSONDecodeError as error:
        raise SourceFault(file, _place(error)) from error
    except _Unfit as error:
        raise SourceFault(file, str(error)) from error
    except RecursionError as error:
        raise SourceFault(file, _TOO_DEEP) from error
    if text.count("{") + text.count("[") > MAX_DEPTH and _is_deeper(document, MAX_DEPTH):
        raise SourceFault(file, _TOO_DEEP)
    if "\\u" in text:
        _refuse_unfit(document, file)
    return document


_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels. Flatten it."


class _Unfit(ValueError):
    """Valid JSON that is not taken."""


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Unfit(f"has the key '{key}' twice in one object. Keep one of them.")
            seen.add(key)
    return found


def _refuse_constant(name: str) -> Any:
    raise _Unfit(f"holds {name}, which is no JSON number. Write a number, null or text.")


def _bounded_integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER or int(digits) not in _INTEGERS:
        raise _Unfit(f"holds a number of {len(digits)} digits, too many. Write it as text.")
    return int(digits)


def _place(error: json.JSONDecodeError) -> str:
    line = error.doc.splitlines()[error.lineno - 1].strip() if error.doc.strip() else ""
    near = f" near `{line[:60]}`" if line else ""
    return (
        f"line {error.lineno}, column {error.colno}: is no valid JSON ({error.msg}){near}."
        " Check quotes, commas and brackets there."
    )


def _refuse_unfit(document: Any, file: str) -> None:
    """Refuse the characters that only an escape can bring into JSON, and that nothing stores."""
    plain = json.dumps(document, ensure_ascii=False)
    if _LONE_SURROGATE.search(plain):
        raise SourceFault(file, "holds half of a surrogate pair; write the character itself.")
    if _NUL.search(plain):
        raise SourceFault(file, "holds the character NUL (\\u0000); leave it out.")


def _is_deeper(value: Any, left: int) -> bool:
    if isinstance(value, dict):
        return left == 0 or any(_is_deeper(item, left - 1) for item in value.values())
    if isinstance(value, list):
        return left == 0 or any(_is_deeper(item, left - 1) for item in value)
    return False
