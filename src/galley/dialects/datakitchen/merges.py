"""Merging kitchens, and reverting their last change. Source: contract 3.3, 3.4.

`left` is the source kitchen's version of a file in conflict and `right` the target's, as in the
vendor's own pages (docs.datakitchen.io, Merge Kitchens, read in 2026-11).
"""

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.responses import Response

from galley.core.projects import merging
from galley.core.projects.mergeplan import Contents
from galley.dialects.datakitchen import authoringschemas, trees
from galley.dialects.datakitchen.answers import ok
from galley.dialects.datakitchen.auth import CallerDep
from galley.dialects.datakitchen.render import history_address
from galley.wire.routes import CallRoute
from galley.wire.services import ServicesDep
from galley.wire.session import SnapshotDep, WriteDep

router = APIRouter(prefix="/kitchen", route_class=CallRoute)

MergeBody = Annotated[authoringschemas.Merge, Body(default_factory=authoringschemas.Merge)]
_AGAIN = "Please run kitchen-merge-preview again."
"""The command line clears its folder of conflicts on these words."""


@router.get("/merge/{source}/{target}", operation_id="kitchen-merge-preview")
def preview_merge(
    source: str, target: str, caller: CallerDep, session: SnapshotDep, services: ServicesDep
) -> Response:
    """The files that a merge would change, and all versions of those in conflict."""
    found = merging.preview_merge(session, caller, services.repositories, source, target)
    return ok(
        {
            "results": [_result(path, versions) for path, versions in found.files.items()],
            "warnings": found.warnings,
            "source_kitchen_sha": found.source_commit,
            "target_kitchen_sha": found.target_commit,
        }
    )


@router.post("/merge/{source}/{target}", operation_id="kitchen-merge")
@router.post("/manualmerge/{source}/{target}", operation_id="kitchen-manual-merge")
def merge(
    *,
    source: str,
    target: str,
    wanted: MergeBody,
    caller: CallerDep,
    write: WriteDep,
    services: ServicesDep,
) -> Response:
    """Merge, with the resolved files; nothing is done if a kitchen moved on since the preview."""
    files = wanted.resolved()
    resolved = {
        path: None if text is None else trees.from_wire(path, text) for path, text in files.items()
    }
    answer = ok()
    transactions = write.transactions(answer)

    def announce(commit: str) -> None:
        nonlocal answer
        answer = _merged(source, target, history_address(services.account, target, commit))
        transactions.answer_with(answer)

    outcome = merging.merge_kitchen(
        transactions,
        caller,
        services.repositories,
        source,
        target,
        resolved=resolved,
        seen=merging.Seen(wanted.source_sha, wanted.target_sha),
        announce=announce,
        clock=services.clock,
    )
    if outcome.moved is not None:
        text = f"Kitchen {outcome.moved} has new changes since last kitchen-merge-preview. {_AGAIN}"
        return ok({"sha_expired": True, "error_message": text})
    return answer


@router.get("/revert/{kitchen}", operation_id="kitchen-revert-preview")
def preview_revert(
    kitchen: str, caller: CallerDep, session: SnapshotDep, services: ServicesDep
) -> Response:
    """The commit that a revert would take back, and the one that it would go back to."""
    found = merging.preview_revert(session, caller, services.repositories, kitchen)
    return ok(
        {
            "before_sha": found.tip,
            "after_sha": found.back_to,
            "preview_url": history_address(services.account, kitchen, found.tip),
        }
    )


@router.post("/revert/{kitchen}/{sha}", operation_id="kitchen-revert")
def revert(
    kitchen: str, sha: str, caller: CallerDep, write: WriteDep, services: ServicesDep
) -> Response:
    """Take back the last change, if it is still the one that the preview told of."""
    answer = ok()
    transactions = write.transactions(answer)

    def announce(commit: str) -> None:
        nonlocal answer
        answer = ok({"sha_expired": False, "new_kitchen_head": commit})
        transactions.answer_with(answer)

    outcome = merging.revert_kitchen(
        transactions,
        caller,
        services.repositories,
        kitchen,
        sha,
        announce=announce,
        clock=services.clock,
    )
    if outcome.moved is not None:
        text = (
            f"Kitchen {kitchen} has new changes since last kitchen-revert --preview. Please run"
            " kitchen-revert --preview again."
        )
        return ok({"sha_expired": True, "error_message": text})
    return answer


def _merged(source: str, target: str, address: str) -> Response:
    """Old clients read the kitchens' names too, and the conflicts in `merge_info`: none."""
    result = {"status": "success", "url": address, "merge_info": {"recipes": {}}}
    return ok(
        {
            "status": "success",
            "sha_expired": False,
            "merge-kitchen-result": result,
            "from-kitchen-name": source,
            "to-kitchen-name": target,
        }
    )


def _result(path: str, versions: Contents | None) -> dict[str, Any]:
    if versions is None:
        return {"file": path, "status": "ok"}
    return {
        "file": path,
        "status": "conflict",
        "base": _encoded(versions.base),
        "left": _encoded(versions.source),
        "right": _encoded(versions.target),
        "merge": _encoded(versions.merged),
    }


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
