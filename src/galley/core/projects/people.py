"""Who works in a kitchen: only users that exist, and never without the one who decides it."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.identity.repository import UserRepository
from galley.core.projects.errors import KitchenSettingInvalid
from galley.core.projects.models import Kitchen

_NAMED = 5
"""How many logins a message names."""


def check_people(session: Session, caller: Caller, row: Kitchen, wanted: Mapping[str, Any]) -> None:
    """Refuse changes of `staff` and `roles` that name strangers, or shut the caller out.

    Who is there already may stay, a user that was disabled since too: else nothing of such a
    kitchen could be changed.

    Raises:
        KitchenSettingInvalid: the message names whom, and how to mend it.
    """
    for part, before in (("staff", row.staff), ("roles", row.roles)):
        fresh = set(wanted.get(part, ())) - set(before)
        if fresh:
            _check_logins(session, part, fresh)
    staff = wanted.get("staff")
    if staff and staff != row.staff and not caller.is_admin and caller.login not in staff:
        raise KitchenSettingInvalid(
            "staff",
            f"you ({caller.login}) would shut yourself out; name yourself too, or let somebody "
            "else who works in the kitchen, or an administrator, remove you.",
        )


def _check_logins(session: Session, part: str, logins: Collection[str]) -> None:
    known = UserRepository(session).activity_of(logins)
    unknown = sorted(login for login in logins if login not in known)
    if unknown:
        raise KitchenSettingInvalid(
            part,
            f"there is no user {_listed(unknown)}; check the spelling, or let an administrator "
            "add them first (galley user add).",
        )
    disabled = sorted(login for login in logins if not known[login])
    if disabled:
        raise KitchenSettingInvalid(
            part, f"the user {_listed(disabled)} is disabled; leave them out."
        )


def _listed(logins: list[str]) -> str:
    more = f" and {len(logins) - _NAMED} more" if len(logins) > _NAMED else ""
    return ", ".join(logins[:_NAMED]) + more
