"""Merging kitchens over plain HTTP, held against the repository itself."""

import base64
import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.contract.datakitchen.edits import (
    LINES,
    edited,
    git,
    pair_of_kitchens,
    preview,
    read,
    save,
    text_of,
    tips,
)
from tests.contract.datakitchen.world import MEMBER, new_name

pytestmark = pytest.mark.evidence("source", "contract 3.3, 3.4, from dkcloudcommand 1.5.33")


@pytest.fixture
def child(member, admin, kitchen):
    name = pair_of_kitchens(member, kitchen)
    yield name
    admin.call("DELETE", f"/v2/kitchen/delete/{name}")


def merge(api, source, target, files=None, *, shown=None, form="merge", **extra):
    body = {"files": files or {}, **tips(shown or preview(api, source, target))}
    return api.call("POST", f"/v2/kitchen/{form}/{source}/{target}", body, **extra)


def test_a_preview_lists_what_changes_and_all_versions_of_a_conflict(live, member, kitchen, child):
    nothing = preview(member, child, kitchen)
    assert (nothing["results"], nothing["warnings"]) == ([], [])
    save(member, kitchen, {"a.txt": edited(2, word="theirs"), "b.txt": "kitchen\n"})
    save(member, child, {"a.txt": edited(19, word="ours"), "b.txt": "child\n", "n/x.json": "{}"})
    before = git(live, "count-objects", "-v"), git(live, "for-each-ref")
    shown = preview(member, child, kitchen)
    assert (git(live, "count-objects", "-v"), git(live, "for-each-ref")) == before
    assert shown["source_kitchen_sha"] == git(live, "rev-parse", f"refs/heads/{child}")
    assert shown["target_kitchen_sha"] == git(live, "rev-parse", f"refs/heads/{kitchen}")
    assert shown["warnings"] == []
    clean, conflict, new = shown["results"]
    assert clean == {"file": "rec/a.txt", "status": "ok"}
    assert new == {"file": "rec/n/x.json", "status": "ok"}
    assert (conflict.pop("file"), conflict.pop("status")) == ("rec/b.txt", "conflict")
    assert {key: text_of(value) for key, value in conflict.items()} == {
        "base": "b\n",
        "left": "child\n",
        "right": "kitchen\n",
        "merge": f"<<<<<<< {kitchen}\nkitchen\n=======\nchild\n>>>>>>> {child}\n",
    }


def test_a_merge_is_a_commit_with_both_kitchens_as_parents(live, member, kitchen, child):
    save(member, kitchen, {"a.txt": edited(2, word="theirs")})
    save(member, child, {"a.txt": edited(19, word="ours"), "n.txt": "n\n", "b.txt": None})
    shown = preview(member, child, kitchen)
    got = merge(member, child, kitchen, shown=shown)
    assert got.status == 200, got.text
    head = git(live, "rev-parse", f"refs/heads/{kitchen}")
    result = got.json["merge-kitchen-result"]
    assert got.json["sha_expired"] is False
    assert (result["status"], result["url"]) == (
        "success", f"dk/index.html#/history/ga/{kitchen}/{head}",
    )  # fmt: skip
    told = git(live, "log", "-1", "--format=%P %ae %s", head)
    source, target = shown["source_kitchen_sha"], shown["target_kitchen_sha"]
    assert told == f"{target} {source} {MEMBER} Merge kitchen {child} into {kitchen}"
    merged = edited(2, word="theirs").replace("line 19\n", "ours 19\n")
    assert read(member, kitchen, "a.txt") == merged
    assert read(member, kitchen, "n.txt") == "n\n"
    assert read(member, kitchen, "b.txt") is None
    assert git(live, "rev-parse", f"refs/heads/{child}") == source
    again = merge(member, child, kitchen)
    assert again.status == 412
    assert again.json == {"message": {"error": "Already up to date. Nothing to do."}}
    assert "does not exist" not in git(live, "fsck", "--no-dangling")


