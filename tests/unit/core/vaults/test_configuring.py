"""Which vault a kitchen has, who may say so, and what cannot be said."""

import pytest
import sqlalchemy as sa
from tests.unit.core.vaults.conftest import SEALER, URL, World, person

from galley.core.caller import Caller
from galley.core.errors import Forbidden, Invalid, NotFound, Unauthenticated
from galley.core.events.models import audit_entries
from galley.core.identity.actors import nobody
from galley.core.projects.errors import KitchenNotFound
from galley.core.secrets import operations as secrets
from galley.core.secrets.models import VaultConfig
from galley.core.secrets.sealing import SealBroken, Sealer

ANN, EVE, OPERATOR = person("Ann@example.org"), person("eve@example.org"), person("o", "operator")


def test_the_account_has_galleys_own_and_a_kitchen_none(world: World) -> None:
    account, own = world.shown("dev")
    assert (account.service, account.source, account.is_external) == ("default", None, False)
    assert own is None
    assert world.shown(None)[1] is None


def test_a_kitchen_inherits_from_the_nearest_that_has_one_if_that_lets_it(world: World) -> None:
    world.external("master", is_inheritable=True, is_private=True)
    for name in ("dev", "feature"):
        found = world.shown(name)[1]
        assert (found.source, found.url, found.prefix) == ("master", URL, "p")
        assert (found.is_external, found.is_private, found.is_inheritable) == (True, True, True)
    world.configure("dev", is_inheritable=False)
    assert world.shown("dev")[1].source is None
    assert world.shown("feature")[1] is None  # it ends at dev, and does not go on to master
    world.configure("dev", is_inheritable=True)
    assert world.shown("feature")[1].source == "dev"
    world.configure("feature", "disabled")
    assert world.shown("feature")[1].is_disabled
    world.configure("dev", "disabled")
    world.remove("feature")
    assert world.shown("feature")[1] is None
    world.remove("dev")
    assert world.shown("feature")[1].source == "master"


def test_what_is_not_said_of_inheriting_stays_and_a_new_one_is_inherited(world: World) -> None:
    world.configure("dev")
    assert world.shown("dev")[1].is_inheritable
    world.configure("dev", is_inheritable=False)
    world.configure("dev")
    assert not world.shown("dev")[1].is_inheritable


def test_a_circle_of_parents_ends(world: World) -> None:
    with world.database.writing() as session:
        session.execute(sa.text("update kitchen set parent = 'feature' where name = 'dev'"))
    assert world.shown("dev")[1] is None


def test_a_configuration_is_removed_once(world: World) -> None:
    world.external("dev")
    world.external(None)
    for name, whose in (("dev", "kitchen dev"), (None, "the account")):
        world.remove(name)
        with pytest.raises(NotFound, match=f"^No configuration exists for {whose}"):
            world.remove(name)
    assert world.shown("dev")[0].service == "default"


def test_the_token_is_sealed_and_stays_as_long_as_the_url(world: World) -> None:
    world.external("dev", token="s.hush-hush")
    world.external("dev", token="", prefix="q")
    assert world.shown("dev")[1].place(SEALER).token == "s.hush-hush"
    for url in ("https://elsewhere.example.com", "http://vault.example.com:8200"):
        with pytest.raises(Invalid, match="needs its token"):
            world.external("dev", token="", url=url)
    with pytest.raises(Invalid, match="needs its token"):
        world.external("feature", token="")
    assert world.shown("dev")[1].url == URL
    with world.database.reading() as session:
        told = [str(tuple(row)) for row in session.execute(sa.select(VaultConfig.__table__))]
        told += [str(tuple(row)) for row in session.execute(sa.select(audit_entries))]
    assert not any("hush-hush" in row for row in told)
    assert "hush-hush" not in repr(world.shown("dev"))
    with pytest.raises(SealBroken, match="The token of the vault of kitchen dev"):
        world.shown("dev")[1].place(Sealer(b"x" * 32))


def test_a_change_of_key_takes_tokens_along(world: World) -> None:
    world.external("dev", token="s.hush-hush")
    world.configure(None)
    with world.database.writing() as session:
        assert secrets.rewrap_all(session, Sealer(b"n" * 32, b"k" * 32)) == 1
    assert world.shown("dev")[1].place(Sealer(b"n" * 32)).token == "s.hush-hush"


