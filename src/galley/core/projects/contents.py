"""Recipes: the top folders of a kitchen's branch, and the files in them.

Each change is one commit on the branch. Its objects are written first, while no transaction is
open: nobody's order waits for them. Then one short transaction writes what belongs to it in the
database and moves the branch last, without waiting; if the database then refuses, it moves back.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Invalid
from galley.core.events import audit
from galley.core.projects import checks
from galley.core.projects.errors import (
    BranchMissing,
    ChangeInDoubt,
    FileNameInvalid,
    FileNotInRecipe,
    KitchenBusy,
    RecipeExists,
    RecipeNotFound,
    TemplateUnknown,
)
from galley.core.projects.models import Kitchen
from galley.core.projects.repository import ProjectRepository
from galley.core.projects.sight import see_kitchen
from galley.kit.clock import Clock
from galley.kit.paths import find_twins
from galley.storage.db import is_outcome_unknown
from galley.storage.git import (
    BranchMoved,
    GitStore,
    PathClash,
    Repository,
    RepositoryBusy,
    author_line,
)

DEFAULT_TEMPLATE = "qs1"
MAX_FILES = 5_000
MAX_PATTERNS = 200
_MAX_PATTERN = 500
_PATIENCE_S = 20.0
Changes = Mapping[str, bytes | None]
Files = dict[str, bytes]


class Transactions(Protocol):
    """What opens the transactions of a change: it reads in one, and writes in another."""

    def reading(self) -> AbstractContextManager[Session]:
        """A session that sees one moment."""

    def writing(self) -> AbstractContextManager[Session]:
        """A session that commits at the end of its block, or rolls back on an exception."""


@dataclass(frozen=True, slots=True)
class RecipeFiles:
    """A recipe as it stands at one commit: file path below the recipe -> content, and blob hash.

    `tree` is the hash of the recipe's folder.
    """

    project: str
    commit: str
    tree: str
    files: dict[str, bytes]
    shas: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Place:
    """A kitchen that the caller may act on, and its branch's repository."""

    kitchen: Kitchen
    project: str
    repository: Repository

    def tip(self) -> str:
        """The newest commit of the kitchen's branch."""
        tip = self.repository.tip(self.kitchen.name)
        if tip is None:
            raise BranchMissing(self.kitchen.name)
        return tip

    def recipes(self, commit: str) -> list[str]:
        """The recipes that are active in the kitchen, A to Z."""
        names = [name for name in self.repository.folders(commit) if not name.startswith(".")]
        if self.kitchen.restrict_recipes:
            active = set(self.kitchen.recipes)
            return [name for name in names if name in active]
        return names

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


def list_recipes(
    session: Session, caller: Caller, repositories: GitStore, kitchen: str
) -> list[str]:
    """The names of a kitchen's recipes, A to Z.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
    """
    place = _place(session, caller, repositories, kitchen, "recipe.read")
    return place.recipes(place.tip())


def recipe_files(
    session: Session,
    caller: Caller,
    repositories: GitStore,
    kitchen: str | Kitchen,
    recipe: str,
    *,
    patterns: Sequence[str] | None = None,
) -> RecipeFiles:
    """A recipe's files at the branch's tip; with `patterns` (`path`, `dir/*`) those that match.

    `kitchen` is a name, or the row that was found for the caller in this session.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        RecipeNotFound: no such recipe.
    """
    place = _place(session, caller, repositories, kitchen, "recipe.read")
    commit = place.tip()
    tree = place.tree(commit, recipe)
    found = place.repository.read_files(commit, recipe)
    wanted = set(found) if patterns is None else _matching(found, patterns)
    return RecipeFiles(
        project=place.project,
        commit=commit,
        tree=tree,
        files={path: content for path, (_, content) in found.items() if path in wanted},
        shas={path: sha for path, (sha, _) in found.items() if path in wanted},
    )


