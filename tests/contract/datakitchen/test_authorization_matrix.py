"""Every operation of the dialect, by every kind of caller.

Who may is decided by one policy table; this holds the answers of the running server against it.
"""

import base64
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.contract.datakitchen.world import ADMIN, MEMBER, OUTSIDER
from tests.contract.live import NO_RATES, Answer, Api, Live, serve
from tests.fuzz.datakitchen_world import World, good_request
from tests.fuzz.mutations import Request

from galley.core.identity import operations as identity
from galley.core.identity.actions import READING, TABLE
from galley.core.identity.models import Token
from galley.core.identity.tokens import TokenKind, digest_of
from galley.core.projects.models import Kitchen
from galley.kit.clock import SystemClock
from galley.storage.db import Database

pytestmark = [
    pytest.mark.evidence("source", "security-and-reliability.md, B1: the policy table decides"),
    pytest.mark.timeout(1800),
]

ROOT = Path(__file__).resolve().parents[3]
OPERATIONS = tomllib.loads((ROOT / "src/galley/dialects/datakitchen/operations.toml").read_text())[
    "operation"
]
GUEST = "gus@example.com"
GONE = "gone@example.com"
FIVE_HOURS_S = 5 * 3600
SINGLE_KINDS = [
    kind.value for kind in TokenKind if kind not in {TokenKind.SESSION_BEARER, TokenKind.PAIR}
]
STRANGERS = [
    "anonymous", "expired", "revoked", "disabled", "garbage", "pair as bearer",
    "bearer as basic", *(f"{kind} as bearer" for kind in SINGLE_KINDS),
    *(f"{kind} as basic" for kind in SINGLE_KINDS),
]  # fmt: skip
EVERYBODY = ["admin", "member", "pair of the member"]
RULED = {"kitchen-delete", "order-delete-all"}
ACCOUNT_WIDE = {"kitchen-list", "user-info", "validate-token", "login", "agent-status"}
OF_OPERATORS = {"kitchen-settings-file-get", "kitchen-settings-file-update"}


@dataclass
class House:
    """A server, a kitchen that is open to its staff alone, and callers of every kind."""

    server: Live
    world: World
    callers: dict[str, Api]

    def ask(self, caller: str, operation: dict[str, Any], *, own: bool = False) -> Answer:
        """Make a good request of the operation, as this caller.

        With `own` it aims at the closed kitchen even where a good call spends a fresh one.
        """
        request = good_request(self.world, operation)
        if own:
            request = replace(request, parameters=self._aimed(operation["id"], request))
        elif operation["id"] in RULED:
            request = replace(request, parameters={"kitchen": self._made_by_the_member()})
        return send(self.callers[caller], request)

    def _made_by_the_member(self) -> str:
        """An open kitchen, which whoever made it may delete or empty."""
        name = self.world.name("own")
        self.callers["member"].good("PUT", f"/v2/kitchen/create/master/{name}", {})
        return name

    def _aimed(self, operation: str, request: Request) -> dict[str, str]:
        name = {"kitchen-create": "parent", "kitchen-delete": "kitchen",
                "order-delete-all": "kitchen"}.get(operation)  # fmt: skip
        return {**request.parameters, **({name: self.world.kitchen} if name else {})}


def send(api: Api, request: Request) -> Answer:
    """Send a request as it is."""
    return api.call(request.method, request.target, request.body)


def basic(base: str, user: str, secret: str) -> Api:
    """A caller by HTTP Basic."""
    text = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return Api(base, Authorization=f"Basic {text}")


