"""Secrets in whatever vault a kitchen has: written, listed, deleted, resolved for runs."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.core.vaults.conftest import ADMIN, URL, World, person

from galley.core.caller import Caller
from galley.core.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from galley.core.identity.actors import nobody
from galley.core.projects.errors import KitchenNotFound
from galley.core.secrets.errors import SecretsMissing, VaultRefused, VaultUnreachable
from galley.core.vaults import operations

ANN, EVE = person("Ann@example.org"), person("eve@example.org")


def test_a_kitchen_without_a_vault_gets_one_of_its_own_with_its_first_secret(world: World) -> None:
    assert world.paths("dev") == []
    assert world.put("a", "1", "dev") == 1
    assert world.put("a", "2", "dev") == 2
    own = world.shown("dev")[1]
    assert (own.service, own.source, own.is_inheritable) == ("default", None, False)
    assert world.shown("feature")[1] is None
    assert world.value("a", "dev") == "2"
    assert world.paths("dev") == ["a"]
    assert [act[0] for act in world.acts()] == ["vault.configure", "secret.write", "secret.write"]
    world.delete("a", "dev")
    assert world.paths("dev") == []
    assert world.shown("dev")[1] is not None


@pytest.mark.parametrize("name", ["dev", None])
def test_many_writers_at_once_all_write(world: World, name: str | None) -> None:
    start = threading.Barrier(6)

    def write(number: int) -> int | None:
        start.wait(60)
        return world.put("a", str(number), name)

    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(write, range(6)))
    assert sorted(version or 0 for version in versions) == [1, 2, 3, 4, 5, 6]
    last = versions.index(6)
    assert world.value("a", name) == str(last)
    assert len(world.acts()) == 6 + (name is not None)


def test_an_inherited_vault_is_read_only(world: World) -> None:
    world.configure("dev", is_inheritable=True)
    world.put("a", "of dev", "dev")
    world.put("a", "of the account")
    world.put("b", "of the account")
    assert world.paths("feature") == ["a"]
    assert world.value("a", "feature") == "of dev"
    assert world.value("b", "feature") == "of the account"
    for act in (world.put, world.delete):
        with pytest.raises(Conflict, match="inherits the vault of kitchen dev, which is read only"):
            act("a", kitchen="feature")
    assert world.paths("dev") == ["a"]
    world.configure("feature")
    assert world.value("a", "feature") == "of the account"
    world.put("a", "of feature", "feature")
    assert world.value("a", "feature") == "of feature"
    assert world.value("a", "dev") == "of dev"


def test_a_configuration_that_comes_back_has_what_it_had(world: World) -> None:
    world.put("a", "kept", "dev")
    world.external("dev")
    assert world.paths("dev") == []
    world.remove("dev")
    with pytest.raises(SecretsMissing):
        world.value("a", "dev")
    world.configure("dev")
    assert world.value("a", "dev") == "kept"


@pytest.mark.parametrize("name", ["dev", None])
def test_a_vault_elsewhere_is_written_read_and_listed(world: World, name: str | None) -> None:
    world.external(name)
    assert world.put("pg/password", "hush", name) is None
    assert world.elsewhere.held == {(URL, "p"): {"pg/password": "hush"}}
    assert world.paths(name) == ["pg/password"]
    assert world.paths(name, below="pg/") == ["pg/password"]
    assert world.value("pg/password", "dev") == "hush"
    assert operations.has_secret(world.vaults, ADMIN, "pg/password", kitchen=name)
    assert not operations.has_secret(world.vaults, ADMIN, "pg/none", kitchen=name)
    world.delete("vault://pg/password", name)
    with pytest.raises(NotFound, match="vault://pg/password"):
        world.delete("pg/password", name)
    scope = "account" if name is None else f"kitchen:{world.id_of('dev')}"
    what = f"{scope}:pg/password"
    assert world.acts()[1:] == [
        ("secret.write", what, "begun"),
        ("secret.write", what, "done"),
        ("secret.delete", what, "begun"),
        ("secret.delete", what, "done"),
        ("secret.delete", what, "begun"),
        ("secret.delete", what, "failed"),
    ]


def test_a_vault_that_does_not_answer_fails_what_asks_it_and_nothing_else(world: World) -> None:
    world.external("dev", token="bad")
    world.put("a", "of the account")
    for act in (
        lambda: world.value("a", "dev"),
        lambda: world.paths("dev"),
        lambda: world.put("a", kitchen="dev"),
    ):
        with pytest.raises(VaultUnreachable, match="the vault of kitchen dev did not answer"):
            act()
    account, own = operations.list_both(world.vaults, ADMIN, kitchen="dev")
    assert (account.paths, account.fault) == (("a",), None)
    assert (own.paths, own.fault) == ((), "the vault of kitchen dev did not answer")
    assert world.value("a", "closed") == "of the account"


def test_the_account_is_not_asked_for_what_the_kitchen_has(world: World) -> None:
    world.external(None, token="bad")
    world.put("a", "of dev", "dev")
    assert world.value("a", "dev") == "of dev"
    assert world.elsewhere.asked == []
    with pytest.raises(VaultUnreachable, match="the account's vault"):
        world.value("b", "dev")


def test_a_disabled_vault_holds_and_takes_nothing(world: World) -> None:
    world.put("a", "of the account")
    world.configure(None, "disabled")
    assert world.paths() == []
    assert not operations.has_secret(world.vaults, ADMIN, "a")
    for name, whose in ((None, "The account's vault"), ("dev", "The vault of kitchen dev")):
        world.configure(name, "disabled")
        with pytest.raises(Conflict, match=f"{whose} is disabled"):
            world.put("a", kitchen=name)
        with pytest.raises(Conflict, match=f"{whose} is disabled"):
            world.delete("a", kitchen=name)
    assert world.paths("dev") == []
    with pytest.raises(SecretsMissing, match="vault://a"):
        world.value("a", "dev")
    world.remove(None)
    assert world.value("a", "dev") == "of the account"


def test_a_private_vault_is_for_runs_alone(world: World) -> None:
    world.external("dev", is_private=True)
    world.elsewhere.held[URL, "p"] = {"a": "1"}
    assert world.value("a", "dev") == "1"
    assert world.elsewhere.asked == [("read", "the vault of kitchen dev")]
    with pytest.raises(VaultRefused, match="The vault of kitchen dev is private"):
        world.paths("dev")
    with pytest.raises(VaultRefused, match="is private"):
        operations.has_secret(world.vaults, ADMIN, "a", kitchen="dev")
    with pytest.raises(Conflict, match="is private"):
        world.put("a", kitchen="dev")
    assert len(world.elsewhere.asked) == 1


def test_all_missing_secrets_are_named(world: World) -> None:
    world.put("here")
    world.put("foreign", kitchen="closed")
    references = ["vault://here", "vault://gone", "vault://foreign"]
    with pytest.raises(SecretsMissing, match="vault://foreign, vault://gone"):
        operations.resolve_for_run(world.vaults, world.id_of("dev"), references)
    assert operations.resolve_for_run(world.vaults, None, []) == {}


@pytest.mark.parametrize(
    ("caller", "name", "refused"),
    [
        (nobody(), None, Unauthenticated),
        (ANN, None, Forbidden),
        (nobody(), "closed", Unauthenticated),
        (EVE, "closed", KitchenNotFound),
        (EVE, "nowhere", KitchenNotFound),
        (person("gus@example.org"), "guests", Forbidden),
    ],
)
def test_who_may_not_write(
    world: World, caller: Caller, name: str | None, refused: type[Exception]
) -> None:
    world.kitchen("guests", "master", roles={"gus@example.org": "Guest"})
    if name != "nowhere":
        world.put("a", "good", name)
    with pytest.raises(refused):
        world.put("a", "evil", name, caller)
    with pytest.raises(refused):
        world.delete("a", name, caller)
    if name != "nowhere":
        assert world.value("a", name) == "good"


def test_staff_write_and_list_and_strangers_see_nothing(world: World) -> None:
    world.put("a", "staff", "closed", ANN)
    assert world.paths("closed", ANN) == ["a"]
    with pytest.raises(KitchenNotFound):
        world.paths("closed", EVE)
    with pytest.raises(KitchenNotFound):
        operations.list_both(world.vaults, EVE, kitchen="closed")
    assert world.paths(caller=EVE) == []
    with pytest.raises(Unauthenticated):
        world.paths(caller=nobody())


def test_what_cannot_be_is_refused_before_anything_is_asked(world: World) -> None:
    world.external("dev")
    with pytest.raises(Invalid, match="cannot be a secret's path"):
        world.put("a b", kitchen="dev")
    with pytest.raises(Invalid, match="cannot be a secret's path"):
        world.paths("dev", below="../x")
    with pytest.raises(TooLarge, match="1048576"):
        world.put("a", "x" * (1024 * 1024 + 1), "dev")
    assert world.elsewhere.asked == []
