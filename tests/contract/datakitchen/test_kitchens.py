"""Kitchens over plain HTTP."""

import pytest
from tests.contract.datakitchen.world import MEMBER, OUTSIDER, new_name

DOCS = pytest.mark.evidence("source", "contract 3.3, from dkcloudcommand 1.5.33 and DKUtils 2.11.6")
pytestmark = DOCS

ALERTS = ["orderrunStart", "orderrunWarning", "orderrunOverDuration", "orderrunSuccess",
          "orderrunError"]  # fmt: skip


def one(api, name):
    return api.good("GET", f"/v2/kitchen/{name}")["kitchen"]


def put(api, kitchen, **changes):
    document = {**one(api, kitchen), **changes}
    return api.call("POST", f"/v2/kitchen/update/{kitchen}", {"kitchen.json": document})


def test_the_tree_begins_at_master(member, kitchen):
    shown = {k["name"]: k for k in member.good("GET", "/v2/kitchen/list")["kitchens"]}
    assert shown["master"]["parent-kitchen"] == "master"
    assert shown[kitchen]["parent-kitchen"] == "master"
    for entry in shown.values():
        assert {"name", "parent-kitchen", "kitchen-staff", "recipeoverrides"} <= set(entry)


def test_one_kitchen_is_wrapped(member, kitchen):
    shown = member.good("GET", f"/v2/kitchen/{kitchen}")
    assert list(shown) == ["kitchen"]
    made = shown["kitchen"]
    assert made["name"] == kitchen
    assert made["description"] == "for a test"
    assert made["creator_user"] == MEMBER
    assert type(made["created_time"]) is int
    assert made["kitchen-staff"] == []
    assert made["recipeoverrides"] == {}
    assert made["settings"]["alerts"] == dict.fromkeys(ALERTS)


def test_settings_give_the_kitchen_itself(member, kitchen):
    assert member.good("GET", f"/v2/kitchen/settings/{kitchen}") == one(member, kitchen)


def test_a_child_kitchen_is_a_copy_of_its_parent(member, admin, demo):
    put(member, demo.kitchen, recipeoverrides={"region": "us"})
    child = new_name("child")
    made = member.good("PUT", f"/v2/kitchen/create/{demo.kitchen}/{child}", {"message": "junk"})
    assert made["status"] == "success"
    assert made["kitchen"]["name"] == child
    assert made["kitchen"]["parent-kitchen"] == demo.kitchen
    assert made["kitchen"]["recipeoverrides"] == {"region": "us"}
    tree = f"/v2/recipe/tree/{{}}/{demo.recipe}"
    assert member.good("GET", tree.format(child)) == member.good("GET", tree.format(demo.kitchen))
    admin.good("DELETE", f"/v2/kitchen/delete/{child}")


@pytest.mark.parametrize(
    "name", ["list", "settings", "x", "a" * 65, "with-dash", "with space", "é", "recipenames"]
)
def test_a_kitchen_needs_a_name_that_can_be_one(member, name):
    got = member.call("PUT", f"/v2/kitchen/create/master/{name}", {})
    assert got.status == 400, got.text
    assert got.json["message"]["error"]
    listed = [k["name"] for k in member.good("GET", "/v2/kitchen/list")["kitchens"]]
    assert name not in listed


def test_a_kitchen_of_that_name_is_there_already(member, kitchen):
    got = member.call("PUT", f"/v2/kitchen/create/master/{kitchen}", {})
    assert got.status in {400, 412}
    assert kitchen in got.json["message"]["error"]