@pytest.mark.parametrize(
    ("service", "facts", "told"),
    [
        ("default", {"url": URL}, "only an external vault has a url"),
        ("default", {"token": "t"}, "only an external vault has a url"),
        ("default", {"prefix": "p"}, "only an external vault has a url"),
        ("default", {"is_private": True}, "only an external vault has a url"),
        ("external", {"url": ""}, "needs its url"),
        ("external", {"url": "vault.example.com:8200"}, "needs its url"),
        ("external", {"url": "ftp://vault.example.com"}, "must begin with http"),
        ("external", {"url": "https://me:pw@vault.example.com"}, "user or a password"),
        ("external", {"url": "https://vault.example.com/?a"}, "from a [?]"),
        ("external", {"url": "http://169.254.169.254"}, "not public"),
        ("external", {"url": "http://127.0.0.1:8200"}, "GALLEY_OUTBOUND_ALLOW"),
        ("external", {"url": "https://a b"}, "spaces"),
        ("external", {"token": "a\nb"}, "visible ASCII"),
        ("external", {"token": "é"}, "visible ASCII"),
        ("external", {"token": "x" * 5000}, "visible ASCII"),
        ("external", {"prefix": "a//b"}, "its prefix"),
        ("external", {"prefix": "../sys"}, "its prefix"),
        ("external", {"prefix": "a?list=true"}, "its prefix"),
        ("external", {"prefix": "x" * 256}, "its prefix"),
    ],
)
@pytest.mark.parametrize("name", ["dev", None])
def test_what_cannot_be_is_refused_and_changes_nothing(
    world: World, name: str | None, service: str, facts: dict[str, str], told: str
) -> None:
    given = {"url": URL, "token": "t", **facts} if service == "external" else facts
    with pytest.raises(Invalid, match=told) as refused:
        world.configure(name, service, **given)
    assert "x" * 300 not in refused.value.message
    assert world.acts() == []
    assert world.shown("dev")[0].service == "default"
    assert world.shown("dev")[1] is None


@pytest.mark.parametrize(
    ("caller", "name", "refused"),
    [
        (nobody(), None, Unauthenticated),
        (ANN, None, Forbidden),
        (nobody(), "dev", Unauthenticated),
        (EVE, "closed", KitchenNotFound),
        (EVE, "nowhere", KitchenNotFound),
    ],
)
def test_who_may_not(
    world: World, caller: Caller, name: str | None, refused: type[Exception]
) -> None:
    with pytest.raises(refused):
        world.configure(name, caller=caller)
    with pytest.raises(refused):
        world.remove(name, caller)
    assert world.acts() == []


def test_who_may(world: World) -> None:
    world.external(None, caller=OPERATOR)
    world.configure("closed", caller=ANN)
    world.configure("dev", caller=EVE)
    assert (world.shown(None, OPERATOR)[0].url, world.shown(None, OPERATOR)[0].prefix) == (URL, "p")
    shown = world.shown("dev", EVE)[0]
    assert (shown.is_external, shown.url, shown.prefix) == (True, "", "")
    with pytest.raises(KitchenNotFound):
        world.shown("closed", EVE)
    with pytest.raises(Unauthenticated):
        world.shown(None, nobody())
    assert [act[:2] for act in world.acts()] == [
        ("vault.configure", "account"),
        ("vault.configure", f"kitchen:{world.id_of('closed')}"),
        ("vault.configure", f"kitchen:{world.id_of('dev')}"),
    ]


def test_a_kitchen_takes_its_vault_along(world: World) -> None:
    world.external("feature")
    world.put("a", kitchen="dev")
    with world.database.writing() as session:
        for name in ("dev", "feature"):
            kitchen = session.execute(
                sa.text("select id from kitchen where name = :name"), {"name": name}
            ).scalar_one()
            secrets.delete_scope(session, _Home(kitchen))
    assert world.shown("dev")[1] is None
    assert world.shown("feature")[1] is None


class _Home:
    def __init__(self, key: int) -> None:
        self.id = key

    def policy_kind(self) -> str:
        return "kitchen"
