"""Settings of the account as a whole, which hold in every kitchen.

The account's kitchens are the branches of one project, so its alerts stand there. What only one
vendor's API knows of the settings is kept for it beside them, and used by nothing else.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Invalid
from galley.core.events import audit
from galley.core.projects.attributes import replace_attributes, stored_attributes
from galley.core.projects.checks import check_alerts, check_settings
from galley.core.projects.models import Kitchen, Project
from galley.core.projects.repository import ProjectRepository
from galley.core.projects.sight import see_kitchen
from galley.kit.clock import Clock


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """`alerts` maps an event to destinations, as a kitchen's; `kept` is the vendor's."""

    alerts: dict[str, list[str]]
    kept: dict[str, Any]


def alerts_of_account(session: Session, kitchen: Kitchen) -> Mapping[str, list[str]]:
    """Who hears of every run of the account that the kitchen belongs to."""
    return ProjectRepository(session).of(kitchen).alerts or {}


def read_settings(session: Session, caller: Caller, kitchen: str, dialect: str) -> AccountSettings:
    """The account's settings, by the name of its root kitchen.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        Forbidden: the caller is no operator.
        Invalid: it is not the root.
    """
    project = _project(session, caller, see_kitchen(session, caller, kitchen, "kitchen.read"))
    caller.require("settings.read")
    return _settings(session, project, dialect)


def replace_settings(
    session: Session,
    caller: Caller,
    kitchen: str,
    dialect: str,
    *,
    alerts: Mapping[str, Any],
    kept: Mapping[str, Any],
    clock: Clock,
) -> AccountSettings:
    """Put the account's settings as they are given; what is not named is gone.

    Raises:
        KitchenNotFound, Forbidden, Invalid: as `read_settings`.
        KitchenSettingInvalid: an alert that cannot be, or more than 1 MB to keep.
    """
    caller.require("settings.manage")
    row = see_kitchen(session, caller, kitchen, "kitchen.read", to_change=True)
    project = _project(session, caller, row)
    before = _settings(session, project, dialect)
    after = AccountSettings(check_alerts(alerts), check_settings(kept))
    if after == before:
        return before
    project.alerts = after.alerts
    replace_attributes(session, project, dialect, after.kept)
    told = audit.entry(
        caller, "settings.manage", "account", project.path, before=asdict(before),
        after=asdict(after), at=clock.now(),
    )  # fmt: skip
    audit.append(session, [told])
    return after


def _project(session: Session, caller: Caller, kitchen: Kitchen) -> Project:
    if not kitchen.is_root:
        caller.require("settings.read")
        raise Invalid(
            f"{kitchen.name} has no settings of the account: those of all kitchens stand at the"
            " root (master)."
        )
    return ProjectRepository(session).of(kitchen)


def _settings(session: Session, project: Project, dialect: str) -> AccountSettings:
    kept = stored_attributes(session, project, dialect)
    return AccountSettings(dict(project.alerts or {}), kept)