def create_recipe(
    transactions: Transactions,
    caller: Caller,
    repositories: GitStore,
    kitchen: str,
    name: str,
    *,
    templates: Mapping[str, Callable[[str, str], Files]],
    template: str | None = None,
    description: str = "",
    clock: Clock,
) -> str:
    """Make a recipe from one of `templates` (the first one unless named); gives the commit.

    Raises:
        RecipeNameInvalid, RecipeExists, TemplateUnknown: the message says what to choose.
        KitchenNotFound: no such kitchen, or it is closed to the caller.
    """
    change = _Change(transactions, caller, repositories, kitchen, name, clock)
    change.check_may()
    checks.check_recipe_name(name)
    chosen = template or DEFAULT_TEMPLATE
    if chosen not in templates:
        raise TemplateUnknown(chosen, templates)
    made = templates[chosen](name, checks.check_description(description))
    message = f"Create recipe {name} from template {chosen}"
    return _add_recipe(change, lambda _place, _commit: dict(made), message)


def copy_recipe(  # noqa: PLR0917 - told apart by their types and order everywhere
    transactions: Transactions,
    caller: Caller,
    repositories: GitStore,
    kitchen: str,
    source: str,
    name: str,
    *,
    clock: Clock,
) -> str:
    """Copy a recipe under a new name in the same kitchen; gives the commit.

    Raises:
        RecipeNotFound: no such recipe to copy.
        RecipeNameInvalid, RecipeExists: the new name cannot be, or is taken.
    """
    change = _Change(transactions, caller, repositories, kitchen, name, clock)
    change.check_may()
    checks.check_recipe_name(name)

    def content(place: _Place, commit: str) -> Files:
        place.tree(commit, source)
        return place.repository.read_folder(commit, source)

    return _add_recipe(change, content, f"Copy recipe {source} to {name}")


def delete_recipe(
    transactions: Transactions,
    caller: Caller,
    repositories: GitStore,
    kitchen: str,
    name: str,
    *,
    clock: Clock,
) -> str:
    """Delete a recipe with all its files; gives the commit. The history keeps them.

    Raises:
        RecipeNotFound: no such recipe.
    """

    def plan(place: _Place, commit: str) -> Changes:
        place.tree(commit, name)
        return {name: None}

    change = _Change(transactions, caller, repositories, kitchen, name, clock)
    return change.make(plan, f"Delete recipe {name}")


def save_files(  # noqa: PLR0917 - like the other operations on recipes
    transactions: Transactions,
    caller: Caller,
    repositories: GitStore,
    kitchen: str,
    recipe: str,
    changes: Changes,
    *,
    message: str = "",
    clock: Clock,
) -> str:
    """Write (content) and delete (None) files of a recipe in one commit, which it gives.

    Paths are below the recipe. What is already so makes no commit; deleting what is not there
    is refused, so that a wrong path is noticed.

    Raises:
        RecipeNotFound: no such recipe.
        FileNameInvalid, FileTooLarge, FileNotInRecipe: the message names the file.
        KitchenBusy: others kept changing the branch.
    """
    change = _Change(transactions, caller, repositories, kitchen, recipe, clock)
    change.check_may()
    for path, content in changes.items():
        checks.check_file(f"{recipe}/{path}" if path else path, content)
    default = f"Update {', '.join(sorted(changes))[:200]} of {recipe}"

    def plan(place: _Place, commit: str) -> Changes:
        place.tree(commit, recipe)
        _check_result(place, commit, recipe, changes)
        return {f"{recipe}/{path}": content for path, content in changes.items()}

    return change.make(plan, checks.clean_message(message, default))


def _place(
    session: Session,
    caller: Caller,
    repositories: GitStore,
    kitchen: str | Kitchen,
    action: str,
    *,
    to_change: bool = False,
) -> _Place:
    if isinstance(kitchen, Kitchen):
        caller.require(action, row := kitchen)
    else:
        row = see_kitchen(session, caller, kitchen, action, to_change=to_change)
    project = ProjectRepository(session).of(row).path
    return _Place(row, project, repositories.repository(project))


def _add_recipe(change: "_Change", content: Callable[[_Place, str], Files], message: str) -> str:
    name = change.recipe

    def plan(place: _Place, commit: str) -> Changes:
        taken = {top.casefold() for top in place.repository.folders(commit)}
        if name.casefold() in taken:
            raise RecipeExists(name, place.kitchen.name)
        return {f"{name}/{path}": data for path, data in content(place, commit).items()}

    def activate(kitchen: Kitchen) -> None:
        if kitchen.restrict_recipes and name not in kitchen.recipes:
            kitchen.recipes = [*kitchen.recipes, name]

    return change.make(plan, message, activate)


