"""Vaults and secrets: which vault a kitchen has, and what is in it by name. Source: contract 3.9.

No answer holds a value or a token.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from starlette.responses import Response

from galley.core.caller import Caller
from galley.core.vaults import configuring, operations
from galley.core.vaults.operations import Listing
from galley.dialects.datakitchen import render
from galley.dialects.datakitchen.answers import merged, ok
from galley.dialects.datakitchen.auth import CallerDep
from galley.dialects.datakitchen.vaultschemas import (
    GLOBAL,
    NewSecret,
    OldSecret,
    VaultConfigs,
    VaultQuery,
)
from galley.wire.routes import CallRoute
from galley.wire.services import Services, ServicesDep
from galley.wire.session import SessionDep, WriteDep

router = APIRouter(route_class=CallRoute)

QueryBody = Annotated[dict[str, Any], Body(default_factory=dict)]


@router.get("/vault/config", operation_id="vault-config-get")
def get_config(
    request: Request, caller: CallerDep, session: SessionDep, body: QueryBody
) -> Response:
    """The account's vault and, if a kitchen is named that has or inherits one, the kitchen's."""
    kitchen = merged(request, body, VaultQuery).kitchen or None
    account, own = configuring.show_vaults(session, caller, kitchen)
    shown = {GLOBAL: render.vault(account)}
    if kitchen is not None and own is not None:
        shown[kitchen] = render.vault(own)
    return ok({"config": shown})


@router.post("/vault/config", operation_id="vault-config-set")
def set_config(
    wanted: VaultConfigs, caller: CallerDep, session: SessionDep, services: ServicesDep
) -> Response:
    """Configure vaults: all that are named, or none."""
    vaults = {
        None if name == GLOBAL else name: document.wanted(name)
        for name, document in wanted.config.items()
    }
    configuring.configure(session, caller, services.sealer, vaults, services.clock)
    return ok()


@router.delete("/vault/config/{kitchen}", operation_id="vault-config-delete")
def delete_config(
    kitchen: str, caller: CallerDep, session: SessionDep, services: ServicesDep
) -> Response:
    """Take a kitchen's own configuration away; it inherits from then on."""
    name = None if kitchen == GLOBAL else kitchen
    configuring.remove_config(session, caller, name, services.clock)
    return ok()


@router.get("/secret", operation_id="secret-list")
def list_secrets(
    request: Request, caller: CallerDep, services: ServicesDep, body: QueryBody
) -> Response:
    """The paths of all secrets of the account and, if one is named, of a kitchen."""
    return _listed(services, caller, merged(request, body, VaultQuery))


@router.get("/secret/", operation_id="secret-list-slash")
def list_secrets_with_slash(
    request: Request, caller: CallerDep, services: ServicesDep, body: QueryBody
) -> Response:
    """The same; clients put the empty path that they mean behind a slash."""
    return _listed(services, caller, merged(request, body, VaultQuery))


@router.get("/secret/check/{path:path}", operation_id="secret-check")
def check_secret(
    path: str, request: Request, caller: CallerDep, services: ServicesDep, body: QueryBody
) -> Response:
    """Whether there is such a secret of the account or, if one is named, of a kitchen."""
    kitchen = merged(request, body, VaultQuery).kitchen or None
    found = operations.has_secret(services.vaults, caller, path, kitchen=kitchen)
    return ok({"value": found})


@router.get("/secret/{path:path}", operation_id="secret-list-path")
def list_secrets_below(
    path: str, request: Request, caller: CallerDep, services: ServicesDep, body: QueryBody
) -> Response:
    """The paths at a path and under it."""
    return _listed(services, caller, merged(request, body, VaultQuery), path)


@router.post("/secret/{path:path}", operation_id="secret-write")
def write_secret(
    path: str, wanted: NewSecret, caller: CallerDep, write: WriteDep, services: ServicesDep
) -> Response:
    """Write a secret of the account, or of a kitchen."""
    answer = ok()
    operations.write_secret(
        services.vaults,
        write.transactions(answer),
        caller,
        path=path,
        value=wanted.value,
        kitchen=wanted.kitchen or None,
    )
    return answer


@router.delete("/secret/{path:path}", operation_id="secret-delete")
def delete_secret(
    *,
    path: str,
    caller: CallerDep,
    write: WriteDep,
    services: ServicesDep,
    wanted: Annotated[OldSecret, Body(default_factory=OldSecret)],
) -> Response:
    """Remove a secret of the account, or of a kitchen."""
    answer = ok()
    operations.delete_secret(
        services.vaults,
        write.transactions(answer),
        caller,
        path=path,
        kitchen=wanted.kitchen or None,
    )
    return answer


def _listed(services: Services, caller: Caller, wanted: VaultQuery, below: str = "") -> Response:
    kitchen = wanted.kitchen or None
    account, own = operations.list_both(services.vaults, caller, kitchen=kitchen, below=below)
    shown: dict[str, Any] = {GLOBAL: _listing(account)}
    if kitchen is not None and own is not None:
        shown[kitchen] = _listing(own)
    return ok(shown)


def _listing(found: Listing) -> dict[str, Any]:
    """A list; DKUtils insists on `error`, and on `error-message` where it is true."""
    if found.fault is not None:
        return {"error": True, "error-message": found.fault}
    return {"error": False, "list": [f"vault://{path}" for path in found.paths]}
