"""The system variables of recipes: read-only names that the server fills in.

Source: contract 2.9 (product documentation, November 2026). `SourceDate` is Galley's own: the date
of the data that a run is about.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from galley.core.recipes.variables import SystemNames

NOW = "now"
SOURCE_DATE = "SourceDate"
KEY_NAME = "KeyName"
COMPILE_TIME = frozenset(
    {
        "CurrentKitchen",
        "ParentKitchen",
        "CurrentUser",
        "CurrentUserName",
        "CurrentVariation",
        "RecipeName",
        NOW,
        SOURCE_DATE,
    }
)
RUN_TIME = frozenset(
    {
        "CurrentOrderId",
        "CurrentOrderRunId",
        "NodeName",
        KEY_NAME,
        "Agent",
        "WarningCount",
        "WorkDir",
    }
)
RESERVED = COMPILE_TIME | RUN_TIME
NAMES = SystemNames(reserved=RESERVED, run_time=RUN_TIME, clock=frozenset({NOW, SOURCE_DATE}))


def compile_variables(facts: Mapping[str, Any], *, recipe: str, variation: str) -> dict[str, Any]:
    """The system variables that are known when a recipe is compiled.

    `facts` may hold `kitchen`, `parent`, `user`, `user_name`, `now` and `source_date`.
    """
    now = as_moment(facts.get("now")) or datetime.now(UTC)
    return {
        "CurrentKitchen": facts.get("kitchen") or "",
        "ParentKitchen": facts.get("parent") or "",
        "CurrentUser": facts.get("user") or "",
        "CurrentUserName": facts.get("user_name") or facts.get("user") or "",
        "CurrentVariation": variation,
        "RecipeName": recipe,
        NOW: now,
        SOURCE_DATE: facts.get("source_date") or now.date().isoformat(),
    }


def run_variables(
    *,
    order_id: str,
    run_id: str,
    step: str,
    worker: str,
    work_folder: str,
    warnings: int,
) -> dict[str, Any]:
    """The system variables that exist only while a step runs."""
    return {
        "CurrentOrderId": order_id,
        "CurrentOrderRunId": run_id,
        "NodeName": step,
        "Agent": worker,
        "WarningCount": warnings,
        "WorkDir": work_folder,
    }


def as_moment(value: Any) -> datetime | None:
    """A moment from a datetime or its ISO text, aware; None stays None."""
    if value is None:
        return None
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=UTC)
