"""One live server per worker, its users, and a kitchen of its own for each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.datakitchen import recipes
from tests.contract.datakitchen.world import ADMIN, MEMBER, OUTSIDER, Demo, new_name
from tests.contract.live import Api, Live, serve


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with an administrator and two members."""
    with serve(tmp_path_factory.mktemp("galley") / "data") as server:
        server.add_user(ADMIN, admin=True)
        server.add_members(MEMBER, OUTSIDER)
        yield server


@pytest.fixture(scope="session")
def admin(live: Live) -> Api:
    """The administrator, signed in."""
    return live.log_in(ADMIN)


@pytest.fixture(scope="session")
def member(live: Live) -> Api:
    """A member, signed in."""
    return live.log_in(MEMBER)


@pytest.fixture(scope="session")
def outsider(live: Live) -> Api:
    """Another member, signed in."""
    return live.log_in(OUTSIDER)


@pytest.fixture
def kitchen(member: Api, admin: Api) -> Iterator[str]:
    """A fresh, empty child of master."""
    name = new_name()
    member.good("PUT", f"/v2/kitchen/create/master/{name}", {"description": "for a test"})
    yield name
    admin.call("DELETE", f"/v2/order/deleteall/{name}")
    admin.call("DELETE", f"/v2/kitchen/delete/{name}")


@pytest.fixture
def demo(member: Api, kitchen: str) -> Demo:
    """The recipe `demo` in a kitchen of its own."""
    member.good("POST", f"/v2/recipe/create/{kitchen}/demo", {"templatename": "qs1"})
    tree = member.good("GET", f"/v2/recipe/tree/{kitchen}/demo")["recipes"]["demo"]
    gone: dict[str, Any] = {
        f"{folder}/{file['filename']}".removeprefix("demo/"): {}
        for folder, files in tree.items()
        for file in files
    }
    body = {"message": "the test's own", "files": gone | recipes.changes()}
    member.good("POST", f"/v2/recipe/update/{kitchen}/demo", body)
    return Demo(member, kitchen)


@pytest.fixture(scope="session")
def seeds() -> Path:
    """The scripts of the vendor's documentation, as the product was asked to run them."""
    return Path(__file__).parent / "scripts"