def test_a_conflict_needs_its_answer(live, member, kitchen, child):
    picture = base64.b64encode(b"\x89PNG\0kitchen").decode()
    other = base64.b64encode(b"\x89PNG\0child").decode()
    save(member, kitchen, {"b.txt": "kitchen\n", "p.png": picture, "a.txt": None})
    save(member, child, {"b.txt": "child\n", "p.png": other, "a.txt": edited(3, word="x")})
    shown = preview(member, child, kitchen)
    assert [line["status"] for line in shown["results"]] == ["conflict"] * 3
    head = git(live, "rev-parse", f"refs/heads/{kitchen}")
    got = merge(member, child, kitchen, {"rec/b.txt": "both\n"}, shown=shown)
    assert got.status == 400
    assert "2 conflicts are not resolved" in got.json["message"]["error"]
    for issue, path in zip(got.json["message"]["issues"], ["rec/a.txt", "rec/p.png"], strict=True):
        assert set(issue) == {"severity", "file", "description"}
        assert (issue["severity"], issue["file"]) == ("error", path)
    bad = merge(member, child, kitchen, {"rec/p.png": "no base64!"}, shown=shown)
    assert bad.status == 400
    assert "base64" in bad.json["message"]["error"]
    assert git(live, "rev-parse", f"refs/heads/{kitchen}") == head
    both = base64.b64encode(b"\0both").decode()
    files = {"rec/b.txt": "both\n", "rec/p.png": both, "rec/a.txt": ""}
    needless = merge(member, child, kitchen, {**files, "rec/else.txt": "x"}, shown=shown)
    assert needless.status == 400
    assert needless.json["message"]["error"].startswith("rec/else.txt: not in conflict")
    assert needless.json["message"]["error"].endswith("Please run kitchen-merge-preview again.")
    assert merge(member, child, kitchen, files, shown=shown).status == 200
    assert read(member, kitchen, "b.txt") == "both\n"
    assert read(member, kitchen, "p.png") == both
    assert read(member, kitchen, "a.txt") is None


def test_a_merge_of_an_old_preview_is_told_so_where_it_matters(member, kitchen, child):
    save(member, child, {"a.txt": edited(3, word="x")})
    shown = preview(member, child, kitchen)
    save(member, kitchen, {"a.txt": edited(18, word="y")})
    for moved in (kitchen, child):
        got = merge(member, child, kitchen, shown=shown)
        told = f"Kitchen {moved} has new changes since last kitchen-merge-preview."
        told = f"{told} Please run kitchen-merge-preview again."
        assert (got.status, got.json) == (200, {"sha_expired": True, "error_message": told})
        shown = preview(member, child, kitchen)
        save(member, child, {"a.txt": edited(3, 4, word="x")})
    shown = preview(member, child, kitchen)
    save(member, kitchen, {"unrelated.txt": "u\n"})
    got = merge(member, child, kitchen, shown=shown)
    assert got.json["merge-kitchen-result"]["status"] == "success"
    assert read(member, kitchen, "unrelated.txt") == "u\n"
    assert "x 4" in (read(member, kitchen, "a.txt") or "")


def test_a_rename_is_told_and_followed(member, kitchen, child):
    save(member, kitchen, {"a.txt": None, "moved/a.txt": LINES})
    save(member, child, {"a.txt": edited(3, word="x")})
    shown = preview(member, child, kitchen)
    moved = "modified in source kitchen; renamed to 'rec/moved/a.txt' in target kitchen"
    assert shown["warnings"] == [f"File 'rec/a.txt': {moved}"]
    assert {"file": "rec/a.txt", "status": "ok"} in shown["results"]
    assert merge(member, child, kitchen, shown=shown).status == 200
    assert read(member, kitchen, "moved/a.txt") == edited(3, word="x")
    assert read(member, kitchen, "a.txt") is None


def test_the_oldest_forms_of_a_merge_still_work(member, kitchen, child):
    save(member, kitchen, {"b.txt": "kitchen\n"})
    save(member, child, {"b.txt": "child\n"})
    got = merge(member, child, kitchen, {"rec/b.txt": "manual\n"}, form="manualmerge")
    assert got.status == 200, got.text
    assert got.json["merge-kitchen-result"]["status"] == got.json["status"] == "success"
    assert read(member, kitchen, "b.txt") == "manual\n"
    save(member, kitchen, {"b.txt": "kitchen 2\n"})
    save(member, child, {"b.txt": "child 2\n"})
    path = f"/v2/kitchen/merge/{child}/{kitchen}"
    assert member.call("POST", path).status == 400
    got = member.call("POST", path, {"resolved_conflicts": {"rec/b.txt": "old\n"}})
    assert got.status == 200, got.text
    assert (got.json["from-kitchen-name"], got.json["to-kitchen-name"]) == (child, kitchen)
    assert got.json["merge-kitchen-result"]["status"] == "success"
    assert read(member, kitchen, "b.txt") == "old\n"
    save(member, child, {"n.txt": "n\n"})
    assert member.call("POST", path).status == 200
    assert read(member, kitchen, "n.txt") == "n\n"


