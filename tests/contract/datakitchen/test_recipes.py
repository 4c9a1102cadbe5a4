"""Recipes and their files over plain HTTP."""

import base64
import hashlib
import json

import pytest
from tests.contract.datakitchen import recipes
from tests.contract.datakitchen.world import new_name

pytestmark = pytest.mark.evidence(
    "source", "contract 3.5, from dkcloudcommand 1.5.33 and DKUtils 2.11.6"
)

QS1 = {
    "r1": {"description.json", "variables.json", "variations.json"},
    "r1/resources": {"README.txt"},
    "r1/placeholder-node1": {"description.json", "notebook.json"},
    "r1/placeholder-node2": {"description.json", "notebook.json"},
}


def blob_sha(content):
    """Git's name for a blob, which the command line computes from its disk."""
    return hashlib.sha1(b"blob %d\x00" % len(content) + content, usedforsecurity=False).hexdigest()


def tree_of(api, kitchen, recipe="demo"):
    shown = api.good("GET", f"/v2/recipe/tree/{kitchen}/{recipe}")
    assert set(shown) == {"ORIG_HEAD", "recipes"}
    return shown["recipes"][recipe]


def paths_of(tree, recipe="demo"):
    return {
        f"{folder}/{entry['filename']}".removeprefix(f"{recipe}/")
        for folder, entries in tree.items()
        for entry in entries
    }


def content_of(api, kitchen, path):
    return api.good("GET", f"/v2/recipe/file/{kitchen}/demo/{path}")["contents"]


def test_a_recipe_from_a_template(member, kitchen):
    member.good("POST", f"/v2/recipe/create/{kitchen}/r1", {"templatename": "qs1"})
    tree = tree_of(member, kitchen, "r1")
    assert {folder: {e["filename"] for e in files} for folder, files in tree.items()} == QS1
    variations = member.good("GET", f"/v2/recipe/file/{kitchen}/r1/variations.json")["contents"]
    assert list(json.loads(variations)["variation-list"]) == ["variation1"]


@pytest.mark.parametrize(
    "body", [None, {"templatename": None}, {"description": "mine"}, {"description": None}]
)
def test_no_template_means_the_first_one(member, kitchen, body):
    member.good("POST", f"/v2/recipe/create/{kitchen}/r1", body)
    tree = tree_of(member, kitchen, "r1")
    assert {folder: {e["filename"] for e in files} for folder, files in tree.items()} == QS1
    text = member.good("GET", f"/v2/recipe/file/{kitchen}/r1/description.json")["contents"]
    if body and body.get("description"):
        assert json.loads(text)["description"] == "mine"


@pytest.mark.parametrize("template", ["qs2", "qs3"])
def test_the_other_templates_are_there(member, kitchen, template):
    member.good("POST", f"/v2/recipe/create/{kitchen}/r1", {"templatename": template})
    assert "r1" in tree_of(member, kitchen, "r1")


def test_an_unknown_template_makes_nothing(member, kitchen):
    got = member.call("POST", f"/v2/recipe/create/{kitchen}/r1", {"templatename": "qs9"})
    assert got.status == 400
    assert "templatename" in got.json["message"]["error"]
    assert member.good("GET", f"/v2/kitchen/recipenames/{kitchen}") == {"recipes": []}


def test_recipe_names_follow_creation(member, kitchen):
    path = f"/v2/kitchen/recipenames/{kitchen}"
    assert member.good("GET", path) == {"recipes": []}
    member.good("POST", f"/v2/recipe/create/{kitchen}/beta", {})
    member.good("POST", f"/v2/recipe/create/{kitchen}/alpha", {})
    assert member.good("GET", path) == {"recipes": ["alpha", "beta"]}
    got = member.call("POST", f"/v2/recipe/create/{kitchen}/alpha", {})
    assert got.status in {400, 412}


