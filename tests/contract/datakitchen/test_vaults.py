"""Vaults of kitchens and of the account, over plain HTTP."""

import uuid

import pytest
from tests.contract.datakitchen import secretive
from tests.contract.datakitchen.world import MEMBER, new_name

pytestmark = pytest.mark.evidence(
    "source", "contract 3.9, from dkcloudcommand 1.5.33 and DKUtils 2.11.6, vault.py"
)

GLOBAL = "**__GLOBAL__**"
OWN = {"service": "default", "url": "", "prefix": "", "private": False, "inheritable": False}
CUSTOM = {"service": "custom", "url": "https://vault.example.com:8200", "token": "s.hush-hush",
          "prefix": "Acme/dev", "private": False, "inheritable": True}  # fmt: skip
SHOWN = {key: value for key, value in CUSTOM.items() if key != "token"}


def config(api, kitchen=None):
    return api.good("GET", "/v2/vault/config", {"kitchens": kitchen} if kitchen else {})["config"]


def put(api, kitchen, vault):
    return api.call("POST", "/v2/vault/config", {"config": {kitchen: vault}})


@pytest.fixture
def child(member, admin, kitchen):
    """A kitchen below `kitchen`."""
    name = new_name("child")
    member.good("PUT", f"/v2/kitchen/create/{kitchen}/{name}", {})
    yield name
    admin.call("DELETE", f"/v2/kitchen/delete/{name}")


@pytest.fixture
def account(admin):
    """The account as it was, whatever a test makes of its vault."""
    yield admin
    admin.call("DELETE", f"/v2/vault/config/{GLOBAL}")


def test_the_account_and_every_kitchen_show_the_vault_they_have(member, admin, kitchen, child):
    assert config(member) == {GLOBAL: OWN}
    assert config(member, kitchen) == {GLOBAL: OWN}
    assert put(member, kitchen, CUSTOM).json == {"status": "success"}
    assert config(member, kitchen) == {GLOBAL: OWN, kitchen: SHOWN}
    assert config(admin, child) == {GLOBAL: OWN, child: {**SHOWN, "sourceKitchen": kitchen}}
    by_query = member.good("GET", f"/v2/vault/config?kitchens={kitchen}")
    assert by_query == {"config": {GLOBAL: OWN, kitchen: SHOWN}}


def test_a_kitchen_gets_a_vault_of_its_own(member, admin, kitchen, child):
    assert put(member, kitchen, {"service": "default", "inheritable": True}).status == 200
    assert config(member, kitchen)[kitchen] == {**OWN, "inheritable": True}
    member.good("POST", "/v2/secret/pg/password", {"value": "v", "kitchen": kitchen})
    listed = member.good("GET", "/v2/secret", {"kitchens": child})
    assert listed[child] == {"error": False, "list": ["vault://pg/password"]}
    assert put(member, child, {"service": "default", "inheritable": False}).status == 200
    assert config(member, child)[child] == OWN
    assert member.good("GET", "/v2/secret", {"kitchens": child})[child]["list"] == []
    assert put(member, kitchen, {"disabled": True}).status == 200
    assert config(admin, kitchen)[kitchen] == {**OWN, "disabled": True}
    refused = member.call("POST", "/v2/secret/a", {"value": "v", "kitchen": kitchen})
    assert refused.status == 412
    assert "is disabled" in refused.json["message"]["error"]


def test_several_are_configured_together_or_none(member, kitchen, child):
    both = {"config": {kitchen: {"service": "default"}, child: CUSTOM}}
    member.good("POST", "/v2/vault/config", both)
    assert config(member, child)[child] == SHOWN
    before = config(member, kitchen)
    bad = {"config": {kitchen: {**CUSTOM}, child: {"service": "custom"}}}
    assert member.call("POST", "/v2/vault/config", bad).status == 400
    assert config(member, kitchen) == before


def test_a_configuration_is_removed_once(member, account, kitchen):
    assert put(member, kitchen, CUSTOM).status == 200
    path = f"/v2/vault/config/{kitchen}"
    assert member.good("DELETE", path) == {"status": "success"}
    assert config(member, kitchen) == {GLOBAL: OWN}
    again = member.call("DELETE", path)
    assert again.status == 400
    assert "No configuration exists" in again.json["message"]["error"]
    assert put(account, GLOBAL, CUSTOM).status == 200
    account.good("DELETE", f"/v2/vault/config/{GLOBAL}")
    assert config(account) == {GLOBAL: OWN}
    assert account.call("DELETE", f"/v2/vault/config/{GLOBAL}").status == 400


def test_the_accounts_vault_is_for_its_administrators(member, account):
    for vault in (CUSTOM, {"disabled": True}):
        refused = put(member, GLOBAL, vault)
        assert refused.status == 403
        assert "needs the role" in refused.json["message"]["error"]
    assert member.call("DELETE", f"/v2/vault/config/{GLOBAL}").status == 403
    # what `dk vault-config --url --token` sends
    assert put(account, GLOBAL, {**CUSTOM, "service": "default"}).status == 200
    assert config(account) == {GLOBAL: SHOWN}
    assert config(member) == {GLOBAL: {**SHOWN, "url": "", "prefix": ""}}
    assert put(account, GLOBAL, {"disabled": True}).status == 200
    assert config(member)[GLOBAL]["disabled"] is True
    assert member.good("GET", "/v2/secret")[GLOBAL] == {"error": False, "list": []}
    assert account.call("POST", "/v2/secret/a", {"value": "v"}).status == 412


