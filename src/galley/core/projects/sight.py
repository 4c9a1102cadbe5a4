"""Finding a kitchen for a caller: what they may not see is not there."""

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import NotFound
from galley.core.projects.errors import KitchenNotFound
from galley.core.projects.models import Kitchen
from galley.core.projects.repository import KitchenRepository


def see_kitchen(
    session: Session, caller: Caller, name: str, action: str, *, to_change: bool = False
) -> Kitchen:
    """The kitchen of that name, if the caller may do `action` to it.

    `to_change` keeps others from changing it until the commit.

    Raises:
        KitchenNotFound: there is none, or it is closed to the caller.
        Forbidden: the caller sees it but may not do this.
    """
    row = KitchenRepository(session).get(name, to_change=to_change)
    try:
        caller.require(action, row)
    except NotFound as error:
        raise KitchenNotFound(name) from error
    return row
