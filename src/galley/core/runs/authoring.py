"""What authors ask of a recipe before they order it: is it sound, and what do its files become.

Nothing is stored, and no step runs. Files that the caller sends are laid over those of the branch.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from galley.core.caller import Caller
from galley.core.errors import Invalid, Issue, Refused
from galley.core.projects import operations as projects
from galley.core.projects.checks import check_file
from galley.core.projects.contents import MAX_FILES
from galley.core.projects.errors import FileNotInRecipe
from galley.core.runs.desk import Desk
from galley.core.runs.ports import CompileRequest, ShownFile
from galley.core.runs.sources import request_for
from galley.core.runs.views import OrderWish

Changes = Mapping[str, bytes | None]


def show_recipe(
    desk: Desk, caller: Caller, kitchen: str, recipe: str, variation: str
) -> Sequence[ShownFile]:
    """Every file of the recipe, A to Z, as the variation renders it outside a run.

    Raises:
        KitchenNotFound, RecipeNotFound: there is none, or it is closed to the caller.
        Refused: no such variation, or it does not compile (`issues` says why).
    """
    return desk.compiler.show(_request(desk, caller, kitchen, recipe, variation, {}))


def show_file(
    desk: Desk,
    caller: Caller,
    kitchen: str,
    recipe: str,
    variation: str,
    *,
    path: str,
    content: bytes,
) -> ShownFile:
    """A file with this content as the variation renders it; what is wrong with it is its `fault`.

    Raises:
        KitchenNotFound, RecipeNotFound: there is none, or it is closed to the caller.
        FileNameInvalid, FileTooLarge: the file cannot be one of a recipe.
        Refused: no such variation, or its variables cannot be read.
    """
    request = _request(desk, caller, kitchen, recipe, variation, {path: content})
    return desk.compiler.show_file(request, path)


def check_recipe(  # noqa: PLR0917 - like the others
    desk: Desk, caller: Caller, kitchen: str, recipe: str, variation: str, changes: Changes
) -> Sequence[Issue]:
    """All issues that the variation would have with these files written or (None) deleted.

    Raises:
        KitchenNotFound, RecipeNotFound, FileNotInRecipe: there is none, or it is closed to the
            caller.
        FileNameInvalid, FileTooLarge: the file cannot be one of a recipe.
        Refused: no such variation.
    """
    request = _request(desk, caller, kitchen, recipe, variation, changes)
    issues = desk.compiler.check(request)
    known = desk.compiler.list_variations(request) if issues else [variation]
    if known and variation not in known:
        first = next(issue for issue in issues if issue.severity == "error")
        raise Refused(
            f"The recipe {recipe} (variation {variation}) cannot run: {first.file}:"
            f" {first.description}",
            issues=issues,
        )
    return issues


def _request(  # noqa: PLR0917 - like the others
    desk: Desk, caller: Caller, kitchen: str, recipe: str, variation: str, changes: Changes
) -> CompileRequest:
    for path, content in changes.items():
        check_file(path, content)
    wish = OrderWish(kitchen=kitchen, source_path=recipe, variation=variation, parameters={})
    with desk.database.reading() as session:
        place = projects.get_kitchen(session, caller, kitchen)
        request = request_for(desk, session, caller, place, wish)
    if not changes:
        return request
    files = dict(request.files)
    for path, content in changes.items():
        if content is not None:
            files[path] = content
        elif files.pop(path, None) is None:
            raise FileNotInRecipe(path, recipe, kitchen)
    if len(files) > MAX_FILES:
        raise Invalid(f"A recipe has at most {MAX_FILES} files; {recipe} would have {len(files)}.")
    return dataclasses.replace(request, files=files, tree="")
