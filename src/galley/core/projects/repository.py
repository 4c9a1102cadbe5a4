"""The queries of projects and kitchens."""

from collections.abc import Sequence

from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from galley.core.projects.errors import KitchenExists, KitchenNotFound
from galley.core.projects.models import Kitchen, Project

_OF = select(Project).where(Project.id == bindparam("id"))
_BY_NAME = select(Kitchen).where(Kitchen.name == bindparam("name"))


class ProjectRepository:
    """Projects by path."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, path: str) -> Project | None:
        """The project of that path."""
        return self._session.scalar(select(Project).where(Project.path == path))

    def of(self, kitchen: Kitchen) -> Project:
        """The project that a kitchen belongs to; it is read once in a session."""
        held: dict[int, Project] = self._session.info.setdefault("projects", {})
        if kitchen.project_id not in held:
            found = self._session.scalars(_OF, {"id": kitchen.project_id})
            held[kitchen.project_id] = found.one()
        return held[kitchen.project_id]

    def list_all(self) -> Sequence[Project]:
        """All projects, A to Z."""
        return self._session.scalars(select(Project).order_by(Project.path)).all()


class KitchenRepository:
    """Kitchens by name."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, name: str, *, to_change: bool = False) -> Kitchen | None:
        """The kitchen of that name; `to_change` keeps others from changing it until the commit."""
        wanted = _BY_NAME
        if to_change:
            wanted = wanted.with_for_update().execution_options(populate_existing=True)
        return self._held(self._session.scalar(wanted, {"name": name}))

    def of_id(self, kitchen_id: int) -> Kitchen | None:
        """The kitchen of that id; it is read once in a session."""
        return self._held(self._session.get(Kitchen, kitchen_id))

    def get(self, name: str, *, to_change: bool = False) -> Kitchen:
        """The kitchen of that name.

        Raises:
            KitchenNotFound: there is none.
        """
        found = self.find(name, to_change=to_change)
        if found is None:
            raise KitchenNotFound(name)
        return found

    def list_all(self) -> Sequence[Kitchen]:
        """All kitchens: the root first, then A to Z."""
        order = (Kitchen.is_root.desc(), Kitchen.name)
        return self._session.scalars(select(Kitchen).order_by(*order)).all()

    def add(self, kitchen: Kitchen) -> Kitchen:
        """Store a new kitchen. The unique key decides, so of two callers at once one loses cleanly.

        Raises:
            KitchenExists: the name is taken.
        """
        try:
            with self._session.begin_nested():
                self._session.add(kitchen)
        except IntegrityError as error:
            raise KitchenExists(kitchen.name) from error
        return kitchen

    def _held(self, kitchen: Kitchen | None) -> Kitchen | None:
        """Keep it as long as the session: else it is read anew as soon as nobody names it."""
        if kitchen is not None:
            self._session.info.setdefault("kitchens", {})[kitchen.id] = kitchen
        return kitchen

    def remove(self, kitchen: Kitchen) -> None:
        """Delete a kitchen; its children become orphans."""
        children = Kitchen.project_id == kitchen.project_id, Kitchen.parent == kitchen.name
        self._session.execute(update(Kitchen).where(*children).values(parent=None))
        self._session.delete(kitchen)
        self._session.flush()
