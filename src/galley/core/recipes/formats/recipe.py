"""The two plain files at a recipe's root: `description.json` and `variables.json`."""

from typing import Any

from galley.core.recipes.faults import Faults
from galley.core.recipes.formats.reading import Section
from galley.core.recipes.formats.variations import is_legacy, plain_values
from galley.kit.destinations import fault_of_destination
from galley.kit.nearest import did_you_mean

DESCRIPTION = "description.json"
VARIABLES = "variables.json"
_LIST = "variable-list"
_OTHERS = ("description",)
_VENDORS_OWN = ("email-delivery-service",)
_EVENTS = {
    "orderrunStart": "start",
    "orderrunWarning": "warning",
    "orderrunOverDuration": "over_duration",
    "orderrunSuccess": "success",
    "orderrunError": "failure",
}


def read_variables(document: Any, faults: Faults) -> tuple[dict[str, Any], frozenset[str]]:
    """The base variables, and the names that old files write as `$name` in their texts.

    Very old recipes hold `{name: {"string-replace-key": ..., "string-replace-value": ...}}`, with
    or without `variable-list` around it.
    """
    top = Section(document, VARIABLES, "", faults)
    if _LIST in top.data:
        section = top.section(_LIST)
        top.warn_of_unknown()
    elif any(is_legacy(value) for value in top.data.values()):
        section = top
    else:
        if top.data:
            near = next((key for key in top.data if did_you_mean(key, [_LIST])), None)
            instead = f", but {near[:100]!r}" if near else ""
            top.fault(f'has no "{_LIST}"{instead}. Write {{"{_LIST}": {{...}}}}.')
        return {}, frozenset()
    legacy = {
        str(value.get("string-replace-key") or name)
        for name, value in section.data.items()
        if is_legacy(value)
    }
    return plain_values(section), frozenset(legacy)


def read_alerts(document: Any, faults: Faults) -> dict[str, list[str]]:
    """Who hears of each event of the recipe's runs: event -> destinations."""
    top = Section(document, DESCRIPTION, "", faults)
    emails = top.section("recipe-emails")
    top.warn_of_unknown(also=_OTHERS)
    found: dict[str, list[str]] = {}
    for key, event in _EVENTS.items():
        value = emails.raw(key)
        if isinstance(value, str):
            value = [part.strip() for part in value.replace(";", ",").split(",") if part.strip()]
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            wanted = [item.strip() for item in value if item.strip()]
            for destination in wanted:
                if fault := fault_of_destination(destination):
                    emails.fault(f"'{destination[:300]}' {fault}.", key)
            if wanted:
                found[event] = wanted
        elif value is not None:
            emails.fault('is no list of addresses; write ["a@example.org"].', key)
    emails.warn_of_unknown(also=_VENDORS_OWN)
    return found
