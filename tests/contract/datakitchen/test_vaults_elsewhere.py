"""Secrets in a HashiCorp Vault: the API, the command line and real runs against a stand-in."""

import uuid
from collections.abc import Iterator

import pytest
from tests.contract.datakitchen import secretive
from tests.contract.datakitchen.test_dk_cli import Dk
from tests.contract.datakitchen.world import ADMIN, MEMBER
from tests.contract.live import Live, serve
from tests.contract.vaultserver import TOKEN, VaultServer, vault_server

pytestmark = pytest.mark.evidence("source", "contract 3.9; HashiCorp's API documentation, KV 1, 2")

GLOBAL = "**__GLOBAL__**"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that may call this machine."""
    data = tmp_path_factory.mktemp("elsewhere") / "data"
    with serve(data, GALLEY_OUTBOUND_ALLOW="127.0.0.0/8") as server:
        server.add_user(ADMIN, admin=True)
        server.add_members(MEMBER)
        yield server


@pytest.fixture(scope="module")
def admin(live):
    return live.log_in(ADMIN)


@pytest.fixture(scope="module")
def member(live):
    return live.log_in(MEMBER)


@pytest.fixture
def vault() -> Iterator[VaultServer]:
    with vault_server() as running:
        yield running


def configure(api, kitchen, vault, **facts):
    wanted = {"service": "custom", "url": vault.url, "token": TOKEN, "prefix": "secret/dev",
              "private": False, "inheritable": True, **facts}  # fmt: skip
    api.good("POST", "/v2/vault/config", {"config": {kitchen: wanted}})


@pytest.mark.parametrize("prefix", ["secret/dev", "old/dev"])
def test_secrets_are_written_listed_used_and_deleted_there(live, member, kitchen, vault, prefix):
    configure(member, kitchen, vault, prefix=prefix)
    vault.put(f"{prefix}/pg", host="db.example.com")
    value = "hush=hush ÄÖ"
    body = {"value": value, "kitchen": kitchen}
    assert member.good("POST", "/v2/secret/pg/password", body) == {"status": "success"}
    assert vault.newest(f"{prefix}/pg") == {"host": "db.example.com", "password": value}
    listed = member.call("GET", "/v2/secret", {"kitchens": kitchen})
    everything = ["vault://pg/host", "vault://pg/password"]
    assert listed.json[kitchen] == {"error": False, "list": everything}
    assert value not in listed.text
    below = member.good("GET", "/v2/secret/pg/host", {"kitchens": kitchen})
    assert below[kitchen]["list"] == ["vault://pg/host"]
    check = member.good("GET", "/v2/secret/check/pg/password", {"kitchens": kitchen})
    assert check == {"value": True}
    assert secretive.gets(secretive.make_recipe(member, kitchen), value)
    member.good("DELETE", "/v2/secret/pg/password", {"kitchen": kitchen})
    assert vault.newest(f"{prefix}/pg") == {"host": "db.example.com"}
    gone = member.call("DELETE", "/v2/secret/pg/password", {"kitchen": kitchen})
    assert gone.status == 400
    assert "There is no secret vault://pg/password" in gone.json["message"]["error"]
    assert "hush=hush" not in "".join(live.lines)
    assert TOKEN not in "".join(live.lines)


def test_a_write_with_a_key_reaches_the_vault_once(member, kitchen, vault):
    configure(member, kitchen, vault)
    key = {"Idempotency-Key": str(uuid.uuid4())}
    for method, body in (("POST", {"value": "v", "kitchen": kitchen}),
                         ("DELETE", {"kitchen": kitchen})):  # fmt: skip
        vault.seen.clear()
        first = member.call(method, "/v2/secret/pg/user", body, headers=key)
        assert first.status == 200, first.text
        asked = len(vault.seen)
        again = member.call(method, "/v2/secret/pg/user", body, headers=key)
        assert (again.json, again.headers["idempotent-replayed"]) == (first.json, "true")
        assert len(vault.seen) == asked
    vault.mood = "sealed"
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"value": "w", "kitchen": kitchen}
    assert member.call("POST", "/v2/secret/pg/user", body, headers=key).status == 503
    vault.mood = "well"
    assert member.call("POST", "/v2/secret/pg/user", body, headers=key).status == 200
    assert vault.newest("secret/dev/pg") == {"user": "w"}


def test_a_child_uses_what_it_inherits_and_the_account_stands_behind(admin, kitchen, vault):
    child = f"{kitchen}_child"
    admin.good("PUT", f"/v2/kitchen/create/{kitchen}/{child}", {})
    configure(admin, kitchen, vault)
    demo = secretive.make_recipe(admin, child)
    vault.put("secret/dev/pg/password", value="of the kitchen above")
    assert secretive.gets(demo, "of the kitchen above")
    del vault.secrets["secret/dev/pg/password"]
    configure(admin, GLOBAL, vault, prefix="", service="default")
    vault.put("old/somewhere/pg", password="of the account")
    configure(admin, GLOBAL, vault, prefix="old/somewhere", service="default")
    assert secretive.gets(demo, "of the account")
    refused = admin.call("POST", "/v2/secret/pg/password", {"value": "v", "kitchen": child})
    assert refused.status == 412
    assert f"inherits the vault of kitchen {kitchen}" in refused.json["message"]["error"]
    admin.good("DELETE", f"/v2/vault/config/{GLOBAL}")
    admin.good("DELETE", f"/v2/kitchen/delete/{child}")


def test_a_private_vault_is_read_by_runs_alone(member, kitchen, vault):
    configure(member, kitchen, vault, private=True)
    vault.put("secret/dev/pg", password="for runs")
    shown = member.good("GET", "/v2/secret", {"kitchens": kitchen})[kitchen]
    assert (shown["error"], "is private" in shown["error-message"]) == (True, True)
    refused = member.call("POST", "/v2/secret/a", {"value": "v", "kitchen": kitchen})
    assert refused.status == 412
    assert vault.seen == []
    assert secretive.gets(secretive.make_recipe(member, kitchen), "for runs")


@pytest.mark.parametrize(
    ("mood", "status", "told"),
    [("sealed", 503, "answered 503"), ("cut", 503, "did not answer"),
     ("redirects", 417, "redirects elsewhere")],
)  # fmt: skip
def test_a_vault_that_is_not_well_is_told(*, member, kitchen, vault, mood, status, told):
    configure(member, kitchen, vault)
    vault.put("secret/dev/pg", password="v")
    vault.mood = mood
    shown = member.good("GET", "/v2/secret", {"kitchens": kitchen})
    assert shown[GLOBAL]["error"] is False
    assert shown[kitchen]["error"] is True
    assert told in shown[kitchen]["error-message"]
    got = member.call("POST", "/v2/secret/pg/user", {"value": "hush", "kitchen": kitchen})
    assert got.status == status, got.text
    assert told in got.json["message"]["error"]
    assert f"The vault of kitchen {kitchen}" in got.json["message"]["error"]
    seen = secretive.run_of(secretive.make_recipe(member, kitchen), "v")
    assert seen["status"] == "SERVING_ERROR"
    assert f"The vault of kitchen {kitchen} ({vault.url})" in seen["text"]
    assert told in seen["text"]
    assert TOKEN not in seen["text"]


def test_a_token_that_is_not_good_fails_lists_and_runs(live, member, kitchen, vault):
    configure(member, kitchen, vault, token="hvs.another-token")
    shown = member.good("GET", "/v2/secret", {"kitchens": kitchen})[kitchen]
    assert shown["error"] is True
    assert "does not accept its token" in shown["error-message"]
    seen = secretive.run_of(secretive.make_recipe(member, kitchen), "v")
    assert seen["status"] == "SERVING_ERROR"
    assert "does not accept its token" in seen["text"]
    assert "another-token" not in seen["text"] + "".join(live.lines)


def test_the_command_lines_see_the_same(live, kitchen, vault, tmp_path):
    dk = Dk(tmp_path, live.base)
    dk.good(
        "vault-config", "-k", kitchen, "-s", "custom", "-u", vault.url, "-t", TOKEN,
        "-r", "secret/dev", "-y",
    )  # fmt: skip
    assert "Secret written." in dk.good("secret-write", "-k", kitchen, "my-key=hush", "-y")
    assert vault.newest("secret/dev/my-key") == {"value": "hush"}
    assert "True (found in kitchen vault)" in dk.good("secret-exists", "-k", kitchen, "my-key")
    said = live.run("secret", "set", "pg/password", "--stdin", "--kitchen", kitchen, stdin="x=y")
    assert said == "Wrote vault://pg/password to the vault elsewhere."
    assert live.run("secret", "list", "--kitchen", kitchen) == "vault://my-key\nvault://pg/password"
    shown = dk.good("secret-list", "-k", kitchen)
    assert "vault://pg/password" in shown
    live.run("secret", "rm", "pg/password", "--kitchen", kitchen)
    dk.good("secret-delete", "-k", kitchen, "my-key", "-y")
    assert vault.newest("secret/dev/pg") is None
    assert "No secrets to display" in dk.good("secret-list", "-k", kitchen)
    assert "secrets open" in live.run("doctor")