@dataclass(frozen=True, slots=True)
class _Change:
    """One commit to a recipe of a kitchen."""

    transactions: Transactions
    caller: Caller
    repositories: GitStore
    kitchen: str
    recipe: str
    clock: Clock

    def place(self, session: Session, *, to_change: bool = False) -> _Place:
        """The kitchen, if the caller may change its recipes."""
        return _place(
            session,
            self.caller,
            self.repositories,
            self.kitchen,
            "recipe.write",
            to_change=to_change,
        )

    def check_may(self) -> _Place:
        """Refuse those who may not, before anything else is said."""
        with self.transactions.reading() as session:
            return self.place(session)

    def make(
        self,
        plan: Callable[[_Place, str], Changes],
        message: str,
        also: Callable[[Kitchen], None] | None = None,
    ) -> str:
        """Plan on the tip and commit there; if the branch moved meanwhile, plan again.

        `also` changes the kitchen's row with it.
        """
        repository = self.check_may().repository
        until = time.monotonic() + _PATIENCE_S
        with repository.queued():
            while time.monotonic() < until:
                tip, made = self._prepare(plan, message)
                try:
                    self._publish(tip, made, message, also)
                except BranchMoved:
                    continue
                except RepositoryBusy:
                    repository.wait_until_free(self.kitchen, until - time.monotonic())
                    continue
                return made
        raise KitchenBusy(self.kitchen)

    def _prepare(self, plan: Callable[[_Place, str], Changes], message: str) -> tuple[str, str]:
        """The branch's tip, and a commit on top of it that no branch knows yet."""
        place = self.check_may()
        tip = place.tip()
        author = author_line(self.caller.name, self.caller.login or "")
        now = self.clock.now()
        try:
            return tip, place.repository.prepare(
                tip, plan(place, tip), message=message, author=author, at=now
            )
        except PathClash as error:
            raise FileNameInvalid(
                str(error.args[0]), "is a file and a folder at the same time"
            ) from error

    def _publish(
        self, tip: str, made: str, message: str, also: Callable[[Kitchen], None] | None
    ) -> None:
        """The rows, then the branch, then the database's word that the rows stay.

        If that word is no, the branch goes back. It stays, and the change with it, if others have
        gone on from it, if we die in between, or if nobody knows what the database did.
        """
        moved: Repository | None = None
        try:
            with self.transactions.writing() as session:
                place = self._note(session, message, also)
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

    def _note(
        self, session: Session, message: str, also: Callable[[Kitchen], None] | None
    ) -> _Place:
        place = self.place(session, to_change=True)
        if also is not None:
            also(place.kitchen)
            session.flush()
        what = f"{self.kitchen}/{self.recipe}"
        noted = audit.entry(
            self.caller, "recipe.write", "recipe", what, after=message, at=self.clock.now()
        )
        audit.append(session, [noted])
        return place


def _check_result(place: _Place, commit: str, recipe: str, changes: Changes) -> None:
    """Refuse what the recipe would become: twins, too many files, or a deletion of nothing."""
    entries = place.repository.entries(commit, recipe)
    before = {entry.path for entry in entries if not entry.is_folder}
    gone = {path for path, content in changes.items() if content is None}
    if missing := sorted(gone - before):
        raise FileNotInRecipe(missing[0], recipe, place.kitchen.name)
    after = (before - gone) | (set(changes) - gone)
    if len(after) > MAX_FILES:
        raise Invalid(f"A recipe has at most {MAX_FILES} files; {recipe} would have {len(after)}.")
    twins = find_twins(after)
    if twins and not set(twins) <= before:
        raise FileNameInvalid(twins[1], f"cannot be told from {twins[0]} on every file system")


def _matching(paths: Collection[str], patterns: Sequence[str]) -> set[str]:
    if len(patterns) > MAX_PATTERNS or any(len(pattern) > _MAX_PATTERN for pattern in patterns):
        raise Invalid(
            f"At most {MAX_PATTERNS} file patterns of {_MAX_PATTERN} characters can be asked for."
        )
    return {path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns)}
