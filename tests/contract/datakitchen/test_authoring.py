"""Compiling and validating: every answer, and that nothing of it is stored."""

import base64
import json

import pytest

pytestmark = pytest.mark.evidence("source", "contract 3.5, from dkcloudcommand 1.5.33")

QUERY = "select '{{region}}', {{floor}}, '{{CurrentOrderId}}' from t -- #{vault://pg/password}\n"
SHOWN = "select 'eu', 10, '{{CurrentOrderId}}' from t -- #{vault://pg/password}\n"
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}"
BROKEN = '{"tests": {"t": {"test-variable": "{{ nope }}"}}}'


def encoded(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.fixture
def place(demo):
    """The demo with a template and a picture."""
    files = {
        "resources/sql/q.sql": {"contents": QUERY, "isNew": True},
        "resources/pic.png": {"contents": encoded(b"\x89PNG\x00"), "isNew": True},
    }
    demo.api.good(
        "POST", f"/v2/recipe/update/{demo.kitchen}/demo", {"message": "m", "files": files}
    )
    return f"{demo.kitchen}/demo/v1"


def head(demo):
    return demo.api.good("GET", f"/v2/recipe/tree/{demo.kitchen}/demo")


def test_a_variation_is_compiled_file_by_file(demo, place):
    tree = head(demo)
    answer = demo.api.good("GET", f"/v2/servings/compiled/get/{place}")
    assert list(answer) == ["demo"]
    shown = answer["demo"]
    assert set(shown) == set(tree["recipes"]["demo"])
    assert shown["demo/resources/sql"] == [{"filename": "q.sql", "json": SHOWN}]
    assert shown["demo/resources"] == [
        {"filename": "README.txt", "json": "Nothing to see.\n"}, {"filename": "pic.png"}
    ]  # fmt: skip
    notebook = next(f for f in shown["demo/gate"] if f["filename"] == "notebook.json")
    assert notebook["json"]["tests"]["enough"]["test-logic"]["test-metric"] == "floor"
    assert {name["filename"] for name in shown["demo"]} == {
        "description.json", "variables.json", "variations.json"
    }  # fmt: skip
    assert head(demo) == tree


def test_the_kitchens_overrides_are_in_what_is_compiled(demo, place):
    path = f"/v2/kitchen/settings/{demo.kitchen}"
    document = demo.api.good("GET", path)
    document["recipeoverrides"] = {"region": "asia"}
    demo.api.good("PUT", path, {"kitchen.json": document})
    shown = demo.api.good("GET", f"/v2/servings/compiled/get/{place}")["demo"]
    assert "'asia'" in shown["demo/resources/sql"][0]["json"]


def test_one_file_is_compiled_as_it_is_sent(demo, place):
    tree = head(demo)
    path = f"/v2/recipe/compile/{place}"
    for name in ("resources/sql/q.sql", "resources/new.sql"):
        body = {"file": {"path": name, "contents": encoded(f"new {QUERY}")}}
        answer = demo.api.good("POST", path, body)
        assert answer == {"compiled-file": encoded(f"new {SHOWN}")}
    sent = json.dumps({"variable-list": {"region": "mars", "r": "{{region}}!", "amount": "12",
                                         "floor": 10}})  # fmt: skip
    body = {"file": {"path": "variables.json", "contents": encoded(sent)}}
    compiled = base64.b64decode(demo.api.good("POST", path, body)["compiled-file"])
    assert json.loads(compiled)["variable-list"]["r"] == "mars!"
    assert head(demo) == tree


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("gate/notebook.json", '{"description": "{{ nope }}"}', "nothing defines"),
        ("gate/notebook.json", "{", "no valid JSON"),
        ("resources/q.sql", "{{ region", "not well formed"),
        ("resources/q.sql", LOOP, ""),
        ("resources/q.sql", "{{ ''.__class__.__mro__ }}", "not allowed"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_compile_says_why(demo, place, name, text, told):
    body = {"file": {"path": name, "contents": encoded(text)}}
    answer = demo.api.good("POST", f"/v2/recipe/compile/{place}", body)
    assert list(answer) == ["error-message"]
    assert name in answer["error-message"]
    assert told in answer["error-message"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "file"),
        ({"file": {"path": "a.sql"}}, "contents"),
        ({"file": {"path": "a.sql", "contents": "no base64!"}}, "base64"),
        ({"file": {"path": "../a.sql", "contents": ""}}, "../a.sql"),
        ({"file": "text"}, "file"),
    ],
)
def test_a_file_that_cannot_be_is_refused(demo, place, body, told):
    got = demo.api.call("POST", f"/v2/recipe/compile/{place}", body)
    assert got.status == 400
    assert told in got.json["message"]["error"]