def test_an_unknown_kitchen_reads_as_the_clients_expect(member):
    wanted = (
        "Kitchen nowhere was not found in the database or the user does not have access rights."
    )
    for method, path in [
        ("GET", "/v2/kitchen/nowhere"),
        ("GET", "/v2/kitchen/settings/nowhere"),
        ("GET", "/v2/kitchen/recipenames/nowhere"),
        ("PUT", "/v2/kitchen/create/nowhere/child_of_nowhere"),
        ("PUT", "/v2/order/create/nowhere/demo/v1"),
        ("GET", "/v2/order/status/nowhere"),
        ("POST", "/v2/order/details/nowhere"),
    ]:
        got = member.call(method, path)
        assert (got.status, got.json["message"]["error"]) == (400, wanted), path


def test_an_update_replaces_the_whole_kitchen(member, kitchen):
    alerts = dict.fromkeys(ALERTS) | {"orderrunError": ["ops@example.com"]}
    settings = {**one(member, kitchen)["settings"], "alerts": alerts}
    overrides = {"region": "us", "db": {"host": "h"}}
    got = put(
        member, kitchen, recipeoverrides=overrides, settings=settings, description="new",
    )  # fmt: skip
    assert got.status == 200, got.text
    shown = one(member, kitchen)
    assert shown["recipeoverrides"] == overrides
    assert shown["settings"]["alerts"] == alerts
    assert shown["description"] == "new"
    assert put(member, kitchen, recipeoverrides={}).status == 200
    assert one(member, kitchen)["recipeoverrides"] == {}


@pytest.mark.parametrize(
    ("sent", "told"),
    [({"name": "other"}, "'name' cannot be changed here"), ({"created_time": 1}, "created_time"),
     ({"parent-kitchen": None}, 'it is "master"'), ({"is_admin": True}, "no 'is_admin'"),
     ({"recipeoveride": {"a": 1}}, "did you mean 'recipeoverrides'?")],
)  # fmt: skip
def test_what_an_update_would_drop_refuses_it(member, kitchen, sent, told):
    before = one(member, kitchen)
    for method, path in (("POST", "update"), ("PUT", "settings")):
        document = {**before, "description": "lost", **sent}
        got = member.call(method, f"/v2/kitchen/{path}/{kitchen}", {"kitchen.json": document})
        assert got.status == 400
        assert told in got.json["message"]["error"]
    assert one(member, kitchen) == before


@pytest.mark.parametrize(
    ("sent", "told"),
    [({"kitchen-staff": [MEMBER, "mya@example.com"]}, "no user mya@example.com"),
     ({"kitchen-staff": [OUTSIDER]}, "shut yourself out"),
     ({"kitchen-roles": {"mya@example.com": "Admin"}}, "no user mya@example.com"),
     ({"kitchen-roles": {MEMBER: "Boss"}}, "Admin, Developer, Guest")],
)  # fmt: skip
def test_a_kitchen_is_not_closed_by_a_slip(member, kitchen, sent, told):
    got = put(member, kitchen, **sent)
    assert got.status == 400
    assert told in got.json["message"]["error"]
    assert one(member, kitchen)["kitchen-staff"] == []


def test_settings_can_be_put(member, kitchen):
    document = one(member, kitchen)
    document["recipeoverrides"] = [{"variable": "a", "value": "1", "category": "from_command_line"}]
    path = f"/v2/kitchen/settings/{kitchen}"
    member.good("PUT", path, {"kitchen.json": document, "message": "a added"})
    assert member.good("GET", path)["recipeoverrides"] == {"a": "1"}


@pytest.mark.parametrize(
    "document",
    [{"kitchen-staff": "everybody"}, {"recipeoverrides": 5}, {"settings": {"alerts": {"boom": []}}},
     {"kitchen-roles": {"a": 1}}],
)  # fmt: skip
def test_an_update_of_the_wrong_type_changes_nothing(member, kitchen, document):
    before = one(member, kitchen)
    got = put(member, kitchen, **document)
    assert got.status == 400
    assert got.json["message"]["error"]
    assert one(member, kitchen) == before


