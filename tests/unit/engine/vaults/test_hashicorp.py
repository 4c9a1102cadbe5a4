"""References into a HashiCorp Vault, held against a stand-in that speaks its protocol."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest
from tests.contract.vaultserver import TOKEN, VaultServer, vault_server

from galley.core.secrets.errors import VaultRefused, VaultUnreachable
from galley.core.secrets.ports import VaultPlace
from galley.engine.outbound import OutboundClient, OutboundPolicy
from galley.engine.vaults import HashiCorpVaults, hashicorp, visit

STORES = ["secret", "old"]


@pytest.fixture
def server() -> Iterator[VaultServer]:
    with vault_server() as running:
        yield running


@pytest.fixture
def vaults() -> HashiCorpVaults:
    return HashiCorpVaults(OutboundClient(OutboundPolicy(allowed=(ip_network("127.0.0.0/8"),))))


def place(server: VaultServer, prefix: str = "secret/dev") -> VaultPlace:
    return VaultPlace("the vault of kitchen dev", server.url, prefix, TOKEN)


@pytest.mark.parametrize("store", STORES)
def test_a_reference_is_a_key_or_a_secret_with_a_value(server, vaults, store) -> None:
    server.put(f"{store}/dev/pg", host="h", port=5432, tls={"ca": ["é"]})
    server.put(f"{store}/dev/pg/user", value="of a secret")
    server.put(f"{store}/dev/api", value="key")
    server.put(f"{store}/dev", top="at the prefix")
    wanted = ["pg/host", "pg/port", "pg/tls", "pg/user", "api", "top", "pg/none", "none"]
    assert vaults.read(place(server, f"{store}/dev"), wanted) == {
        "pg/host": "h",
        "pg/port": "5432",
        "pg/tls": '{"ca":["é"]}',
        "pg/user": "of a secret",
        "api": "key",
        "top": "at the prefix",
    }
    assert vaults.read(place(server, ""), [f"{store}/dev/pg/host", "pg/host"]) == {
        f"{store}/dev/pg/host": "h"
    }


def test_of_a_versioned_store_the_newest_counts_and_a_deleted_one_is_gone(server, vaults) -> None:
    server.put("secret/dev/a", k="1")
    server.put("secret/dev/a", k="2")
    assert vaults.read(place(server), ["a/k"]) == {"a/k": "2"}
    server.secrets["secret/dev/a"].append(None)
    assert vaults.read(place(server), ["a/k"]) == {}
    assert vaults.list_paths(place(server)) == []


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("has_subkeys", [True, False])
def test_paths_are_listed_without_reading_where_that_can_be(
    server, vaults, store, has_subkeys
) -> None:
    server.has_subkeys = has_subkeys
    here = place(server, f"{store}/dev")
    server.put(f"{store}/dev/pg", host="hush", port="hush")
    server.put(f"{store}/dev/pg/deep/er", value="hush")
    server.put(f"{store}/dev/pg/two", value="hush", other="hush")
    server.put(f"{store}/dev/no reference", a="hush")
    server.put(f"{store}/dev/keys", **{"no reference": "hush", "yes": "hush"})
    server.put(f"{store}/development/not", mine="hush")
    everything = ["keys/yes", "pg/deep/er", "pg/host", "pg/port", "pg/two/other", "pg/two/value"]
    assert vaults.list_paths(here) == everything
    assert sorted(vaults.read(here, everything)) == everything
    assert vaults.list_paths(here, "pg/deep") == ["pg/deep/er"]
    assert vaults.list_paths(here, "pg/host") == ["pg/host"]
    assert vaults.list_paths(here, "none") == []
    if store == "secret" and has_subkeys:
        server.seen.clear()
        vaults.list_paths(here)
        assert not [path for _, path in server.seen if path.startswith("secret/data")]


def test_without_a_prefix_all_stores_are_listed(server, vaults) -> None:
    server.put("secret/a", k="1")
    server.put("old/b/c", value="1")
    here = place(server, "")
    assert vaults.list_paths(here) == ["old/b/c", "secret/a/k"]
    assert vaults.list_paths(here, "old") == ["old/b/c"]
    server.knows_mounts = False
    with pytest.raises(VaultRefused, match="configure it with a prefix"):
        vaults.list_paths(here)


def test_an_older_server_has_stores_of_the_first_version(server, vaults) -> None:
    server.knows_mounts = False
    server.put("old/dev/pg", host="h")
    assert vaults.read(place(server, "old/dev"), ["pg/host"]) == {"pg/host": "h"}
    assert vaults.list_paths(place(server, "old/dev")) == ["pg/host"]


@pytest.mark.parametrize("store", STORES)
def test_a_secret_is_written_beside_others_and_deleted_with_its_last_key(
    server, vaults, store
) -> None:
    here = place(server, f"{store}/dev")
    server.put(f"{store}/dev/pg", host="h")
    value = "a=b\nÄ 🗝"
    vaults.write(here, "pg/password", value)
    vaults.write(here, "my-key", "1")
    assert server.newest(f"{store}/dev/pg") == {"host": "h", "password": value}
    assert server.newest(f"{store}/dev/my-key") == {"value": "1"}
    assert vaults.list_paths(here) == ["my-key", "pg/host", "pg/password"]
    vaults.write(here, "my-key", "2")
    assert vaults.read(here, ["my-key", "pg/password"]) == {"my-key": "2", "pg/password": value}
    assert vaults.delete(here, "pg/host") is True
    assert vaults.delete(here, "pg/host") is False
    assert vaults.delete(here, "my-key") is True
    assert vaults.list_paths(here) == ["pg/password"]
    vaults.write(here, "my-key", "again")
    assert vaults.read(here, ["my-key"]) == {"my-key": "again"}


def test_a_write_that_meets_another_keeps_both(server, vaults) -> None:
    server.put("secret/dev/pg", host="h")

    def other() -> None:
        server.before_write = None
        server.put("secret/dev/pg", host="h", port="1")

    server.before_write = other
    vaults.write(place(server), "pg/user", "u")
    assert server.newest("secret/dev/pg") == {"host": "h", "port": "1", "user": "u"}
    server.before_write = lambda: server.put("secret/dev/pg", host="again")
    with pytest.raises(VaultRefused, match="kept changing it"):
        vaults.write(place(server), "pg/user", "v")


def refused(vaults, here: VaultPlace) -> str:
    """What each kind of call is refused with; the same for all."""
    told = set()
    for call in (
        lambda: vaults.read(here, ["pg/host"]),
        lambda: vaults.list_paths(here),
        lambda: vaults.write(here, "pg/host", "hush-hush"),
        lambda: vaults.delete(here, "pg/host"),
    ):
        with pytest.raises((VaultRefused, VaultUnreachable)) as caught:
            call()
        told.add(caught.value.message)
    text = " | ".join(told)
    assert "hush-hush" not in text
    assert here.token not in text
    assert "vault of kitchen dev" in text
    return text


def test_a_token_that_is_not_good_is_told_from_a_path_that_is_not_there(server, vaults) -> None:
    assert "does not accept its token" in refused(vaults, replace(place(server), token="wrong"))
    nowhere = place(server, "nowhere/dev")
    assert vaults.read(nowhere, ["pg/host"]) == {}
    assert vaults.list_paths(nowhere) == []
    assert vaults.delete(nowhere, "pg/host") is False
    with pytest.raises(VaultRefused, match="no store that its token may see"):
        vaults.write(nowhere, "pg/host", "x")


def test_what_the_policy_forbids_is_refused_and_left_out_of_lists(server, vaults) -> None:
    server.put("secret/dev/mine", k="1")
    server.put("secret/dev/theirs/pg", k="1")
    server.forbidden.add("secret/dev/theirs")
    here = place(server)
    assert vaults.list_paths(here) == ["mine/k"]
    with pytest.raises(VaultRefused, match="forbids secret/dev/theirs/pg"):
        vaults.read(here, ["theirs/pg/k"])
    server.forbidden.add("secret/dev")
    assert "forbids" in refused(vaults, here)


@pytest.mark.parametrize("store", STORES)
def test_a_policy_for_what_is_below_the_prefix_is_enough(server, vaults, store) -> None:
    server.forbidden_alone.add(f"{store}/dev")
    here = place(server, f"{store}/dev")
    vaults.write(here, "api", "1")
    vaults.write(here, "pg/user", "2")
    assert vaults.read(here, ["api", "pg/user", "none"]) == {"api": "1", "pg/user": "2"}
    assert vaults.list_paths(here) == ["api", "pg/user"]
    assert vaults.delete(here, "api") is True
    server.forbidden_alone.add(f"{store}/dev/pg")
    server.put(f"{store}/dev/pg/user", value="3")
    assert vaults.read(here, ["pg/user"]) == {"pg/user": "3"}
    with pytest.raises(VaultRefused, match=f"forbids {store}/dev/pg to its token"):
        vaults.read(here, ["pg/none"])


@pytest.mark.parametrize(
    ("mood", "kind", "told"),
    [
        ("sealed", VaultUnreachable, "answered 503"),
        ("cut", VaultUnreachable, "did not answer"),
        ("redirects", VaultRefused, "redirects elsewhere"),
        ("another", VaultRefused, "no HashiCorp Vault says"),
        ("huge", VaultRefused, "more than"),
    ],
)
def test_a_vault_that_is_not_well(server, vaults, mood, kind, told) -> None:
    server.mood = mood
    assert told in refused(vaults, place(server))
    with pytest.raises(kind):
        vaults.read(place(server), ["pg/host"])


def test_a_slow_vault_is_given_up_within_its_time(server, vaults, monkeypatch) -> None:
    server.mood = "slow"
    monkeypatch.setattr(visit, "CALL_S", 0.2)
    assert "did not answer within its time limit" in refused(vaults, place(server))
    server.mood = "well"
    monkeypatch.setattr(hashicorp, "LISTING_S", 0.0)
    with pytest.raises(VaultUnreachable, match="took too long"):
        vaults.list_paths(place(server))


def test_nobody_there_and_an_address_that_is_not_allowed(server, vaults, free_port) -> None:
    gone = replace(place(server), url=f"http://127.0.0.1:{free_port()}")
    assert "did not answer" in refused(vaults, gone)
    barred = HashiCorpVaults(OutboundClient(OutboundPolicy()))
    assert "GALLEY_OUTBOUND_ALLOW" in refused(barred, place(server))
    assert server.seen == []


def test_what_is_no_key_value_store_is_refused(server, vaults) -> None:
    server.stores["transit"] = 1
    with pytest.raises(VaultRefused, match="no key-value store at transit"):
        vaults.list_paths(place(server, "transit"))


def test_lists_and_values_are_bounded(server, vaults, monkeypatch) -> None:
    for number in range(6):
        server.put(f"secret/dev/{number}", k="1")
    monkeypatch.setattr(hashicorp, "MAX_SECRETS", 6)
    with pytest.raises(VaultRefused, match="more than 6 secrets here"):
        vaults.list_paths(place(server))
    assert vaults.list_paths(place(server), "3") == ["3/k"]
    server.put("secret/dev/big", k="x" * (1024 * 1024 + 1))
    with pytest.raises(VaultRefused, match="1048576 bytes"):
        vaults.read(place(server), ["big/k"])


def test_slow_calls_do_not_pile_up(server, vaults, monkeypatch) -> None:
    monkeypatch.setattr(hashicorp, "_AT_ONCE", 1)
    one = HashiCorpVaults(vaults._client)
    server.mood = "slow"
    thread = threading.Thread(target=lambda: _ignore(one, place(server)))
    thread.start()
    while not server.seen:
        thread.join(0.01)
    with pytest.raises(VaultUnreachable, match="under way"):
        one.list_paths(place(server))
    server.waiting.set()
    thread.join(60)
    server.mood = "well"
    assert one.list_paths(place(server)) == []


def _ignore(vaults: HashiCorpVaults, here: VaultPlace) -> None:
    with pytest.raises(VaultUnreachable):
        vaults.list_paths(here)


def test_a_place_does_not_show_its_token(server) -> None:
    assert TOKEN not in repr(place(server))
