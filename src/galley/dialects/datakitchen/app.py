"""The DataKitchen dialect as one ASGI application; its paths begin with `/v2`."""

from importlib.resources import files

from fastapi import Depends, FastAPI, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from galley.dialects.datakitchen import (
    authoring,
    errors,
    histories,
    kitchens,
    logs,
    merges,
    orders,
    recipes,
    runs,
    sessions,
    vaults,
)
from galley.dialects.datakitchen.auth import caller_of
from galley.wire.body import LenientBody
from galley.wire.direct import DirectCalls
from galley.wire.errors import install_errors
from galley.wire.operations import load_operations
from galley.wire.services import Services

PREFIX = "/v2"
OPERATIONS = files(__package__) / "operations.toml"


def make_app(services: Services) -> ASGIApp:
    """The application: its routes, its 501s, its errors, before them the lenient body.

    Raises:
        OperationsFault: routes and `operations.toml` do not agree.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.services = services
    install_errors(
        app,
        render=errors.render,
        plain=errors.response,
    )
    app.add_exception_handler(404, _no_such_address)
    for resource in (
        sessions,
        merges,
        kitchens,
        histories,
        recipes,
        authoring,
        orders,
        logs,
        runs,
        vaults,
    ):
        app.include_router(resource.router, prefix=PREFIX)
    operations = load_operations(OPERATIONS, "datakitchen")
    operations.add_planned(app, dependencies=[Depends(caller_of)])
    operations.check(app, services.actions)
    limits = services.settings.limits
    return LenientBody(
        DirectCalls(app, services.handlers),
        render=errors.render,
        limit_bytes=limits.body_bytes,
        depth=limits.json_depth,
    )


async def _no_such_address(_request: Request, _error: Exception) -> Response:
    """An address that is none; unknown names answer 400 here (see `errors.STATUS`)."""
    return errors.response(404, "There is nothing at this address.")
