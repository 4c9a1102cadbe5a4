"""Histories of kitchens and files, and one file merged on request. Source: contract 3.3, 3.5."""

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from starlette.responses import Response

from galley.core.errors import Invalid
from galley.core.projects import histories
from galley.dialects.datakitchen import authoringschemas
from galley.dialects.datakitchen.answers import merged, ok
from galley.dialects.datakitchen.auth import CallerDep
from galley.dialects.datakitchen.render import history_address, past_commit
from galley.wire.routes import CallRoute
from galley.wire.services import ServicesDep
from galley.wire.session import SnapshotDep

router = APIRouter(route_class=CallRoute)

Said = Annotated[dict[str, Any], Body(default_factory=dict)]


@router.get("/kitchen/history/{kitchen}", operation_id="kitchen-history")
def kitchen_history(
    *,
    request: Request,
    kitchen: str,
    said: Said,
    caller: CallerDep,
    session: SnapshotDep,
    services: ServicesDep,
) -> Response:
    """The kitchen's commits, newest first."""
    limit = merged(request, said, authoringschemas.HistoryQuery).limit
    found = histories.kitchen_history(session, caller, services.repositories, kitchen, limit=limit)
    return ok({"commits": [{**past_commit(commit), "sha": commit.sha} for commit in found]})


@router.get("/recipe/history/{kitchen}/{recipe}/{path:path}", operation_id="recipe-file-history")
def file_history(
    *,
    request: Request,
    kitchen: str,
    recipe: str,
    path: str,
    said: Said,
    caller: CallerDep,
    session: SnapshotDep,
    services: ServicesDep,
) -> Response:
    """The commits that changed a file, newest first."""
    limit = merged(request, said, authoringschemas.HistoryQuery).limit
    found = histories.file_history(
        session, caller, services.repositories, kitchen, recipe, path=path, limit=limit
    )
    shown = [
        {
            **past_commit(commit),
            "url": f"/{history_address(services.account, kitchen, commit.sha)}",
        }
        for commit in found
    ]
    return ok({"history": shown})


@router.post("/file/merge/{kitchen}/{recipe}/{path:path}", operation_id="file-merge")
def merge_file(
    *,
    kitchen: str,
    recipe: str,
    path: str,
    wanted: authoringschemas.FileMerge,
    caller: CallerDep,
    session: SnapshotDep,
    services: ServicesDep,
) -> Response:
    """The client's copy merged with the kitchen's newest; nothing is changed here."""
    try:
        content = base64.b64decode(wanted.content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("content: send the file as base64.") from error
    made = histories.merge_file(
        session,
        caller,
        services.repositories,
        kitchen,
        recipe,
        path=path,
        origin=wanted.orig_head,
        content=content,
    )
    return ok({"merged_content": base64.b64encode(made).decode(), "file_path": path})
