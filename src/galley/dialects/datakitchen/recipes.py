"""Recipes and their files. Source: contract 3.5.

Files are stored as they come: nothing is re-formatted, so `formatted_files` is always empty.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.responses import Response

from galley.core.caller import Caller
from galley.core.errors import Invalid
from galley.core.projects import operations as projects
from galley.core.projects.errors import FileNotInRecipe
from galley.core.projects.operations import RecipeFiles
from galley.core.recipes.templates import TEMPLATES
from galley.dialects.datakitchen import schemas, trees
from galley.dialects.datakitchen.answers import ok
from galley.dialects.datakitchen.auth import CallerDep
from galley.wire.routes import CallRoute
from galley.wire.services import ServicesDep
from galley.wire.session import SessionDep, SnapshotDep, Transactions, WriteDep

router = APIRouter(prefix="/recipe", route_class=CallRoute)

_TAKEN = frozenset({"status", "issues", "branch", "formatted_files", "error"})
"""Keys of an update's answer that mean something else; `error` would read as a failure."""
Query = Annotated[schemas.RecipeQuery, Body(default_factory=schemas.RecipeQuery)]


@router.get("/get/{kitchen}/{recipe}", operation_id="recipe-get-by-get")
@router.post("/get/{kitchen}/{recipe}", operation_id="recipe-get")
def get_recipe(
    *,
    kitchen: str,
    recipe: str,
    wanted: Query,
    caller: CallerDep,
    session: SnapshotDep,
    services: ServicesDep,
) -> Response:
    """A recipe's files with their contents; the recipe is left out if no wanted file is there."""
    found = projects.recipe_files(session, caller, services.repositories, kitchen, recipe)
    chosen = trees.matching(found.files, wanted.files)
    shown = {path: (found.shas[path], found.files[path]) for path in chosen}
    tree = trees.tree(recipe, shown)
    if wanted.files is not None:
        tree = trees.filled(tree)
    answer: dict[str, Any] = {"ORIG_HEAD": found.commit, "recipes": {recipe: tree} if tree else {}}
    if wanted.with_tree:
        answer["recipe-tree"] = {recipe: _bare_tree(recipe, found)}
    return ok(answer)


@router.get("/tree/{kitchen}/{recipe}", operation_id="recipe-tree")
def get_tree(
    kitchen: str, recipe: str, caller: CallerDep, session: SessionDep, services: ServicesDep
) -> Response:
    """Names and blob hashes of a recipe's files."""
    found = projects.recipe_files(session, caller, services.repositories, kitchen, recipe)
    return ok({"ORIG_HEAD": found.commit, "recipes": {recipe: _bare_tree(recipe, found)}})


@router.get("/file/{kitchen}/{recipe}/{path:path}", operation_id="recipe-file")
def get_file(
    *,
    kitchen: str,
    recipe: str,
    path: str,
    caller: CallerDep,
    session: SessionDep,
    services: ServicesDep,
) -> Response:
    """One file's content as text (base64 where its name is binary)."""
    found = projects.recipe_files(session, caller, services.repositories, kitchen, recipe)
    if path not in found.files:
        raise FileNotInRecipe(path, recipe, kitchen)
    return ok({"contents": trees.to_wire(path, found.files[path])})


@router.post("/create/{kitchen}/{recipe}", operation_id="recipe-create")
def create_recipe(
    *,
    kitchen: str,
    recipe: str,
    caller: CallerDep,
    write: WriteDep,
    services: ServicesDep,
    wanted: Annotated[schemas.NewRecipe, Body(default_factory=schemas.NewRecipe)],
) -> Response:
    """Make a recipe from a template."""
    answer = ok()
    projects.create_recipe(
        write.transactions(answer),
        caller,
        services.repositories,
        kitchen,
        recipe,
        templates=TEMPLATES,
        template=wanted.templatename,
        description=wanted.description or "",
        clock=services.clock,
    )
    return answer


