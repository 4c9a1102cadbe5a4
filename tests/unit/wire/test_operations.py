"""The list of operations, held against the routes."""

from pathlib import Path

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.testclient import TestClient

from galley.core.errors import Unauthenticated
from galley.wire.errors import install_errors, plain_response, render_plain
from galley.wire.operations import OperationsFault, load_operations
from galley.wire.routes import CallRoute

ACTIONS = frozenset({"public", "thing.read", "thing.write"})
GOOD = """
[[operation]]
id = "thing-list"
method = "GET"
path = "/v9/thing/list"
action = "thing.read"
state = "done"
test = "tests/x.py::test_it"

[[operation]]
id = "thing-update"
method = "PUT"
path = "/v9/thing/{name}"
action = "thing.write"
state = "done"
test = "tests/x.py::test_it"
note = "replaces the whole"

[[operation]]
id = "thing-history"
method = "GET"
path = "/v9/thing/history/{name}"
action = "thing.read"
state = "planned"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "operations.toml"
    path.write_text(text)
    return path


def surface(router: APIRouter) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.include_router(router, prefix="/v9")
    install_errors(app, render=render_plain, plain=plain_response)
    return app


def things(*, route_class: type = CallRoute) -> APIRouter:
    router = APIRouter(prefix="/thing", route_class=route_class)
    router.add_api_route("/list", list, methods=["GET"])
    router.add_api_route("/{name}", lambda name: name, methods=["PUT"])
    return router


def refuse() -> None:
    raise Unauthenticated("who?")


def test_planned_operations_answer_501_after_authentication(tmp_path: Path) -> None:
    operations = load_operations(write(tmp_path, GOOD), "things")
    for guards, status in (((), 501), ((Depends(refuse),), 401)):
        app = surface(things())
        operations.add_planned(app, dependencies=guards)
        operations.check(app, ACTIONS)
        with TestClient(app) as client:
            assert client.get("/v9/thing/history/x").status_code == status
    assert len(operations) == 3
    assert [it.id for it in operations.planned] == ["thing-history"]


def test_a_surface_below_a_mount_takes_its_prefix_off(tmp_path: Path) -> None:
    operations = load_operations(write(tmp_path, GOOD), "things")
    app = FastAPI(openapi_url=None)
    app.include_router(things())
    operations.add_planned(app, prefix="/v9")
    operations.check(app, ACTIONS, prefix="/v9")
    assert "/thing/history/{name}" in {getattr(route, "path", "") for route in app.routes}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("thing.write", "thing.unheard"), "thing.unheard, which the policy table lacks"),
        (('path = "/v9/thing/list"', 'path = "/v9/thing/all"'), "thing-list .* has no route"),
        (('method = "PUT"', 'method = "POST"'), "PUT /v9/thing/{name} is served but not listed"),
    ],
)
def test_disagreements_keep_the_server_from_starting(
    tmp_path: Path, change: tuple[str, str], fault: str
) -> None:
    operations = load_operations(write(tmp_path, GOOD.replace(*change)), "things")
    app = surface(things())
    operations.add_planned(app)
    with pytest.raises(OperationsFault, match=fault):
        operations.check(app, ACTIONS)


def test_a_hidden_route_is_found(tmp_path: Path) -> None:
    text = GOOD.replace('method = "PUT"', 'method = "GET"')
    router = APIRouter(prefix="/thing")
    router.add_api_route("/{name}", lambda name: name, methods=["GET"])
    router.add_api_route("/list", list, methods=["GET"])
    app = surface(router)
    operations = load_operations(write(tmp_path, text), "things")
    operations.add_planned(app)
    with pytest.raises(OperationsFault, match=r"thing-list .* is hidden by /v9/thing/\{\}"):
        operations.check(app, ACTIONS)


def test_a_write_that_heeds_no_key_is_found(tmp_path: Path) -> None:
    from fastapi.routing import APIRoute

    operations = load_operations(write(tmp_path, GOOD), "things")
    app = surface(things(route_class=APIRoute))
    operations.add_planned(app)
    with pytest.raises(OperationsFault, match=r"PUT /v9/thing/\{name\} lacks route_class"):
        operations.check(app, ACTIONS)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no operation is listed"),
        (GOOD.replace('action = "thing.read"', ""), "lacks action"),
        (GOOD.replace("note", "remark"), "unknown fields: remark"),
        (GOOD.replace('"planned"', '"later"'), "unknown state later"),
        (GOOD.replace('"PUT"', '"put"'), "unknown method put"),
        (GOOD.replace('"/v9/thing/list"', '"v9/thing/list"'), "begin with a slash"),
        (GOOD.replace('test = "tests/x.py::test_it"', ""), "names no test"),
        (GOOD.replace("thing-history", "thing-list"), "id thing-list is listed twice"),
        (GOOD + GOOD.replace('id = "', 'id = "b-'), "is listed twice"),
    ],
)
def test_a_bad_list_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(OperationsFault, match=fault):
        load_operations(write(tmp_path, text), "things")
