"""Compiling and validating recipes; nothing is stored. Source: contract 3.5."""

import base64
from typing import Annotated

from fastapi import APIRouter, Body
from starlette.responses import Response

from galley.core.runs import authoring
from galley.dialects.datakitchen import authoringschemas, trees
from galley.dialects.datakitchen.answers import ok
from galley.dialects.datakitchen.auth import CallerDep
from galley.wire.routes import CallRoute
from galley.wire.services import ServicesDep

router = APIRouter(route_class=CallRoute)


@router.post("/recipe/compile/{kitchen}/{recipe}/{variation}", operation_id="recipe-compile-file")
def compile_file(
    *,
    kitchen: str,
    recipe: str,
    variation: str,
    wanted: authoringschemas.FileToCompile,
    caller: CallerDep,
    services: ServicesDep,
) -> Response:
    """One file as it is sent, laid over the recipe and rendered with the variation's variables."""
    shown = authoring.show_file(
        services.desk,
        caller,
        kitchen,
        recipe,
        variation,
        path=wanted.file.path,
        content=wanted.file.content(),
    )
    if shown.text is None:
        return ok({"error-message": shown.fault})
    return ok({"compiled-file": base64.b64encode(shown.text.encode()).decode()})


@router.post("/recipe/validate/{kitchen}/{recipe}/{variation}", operation_id="recipe-validate")
def validate_recipe(
    *,
    kitchen: str,
    recipe: str,
    variation: str,
    caller: CallerDep,
    services: ServicesDep,
    wanted: Annotated[
        authoringschemas.LocalChanges, Body(default_factory=authoringschemas.LocalChanges)
    ],
) -> Response:
    """All issues of a variation with the caller's local changes."""
    changes = {
        path: None if text is None else trees.from_wire(path, text)
        for path, text in wanted.contents().items()
    }
    issues = authoring.check_recipe(services.desk, caller, kitchen, recipe, variation, changes)
    shown = [{"severity": i.severity, "file": i.file, "description": i.description} for i in issues]
    return ok({"results": shown})


@router.get("/servings/compiled/get/{kitchen}/{recipe}/{variation}", operation_id="recipe-compile")
def compile_recipe(
    kitchen: str, recipe: str, variation: str, caller: CallerDep, services: ServicesDep
) -> Response:
    """Every file of a recipe, rendered with the variation's variables."""
    files = authoring.show_recipe(services.desk, caller, kitchen, recipe, variation)
    return ok({recipe: trees.compiled(recipe, files)})
