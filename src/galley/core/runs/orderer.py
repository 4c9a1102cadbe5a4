"""For whom a scheduled order runs, and whether they still may."""

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Refused
from galley.core.identity.actors import caller_of
from galley.core.identity.repository import UserRepository
from galley.core.projects.models import Kitchen
from galley.core.runs.views import OrderView

_MEND = "Order it anew as somebody who may, and stop this one."


def acting_for(session: Session, caller: Caller, order: OrderView, kitchen: Kitchen) -> Caller:
    """Whoever placed the order; the caller, if that was Galley itself.

    Raises:
        Refused: the user is disabled, or may place no orders in the kitchen any more.
    """
    if not order.created_by:
        return caller
    user = UserRepository(session).get(order.created_by)
    if not user.is_active:
        raise Refused(f"The user {user.login}, who placed the order, is disabled. {_MEND}")
    orderer = caller_of(user, caller.judge)
    if not orderer.may("order.create", kitchen):
        raise Refused(
            f"The user {user.login}, who placed the order, may no longer place orders in the"
            f" kitchen {kitchen.name}. {_MEND}"
        )
    return orderer