def test_local_changes_are_validated_and_not_stored(demo, place):
    tree = head(demo)
    path = f"/v2/recipe/validate/{place}"
    assert demo.api.good("POST", path, {"files": {}}) == {"results": []}
    assert demo.api.good("POST", path) == {"results": []}
    changes = {"gate/notebook.json": BROKEN, "resources/more.txt": "", "last/notebook.json": {}}
    results = demo.api.good("POST", path, {"files": changes})["results"]
    assert all(set(issue) == {"severity", "file", "description"} for issue in results)
    assert {issue["file"] for issue in results if issue["severity"] == "error"} == {
        "gate/notebook.json"
    }
    assert any("nope" in issue["description"] for issue in results)
    typo = {"gate/notebook.json": '{"slep": 1}'}
    (warning,) = demo.api.good("POST", path, {"files": typo})["results"]
    assert (warning["severity"], warning["file"]) == ("warning", "gate/notebook.json")
    gone = {name: change for name in ("first/description.json", "first/notebook.json")
            for change in [None]}  # fmt: skip
    (missing,) = demo.api.good("POST", path, {"files": gone})["results"]
    assert (missing["file"], missing["severity"]) == ("variations.json", "error")
    assert head(demo) == tree


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"files": {"nowhere.txt": {}}}, "nowhere.txt"),
        ({"files": {"../a": "x"}}, "../a"),
        ({"files": {"pic.png": "no base64!"}}, "pic.png"),
        ({"files": {"a.txt": 5}}, "files"),
        ({"files": ["a.txt"]}, "files"),
    ],
)
def test_changes_that_cannot_be_are_refused(demo, place, body, told):
    got = demo.api.call("POST", f"/v2/recipe/validate/{place}", body)
    assert got.status == 400
    assert told in got.json["message"]["error"]


CALLS = [
    ("GET", "/v2/servings/compiled/get/{}", None),
    ("POST", "/v2/recipe/compile/{}", {"file": {"path": "a.sql", "contents": encoded("x")}}),
    ("POST", "/v2/recipe/validate/{}", {"files": {}}),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_unknown_names_are_told_as_everywhere(demo, outsider, method, path, body):
    def refusal(place, status):
        got = demo.api.call(method, path.format(place), body)
        assert got.status == status, got.text
        return json.dumps(got.json["message"])

    kitchen = demo.kitchen
    assert "Kitchen nowhere was not found in the database" in refusal("nowhere/demo/v1", 400)
    found = json.loads(refusal(f"{kitchen}/nope/v1", 400))["error"]
    assert found == f'Recipe "nope" not found in kitchen {kitchen}'
    ordered = demo.api.call("PUT", f"/v2/order/create/{kitchen}/demo/nope", {})
    error = json.loads(refusal(f"{kitchen}/demo/nope", 417))["error"]
    assert error["message"] == ordered.json["message"]["error"]["message"]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_closed_kitchen_is_not_there(demo, outsider, method, path, body):
    settings = f"/v2/kitchen/settings/{demo.kitchen}"
    document = demo.api.good("GET", settings)
    document["kitchen-staff"] = ["mia@example.com"]
    demo.api.good("PUT", settings, {"kitchen.json": document})
    got = outsider.call(method, path.format(f"{demo.kitchen}/demo/v1"), body)
    assert got.status == 400
    assert "access rights" in got.json["message"]["error"]


def test_a_recipe_that_does_not_compile_says_why(demo, place):
    change = {"message": "m", "files": {"gate/notebook.json": {"contents": BROKEN}}}
    demo.api.good("POST", f"/v2/recipe/update/{demo.kitchen}/demo", change)
    got = demo.api.call("GET", f"/v2/servings/compiled/get/{place}")
    assert got.status == 417
    detail = got.json["message"]["error"]["detail"]
    assert {issue["file"] for issue in detail} == {"gate/notebook.json"}
