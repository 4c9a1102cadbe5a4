"""What only one vendor's API needs to know of a kitchen, or of all: kept, and used by nothing else.

One row for each (owner, dialect, name). The values go with their owner, and no child inherits them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.events import audit
from galley.core.projects.checks import check_settings
from galley.core.projects.models import Kitchen, Project, dialect_attributes
from galley.kit.clock import Clock

_A = dialect_attributes.c


def read_attributes(
    session: Session, caller: Caller, kitchens: Iterable[Kitchen], dialect: str
) -> dict[int, dict[str, Any]]:
    """Kitchen id -> what was kept, of those kitchens that the caller may enter."""
    ids = {_owner(row): row.id for row in kitchens if caller.may("kitchen.read", row)}
    found: dict[int, dict[str, Any]] = {key: {} for key in ids.values()}
    query = sa.select(_A.owner, _A.name, _A.value).where(_A.dialect == dialect)
    for owner, name, value in session.execute(query):
        if owner in ids:
            found[ids[owner]][name] = value
    return found


def keep_attributes(
    session: Session,
    caller: Caller,
    kitchen: Kitchen,
    dialect: str,
    values: Mapping[str, Any],
    *,
    clock: Clock,
) -> None:
    """Keep these values; what is not named stays as it is.

    Raises:
        Forbidden, NotFound: the caller may not change the kitchen.
        KitchenSettingInvalid: together they are larger than 1 MB.
    """
    caller.require("kitchen.update", kitchen)
    before = read_attributes(session, caller, [kitchen], dialect)[kitchen.id]
    after = check_settings({**before, **values})
    if after == before:
        return
    replace_attributes(session, kitchen, dialect, after)
    told = audit.entry(
        caller, "kitchen.update", "kitchen", kitchen.name, before=before, after=after,
        at=clock.now(),
    )  # fmt: skip
    audit.append(session, [told])


def forget_attributes(session: Session, kitchen: Kitchen) -> None:
    """Remove what was kept for a kitchen that goes."""
    session.execute(sa.delete(dialect_attributes).where(_A.owner == _owner(kitchen)))


def stored_attributes(session: Session, owner: Kitchen | Project, dialect: str) -> dict[str, Any]:
    """What is kept for it, by name."""
    query = sa.select(_A.name, _A.value).where(_of(owner, dialect)).order_by(_A.name)
    return dict(session.execute(query).tuples().all())


def replace_attributes(
    session: Session, owner: Kitchen | Project, dialect: str, values: Mapping[str, Any]
) -> None:
    """Keep these values for it, and no others."""
    session.execute(sa.delete(dialect_attributes).where(_of(owner, dialect)))
    rows = [
        {"owner": _owner(owner), "dialect": dialect, "name": name, "value": value}
        for name, value in values.items()
    ]
    if rows:
        session.execute(sa.insert(dialect_attributes), rows)


def _of(owner: Kitchen | Project, dialect: str) -> sa.ColumnElement[bool]:
    return (_A.owner == _owner(owner)) & (_A.dialect == dialect)


def _owner(owner: Kitchen | Project) -> str:
    return f"{owner.policy_kind()}:{owner.id}"