@router.put("/create/{kitchen}/{recipe}", operation_id="recipe-add-file")
def add_file(
    *,
    kitchen: str,
    recipe: str,
    wanted: schemas.OneFile,
    caller: CallerDep,
    write: WriteDep,
    services: ServicesDep,
) -> Response:
    """Add a file; clients send the same content once more as an update."""
    content = trees.from_wire(wanted.filepath, wanted.file)
    changes = {wanted.filepath: content}
    answer = ok()
    _save(
        services,
        write.transactions(answer),
        caller,
        (kitchen, recipe),
        changes,
        message=wanted.message,
    )
    return answer


@router.post("/copy/{kitchen}/{recipe}/{name}", operation_id="recipe-copy")
def copy_recipe(
    *,
    kitchen: str,
    recipe: str,
    name: str,
    caller: CallerDep,
    write: WriteDep,
    services: ServicesDep,
) -> Response:
    """Copy a recipe under a new name in the same kitchen."""
    answer = ok()
    projects.copy_recipe(
        write.transactions(answer),
        caller,
        services.repositories,
        kitchen,
        recipe,
        name,
        clock=services.clock,
    )
    return answer


@router.delete("/delete/{kitchen}/{recipe}", operation_id="recipe-delete-file")
def delete_file(
    *,
    kitchen: str,
    recipe: str,
    wanted: schemas.OneFile,
    caller: CallerDep,
    write: WriteDep,
    services: ServicesDep,
) -> Response:
    """Delete one file."""
    changes = {wanted.filepath: None}
    answer = ok()
    _save(
        services,
        write.transactions(answer),
        caller,
        (kitchen, recipe),
        changes,
        message=wanted.message,
    )
    return answer


@router.delete("/{kitchen}/{recipe}", operation_id="recipe-delete")
def delete_recipe(
    kitchen: str, recipe: str, caller: CallerDep, write: WriteDep, services: ServicesDep
) -> Response:
    """Delete a recipe with all its files."""
    answer = ok()
    projects.delete_recipe(
        write.transactions(answer),
        caller,
        services.repositories,
        kitchen,
        recipe,
        clock=services.clock,
    )
    return answer


@router.post("/update/{kitchen}/{recipe}", operation_id="recipe-update")
def update_files(
    *,
    kitchen: str,
    recipe: str,
    wanted: schemas.FileChanges,
    caller: CallerDep,
    write: WriteDep,
    services: ServicesDep,
) -> Response:
    """Write, add and delete files, in one commit: all of them or none."""
    changes = _changes(wanted)
    told = {path: True for path in wanted.files or () if path not in _TAKEN}
    answer = ok(
        {**told, "status": "success", "issues": [], "branch": kitchen, "formatted_files": {}}
    )
    _save(
        services,
        write.transactions(answer),
        caller,
        (kitchen, recipe),
        changes,
        message=wanted.message,
    )
    return answer


def _changes(wanted: schemas.FileChanges) -> dict[str, bytes | None]:
    if wanted.files is not None:
        if not wanted.files:
            raise Invalid("files: name at least one file to change.")
        return {
            path: None if change.contents is None else trees.from_wire(path, change.contents)
            for path, change in wanted.files.items()
        }
    if wanted.filepath is None or wanted.file is None:
        raise Invalid("Give filepath and file for one file, or files for many.")
    return {wanted.filepath: trees.from_wire(wanted.filepath, wanted.file)}


def _save(
    services: ServicesDep,
    transactions: Transactions,
    caller: Caller,
    place: tuple[str, str],
    changes: Mapping[str, bytes | None],
    *,
    message: str | None,
) -> None:
    kitchen, recipe = place
    projects.save_files(
        transactions,
        caller,
        services.repositories,
        kitchen,
        recipe,
        changes,
        message=message or "",
        clock=services.clock,
    )


def _bare_tree(recipe: str, found: RecipeFiles) -> trees.Tree:
    return trees.tree(recipe, {path: (sha, None) for path, sha in found.shas.items()})