def test_a_closed_kitchen_is_listed_but_not_entered(member, outsider, admin, kitchen):
    assert put(member, kitchen, **{"kitchen-staff": [MEMBER]}).status == 200
    listed = [k["name"] for k in outsider.good("GET", "/v2/kitchen/list")["kitchens"]]
    assert kitchen in listed
    for path in (f"/v2/kitchen/{kitchen}", f"/v2/kitchen/recipenames/{kitchen}"):
        got = outsider.call("GET", path)
        assert got.status == 400
        assert "does not have access rights" in got.text
    assert one(admin, kitchen)["kitchen-staff"] == [MEMBER]
    assert put(member, kitchen, **{"kitchen-staff": [MEMBER, OUTSIDER]}).status == 200
    assert one(outsider, kitchen)["kitchen-staff"] == [MEMBER, OUTSIDER]


def test_deleting_twice_is_a_success(member, admin):
    name = new_name("gone")
    member.good("PUT", f"/v2/kitchen/create/master/{name}", {})
    body = {"synchronous-delete": False, "message": "bye"}
    member.good("DELETE", f"/v2/kitchen/delete/{name}", body)
    assert member.call("GET", f"/v2/kitchen/{name}").status == 400
    member.good("DELETE", f"/v2/kitchen/delete/{name}", {})
    assert name not in [k["name"] for k in admin.good("GET", "/v2/kitchen/list")["kitchens"]]


def test_master_stays(admin):
    got = admin.call("DELETE", "/v2/kitchen/delete/master")
    assert got.status in {400, 403, 412, 417}
    assert admin.good("GET", "/v2/kitchen/master")["kitchen"]["name"] == "master"


def test_a_deleted_parent_leaves_an_orphan(member, admin, kitchen):
    child = new_name("orphan")
    member.good("PUT", f"/v2/kitchen/create/{kitchen}/{child}", {})
    admin.good("DELETE", f"/v2/kitchen/delete/{kitchen}")
    assert one(member, child)["parent-kitchen"] is None
    admin.good("DELETE", f"/v2/kitchen/delete/{child}")


def test_a_member_cannot_seize_a_kitchen_or_the_root(member, outsider, kitchen):
    for name in (kitchen, "master"):
        before = one(member, name)
        for sent in (
            {"kitchen-staff": [OUTSIDER]},
            {"kitchen-roles": {OUTSIDER: "Admin", MEMBER: "Guest"}},
        ):
            got = put(outsider, name, **sent)
            assert got.status == 403, (name, got.text)
            assert "is decided by" in got.json["message"]["error"]
        assert outsider.call("DELETE", f"/v2/kitchen/delete/{name}").status == 403
        assert one(member, name) == before


def test_keys_that_only_the_vendor_knows_are_kept_and_go_with_the_kitchen(
    member, outsider, kitchen
):
    kept = {"mesos-constraint": True, "mesos-group": "g1", "wizard-status": {"step": [1, None]}}
    first = one(member, kitchen)
    assert [first[key] for key in kept] == [False, None, {}]
    assert put(member, kitchen, **kept).status == 200
    assert {key: one(member, kitchen)[key] for key in kept} == kept
    assert put(member, kitchen, description="else").status == 200
    assert put(member, kitchen, **{"mesos-group": None}).status == 200
    now = kept | {"mesos-group": None}
    assert put(member, kitchen, **{"kitchen-staff": [MEMBER]}).status == 200
    for reader, wanted in ((member, now), (outsider, {key: first[key] for key in kept})):
        listed = reader.good("GET", "/v2/kitchen/list")["kitchens"]
        (shown,) = [entry for entry in listed if entry["name"] == kitchen]
        assert {key: shown[key] for key in kept} == wanted
    assert put(member, kitchen, **{"mesos-constraint": "often"}).status == 400
    member.good("DELETE", f"/v2/kitchen/delete/{kitchen}")
    member.good("PUT", f"/v2/kitchen/create/master/{kitchen}", {})
    assert {key: one(member, kitchen)[key] for key in kept} == {key: first[key] for key in kept}
