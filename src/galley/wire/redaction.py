"""What must not stand in a log: credentials, by the names they go under and by their looks."""

import re
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

HIDDEN = "[hidden]"
_NAMES = re.compile(
    r"(authorization|cookie|password|passwd|secret|token|apikey|api[-_]key|private[-_]key"
    r"|credential|signature|^key$|^code$)",
    re.IGNORECASE,
)
_LOOKS = re.compile(
    r"gly_[a-z_]+_[0-9A-Za-z]{10,}"
    r"|gl[a-z]{2,5}-[0-9A-Za-z_.-]{16,}"
    r"|eyJ[0-9A-Za-z_-]{4,}\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]*"
    r"|(?<=[Bb]earer )\S+|(?<=[Bb]asic )\S+|(?<=://)[^/\s:@]*:[^/\s@]*(?=@)"
)
_LONG_NAME = 100  # such names come from outside, and are not kept
_MOST = 4000
_HEAD = 1500
_LOOKED_AT = 50_000


def is_sensitive(name: str) -> bool:
    """Whether a field, header or parameter of this name holds a credential."""
    return _is_sensitive(name) if len(name) <= _LONG_NAME else _NAMES.search(name) is not None


@lru_cache(1024)
def _is_sensitive(name: str) -> bool:
    return _NAMES.search(name) is not None


def redact_text(text: str) -> str:
    """The text without anything that looks like a credential; control characters are escaped.

    Of a long text the middle is left out: a traceback says at its end what went wrong.
    """
    if len(text) > 2 * _LOOKED_AT:
        text = f"{text[:_LOOKED_AT]}{text[-_LOOKED_AT:]}"
    shown = _without_middle(_LOOKS.sub(HIDDEN, text))
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in shown)


def _without_middle(text: str) -> str:
    if len(text) <= _MOST:
        return text
    mark = "\n[... the middle is left out ...]\n"
    return text[:_HEAD] + mark + text[_HEAD + len(mark) - _MOST :]


def redact_line(text: str) -> str:
    """As `redact_text`, on one line."""
    return redact_text(text).replace("\n", "\\n")


def redact_query(query: str) -> str:
    """A query string whose sensitive parameters are hidden; their names stay."""
    if not query:
        return ""
    parts = []
    for part in query[:_MOST].split("&"):
        name, equals, _ = part.partition("=")
        hide = equals and is_sensitive(unquote(name))
        parts.append(f"{name}={HIDDEN}" if hide else redact_text(part))
    return "&".join(parts)


def redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """A structlog processor: hides credentials in every field, also within dictionaries."""
    for name in list(event):
        event[name] = _redacted(name, event[name])
    return event


def _redacted(name: str, value: Any) -> Any:
    if is_sensitive(name) and isinstance(value, str | bytes | list | tuple | dict):
        return HIDDEN
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return redact_text(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {str(key): _redacted(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", item) for item in value]
    return value
