"""Kitchens: the tree, one of them, opening, changing and closing. Source: contract 3.3."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body
from sqlalchemy.orm import Session
from starlette.responses import Response

from galley.core.caller import Caller
from galley.core.errors import Invalid
from galley.core.projects import account, attributes
from galley.core.projects import operations as projects
from galley.core.projects.errors import KitchenNotFound
from galley.core.projects.models import Kitchen
from galley.core.runs import closing
from galley.dialects.datakitchen import render, schemas
from galley.dialects.datakitchen.answers import ok
from galley.dialects.datakitchen.auth import CallerDep
from galley.kit.nearest import did_you_mean
from galley.wire.routes import CallRoute
from galley.wire.services import ServicesDep
from galley.wire.session import SessionDep

router = APIRouter(prefix="/kitchen", route_class=CallRoute)

DIALECT = "datakitchen"
UpdateBody = Annotated[schemas.KitchenUpdate, Body()]


@router.get("/list", operation_id="kitchen-list")
def list_kitchens(caller: CallerDep, session: SessionDep, services: ServicesDep) -> Response:
    """Every kitchen of the account, closed ones too."""
    rows = projects.list_kitchens(session, caller)
    kept = attributes.read_attributes(session, caller, rows, DIALECT)
    shown = [render.kitchen(row, services.account, kept.get(row.id)) for row in rows]
    return ok({"kitchens": shown})


@router.put("/create/{parent}/{name}", operation_id="kitchen-create")
def create_kitchen(
    *,
    parent: str,
    name: str,
    caller: CallerDep,
    session: SessionDep,
    services: ServicesDep,
    wanted: Annotated[schemas.NewKitchen, Body(default_factory=schemas.NewKitchen)],
) -> Response:
    """Open a child kitchen: a copy of the parent's recipes and settings."""
    row = projects.create_kitchen(
        session,
        caller,
        services.repositories,
        name=name,
        parent=parent,
        description=wanted.description or "",
        clock=services.clock,
    )
    return ok({"status": "success", "kitchen": render.kitchen(row, services.account)})


@router.post("/update/{kitchen}", operation_id="kitchen-update")
def update_kitchen(
    kitchen: str,
    wanted: UpdateBody,
    caller: CallerDep,
    session: SessionDep,
    services: ServicesDep,
) -> Response:
    """Put the whole kitchen as the client has it; what cannot be changed must be as it is."""
    _update(services, session, caller, kitchen, wanted.kitchen)
    return ok()


@router.delete("/delete/{kitchen}", operation_id="kitchen-delete")
def delete_kitchen(
    kitchen: str, caller: CallerDep, session: SessionDep, services: ServicesDep
) -> Response:
    """Close a kitchen and stop its runs; one that is gone already is a success.

    Clients repeat the call.
    """
    try:
        closing.delete_kitchen(services.desk, session, caller, kitchen)
    except KitchenNotFound:
        # Gone is what was wanted; one that is closed to the caller is still there.
        if any(row.name == kitchen for row in projects.list_kitchens(session, caller)):
            raise
    return ok()


@router.get("/settings/json/{kitchen}", operation_id="kitchen-settings-file-get")
def get_settings_file(kitchen: str, caller: CallerDep, session: SessionDep) -> Response:
    """The settings of the account as a whole, as a file."""
    found = account.read_settings(session, caller, kitchen, DIALECT)
    return ok({"filename": schemas.SETTINGS_FILE, "json": render.settings_file(found)})


@router.post("/settings/json/{kitchen}", operation_id="kitchen-settings-file-update")
def put_settings_file(
    kitchen: str,
    wanted: schemas.SettingsUpdate,
    caller: CallerDep,
    session: SessionDep,
    services: ServicesDep,
) -> Response:
    """Put the account's settings as they are in the file."""
    account.replace_settings(
        session,
        caller,
        kitchen,
        DIALECT,
        alerts=schemas.alerts_of(wanted.file.alerts or {}),
        kept=wanted.file.kept(),
        clock=services.clock,
    )
    return ok()


@router.get("/settings/{kitchen}", operation_id="kitchen-settings-get")
def get_settings(
    kitchen: str, caller: CallerDep, session: SessionDep, services: ServicesDep
) -> Response:
    """The kitchen itself, not wrapped."""
    return ok(_shown(services, session, caller, projects.get_kitchen(session, caller, kitchen)))


@router.put("/settings/{kitchen}", operation_id="kitchen-settings-put")
def put_settings(
    kitchen: str,
    wanted: UpdateBody,
    caller: CallerDep,
    session: SessionDep,
    services: ServicesDep,
) -> Response:
    """The same as an update, as the command line sends it."""
    _update(services, session, caller, kitchen, wanted.kitchen)
    return ok()


@router.get("/recipenames/{kitchen}", operation_id="kitchen-recipe-names")
def list_recipes(
    kitchen: str, caller: CallerDep, session: SessionDep, services: ServicesDep
) -> Response:
    """The names of a kitchen's recipes, A to Z."""
    return ok({"recipes": projects.list_recipes(session, caller, services.repositories, kitchen)})


@router.get("/{kitchen}", operation_id="kitchen-get")
def get_kitchen(
    kitchen: str, caller: CallerDep, session: SessionDep, services: ServicesDep
) -> Response:
    """One kitchen."""
    row = projects.get_kitchen(session, caller, kitchen)
    return ok({"kitchen": _shown(services, session, caller, row)})


def _shown(services: ServicesDep, session: Session, caller: Caller, row: Kitchen) -> dict[str, Any]:
    kept = attributes.read_attributes(session, caller, [row], DIALECT)
    return render.kitchen(row, services.account, kept.get(row.id))


def _update(
    services: ServicesDep,
    session: Session,
    caller: Caller,
    kitchen: str,
    document: schemas.KitchenDocument,
) -> None:
    settings: dict[str, Any] | None = None
    if document.settings is not None:
        settings = {k: v for k, v in document.settings.items() if k != "alerts"}
    changes = projects.KitchenChanges(
        description=document.description,
        staff=document.staff,
        roles=document.roles,
        overrides=document.overrides,
        alerts=document.alert_addresses(),
        settings=settings,
        restrict_recipes=document.restrict_recipes,
        recipes=document.recipes,
    )
    row = projects.update_kitchen(session, caller, kitchen, changes=changes, clock=services.clock)
    kept = document.vendor_only()
    attributes.keep_attributes(session, caller, row, DIALECT, kept, clock=services.clock)
    _refuse_other_than(render.kitchen(row, services.account), document.model_extra or {})


def _refuse_other_than(shown: dict[str, Any], sent: dict[str, Any]) -> None:
    """Let the keys pass that a kitchen is shown with and that stay as they are; no others.

    Raises:
        Invalid: a key that no kitchen has, or a new value for one that cannot be changed.
    """
    for key, value in sent.items():
        if key not in shown:
            raise Invalid(
                f"kitchen.json: a kitchen has no {key[:100]!r}{did_you_mean(key, shown)}. "
                "Nothing was changed; leave it out."
            )
        if value != shown[key]:
            raise Invalid(
                f"kitchen.json: {key!r} cannot be changed here, it is "
                f"{msgspec.json.encode(shown[key]).decode()}. Nothing was changed; send that, "
                "or leave it out."
            )
