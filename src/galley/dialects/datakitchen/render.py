"""From Galley's views to the vendor's JSON. Pure functions: no database, no request, no clock."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from galley.core.projects.account import AccountSettings
from galley.core.projects.models import Kitchen
from galley.core.runs.plan import ScheduleSpec
from galley.core.runs.views import OrderView, RunView
from galley.core.vaults.finding import Vault
from galley.dialects.datakitchen.states import (
    ALERT_NAME,
    ORDER_STATUS,
    RUN_TEXT,
    account_role,
    run_status,
)
from galley.kit.ids import uuid_of
from galley.storage.git import PastCommit
from galley.wire.services import Account


def millis(moment: datetime) -> int:
    """Whole milliseconds since 1970, UTC. Clients show anything but an integer as bad format."""
    return int(moment.timestamp() * 1000)


def user(login: str, name: str, roles: frozenset[str], account: Account) -> dict[str, Any]:
    """The answer of `userinfo`; clients insist on `role` and `customer_name`."""
    return {
        "login": login,
        "email": login,
        "name": name or login,
        "role": account_role(roles),
        "customer_name": account.name,
        "customer_git_name": account.code,
        "customer_git_org": account.organisation,
        "support_email": account.support_email,
        "email_verified": True,
    }


def all_alerts(alerts: Mapping[str, list[str]]) -> dict[str, list[str] | None]:
    """All five alerts by the vendor's names; null where nobody is told."""
    return {name: alerts.get(event) or None for event, name in ALERT_NAME.items()}


def settings_file(settings: AccountSettings) -> dict[str, Any]:
    """The account's settings file, with the keys that clients expect first."""
    expected: dict[str, Any] = {
        "kitchenwizard": {"wizards": [], "variablesets": []},
        "agile-tools": None,
    }
    return {**expected, **settings.kept, "alerts": all_alerts(settings.alerts)}


def kitchen(
    row: Kitchen, account: Account, kept: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The kitchen object, all keys. The root is its own parent; an orphan's parent is null.

    `kept` are the keys that only clients of this API know.
    """
    alerts = all_alerts(row.alerts)
    return {
        "name": row.name,
        "parent-kitchen": row.name if row.is_root else row.parent,
        "description": row.description,
        "kitchen-staff": list(row.staff),
        "kitchen-roles": dict(row.roles),
        "recipeoverrides": dict(row.overrides),
        "recipes": list(row.recipes),
        "restrict-recipes": row.restrict_recipes,
        "settings": {
            "agile-tools": None,
            "backup": {"backup_enabled": False},
            **row.settings,
            "alerts": alerts,
        },
        "customer": account.name,
        "git_name": account.code,
        "git_org": account.organisation,
        "creator_user": row.created_by_login,
        "created_time": millis(row.created_at),
        "mesos-constraint": False,
        "mesos-group": None,
        "wizard-status": {},
        "_created": None,
        "_finished": False,
        "_hid": row.uid,
        **(kept or {}),
    }


def vault(found: Vault) -> dict[str, Any]:
    """A vault's configuration; never its token. Clients read every key of a `custom` one."""
    shown: dict[str, Any] = {
        "service": "custom" if found.is_external else "default",
        "url": found.url,
        "prefix": found.prefix,
        "private": found.is_private,
        "inheritable": found.is_inheritable,
    }
    if found.is_disabled:
        shown["disabled"] = True
    if found.source is not None:
        shown["sourceKitchen"] = found.source
    return shown


def schedule_text(schedule: ScheduleSpec | None) -> str:
    """The schedule as clients show it: `now`, or the cron line."""
    return schedule.cron if schedule is not None and schedule.cron else "now"


def order(view: OrderView, account: Account, *, parent_run: str | None = None) -> dict[str, Any]:
    """An order of the list `order/status`. `parent_run` is the UUID of the run that ordered it."""
    settings: dict[str, Any] = {
        "login": view.created_by_login,
        "parameters": view.parameters,
        "schedule": schedule_text(view.schedule),
        "customer_git_name": account.code,
    }
    if view.only_steps is not None:
        settings["graph-setting"] = [[key] for key in view.only_steps]
    if view.source_date is not None:
        settings["source-date"] = view.source_date
    if view.priority:
        settings["priority"] = view.priority
    if view.alerts:
        settings["alerts"] = {ALERT_NAME.get(k, k): v for k, v in view.alerts.items()}
    if view.schedule is not None and view.schedule.cron:
        settings["schedule-setting"] = _schedule(view.schedule)
    if parent_run is not None:
        settings["ingredient_owner_order_run"] = parent_run
    status = ORDER_STATUS[view.state]
    return {
        "hid": view.uuid,
        "recipe": view.source_path,
        "variation": view.variation,
        "order-status": status,
        "order_status": status,
        "schedule": schedule_text(view.schedule),
        "created_time": millis(view.created_at),
        "input_settings": settings,
    }


def _schedule(schedule: ScheduleSpec) -> dict[str, Any]:
    shown = {
        "recurrence": schedule.cron,
        "zone": schedule.zone,
        "start": schedule.start_at,
        "end": schedule.end_at,
    }
    return {key: value for key, value in shown.items() if value is not None}


def short_order(view: OrderView) -> dict[str, Any]:
    """An order inside `order/details`."""
    status = ORDER_STATUS[view.state]
    return {
        "hid": view.uuid,
        "order-status": status,
        "order_status": status,
        "schedule": schedule_text(view.schedule),
        "recipes": [view.source_path],
        "variation": view.variation,
    }


def run(view: RunView, now: datetime) -> dict[str, Any]:
    """A run of a list. A planned run's start is the moment it was made: clients sort by it."""
    status = run_status(view)
    return {
        "hid": view.uuid,
        "order_id": uuid_of(view.order_uid),
        "status": status,
        "orderrun_status": RUN_TEXT[status],
        "variation_name": view.variation,
        "recipe_name": view.source_path,
        "resumed_by": None if view.resumed_by_uid is None else uuid_of(view.resumed_by_uid),
        "timings": timings(view, now),
    }


def timings(view: RunView, now: datetime) -> dict[str, int]:
    """Start, end and duration in milliseconds; a run that goes on has no end yet."""
    start = millis(view.started_at or view.created_at)
    if view.finished_at is None:
        return {"start-time": start, "duration": max(millis(now) - start, 0)}
    end = max(millis(view.finished_at), start)
    return {"start-time": start, "end-time": end, "duration": end - start}


def history_address(account: Account, kitchen: str, commit: str) -> str:
    """Where the vendor's pages show a commit; clients put the server's address and `/` before."""
    return f"dk/index.html#/history/{account.code}/{kitchen}/{commit}"


def past_commit(found: PastCommit) -> dict[str, str]:
    """What every history tells of a commit. Clients print all three as they come."""
    name, _, email = found.author.rpartition(" <")
    is_named = name and name != email.rstrip(">")
    return {
        "author": found.author if is_named else email.rstrip(">"),
        "date": f"{found.at:%Y-%m-%d %H:%M:%S} UTC",
        "message": found.message,
    }
