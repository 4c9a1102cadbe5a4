"""References to secrets, `#{vault://path/item}`: found anywhere, replaced only where used."""

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"#\{\s*(vault://[^{}\s]+)\s*\}")


def find_references(value: Any) -> set[str]:
    """All references (`vault://path/item`) in a text, or in any text inside lists and objects."""
    found: set[str] = set()
    _find(value, found)
    return found


def replace_references(value: Any, secrets: Mapping[str, str], missing: set[str]) -> Any:
    """The value with every reference replaced; unknown ones stay, and are added to `missing`."""
    if isinstance(value, str):
        if "vault://" not in value:
            return value
        return _REFERENCE.sub(lambda match: _value(match, secrets, missing), value)
    if isinstance(value, dict):
        return {key: replace_references(item, secrets, missing) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_references(item, secrets, missing) for item in value]
    return value


def _value(match: re.Match[str], secrets: Mapping[str, str], missing: set[str]) -> str:
    name = match.group(1)
    if name in secrets:
        return secrets[name]
    missing.add(name)
    return match.group(0)


def _find(value: Any, found: set[str]) -> None:
    if isinstance(value, str):
        if "vault://" in value:
            found.update(_REFERENCE.findall(value))
    elif isinstance(value, Mapping):
        for item in value.values():
            _find(item, found)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _find(item, found)
