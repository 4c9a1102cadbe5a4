"""Recipes: the top folders of a kitchen's branch, and the files in them.

Each change is one commit on the branch; see `branches`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Invalid
from galley.core.projects import checks
from galley.core.projects.branches import Change, Changes, Place, Transactions, find_place
from galley.core.projects.errors import (
    FileNameInvalid,
    FileNotInRecipe,
    RecipeExists,
    TemplateUnknown,
)
from galley.core.projects.models import Kitchen
from galley.kit.clock import Clock
from galley.kit.paths import find_twins
from galley.storage.git import GitStore

DEFAULT_TEMPLATE = "qs1"
MAX_FILES = 5_000
MAX_PATTERNS = 200
_MAX_PATTERN = 500
Files = dict[str, bytes]


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


def list_recipes(
    session: Session, caller: Caller, repositories: GitStore, kitchen: str
) -> list[str]:
    """The names of a kitchen's recipes, A to Z.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
    """
    place = find_place(session, caller, repositories, kitchen, "recipe.read")
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
    place = find_place(session, caller, repositories, kitchen, "recipe.read")
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
    change = _change(transactions, caller, repositories, kitchen, name, clock)
    change.check_may()
    checks.check_recipe_name(name)
    chosen = template or DEFAULT_TEMPLATE
    if chosen not in templates:
        raise TemplateUnknown(chosen, templates)
    made = templates[chosen](name, checks.check_description(description))
    message = f"Create recipe {name} from template {chosen}"
    return _add_recipe(change, name, lambda _place, _commit: dict(made), message)


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
    change = _change(transactions, caller, repositories, kitchen, name, clock)
    change.check_may()
    checks.check_recipe_name(name)

    def content(place: Place, commit: str) -> Files:
        place.tree(commit, source)
        return place.repository.read_folder(commit, source)

    return _add_recipe(change, name, content, f"Copy recipe {source} to {name}")


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

    def plan(place: Place, commit: str) -> Changes:
        place.tree(commit, name)
        return {name: None}

    change = _change(transactions, caller, repositories, kitchen, name, clock)
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
    change = _change(transactions, caller, repositories, kitchen, recipe, clock)
    change.check_may()
    for path, content in changes.items():
        checks.check_file(f"{recipe}/{path}" if path else path, content)
    default = f"Update {', '.join(sorted(changes))[:200]} of {recipe}"

    def plan(place: Place, commit: str) -> Changes:
        place.tree(commit, recipe)
        _check_result(place, commit, recipe, changes)
        return {f"{recipe}/{path}": content for path, content in changes.items()}

    return change.make(plan, checks.clean_message(message, default))


def _change(  # noqa: PLR0917 - like the operations on recipes
    transactions: Transactions,
    caller: Caller,
    repositories: GitStore,
    kitchen: str,
    recipe: str,
    clock: Clock,
) -> Change:
    noted = ("recipe", f"{kitchen}/{recipe}")
    return Change(transactions, caller, repositories, kitchen, clock, noted)


def _add_recipe(
    change: Change, name: str, content: Callable[[Place, str], Files], message: str
) -> str:
    def plan(place: Place, commit: str) -> Changes:
        taken = {top.casefold() for top in place.repository.folders(commit)}
        if name.casefold() in taken:
            raise RecipeExists(name, place.kitchen.name)
        return {f"{name}/{path}": data for path, data in content(place, commit).items()}

    def activate(kitchen: Kitchen) -> None:
        if kitchen.restrict_recipes and name not in kitchen.recipes:
            kitchen.recipes = [*kitchen.recipes, name]

    return change.make(plan, message, activate)


def _check_result(place: Place, commit: str, recipe: str, changes: Changes) -> None:
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
