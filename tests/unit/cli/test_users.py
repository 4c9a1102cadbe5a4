"""Users and tokens from the command line: listed, changed, ended, beside a running server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from galley.app import Store, open_store
from galley.cli import cli, explain
from galley.core.caller import Caller
from galley.core.errors import GalleyError
from galley.core.identity import operations as identity
from galley.core.identity.models import ROLES
from galley.settings import Settings

ANN, BOB = "ann@example.org", "bob@example.org"
PASSWORD = "correct-horse-7-battery"
OTHER = "another-horse-8-staple"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    assert CliRunner().invoke(cli, ["migrate", "--data", str(folder)]).exit_code == 0
    return folder


@pytest.fixture
def server(data: Path) -> Iterator[Store]:
    """What a running server has open."""
    store = open_store(Settings(data=data))
    for login, roles in ((ANN, {"admin"}), (BOB, {"member"})):
        with store.database.writing() as session:
            identity.create_user(
                session, email=login, password=PASSWORD, roles=roles, clock=store.clock
            )
    yield store
    store.database.close()


def run(data: Path, *arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(cli, [*arguments, "--data", str(data)], input=given)


def log_in(store: Store, password: str = PASSWORD, login: str = BOB) -> None:
    identity.log_in(store.database, login=login, password=password, address=None, clock=store.clock)


def use(store: Store, pair: str) -> Caller:
    key_id, secret = pair.strip().split(":")
    with store.database.reading() as session:
        return identity.caller_for_pair(
            session, key_id, secret, accepts=frozenset({"pair"}), clock=store.clock
        )


def test_users_are_listed(data: Path, server: Store) -> None:
    log_in(server)
    run(data, "user", "disable", BOB)
    rows = [line.split("\t") for line in run(data, "user", "list").output.splitlines()]
    assert rows[0] == [ANN, "admin,member", "active", "never signed in"]
    assert rows[1][:3] == [BOB, "member", "disabled"]


def test_a_disabled_user_is_out_at_once_and_an_enabled_one_in_again(
    data: Path, server: Store
) -> None:
    pair = run(data, "token", "add", "--user", BOB, "--kind", "datakitchen").output
    assert use(server, pair).login == BOB
    assert run(data, "user", "disable", BOB).output == f"Disabled {BOB}.\n"
    with pytest.raises(GalleyError):
        use(server, pair)
    with pytest.raises(GalleyError):
        log_in(server)
    assert run(data, "user", "enable", "Bob@Example.org").output == f"Enabled {BOB}.\n"
    assert use(server, pair).login == BOB
    log_in(server)


def test_a_password_is_replaced(data: Path, server: Store) -> None:
    changed = run(data, "user", "password", BOB, "--stdin", given=f"{OTHER}\n")
    assert changed.output == f"Set the password of {BOB}.\n"
    log_in(server, OTHER)
    with pytest.raises(GalleyError):
        log_in(server)
    asked = run(data, "user", "password", BOB, given=f"{PASSWORD}\n{PASSWORD}\n")
    assert PASSWORD not in asked.output
    log_in(server)


def test_nobody_is_asked_for_the_password_of_nobody(data: Path, server: Store) -> None:
    refused = run(data, "user", "password", "nobody@example.org", given=f"{OTHER}\n{OTHER}\n")
    assert refused.exit_code != 0
    assert "New password" not in refused.output
    assert "There is no user nobody@example.org" in str(refused.exception)


def test_the_help_names_every_role(data: Path) -> None:
    told = run(data, "user", "role", "--help").output
    assert all(f"`{role}`" in told for role in ROLES)


def test_roles_are_replaced(data: Path, server: Store) -> None:
    pair = run(data, "token", "add", "--user", BOB, "--kind", "datakitchen").output
    assert run(data, "user", "role", BOB, "admin").output == f"{BOB} is now admin and member.\n"
    assert "admin" in use(server, pair).roles
    assert run(data, "user", "role", BOB, "member").output == f"{BOB} is now member.\n"
    assert "admin" not in use(server, pair).roles


def test_tokens_are_listed_and_revoked(data: Path, server: Store) -> None:
    words = ("--user", BOB, "--kind", "datakitchen", "--name", "nightly")
    pair = run(data, "token", "add", *words).output
    listed = run(data, "token", "list", "--user", BOB).output
    assert pair.strip().split(":")[1] not in listed
    number, kind, name, state, used = listed.rstrip("\n").split("\t")
    assert (kind, name, used) == ("datakitchen", "nightly", "never used")
    assert state.startswith(("until", "has no end"))
    assert run(data, "token", "revoke", number).output == f"Revoked the token {number}.\n"
    with pytest.raises(GalleyError):
        use(server, pair)
    assert "\trevoked\t" in run(data, "token", "list", "--user", BOB).output


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("user", "disable", ANN), "admin"),
        (("user", "role", ANN, "member"), "admin"),
        (("user", "role", BOB, "king"), "Unknown role king"),
        (("user", "enable", "eve@example.org"), "no user eve"),
        (("user", "password", BOB, "--stdin"), "assword"),
        (("token", "list", "--user", "eve@example.org"), "no user eve"),
        (("token", "revoke", "77"), "no token 77"),
    ],
)
def test_mistakes_are_explained(
    data: Path, server: Store, arguments: tuple[str, ...], hint: str
) -> None:
    failed = run(data, *arguments, given="short\n")
    assert failed.exit_code == 1
    assert isinstance(failed.exception, Exception)
    assert hint in (explain(failed.exception) or "")