def test_a_merge_with_a_key_takes_effect_once(live, member, kitchen, child):
    save(member, child, {"b.txt": "child\n"})
    shown = preview(member, child, kitchen)
    keyed = {"headers": {"Idempotency-Key": str(uuid.uuid4())}}
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda _n: merge(member, child, kitchen, shown=shown, **keyed), range(4))
        )
    assert {got.status for got in answers} <= {200, 409}
    head = git(live, "rev-parse", f"refs/heads/{kitchen}")
    urls = {got.json["merge-kitchen-result"]["url"] for got in answers if got.status == 200}
    assert urls == {f"dk/index.html#/history/ga/{kitchen}/{head}"}
    again = merge(member, child, kitchen, shown=shown, **keyed)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json["merge-kitchen-result"]["url"].endswith(head)


def test_a_closed_kitchen_neither_gives_nor_takes(member, outsider, kitchen, child):
    save(member, child, {"b.txt": "secret\n"})
    document = member.good("GET", f"/v2/kitchen/{child}")["kitchen"]
    document["kitchen-staff"] = [MEMBER]
    member.good("POST", f"/v2/kitchen/update/{child}", {"kitchen.json": document})
    for source, target, missing in (
        (child, kitchen, child), (kitchen, child, child), ("nowhere", kitchen, "nowhere"),
    ):  # fmt: skip
        for method in ("GET", "POST"):
            got = outsider.call(method, f"/v2/kitchen/merge/{source}/{target}")
            assert got.status == 400
            assert got.json["message"]["error"] == (
                f"Kitchen {missing} was not found in the database or the user does not have access"
                " rights."
            )
    assert read(member, kitchen, "b.txt") == "b\n"


def test_recipes_out_of_sight_are_merged_along_and_told(member, kitchen, child):
    member.good("POST", f"/v2/recipe/create/{child}/hidden", {"templatename": "qs1"})
    document = member.good("GET", f"/v2/kitchen/{kitchen}")["kitchen"]
    document |= {"restrict-recipes": True, "recipes": ["rec"]}
    member.good("POST", f"/v2/kitchen/update/{kitchen}", {"kitchen.json": document})
    save(member, child, {"b.txt": "child\n"})
    shown = preview(member, child, kitchen)
    assert shown["results"] == [{"file": "rec/b.txt", "status": "ok"}]
    (warning,) = shown["warnings"]
    assert warning.startswith(f"Recipe 'hidden': not active in kitchen {kitchen}")
    assert merge(member, child, kitchen, shown=shown).status == 200
    names = f"/v2/kitchen/recipenames/{kitchen}"
    assert member.good("GET", names) == {"recipes": ["rec"]}
    document |= {"restrict-recipes": False}
    member.good("POST", f"/v2/kitchen/update/{kitchen}", {"kitchen.json": document})
    assert member.good("GET", names) == {"recipes": ["hidden", "rec"]}


def test_what_was_merged_is_what_runs(member, demo):
    child = new_name("child")
    member.good("PUT", f"/v2/kitchen/create/{demo.kitchen}/{child}", {})
    assert demo.ended(demo.order())["status"] == "COMPLETED_SERVING"
    gate = {"tests": {"never": {"test-variable": "amount", "type": "test-contents-as-integer",
            "test-logic": {"test-compare": "less-than", "test-metric": 0}}}}  # fmt: skip
    save(member, child, {"gate/notebook.json": json.dumps(gate)}, recipe="demo")
    assert merge(member, child, demo.kitchen).status == 200
    assert demo.ended(demo.order())["status"] == "SERVING_ERROR"
    member.call("DELETE", f"/v2/kitchen/delete/{child}")


@pytest.mark.parametrize(
    "body",
    [{"files": []}, {"files": {"rec/b.txt": 5}}, {"source_kitchen_sha": 7}, {"files": "{"}],
)
def test_a_body_that_cannot_be_meant_is_refused(live, member, kitchen, child, body):
    save(member, child, {"b.txt": "child\n"})
    head = git(live, "rev-parse", f"refs/heads/{kitchen}")
    got = member.call("POST", f"/v2/kitchen/merge/{child}/{kitchen}", body)
    assert got.status == 400
    assert got.json["message"]["error"]
    assert git(live, "rev-parse", f"refs/heads/{kitchen}") == head