def make_callers(server: Live, database: Database, world: World) -> dict[str, Api]:
    """Everybody who may come, by name."""
    base, clock = server.base, SystemClock()
    found = {
        "anonymous": Api(base),
        "garbage": Api(base, "a.b.c"),
        "admin": world.api,
        "member": server.log_in(MEMBER),
        "outsider": server.log_in(OUTSIDER),
        "guest": server.log_in(GUEST),
        "revoked": server.log_in(MEMBER),
        "disabled": server.log_in(GONE),
    }
    with database.writing() as session:
        member, gone = (identity.find_user(session, who) for who in (MEMBER, GONE))
        assert member is not None
        assert gone is not None
        token = session.query(Token).filter_by(digest=digest_of(found["revoked"].token)).one()
        identity.revoke_token(session, token, clock=clock)
        identity.disable_user(session, gone, clock=clock)
        master = session.query(Kitchen).filter_by(name="master").one()

        def pair(**narrowed: Any) -> tuple[str, str]:
            issued = identity.issue_token(
                session, member, kind=TokenKind.PAIR.value, clock=clock, **narrowed
            )
            key, _, secret = issued.text.partition(":")
            return key, secret

        key, secret = pair()
        found["pair of the member"] = basic(base, key, secret)
        found["pair as bearer"] = Api(base, secret)
        found["bearer as basic"] = basic(base, MEMBER, found["member"].token or "")
        found["reading pair"] = basic(base, *pair(scopes={"read"}))
        found["pair bound elsewhere"] = basic(base, *pair(bounds={f"kitchen:{master.id}"}))
        for kind in SINGLE_KINDS:
            if kind == TokenKind.SETUP.value:
                text = identity.make_setup_token(session, clock) or f"gly_setup_{'a' * 38}"
            else:
                bounds = {f"kitchen:{master.id}"} if kind == TokenKind.JOB.value else None
                text = identity.issue_token(
                    session, member, kind=kind, bounds=bounds, clock=clock
                ).text
            found[f"{kind} as bearer"] = Api(base, text)
            found[f"{kind} as basic"] = basic(base, text, "")
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The server of this file; its clock is five hours past the first sign-in."""
    folder = tmp_path_factory.mktemp("matrix")
    offset = folder / "offset"
    offset.write_text(str(-FIVE_HOURS_S))
    with serve(folder / "data", GALLEY_TEST_CLOCK=str(offset), **NO_RATES) as server:
        server.add_user(ADMIN, admin=True)
        server.add_members(MEMBER, OUTSIDER, GUEST, GONE)
        expired = server.log_in(MEMBER)
        offset.write_text("0")
        world = World(server.log_in(ADMIN), ADMIN, random.Random(1))  # noqa: S311 - no secret
        document = world.document()
        document["kitchen-staff"] = [MEMBER, GUEST]
        document["kitchen-roles"] = {MEMBER: "Admin", GUEST: "Guest"}
        path = f"/v2/kitchen/update/{world.kitchen}"
        world.api.good("POST", path, {"kitchen.json": document})
        database = Database(f"sqlite:///{server.data / 'galley.db'}")
        callers = {**make_callers(server, database, world), "expired": expired}
        database.close()
        yield House(server, world, callers)


def named(operation: dict[str, Any]) -> str:
    """The operation's name, for the test's."""
    return str(operation["id"])


def refused(got: Answer, status: int) -> None:
    """The answer is this refusal, in the dialect's shape."""
    assert got.status == status, got.text
    assert got.json["message"]["error"]


@pytest.mark.parametrize("caller", STRANGERS)
def test_strangers_are_401_everywhere(house, caller):
    for operation in OPERATIONS:
        if operation["id"] == "login":
            continue
        request = Request(operation["method"], operation["path"], parameters_of(house, operation))
        refused(send(house.callers[caller], request), 401)


def parameters_of(house: House, operation: dict[str, Any]) -> dict[str, str]:
    """Path parameters that need nothing prepared."""
    world = house.world
    known = {"kitchen": world.kitchen, "parent": world.kitchen, "recipe": "demo",
             "variation": "v1", "order": world.order, "run": world.run}  # fmt: skip
    names = [part.partition("}")[0].partition(":")[0] for part in operation["path"].split("{")[1:]]
    return {name: known.get(name, "x1") for name in names}


@pytest.mark.parametrize("caller", EVERYBODY)
@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_those_who_may_are_served(house, operation, caller):
    got = house.ask(caller, operation)
    if operation["id"] == "validate-token" and caller == "pair of the member":
        refused(got, 401)
        return
    if operation["id"] in OF_OPERATORS and caller != "admin":
        refused(got, 403)
        return
    assert got.status == (200 if operation["state"] == "done" else 501), got.text


@pytest.mark.parametrize("caller", ["outsider", "pair bound elsewhere"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_a_closed_kitchen_does_not_exist_for_others(house, operation, caller):
    got = house.ask(caller, operation, own=True)
    if operation["state"] == "planned":
        refused(got, 501)
    elif operation["id"] in OF_OPERATORS:
        refused(got, 403)
    elif operation["id"] in ACCOUNT_WIDE:
        assert got.status in {200, 401}, got.text
    else:
        refused(got, 400)
        assert any(
            text in got.text for text in ("access rights", "does not exist.", "not found")
        ), got.text


@pytest.mark.parametrize("caller", ["guest", "reading pair"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_those_who_only_look_change_nothing(house, operation, caller):
    got = house.ask(caller, operation, own=True)
    if operation["state"] == "planned":
        refused(got, 501)
    elif operation["id"] == "validate-token" and caller == "reading pair":
        refused(got, 401)
    elif operation["id"] in OF_OPERATORS:
        refused(got, 403)
    elif operation["action"] in READING:
        assert got.status == 200, got.text
    else:
        refused(got, 403)


def test_what_was_refused_left_everything_as_it_was(house):
    world = house.world
    recipes = world.api.good("GET", f"/v2/kitchen/recipenames/{world.kitchen}")["recipes"]
    assert "demo" in recipes
    assert [run["hid"] for run in world.runs(world.order)] == [world.run]


def test_every_action_that_is_declared_is_in_the_table():
    assert {operation["action"] for operation in OPERATIONS} <= set(TABLE)
