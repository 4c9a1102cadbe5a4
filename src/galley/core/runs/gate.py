"""Which kitchens' orders and runs a caller may see."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Conflict
from galley.core.identity.policy import GoneKitchen
from galley.core.projects.models import Kitchen
from galley.core.projects.repository import KitchenRepository
from galley.core.runs import models
from galley.core.runs.views import OrderView, RunView

_ALL = sa.select(Kitchen)


class KitchenGate:
    """Judges orders and runs by their kitchen, with one look at each kitchen.

    What counts is the kitchen's id: another one may have got its name since. What a deleted kitchen
    left is seen by administrators, and by whoever ordered it.
    """

    def __init__(self, session: Session, caller: Caller) -> None:
        self._session = session
        self._caller = caller
        self._kitchens = KitchenRepository(session)
        self._gone: set[int] = set()

    def admits(self, target: OrderView | RunView, action: str) -> bool:
        """Whether the caller may do this to it; its kitchen may be deleted by now."""
        return self._caller.may(action, self.place(target))

    def require(self, target: OrderView | RunView, action: str) -> None:
        """Refuse unless the caller may (see `Caller.require`)."""
        self._caller.require(action, self.place(target))

    def place(self, target: OrderView | RunView) -> Kitchen | GoneKitchen:
        """Its kitchen, or what stands for one whose row is gone."""
        key = target.kitchen_id or 0
        found = None if not key or key in self._gone else self._kitchens.of_id(key)
        if found is not None:
            return found
        self._gone.add(key)
        return GoneKitchen(
            target.kitchen or "", project_id=target.project_id, id=key, owner_id=target.created_by
        )

    def home(self, target: OrderView | RunView) -> Kitchen:
        """Its kitchen, and no other that has got the name since.

        Raises:
            Conflict: it was deleted.
        """
        place = self.place(target)
        if isinstance(place, Kitchen):
            return place
        raise Conflict(
            f"The kitchen {place.name}, to which this belongs, was deleted: nothing more runs for"
            " it. Order the recipe in a kitchen that is there."
        )

    def where(self, column: Any, action: str) -> list[Any]:
        """The condition that keeps a list, joined with its orders, to what the caller may see.

        `column` is the kitchen's id.
        """
        may = self._caller.may
        there = {kitchen.id: kitchen for kitchen in self._session.scalars(_ALL)}
        allowed = [key for key, place in there.items() if may(action, place)]
        if len(allowed) == len(there) and may(action, GoneKitchen("")):
            return []
        admitted = column.in_(allowed)
        if not may(action, GoneKitchen("", owner_id=self._caller.user_id)):
            return [admitted]
        is_gone = column.is_(None) | column.not_in(list(there))
        return [admitted | (is_gone & (models.orders.c.created_by == self._caller.user_id))]
