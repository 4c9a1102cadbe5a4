"""Calls past FastAPI's layers are answered as those through them."""

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Body, Depends, FastAPI, Query, Request
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.testclient import TestClient

from galley.core.errors import Conflict
from galley.dialects.datakitchen import kitchens, orders, recipes, runs, sessions
from galley.wire.body import LenientBody
from galley.wire.direct import DirectCalls, binder
from galley.wire.errors import install_errors, plain_response, render_plain
from galley.wire.handlers import Handlers
from galley.wire.routes import CallRoute
from galley.wire.services import Services


class Thing(BaseModel):
    name: str
    size: int = 1


async def _now(request: Request) -> str:
    return request.method


NowDep = Annotated[str, Depends(_now)]
router = APIRouter(route_class=CallRoute)


@router.post("/things/{thing}")
def make(thing: str, now: NowDep, wanted: Thing, loud: bool = False) -> dict[str, Any]:
    return {"thing": thing, "now": now, "wanted": wanted.model_dump(), "loud": loud}


@router.get("/things/{thing}")
async def read(thing: int, request: Request, sizes: Annotated[list[int], Query()]) -> Any:
    return {"thing": thing, "sizes": sizes, "path": request.url.path}


@router.get("/files/{place:path}")
def read_file(place: str) -> Any:
    return {"place": place}


@router.put("/pair")
def pair(one: Annotated[int, Body()], two: Annotated[str, Body()] = "none") -> Any:
    return [one, two]


@router.get("/clash")
def clash() -> Any:
    raise Conflict("no", retry_after_s=3)


@router.get("/bug")
def bug() -> Any:
    raise KeyError("secret")


@router.get("/later")
def later(tasks: BackgroundTasks) -> Any:
    return {"tasks": type(tasks).__name__}


@pytest.fixture
def app(services: Services) -> FastAPI:
    made = FastAPI(openapi_url=None)
    made.state.services = services
    install_errors(made, render=render_plain, plain=plain_response)
    made.include_router(router, prefix="/v1")
    return made


CALLS = [
    ("POST", "/v1/things/a%20b?loud=yes", {"name": "x"}),
    ("POST", "/v1/things/a?loud=perhaps", {"name": "x"}),
    ("POST", "/v1/things/a", {"size": "many"}),
    ("POST", "/v1/things/a", []),
    ("GET", "/v1/things/7?sizes=1&sizes=2", None),
    ("GET", "/v1/things/seven?sizes=1", None),
    ("GET", "/v1/things/7", None),
    ("GET", "/v1/files/a/b/c.txt", None),
    ("PUT", "/v1/pair", {"one": 1}),
    ("PUT", "/v1/pair", {"two": 1}),
    ("GET", "/v1/clash", None),
    ("GET", "/v1/later", None),
    ("GET", "/v1/nowhere", None),
    ("DELETE", "/v1/things/a", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_both_ways_give_the_same_answer(app: FastAPI, method: str, path: str, body: Any) -> None:
    answers = []
    for way in (app, DirectCalls(app, Handlers(2))):
        client = TestClient(LenientBody(way, render=render_plain))
        answer = client.request(method, path, json=body)
        answers.append((answer.status_code, dict(answer.headers), answer.content))
    assert answers[0] == answers[1]


def test_a_bug_is_told_to_nobody(app: FastAPI) -> None:
    client = TestClient(LenientBody(DirectCalls(app, Handlers(2)), render=render_plain))
    answer = client.get("/v1/bug")
    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_what_is_not_known_here_is_left_to_the_application(app: FastAPI) -> None:
    known = {
        context.path: binder(context.dependant, is_embedded=context._embed_body_fields)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, CallRoute)
    }
    assert known["/v1/later"] is None
    assert known["/v1/pair"] is not None


def test_every_built_operation_of_datakitchen_goes_the_direct_way() -> None:
    made = FastAPI(openapi_url=None)
    for resource in (sessions, kitchens, recipes, orders, runs):
        made.include_router(resource.router)
    contexts = list(iter_route_contexts(made.routes))
    assert len(contexts) > 30
    for context in contexts:
        bind = binder(context.dependant, is_embedded=context._embed_body_fields)
        assert bind is not None, context.path
