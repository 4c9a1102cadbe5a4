"""What a kitchen's and a recipe's names and settings may be."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from galley.core.projects.errors import (
    FileNameInvalid,
    FileTooLarge,
    KitchenNameInvalid,
    KitchenSettingInvalid,
    RecipeNameInvalid,
)
from galley.kit.destinations import fault_of_destination
from galley.kit.paths import fault_of_path, fault_of_segment

ALERT_EVENTS = ("start", "warning", "over_duration", "success", "failure")
KITCHEN_ROLES = ("Admin", "Developer", "Guest")
RESERVED_KITCHENS = frozenset(
    {
        "head",
        "list",
        "settings",
        "merge",
        "create",
        "delete",
        "update",
        "revert",
        "history",
        "recipenames",
        "manualmerge",
    }
)
MAX_FILE_BYTES = 10_000_000
MAX_RECIPE_NAME = 100
MAX_VALUE_BYTES = 1_000_000
MAX_DOCUMENT_BYTES = 10_000_000
MAX_DESCRIPTION = 10_000
MAX_STAFF = 1_000
MAX_DESTINATIONS = 50
MAX_MESSAGE = 2_000
_KITCHEN = re.compile(r"[A-Za-z0-9_]{2,64}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LOGIN = re.compile(r"[^\s\x00-\x1f\x7f<>,;\"]{1,254}\Z")
_ROLES = {role.lower(): role for role in KITCHEN_ROLES}


def check_kitchen_name(name: str) -> str:
    """The name, if it can be a new kitchen's.

    Raises:
        KitchenNameInvalid: it cannot; the message says why.
    """
    if not _KITCHEN.match(name):
        raise KitchenNameInvalid(name, "it has 2 to 64 letters a-z, A-Z, digits and underscores")
    if name.lower() in RESERVED_KITCHENS:
        raise KitchenNameInvalid(name, "the word is reserved")
    return name


def check_recipe_name(name: str) -> str:
    """The name, if it can be a recipe's.

    Raises:
        RecipeNameInvalid: it cannot; the message says why.
    """
    fault = fault_of_segment(name)
    if fault is None and name.startswith("."):
        fault = "starts with a dot"
    if fault is None and len(name) > MAX_RECIPE_NAME:
        fault = f"is longer than {MAX_RECIPE_NAME} characters"
    if fault is not None:
        raise RecipeNameInvalid(name, fault)
    return name


def check_file(path: str, content: bytes | None) -> None:
    """Refuse a path that cannot name a file of a recipe, and a file that is too large.

    Raises:
        FileNameInvalid, FileTooLarge: the message says what and why.
    """
    if fault := fault_of_path(path):
        raise FileNameInvalid(path, fault)
    if content is not None and len(content) > MAX_FILE_BYTES:
        raise FileTooLarge(path, len(content), MAX_FILE_BYTES)


def check_description(text: str) -> str:
    """The text, if it is not too long."""
    if len(text) > MAX_DESCRIPTION:
        raise KitchenSettingInvalid("description", f"it has at most {MAX_DESCRIPTION} characters.")
    return text


def check_staff(staff: Sequence[Any]) -> list[str]:
    """Logins in lower case, each once, in the order given."""
    if len(staff) > MAX_STAFF:
        raise KitchenSettingInvalid("staff", f"it has at most {MAX_STAFF} people.")
    return list(dict.fromkeys(_login("staff", who) for who in staff))


def check_roles(roles: Mapping[str, Any]) -> dict[str, str]:
    """Login in lower case -> role name, in its own spelling."""
    if len(roles) > MAX_STAFF:
        raise KitchenSettingInvalid("roles", f"it has at most {MAX_STAFF} people.")
    checked = {}
    for who, role in roles.items():
        known = _ROLES.get(role.lower()) if isinstance(role, str) else None
        if known is None:
            raise KitchenSettingInvalid(
                f"roles of {who[:100]}",
                f"there is no role {str(role)[:100]!r}; there are {', '.join(KITCHEN_ROLES)}.",
            )
        checked[_login("roles", who)] = known
    return checked


def check_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Variables by name; values are any JSON, 1 MB each at most."""
    for name, value in overrides.items():
        if not _VARIABLE.match(name):
            raise KitchenSettingInvalid(
                f"overrides: {name[:100]!r}",
                "a variable's name has a-z, A-Z, digits and underscores and starts with no digit.",
            )
        _sized(f"overrides: {name[:100]}", value, MAX_VALUE_BYTES)
    _sized("overrides", dict(overrides), MAX_DOCUMENT_BYTES)
    return dict(overrides)


def check_alerts(alerts: Mapping[str, Any]) -> dict[str, list[str]]:
    """Event -> destinations (mail addresses and http(s) addresses); events without any left out."""
    checked: dict[str, list[str]] = {}
    for alert, destinations in alerts.items():
        if alert not in ALERT_EVENTS:
            known = ", ".join(ALERT_EVENTS)
            raise KitchenSettingInvalid(f"alerts: {alert[:100]}", f"the events are {known}.")
        wanted = [_destination(alert, where) for where in destinations or ()]
        if len(wanted) > MAX_DESTINATIONS:
            raise KitchenSettingInvalid(
                f"alerts: {alert}", f"it goes to at most {MAX_DESTINATIONS} destinations."
            )
        if wanted:
            checked[alert] = list(dict.fromkeys(wanted))
    return checked


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A free document, 1 MB at most."""
    _sized("settings", dict(settings), MAX_VALUE_BYTES)
    return dict(settings)


def check_max_runs(count: int) -> int | None:
    """Runs at once; 0 means no limit."""
    if count < 0:
        raise KitchenSettingInvalid("max_runs", "it is 1 or more, or 0 for no limit.")
    return count or None


def clean_message(message: str, default: str) -> str:
    """A commit's message without control characters, shortened to what history shows."""
    kept = "".join(char for char in message if char.isprintable() or char in "\n\t").strip()
    return kept[:MAX_MESSAGE] or default


def _login(setting: str, who: Any) -> str:
    if not isinstance(who, str) or not _LOGIN.match(who.strip()):
        raise KitchenSettingInvalid(setting, f"{str(who)[:100]!r} is not a login.")
    return who.strip().lower()


def _destination(alert: str, where: Any) -> str:
    text = where.strip() if isinstance(where, str) else ""
    if fault := fault_of_destination(text):
        raise KitchenSettingInvalid(f"alerts: {alert}", f"{str(where)[:300]!r} {fault}.")
    return text


def _sized(setting: str, value: Any, limit_bytes: int) -> None:
    try:
        size = len(msgspec.json.encode(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise KitchenSettingInvalid(setting, f"it is not plain JSON ({error}).") from error
    if size > limit_bytes:
        raise KitchenSettingInvalid(setting, f"it has {size} bytes; {limit_bytes} is the most.")
