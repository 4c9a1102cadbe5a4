"""One call, one transaction, and one effect for each idempotency key."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, Header, Request
from sqlalchemy.exc import OperationalError
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.testclient import TestClient

from galley.core.caller import Caller
from galley.core.errors import Conflict, Unauthenticated
from galley.core.events.models import audit_entries, idempotency_keys
from galley.core.projects.models import Project
from galley.core.runs import messages as msg
from galley.core.runs import models
from galley.core.runs.plan import Plan, Source, StepPlan
from galley.kit.ids import new_uid, uuid_of
from galley.storage.db import Database
from galley.wire.call import call_of
from galley.wire.errors import install_errors, plain_response, render_plain
from galley.wire.later import Later
from galley.wire.routes import CallRoute
from galley.wire.services import Services, ServicesDep
from galley.wire.session import SessionDep, SnapshotDep, WriteDep

KEY = {"Idempotency-Key": "k-1"}
router = APIRouter(route_class=CallRoute)


def who(request: Request, services: ServicesDep, user: Annotated[int, Header()] = 1) -> Caller:
    caller = Caller(judge=services.judge, user_id=user, login=f"user{user}@example.org")
    call_of(request).identify(caller)
    return caller


CallerDep = Annotated[Caller, Depends(who)]


def add(session: Any, path: str, services: Services) -> Project:
    row = Project(uid=new_uid(), path=path, default_branch="x", created_at=services.clock.now())
    session.add(row)
    session.flush()
    return row


@router.post("/projects/{name}")
def make(name: str, caller: CallerDep, session: SessionDep, services: ServicesDep) -> Any:
    return {"id": add(session, name, services).id, "by": caller.user_id}


@router.post("/projects/{name}/fails")
def fail(name: str, caller: CallerDep, session: SessionDep, services: ServicesDep) -> Any:
    add(session, name, services)
    raise Conflict("somebody was first")


@router.post("/projects/{name}/refused")
def refuse(name: str, caller: CallerDep, session: SessionDep, services: ServicesDep) -> Response:
    add(session, name, services)
    return PlainTextResponse("no", status_code=422)


@router.post("/ask")
def ask(caller: CallerDep, session: SnapshotDep) -> Any:
    return {"count": session.scalar(sa.select(sa.func.count()).select_from(Project))}


@router.get("/count")
def count(session: SessionDep) -> Any:
    return {"count": session.scalar(sa.select(sa.func.count()).select_from(Project))}


@router.post("/own/{name}")
def commits_itself(name: str, caller: CallerDep, services: ServicesDep) -> Response:
    with services.database.writing() as session:
        made = add(session, name, services).id
    return JSONResponse({"id": made})


@router.post("/later/{name}")
async def commits_itself_async(name: str, caller: CallerDep, services: ServicesDep) -> Response:
    return commits_itself(name, caller, services)


@router.post("/orders")
def order(caller: CallerDep, services: ServicesDep, write: WriteDep) -> Response:
    source = Source(kind="recipe", project="main/recipes", path="rec", variation="v")
    plan = Plan(source=source, steps=(StepPlan("s", "noop"),))
    new = msg.NewOrder(new_uid(), 1, "recipe", "rec", "v", "api", "master")
    answers: list[Response] = []

    def answer(made: Any) -> Response:
        answers.append(JSONResponse({"order": uuid_of(made.order_uid)}))
        return answers[0]

    write.desk(answer).writer.call(msg.SubmitOrder(new, msg.NewRun(new_uid(), plan)))
    return answers[0]


@router.delete("/orders")
def empty(caller: CallerDep, services: ServicesDep, write: WriteDep) -> Response:
    answer = JSONResponse({"status": "success"})
    services.desk.writer.call(msg.DeleteOrders((), write.companions(answer)))
    return answer


@router.delete("/nothing")
def nothing_to_do(caller: CallerDep, write: WriteDep) -> Response:
    return JSONResponse({"status": "gone already"})


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    app = FastAPI()
    app.state.services = services
    app.include_router(router)
    install_errors(app, render=render_plain, plain=plain_response)
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made


def paths(database: Database) -> list[str]:
    with database.reading() as session:
        return sorted(session.scalars(sa.select(Project.path)))


def kept(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(idempotency_keys)) or 0


def test_the_commit_happens_before_the_answer(client: TestClient, database: Database) -> None:
    answer = client.post("/projects/a")
    assert answer.status_code == 200
    assert paths(database) == ["a"]
    assert client.get("/count").json() == {"count": 1}
    assert client.post("/ask").json() == {"count": 1}


@pytest.mark.parametrize(("address", "status"), [("fails", 409), ("refused", 422)])
def test_what_is_refused_leaves_nothing(
    client: TestClient, database: Database, address: str, status: int
) -> None:
    for _ in range(2):
        answer = client.post(f"/projects/a/{address}", headers=KEY)
        assert answer.status_code == status
        assert "Idempotent-Replayed" not in answer.headers
    assert paths(database) == []
    assert kept(database) == 0


def test_a_lost_race_is_a_conflict(client: TestClient, database: Database) -> None:
    assert client.post("/projects/a").status_code == 200
    answer = client.post("/projects/a")
    assert answer.status_code == 409
    assert "try again" in answer.text
    assert paths(database) == ["a"]


def test_a_repeat_gets_the_first_answer(client: TestClient, database: Database) -> None:
    first = client.post("/projects/a", headers=KEY)
    again = client.post("/projects/a", headers=KEY)
    assert again.status_code == first.status_code == 200
    assert again.content == first.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["content-type"] == first.headers["content-type"]
    assert paths(database) == ["a"]


def test_a_key_belongs_to_one_request(client: TestClient, database: Database) -> None:
    client.post("/projects/a", headers=KEY, json={"x": 1})
    other_body = client.post("/projects/a", headers=KEY, json={"x": 2})
    assert other_body.status_code == 400
    assert "different request" in other_body.text
    assert client.post("/projects/b", headers=KEY, json={"x": 1}).status_code == 400
    same_meaning = client.post("/projects/a", headers=KEY, content=b'{ "x" : 1 }')
    assert same_meaning.headers["Idempotent-Replayed"] == "true"
    assert paths(database) == ["a"]


def test_a_key_belongs_to_one_caller(client: TestClient, database: Database) -> None:
    assert client.post("/projects/a", headers=KEY).json()["by"] == 1
    answer = client.post("/projects/b", headers={**KEY, "user": "2"})
    assert answer.json()["by"] == 2
    assert paths(database) == ["a", "b"]


@pytest.mark.parametrize("key", ["", "ä" * 3, "x" * 256])
def test_a_key_that_cannot_be_is_refused(client: TestClient, database: Database, key: str) -> None:
    answer = client.post("/projects/a", headers={"Idempotency-Key": key.encode()})
    assert answer.status_code == 400
    assert paths(database) == []


def test_fifty_at_once_make_one(client: TestClient, database: Database) -> None:
    start = threading.Barrier(50)

    def send(_: int) -> Response:
        start.wait()
        return client.post("/projects/a", headers=KEY)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(send, range(50)))
    assert paths(database) == ["a"]
    assert {answer.status_code for answer in answers} <= {200, 409}
    good = [answer for answer in answers if answer.status_code == 200]
    assert len({answer.content for answer in good}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in good) == 1
    busy = [answer for answer in answers if answer.status_code == 409]
    assert all(answer.headers["Retry-After"] == "1" for answer in busy)


@pytest.mark.parametrize("address", ["/own/a", "/later/a"])
def test_an_operation_that_commits_itself_is_remembered(
    client: TestClient, database: Database, address: str
) -> None:
    first = client.post(address, headers=KEY)
    again = client.post(address, headers=KEY)
    assert first.status_code == 200
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    assert paths(database) == ["a"]


def test_the_ledger_remembers_in_its_own_transaction(
    client: TestClient, services: Services, database: Database
) -> None:
    first = client.post("/orders", headers=KEY)
    again = client.post("/orders", headers=KEY)
    assert first.status_code == 200
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    with database.reading() as session:
        uids = list(session.scalars(sa.select(models.orders.c.uid)))
    assert [uuid_of(uid) for uid in uids] == [first.json()["order"]]
    assert client.post("/orders").json() != first.json()


def test_a_message_carries_the_rows(client: TestClient, database: Database) -> None:
    for expected in (None, "true"):
        answer = client.delete("/orders", headers=KEY)
        assert answer.json() == {"status": "success"}
        assert answer.headers.get("Idempotent-Replayed") == expected
    assert kept(database) == 1
    assert client.delete("/orders").status_code == 200
    assert kept(database) == 1


def test_an_answer_without_a_message_is_remembered(client: TestClient, database: Database) -> None:
    for expected in (None, "true"):
        answer = client.delete("/nothing", headers=KEY)
        assert answer.headers.get("Idempotent-Replayed") == expected
    assert kept(database) == 1


def test_stored_answers_are_sealed(client: TestClient, database: Database) -> None:
    client.post("/projects/a", headers=KEY)
    with database.reading() as session:
        row = session.execute(sa.select(idempotency_keys)).one()
    assert row.is_sealed
    assert '"by"' not in row.answer
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(audit_entries)) == 0


@pytest.mark.parametrize(
    ("trouble", "status"),
    [("server closed the connection unexpectedly", 503), ("database or disk is full", 507)],
)
def test_a_failed_commit_is_never_a_success(
    client: TestClient, database: Database, trouble: str, status: int
) -> None:
    def fail_once(_connection: Any) -> None:
        sa.event.remove(database.engine, "commit", fail_once)
        raise OperationalError("commit", {}, Exception(trouble))

    sa.event.listen(database.engine, "commit", fail_once)
    answer = client.post("/projects/a", headers=KEY)
    assert answer.status_code == status
    assert int(answer.headers["Retry-After"]) > 0
    assert paths(database) == []
    again = client.post("/projects/a", headers=KEY)
    assert (again.status_code, paths(database)) == (200, ["a"])
    assert "Idempotent-Replayed" not in again.headers


def test_another_servers_key_wins_the_race(
    client: TestClient, services: Services, database: Database
) -> None:
    """The key is free when it is looked up, and taken when this server commits."""
    meant: list[Any] = []

    def remember(_self: Any, scope: Any, sealer: Any = None) -> None:
        meant.append(scope)

    first = client.post("/projects/a", headers=KEY)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("galley.core.events.idempotency.find", remember)
        answer = client.post("/projects/b", headers=KEY)
    assert first.status_code == 200
    assert meant
    assert answer.status_code == 409
    assert answer.headers["Retry-After"] == "1"
    assert paths(database) == ["a"]


def test_nobody_hears_that_first_and_then_what_is_wrong_with_the_call(services: Services) -> None:
    app = FastAPI()
    app.state.services = services
    closed = APIRouter(route_class=CallRoute)

    def nobody() -> Caller:
        raise Unauthenticated("Sign in.")

    async def nobody_later(request: Request) -> Later:
        call_of(request).who = nobody
        return Later(lambda: nullcontext(nobody()))

    @closed.get("/closed/{number}")
    def handler(number: int, caller: Annotated[Caller, Depends(nobody_later)]) -> Any:
        return {}

    app.include_router(closed)
    install_errors(app, render=render_plain, plain=plain_response)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/closed/1").status_code == 401
        assert client.get("/closed/no-number").status_code == 401


def test_who_calls_must_be_known_before_the_session(services: Services) -> None:
    app = FastAPI()
    app.state.services = services
    late = APIRouter(route_class=CallRoute)

    async def who_later(request: Request, services: ServicesDep) -> Later:
        return Later(lambda: nullcontext(who(request, services)))

    @late.post("/late")
    def handler(session: SessionDep, caller: Annotated[Caller, Depends(who_later)]) -> Any:
        return {}

    app.include_router(late)
    with TestClient(app) as client, pytest.raises(RuntimeError, match="authenticate the caller"):
        client.post("/late", headers=KEY)
