"""Histories, and one file merged on request, over plain HTTP."""

import re

import pytest
from tests.contract.datakitchen.edits import (
    LINES,
    edited,
    encoded,
    git,
    pair_of_kitchens,
    read,
    save,
    text_of,
)
from tests.contract.datakitchen.world import MEMBER

pytestmark = pytest.mark.evidence("source", "contract 3.3, 3.5, from dkcloudcommand 1.5.33")


@pytest.fixture
def child(member, admin, kitchen):
    name = pair_of_kitchens(member, kitchen)
    yield name
    admin.call("DELETE", f"/v2/kitchen/delete/{name}")


def test_the_history_of_a_kitchen_is_newest_first(live, member, child):
    for number in range(3):
        save(member, child, {"b.txt": f"{number}\n"})
    found = member.good("GET", f"/v2/kitchen/history/{child}", {"per_page": 2})["commits"]
    shas = git(live, "log", "-n2", "--format=%H", f"refs/heads/{child}").split()
    assert [commit["sha"] for commit in found] == shas
    for commit in found:
        assert set(commit) == {"author", "date", "message", "sha"}
        assert (commit["author"], commit["message"]) == (MEMBER, f"change of {child}")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", commit["date"])
    count = int(git(live, "rev-list", "--count", f"refs/heads/{child}"))
    for body in (None, {"per_page": 0}, {"per_page": 100_000}):
        everything = member.good("GET", f"/v2/kitchen/history/{child}", body)["commits"]
        assert len(everything) == count
    asked = member.good("GET", f"/v2/kitchen/history/{child}?per_page=1")["commits"]
    assert asked == found[:1]
    assert member.call("GET", f"/v2/kitchen/history/{child}", {"per_page": -1}).status == 400


def test_the_history_of_a_file_follows_its_path(live, member, child):
    save(member, child, {"b.txt": "2\n"})
    second = git(live, "rev-parse", f"refs/heads/{child}")
    save(member, child, {"a.txt": "other\n"})
    path = f"/v2/recipe/history/{child}/rec/b.txt"
    found = member.good("GET", f"{path}?change_count=0")["history"]
    assert len(found) == 2
    assert set(found[0]) == {"author", "date", "message", "url"}
    assert found[0]["url"] == f"/dk/index.html#/history/ga/{child}/{second}"
    assert (found[0]["author"], found[0]["message"]) == (MEMBER, f"change of {child}")
    assert member.good("GET", f"{path}?change_count=1")["history"] == found[:1]
    assert member.good("GET", path)["history"] == found
    save(member, child, {"b.txt": None})
    assert len(member.good("GET", path)["history"]) == 3
    for unknown, told in (
        (f"/v2/recipe/history/{child}/rec/never.txt", 'File "never.txt" not found'),
        (f"/v2/recipe/history/{child}/rec/%2e%2e/%2e%2e/x", "not found in recipe rec"),
        (f"/v2/recipe/history/{child}/rec/{'x/' * 3000}x", ""),
        (f"/v2/recipe/history/{child}/rec/:(top)b.txt", "not found in recipe rec"),
        (f"/v2/recipe/history/{child}/none/b.txt", 'Recipe "none" not found'),
        ("/v2/recipe/history/nowhere/rec/b.txt", "was not found in the database"),
    ):
        got = member.call("GET", unknown)
        assert got.status == 400
        assert told in got.json["message"]["error"]


def merged(api, kitchen, origin, text, path="a.txt"):
    body = {"orig_head": origin, "last_file_sha": "none", "content": encoded(text)}
    return api.call("POST", f"/v2/file/merge/{kitchen}/rec/{path}", body)


def test_a_file_is_merged_without_an_effect(live, member, child):
    origin = member.good("GET", f"/v2/recipe/tree/{child}/rec")["ORIG_HEAD"]
    save(member, child, {"a.txt": edited(2, word="their")})
    before = git(live, "for-each-ref"), git(live, "count-objects", "-v")
    clean = merged(member, child, origin, edited(19, word="your"))
    assert clean.json["file_path"] == "a.txt"
    wanted = edited(2, word="their").replace("line 19\n", "your 19\n")
    assert text_of(clean.json["merged_content"]) == wanted
    both = text_of(merged(member, child, origin, edited(2, word="your")).json["merged_content"])
    marked = "<<<<<<< your\nyour 2\n=======\ntheir 2\n>>>>>>> their\n"
    assert both == LINES.replace("line 2\n", marked)
    same = merged(member, child, origin, edited(2, word="their"))
    assert text_of(same.json["merged_content"]) == edited(2, word="their")
    assert (git(live, "for-each-ref"), git(live, "count-objects", "-v")) == before
    assert read(member, child, "a.txt") == edited(2, word="their")


def test_a_copy_that_the_kitchen_had_since_gives_way_to_the_newest(member, child):
    origin = member.good("GET", f"/v2/recipe/tree/{child}/rec")["ORIG_HEAD"]
    for word in ("one", "two"):
        save(member, child, {"a.txt": edited(2, word=word), "new.txt": f"{word}\n"})
    for path, old, new in (
        ("a.txt", edited(2, word="one"), edited(2, word="two")), ("new.txt", "one\n", "two\n"),
    ):  # fmt: skip
        got = merged(member, child, origin, old, path)
        assert text_of(got.json["merged_content"]) == new
    own = text_of(merged(member, child, origin, "mine\n", "new.txt").json["merged_content"])
    assert own == "<<<<<<< your\nmine\n=======\ntwo\n>>>>>>> their\n"


def test_a_merge_of_a_file_that_cannot_be_says_why(member, kitchen, child):
    origin = member.good("GET", f"/v2/recipe/tree/{child}/rec")["ORIG_HEAD"]
    save(member, kitchen, {"b.txt": "elsewhere\n"})
    elsewhere = member.good("GET", f"/v2/recipe/tree/{kitchen}/rec")["ORIG_HEAD"]
    save(member, child, {"p.png": encoded("\0")})
    for answer, told in (
        (merged(member, child, elsewhere, "x"), "no commit of kitchen"),
        (merged(member, child, "0" * 40, "x"), "no commit of kitchen"),
        (merged(member, child, "--all", "x"), "no commit of kitchen"),
        (merged(member, child, origin, "x", "p.png"), "not UTF-8 text on every side"),
        (merged(member, child, origin, "x\0"), "not UTF-8 text on every side"),
        (merged(member, child, origin, "x", "never.txt"), 'File "never.txt" not found'),
        (merged(member, "nowhere", origin, "x"), "was not found in the database"),
        (member.call("POST", f"/v2/file/merge/{child}/rec/a.txt", {"content": ""}), "orig_head"),
        (
            member.call(
                "POST", f"/v2/file/merge/{child}/rec/a.txt", {"orig_head": origin, "content": "?"}
            ),
            "base64",
        ),
    ):
        assert answer.status == 400, answer.text
        assert told in answer.json["message"]["error"]