@pytest.mark.parametrize(
    ("vault", "told"),
    [
        ({}, "needs a service"),
        ({"service": "hashicorp"}, "service"),
        ({"service": "custom"}, "needs its url"),
        ({"service": "custom", "url": "https://vault.example.com"}, "needs its token"),
        ({**CUSTOM, "service": "default"}, "only an external vault has a url"),
        ({**CUSTOM, "url": "http://169.254.169.254/latest"}, "not public"),
        ({**CUSTOM, "url": 5}, "url"),
        ({**CUSTOM, "token": "two words"}, "visible ASCII"),
        ({**CUSTOM, "prefix": "../../sys"}, "prefix"),
        ({**CUSTOM, "private": "perhaps"}, "private"),
        ({**CUSTOM, "sourceKitchen": "master"}, "inherits this vault from master"),
        ("default", "config"),
    ],
)
def test_what_cannot_be_a_vault_is_refused(live, member, kitchen, vault, told):
    got = put(member, kitchen, vault)
    assert got.status == 400, got.text
    assert told in got.text
    assert "hush" not in got.text
    assert config(member, kitchen) == {GLOBAL: OWN}
    for body in ({}, {"config": {}}, {"config": []}):
        assert member.call("POST", "/v2/vault/config", body).status == 400


def test_a_kitchen_that_is_not_there_or_closed_is_unknown(member, outsider, kitchen):
    document = member.good("GET", f"/v2/kitchen/{kitchen}")["kitchen"]
    closed = {"kitchen.json": {**document, "kitchen-staff": [MEMBER]}}
    member.good("POST", f"/v2/kitchen/update/{kitchen}", closed)
    for api, name in ((outsider, kitchen), (member, "nowhere")):
        wanted = (
            f"Kitchen {name} was not found in the database or the user does not have access rights."
        )
        for method, path, body in [
            ("GET", "/v2/vault/config", {"kitchens": name}),
            ("POST", "/v2/vault/config", {"config": {name: {"service": "default"}}}),
            ("DELETE", f"/v2/vault/config/{name}", None),
            ("GET", "/v2/secret", {"kitchens": name}),
            ("GET", "/v2/secret/a", {"kitchens": name}),
            ("GET", "/v2/secret/check/a", {"kitchens": name}),
            ("POST", "/v2/secret/a", {"value": "v", "kitchen": name}),
            ("DELETE", "/v2/secret/a", {"kitchen": name}),
        ]:
            got = api.call(method, path, body)
            assert (got.status, got.json["message"]["error"]) == (400, wanted), path


def test_the_token_comes_back_nowhere(live, member, kitchen):
    assert put(member, kitchen, CUSTOM).status == 200
    assert "hush-hush" not in member.call("GET", "/v2/vault/config", {"kitchens": kitchen}).text
    listed = member.good("GET", "/v2/secret", {"kitchens": kitchen})[kitchen]
    assert listed["error"] is True
    assert "hush-hush" not in str(listed)
    assert "hush-hush" not in "".join(live.lines)
    stored = b"".join(path.read_bytes() for path in live.data.glob("galley.db*"))
    assert b"hush-hush" not in stored


def test_a_configuration_with_a_key_takes_effect_once(member, kitchen):
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"config": {kitchen: CUSTOM}}
    first = member.call("POST", "/v2/vault/config", body, headers=key)
    member.good("DELETE", f"/v2/vault/config/{kitchen}")
    again = member.call("POST", "/v2/vault/config", body, headers=key)
    assert (again.status, again.json) == (first.status, first.json)
    assert again.headers["idempotent-replayed"] == "true"
    assert config(member, kitchen) == {GLOBAL: OWN}


def test_a_kitchens_vault_goes_with_it(member, admin, kitchen):
    name = new_name("gone")
    member.good("PUT", f"/v2/kitchen/create/{kitchen}/{name}", {})
    assert put(member, name, CUSTOM).status == 200
    member.good("DELETE", f"/v2/kitchen/delete/{name}")
    member.good("PUT", f"/v2/kitchen/create/{kitchen}/{name}", {})
    assert config(member, name) == {GLOBAL: OWN}
    admin.good("DELETE", f"/v2/kitchen/delete/{name}")


def test_runs_use_their_own_vault_an_inherited_one_or_the_accounts(member, account, kitchen, child):
    above, below = (secretive.make_recipe(member, name) for name in (kitchen, child))
    account.good("POST", "/v2/secret/pg/password", {"value": "of-the-account=1"})
    assert secretive.gets(above, "of-the-account=1")
    member.good("POST", "/v2/vault/config", {"config": {kitchen: {**OWN, "inheritable": True}}})
    body = {"value": "of-the-parent-2", "kitchen": kitchen}
    member.good("POST", "/v2/secret/pg/password", body)
    assert secretive.gets(above, "of-the-parent-2")
    assert secretive.gets(below, "of-the-parent-2")
    large = "a=b\nÄ 🗝 " * (1024 * 1024 // 13)
    member.good("POST", "/v2/vault/config", {"config": {child: OWN}})
    member.good("POST", "/v2/secret/pg/password", {"value": large, "kitchen": child})
    assert secretive.gets(below, large)
    member.good("DELETE", "/v2/secret/pg/password", {"kitchen": child})
    assert secretive.gets(below, "of-the-account=1")
    account.good("DELETE", "/v2/secret/pg/password")
    seen = secretive.run_of(below, "of-the-account=1")
    assert seen["status"] == "SERVING_ERROR"
    assert "No such secret: vault://pg/password" in seen["text"]
