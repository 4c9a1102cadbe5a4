"""Which kitchens' orders and runs a caller may see."""

from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.identity.policy import GoneKitchen
from galley.core.projects.models import Kitchen


class KitchenGate:
    """Judges orders and runs by their kitchen, with one look at the kitchens for a whole list."""

    def __init__(self, session: Session, caller: Caller) -> None:
        self._session = session
        self._caller = caller

    def admits(self, kitchen: str | None, action: str) -> bool:
        """Whether the caller may do this in that kitchen, which may be deleted by now."""
        return self._caller.may(action, self.place(kitchen))

    def require(self, kitchen: str | None, action: str) -> None:
        """Refuse unless the caller may (see `Caller.require`)."""
        self._caller.require(action, self.place(kitchen))

    def place(self, kitchen: str | None) -> Kitchen | GoneKitchen:
        """The kitchen, or what stands for it when its row is gone."""
        return self._kitchens.get(kitchen or "") or GoneKitchen(kitchen or "")

    def where(self, column: Any, action: str) -> list[Any]:
        """The condition that keeps a list to what the caller may see."""
        allowed = [
            name for name, place in self._kitchens.items() if self._caller.may(action, place)
        ]
        if len(allowed) == len(self._kitchens) and self._caller.may(action, GoneKitchen("")):
            return []
        return [column.in_(allowed)]

    @cached_property
    def _kitchens(self) -> dict[str, Kitchen]:
        return {kitchen.name: kitchen for kitchen in self._session.scalars(sa.select(Kitchen))}
