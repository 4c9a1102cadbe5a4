"""Changes of a kitchen's branch: each is one commit, and what belongs to it in the database.

Objects are written first, while no transaction is open: nobody's order waits for them. Then one
short transaction writes the rows and moves the branch last, without waiting; if the database then
refuses, the branch moves back.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.events import audit
from galley.core.projects.errors import (
    BranchMissing,
    ChangeInDoubt,
    FileNameInvalid,
    KitchenBusy,
    RecipeNotFound,
)
from galley.core.projects.models import Kitchen
from galley.core.projects.repository import ProjectRepository
from galley.core.projects.sight import see_kitchen
from galley.kit.clock import Clock
from galley.storage.db import is_outcome_unknown
from galley.storage.git import (
    BranchMoved,
    GitStore,
    PathClash,
    Repository,
    RepositoryBusy,
    author_line,
)

_PATIENCE_S = 20.0
Changes = Mapping[str, bytes | None]


class Transactions(Protocol):
    """What opens the transactions of a change: it reads in one, and writes in another."""

    def reading(self) -> AbstractContextManager[Session]:
        """A session that sees one moment."""

    def writing(self) -> AbstractContextManager[Session]:
        """A session that commits at the end of its block, or rolls back on an exception."""


@dataclass(frozen=True, slots=True)
class Place:
    """A kitchen that the caller may act on, and its branch's repository."""

    kitchen: Kitchen
    project: str
    repository: Repository

    def tip(self) -> str:
        """The newest commit of the kitchen's branch.

        Raises:
            BranchMissing: the repository has no such branch.
        """
        tip = self.repository.tip(self.kitchen.name)
        if tip is None:
            raise BranchMissing(self.kitchen.name)
        return tip

    def recipes(self, commit: str) -> list[str]:
        """The recipes that are active in the kitchen, A to Z."""
        return [name for name in self.repository.folders(commit) if self.is_active(name)]

    def is_active(self, recipe: str) -> bool:
        """Whether a recipe of that name would be one of the kitchen's."""
        if recipe.startswith("."):
            return False
        return not self.kitchen.restrict_recipes or recipe in self.kitchen.recipes

    def tree(self, commit: str, recipe: str) -> str:
        """The hash of a recipe's folder.

        Raises:
            RecipeNotFound: there is none of that name, or it is not active here.
        """
        is_name = recipe and "/" not in recipe
        if is_name and recipe in self.recipes(commit):
            tree = self.repository.tree_id(commit, recipe)
            if tree is not None:
                return tree
        raise RecipeNotFound(recipe, self.kitchen.name)


def find_place(
    session: Session,
    caller: Caller,
    repositories: GitStore,
    kitchen: str | Kitchen,
    action: str,
    *,
    to_change: bool = False,
) -> Place:
    """The place of a kitchen: a name, or the row that was found for the caller in this session.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        Forbidden: the caller sees it but may not do `action` there.
    """
    if isinstance(kitchen, Kitchen):
        caller.require(action, row := kitchen)
    else:
        row = see_kitchen(session, caller, kitchen, action, to_change=to_change)
    project = ProjectRepository(session).of(row).path
    return Place(row, project, repositories.repository(project))


Prepare = Callable[[Place, str], str]
"""From the kitchen and its branch's tip to a commit that no branch knows yet, or to the tip."""


@dataclass(frozen=True, slots=True)
class Change:
    """One commit to a kitchen's branch, and the audit row that tells of it.

    `noted` is the kind and the name of what is changed, for the audit chain.
    """

    transactions: Transactions
    caller: Caller
    repositories: GitStore
    kitchen: str
    clock: Clock
    noted: tuple[str, str]
    action: str = "recipe.write"

    def place(self, session: Session, *, to_change: bool = False) -> Place:
        """The kitchen, if the caller may change it."""
        return find_place(
            session, self.caller, self.repositories, self.kitchen, self.action, to_change=to_change
        )

    def check_may(self) -> Place:
        """Refuse those who may not, before anything else is said."""
        with self.transactions.reading() as session:
            return self.place(session)

    def author(self) -> str:
        """The caller as git names people."""
        return author_line(self.caller.name, self.caller.login or "")

    def make(
        self,
        plan: Callable[[Place, str], Changes],
        message: str,
        also: Callable[[Kitchen], None] | None = None,
    ) -> str:
        """Commit the planned changes on the tip; see `commit`."""

        def prepare(place: Place, tip: str) -> str:
            now = self.clock.now()
            changes = plan(place, tip)
            try:
                return place.repository.prepare(
                    tip, changes, message=message, author=self.author(), at=now
                )
            except PathClash as error:
                raise FileNameInvalid(
                    str(error.args[0]), "is a file and a folder at the same time"
                ) from error

        return self.commit(prepare, message, also)

    def commit(
        self, prepare: Prepare, after: Any, also: Callable[[Kitchen], None] | None = None
    ) -> str:
        """Prepare a commit on the tip and move the branch there; gives the commit.

        If the branch moved meanwhile, it is prepared again. `after` is what the audit chain keeps a
        digest of; `also` changes the kitchen's row with the branch.

        Raises:
            KitchenBusy: others kept changing the branch.
        """
        repository = self.check_may().repository
        until = time.monotonic() + _PATIENCE_S
        with repository.queued():
            while time.monotonic() < until:
                place = self.check_may()
                tip = place.tip()
                made = prepare(place, tip)
                try:
                    self._publish(tip, made, after, also)
                except BranchMoved:
                    continue
                except RepositoryBusy:
                    repository.wait_until_free(self.kitchen, until - time.monotonic())
                    continue
                return made
        raise KitchenBusy(self.kitchen)

    def _publish(
        self, tip: str, made: str, after: Any, also: Callable[[Kitchen], None] | None
    ) -> None:
        """The rows, then the branch, then the database's word that the rows stay.

        If that word is no, the branch goes back. It stays, and the change with it, if others have
        gone on from it, if we die in between, or if nobody knows what the database did.
        """
        moved: Repository | None = None
        try:
            with self.transactions.writing() as session:
                place = self._note(session, after, also)
                if made != tip:
                    moved = place.repository
                    moved.advance(self.kitchen, tip, made)
        except Exception as error:
            if moved is not None and not is_outcome_unknown(error):
                self._take_back(moved, made, tip)
            raise

    def _take_back(self, moved: Repository, made: str, tip: str) -> None:
        """Move the branch back.

        Raises:
            ChangeInDoubt: that cannot be done, as on a full disk.
        """
        try:
            moved.take_back(self.kitchen, made, tip)
        except (OSError, RepositoryBusy) as error:
            raise ChangeInDoubt(self.kitchen) from error

    def _note(self, session: Session, after: Any, also: Callable[[Kitchen], None] | None) -> Place:
        place = self.place(session, to_change=True)
        if also is not None:
            also(place.kitchen)
            session.flush()
        kind, what = self.noted
        noted = audit.entry(self.caller, self.action, kind, what, after=after, at=self.clock.now())
        audit.append(session, [noted])
        return place
