"""Secrets by path, over plain HTTP: written, listed, checked and deleted, never read."""

import uuid

import pytest

pytestmark = pytest.mark.evidence(
    "source", "contract 3.9, from dkcloudcommand 1.5.33 and DKUtils 2.11.6, vault.py"
)

GLOBAL = "**__GLOBAL__**"


def paths(api, kitchen=None, below=""):
    found = api.good("GET", f"/v2/secret{below}", {"kitchens": kitchen} if kitchen else {})
    shown = found[kitchen or GLOBAL]
    assert shown["error"] is False
    return shown["list"]


def put(api, path, value, kitchen=None, **extra):
    body = {"value": value} | ({"kitchen": kitchen} if kitchen else {})
    return api.call("POST", f"/v2/secret/{path}", body, **extra)


@pytest.fixture
def prefix(admin):
    """A name below which the account's secrets of a test lie; they go with it."""
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    for path in paths(admin, below=f"/{name}"):
        admin.good("DELETE", f"/v2/secret/{path.removeprefix('vault://')}")


def test_secrets_are_listed_by_path_never_by_value(member, admin, kitchen, prefix):
    assert put(admin, f"{prefix}/b/c", "hush-hush").json == {"status": "success"}
    assert put(admin, f"{prefix}/a", "hush-hush").status == 200
    assert put(member, "own", "hush-hush", kitchen).status == 200
    for path in ("/v2/secret", "/v2/secret/"):
        got = member.call("GET", path, {"kitchens": kitchen})
        assert got.status == 200
        assert "hush-hush" not in got.text
        assert set(got.json) == {GLOBAL, kitchen}
        assert got.json[kitchen] == {"error": False, "list": ["vault://own"]}
        account = got.json[GLOBAL]
        assert set(account) == {"error", "list"}
        assert account["error"] is False
        mine = [one for one in account["list"] if prefix in one]
        assert mine == [f"vault://{prefix}/a", f"vault://{prefix}/b/c"]
        assert set(member.good("GET", path, {})) == {GLOBAL}
        assert set(member.good("GET", path)) == {GLOBAL}
    assert paths(member, "master") == []  # a kitchen without a vault has an empty list


def test_secrets_below_a_path(member, admin, kitchen, prefix):
    for path in ("b/x", "b/y/z", "bc", "a"):
        assert put(admin, f"{prefix}/{path}", "v").status == 200
        assert put(member, path, "v", kitchen).status == 200
    for below in ("b", "b/"):
        own = paths(member, kitchen, f"/{below}")
        assert own == ["vault://b/x", "vault://b/y/z"]
        account = paths(member, below=f"/{prefix}/{below}")
        assert account == [f"vault://{prefix}/b/x", f"vault://{prefix}/b/y/z"]
    assert paths(member, kitchen, "/none") == []
    assert member.call("GET", "/v2/secret/a%20b", {"kitchens": kitchen}).status == 400


def test_a_secret_is_written_and_overwritten(member, admin, kitchen, prefix):
    for value in ("a=b=c", "line one\nÄ 🗝\t", "", "x" * (1024 * 1024)):
        assert put(member, "pg/password", value, kitchen).json == {"status": "success"}
        assert put(admin, f"{prefix}/pg/password", value).json == {"status": "success"}
    assert paths(member, kitchen) == ["vault://pg/password"]
    assert paths(admin, below=f"/{prefix}") == [f"vault://{prefix}/pg/password"]
    explicit = {"value": "v", "kitchen": None}
    assert admin.good("POST", f"/v2/secret/{prefix}/none", explicit) == {"status": "success"}
    assert paths(admin, below=f"/{prefix}/none") == [f"vault://{prefix}/none"]


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("a%20b", {"value": "v"}, 400, "cannot be a secret's path"),
        ("a//b", {"value": "v"}, 400, "cannot be a secret's path"),
        ("", {"value": "v"}, 400, "cannot be a secret's path"),
        ("a", {}, 400, "value"),
        ("a", {"value": None}, 400, "value"),
        ("a", {"value": 12345}, 400, "value"),
        ("a", {"value": "x" * (1024 * 1024 + 1)}, 413, "1048576 bytes"),
        ("a", {"value": "v", "kitchen": 5}, 400, "kitchen"),
    ],
)
def test_what_cannot_be_a_secret_is_refused(*, member, kitchen, path, body, status, told):
    got = member.call("POST", f"/v2/secret/{path}", {"kitchen": kitchen, **body})
    assert got.status == status, got.text
    assert told in got.text
    assert "12345" not in got.text
    assert paths(member, kitchen) == []


def test_the_accounts_secrets_are_written_by_its_administrators(member, admin, kitchen, prefix):
    assert put(admin, f"{prefix}/a", "v").status == 200
    for got in (put(member, f"{prefix}/a", "w"), member.call("DELETE", f"/v2/secret/{prefix}/a")):
        assert got.status == 403
        assert "needs the role" in got.json["message"]["error"]
    assert paths(member, below=f"/{prefix}") == [f"vault://{prefix}/a"]


def test_a_secret_is_checked(member, admin, kitchen, prefix):
    assert put(admin, f"{prefix}/a", "v").status == 200
    assert put(member, "own/b", "v", kitchen).status == 200
    assert member.good("GET", f"/v2/secret/check/{prefix}/a") == {"value": True}
    assert member.good("GET", f"/v2/secret/check/{prefix}") == {"value": False}
    assert member.good("GET", "/v2/secret/check/own/b") == {"value": False}
    own = {"kitchens": kitchen}
    assert member.good("GET", "/v2/secret/check/own/b", own) == {"value": True}
    assert member.good("GET", f"/v2/secret/check/{prefix}/a", own) == {"value": False}
    assert member.call("GET", "/v2/secret/check/a%20b").status == 400


def test_a_secret_is_deleted(member, admin, kitchen, prefix):
    assert put(admin, f"{prefix}/a", "v").status == 200
    assert put(member, f"{prefix}/a", "v", kitchen).status == 200
    path = f"/v2/secret/{prefix}/a"
    assert member.good("DELETE", path, {"kitchen": kitchen}) == {"status": "success"}
    assert paths(member, kitchen) == []
    assert paths(member, below=f"/{prefix}") == [f"vault://{prefix}/a"]
    assert admin.good("DELETE", path) == {"status": "success"}
    assert paths(member, below=f"/{prefix}") == []
    for api, body in ((admin, {}), (member, {"kitchen": kitchen}), (member, {"kitchen": "master"})):
        gone = api.call("DELETE", path, body)
        assert gone.status == 400
        assert f"There is no secret vault://{prefix}/a" in gone.json["message"]["error"]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_change_with_a_key_takes_effect_once(member, kitchen, method):
    assert put(member, "a", "first", kitchen).status == 200
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"kitchen": kitchen} | ({"value": "v"} if method == "POST" else {})
    first = member.call(method, "/v2/secret/a", body, headers=key)
    assert first.status == 200
    undo = "DELETE" if method == "POST" else "POST"
    member.good(undo, "/v2/secret/a", {"kitchen": kitchen, "value": "w"})
    again = member.call(method, "/v2/secret/a", body, headers=key)
    assert (again.status, again.json) == (200, first.json)
    assert again.headers["idempotent-replayed"] == "true"
    assert paths(member, kitchen) == ([] if method == "POST" else ["vault://a"])
