import json

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from tests.unit.dialects.datakitchen.views import run_view

from galley.core.errors import Invalid
from galley.dialects.datakitchen import answers, schemas
from galley.dialects.datakitchen.runs import _few_steps


def asked(query):
    return Request({"type": "http", "query_string": query.encode(), "headers": []})


@pytest.mark.parametrize(
    ("body", "path", "meant"),
    [("b", "p", "b"), (None, "p", "p"), ("None", "p", "p"), ("", " p ", "p"), ("b", "None", "b")],
)
def test_the_bodys_id_comes_before_the_paths(body, path, meant):
    assert answers.named(body, path, "order", "serving_book_hid") == meant


@pytest.mark.parametrize("path", ["None", "", "null", "undefined"])
def test_without_any_id_the_key_is_named(path):
    with pytest.raises(Invalid, match="serving_book_hid"):
        answers.named(None, path, "order", "serving_book_hid")


def test_the_body_wins_over_the_query():
    wanted = answers.merged(asked("r=a&count=5&scount=1"), {"recipe": "b"}, schemas.StatusQuery)
    assert (wanted.recipe, wanted.count, wanted.runs) == ("b", 5, 1)


def test_what_cannot_be_is_a_validation_error_that_names_its_place():
    with pytest.raises(RequestValidationError) as caught:
        answers.merged(asked("count=many"), {}, schemas.StatusQuery)
    assert caught.value.errors()[0]["loc"] == ("body", "count")


def test_a_good_answer_is_a_json_object():
    answer = answers.ok()
    assert (answer.status_code, json.loads(answer.body)) == (200, {"status": "success"})
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answers.ok({"a": float("nan")}).body) == {"a": None}


def test_details_stop_at_fifty_thousand_steps_but_show_the_newest_run():
    huge = run_view(steps_total=60_000)
    small = run_view(steps_total=20_000)
    assert _few_steps([huge, small]) == [huge]
    assert _few_steps([small, small, small]) == [small, small]
    assert _few_steps([]) == []