def test_an_unknown_recipe_reads_as_the_clients_expect(member, kitchen):
    for method, path in [
        ("POST", f"/v2/recipe/get/{kitchen}/nope"),
        ("GET", f"/v2/recipe/tree/{kitchen}/nope"),
        ("GET", f"/v2/recipe/file/{kitchen}/nope/variations.json"),
    ]:
        got = member.call(method, path)
        assert got.status == 400, path
        assert f'Recipe "nope" not found in kitchen {kitchen}' in got.json["message"]["error"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_recipe_comes_with_contents(member, demo, method):
    shown = member.good(method, f"/v2/recipe/get/{demo.kitchen}/demo")
    assert set(shown) == {"ORIG_HEAD", "recipes"}
    assert len(shown["ORIG_HEAD"]) == 40
    files = recipes.demo_files()
    found = {}
    for folder, entries in shown["recipes"]["demo"].items():
        for entry in entries:
            path = f"{folder}/{entry['filename']}".removeprefix("demo/")
            key = "json" if path.endswith(".json") else "text"
            assert set(entry) == {"filename", "sha", "type", "url", key}
            assert entry["type"] == "blob"
            assert entry["sha"] == blob_sha(entry[key].encode())
            found[path] = entry[key]
    assert found == files


def test_files_can_be_chosen(member, demo):
    path = f"/v2/recipe/get/{demo.kitchen}/demo"
    some = member.good("POST", path, {"recipe-files": ["variations.json", "gate/*"]})
    assert paths_of(some["recipes"]["demo"]) == {
        "variations.json", "gate/description.json", "gate/notebook.json"
    }  # fmt: skip
    assert set(some["recipes"]["demo"]) == {"demo", "demo/gate"}
    deep = member.good("POST", path, {"recipe-files": ["gate/notebook.json"]})
    assert set(deep["recipes"]["demo"]) == {"demo/gate"}
    none = member.good("POST", path, {"recipe-files": ["nothing.txt"]})
    assert none["recipes"] == {}
    whole = member.good("POST", path, {"recipe-files": None, "include-recipe-tree": True})
    assert whole["recipe-tree"] == {"demo": tree_of(member, demo.kitchen)}


def test_a_tree_has_names_and_shas_only(member, demo):
    tree = tree_of(member, demo.kitchen)
    assert paths_of(tree) == set(recipes.demo_files())
    for entries in tree.values():
        for entry in entries:
            assert set(entry) == {"filename", "sha"}


def test_one_file_by_its_path(member, demo):
    assert content_of(member, demo.kitchen, "resources/README.txt") == "Nothing to see.\n"
    got = member.call("GET", f"/v2/recipe/file/{demo.kitchen}/demo/no/such.txt")
    assert got.status == 400
    assert "no/such.txt" in got.json["message"]["error"]


def test_a_file_is_added(member, demo):
    body = {"message": "new", "filepath": "resources/q.sql", "file": "select 1;\n"}
    member.good("PUT", f"/v2/recipe/create/{demo.kitchen}/demo", body)
    assert content_of(member, demo.kitchen, "resources/q.sql") == "select 1;\n"
    told = member.good("POST", f"/v2/recipe/update/{demo.kitchen}/demo", body)
    assert told == {
        "status": "success", "issues": [], "branch": demo.kitchen, "formatted_files": {}
    }  # fmt: skip


def test_many_files_are_updated_at_once(member, demo):
    picture = bytes(range(256))
    odd = '{"b":  2,\r\n "é": "\\u00e9"}'
    body = {
        "message": "all",
        "skipFormat": True,
        "skipCompile": True,
        "files": {
            "resources/pic.png": {
                "contents": base64.b64encode(picture).decode(),
                "isNew": True,
            },
            "resources/odd.json": {"contents": odd, "isNew": True},
            "resources/README.txt": {},
        },
    }
    told = member.good("POST", f"/v2/recipe/update/{demo.kitchen}/demo", body)
    assert told == {
        "status": "success", "issues": [], "branch": demo.kitchen, "formatted_files": {},
        "resources/pic.png": True, "resources/odd.json": True, "resources/README.txt": True,
    }  # fmt: skip
    shown = member.good("POST", f"/v2/recipe/get/{demo.kitchen}/demo")["recipes"]["demo"]
    resources = {entry["filename"]: entry for entry in shown["demo/resources"]}
    assert set(resources) == {"pic.png", "odd.json"}
    assert base64.b64decode(resources["pic.png"]["text"]) == picture
    assert resources["pic.png"]["sha"] == blob_sha(picture)
    assert resources["odd.json"]["json"] == odd
    assert resources["odd.json"]["sha"] == blob_sha(odd.encode())


def test_a_commit_moves_the_head_and_keeps_the_old_one(member, demo):
    path = f"/v2/recipe/tree/{demo.kitchen}/demo"
    before = member.good("GET", path)["ORIG_HEAD"]
    body = {"message": "m", "filepath": "a.txt", "file": "a"}
    member.good("POST", f"/v2/recipe/update/{demo.kitchen}/demo", body)
    assert member.good("GET", path)["ORIG_HEAD"] != before


BAD_PATHS = ["../x.txt", "a/../../x", ".git/config", "a/./b", "/abs.txt", "a//b", "con.txt",
             "a\x00b", "trailing.", "x" * 1025]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_leads_astray_saves_nothing(member, demo, path):
    before = tree_of(member, demo.kitchen)
    files = {"fine.txt": {"contents": "x", "isNew": True}, path: {"contents": "x", "isNew": True}}
    update = f"/v2/recipe/update/{demo.kitchen}/demo"
    got = member.call("POST", update, {"message": "m", "files": files})
    assert got.status == 400, got.text
    assert got.json["message"]["error"]
    assert tree_of(member, demo.kitchen) == before


def test_a_binary_name_needs_base64(member, demo):
    body = {"message": "m", "filepath": "pic.png", "file": "not base64!"}
    got = member.call("POST", f"/v2/recipe/update/{demo.kitchen}/demo", body)
    assert got.status == 400
    assert "pic.png" in got.json["message"]["error"]


def test_a_file_is_deleted(member, demo):
    body = {"message": "gone", "filepath": "resources/README.txt", "file": "resources/README.txt"}
    member.good("DELETE", f"/v2/recipe/delete/{demo.kitchen}/demo", body)
    assert "resources/README.txt" not in paths_of(tree_of(member, demo.kitchen))
    assert member.call("DELETE", f"/v2/recipe/delete/{demo.kitchen}/demo", body).status == 400


def test_a_recipe_is_copied(member, demo):
    name = new_name("copy")
    member.good("POST", f"/v2/recipe/copy/{demo.kitchen}/demo/{name}")
    copied = tree_of(member, demo.kitchen, name)
    assert paths_of(copied, name) == set(recipes.demo_files())
    assert member.call("POST", f"/v2/recipe/copy/{demo.kitchen}/nope/x1").status == 400


def test_a_recipe_is_deleted(member, demo):
    member.good("DELETE", f"/v2/recipe/{demo.kitchen}/demo", {})
    assert member.good("GET", f"/v2/kitchen/recipenames/{demo.kitchen}") == {"recipes": []}
    assert member.call("DELETE", f"/v2/recipe/{demo.kitchen}/demo").status == 400
