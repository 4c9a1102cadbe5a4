"""Which kitchens' orders and runs a caller may see."""

from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.projects.models import Kitchen


class KitchenGate:
    """Judges orders and runs by their kitchen, with one look at the kitchens for a whole list.

    What is left of a deleted kitchen is seen by administrators only, since its staff list is gone.
    """

    def __init__(self, session: Session, caller: Caller) -> None:
        self._session = session
        self._caller = caller

    def admits(self, kitchen: str | None, action: str) -> bool:
        """Whether the caller may do this in that kitchen."""
        found = self._kitchens.get(kitchen or "")
        if found is None:
            return self._caller.is_admin and self._caller.may(action, None)
        return self._caller.may(action, found)

    def where(self, column: Any, action: str) -> list[Any]:
        """The condition that keeps a list to what the caller may see."""
        allowed = [n for n, k in self._kitchens.items() if self._caller.may(action, k)]
        if self._caller.is_admin and len(allowed) == len(self._kitchens):
            return []
        return [column.in_(allowed)]

    @cached_property
    def _kitchens(self) -> dict[str, Kitchen]:
        return {kitchen.name: kitchen for kitchen in self._session.scalars(sa.select(Kitchen))}
