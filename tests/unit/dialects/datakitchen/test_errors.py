import json

import pytest

from galley.core import errors as core
from galley.dialects.datakitchen import errors

ISSUE = core.Issue(file="variables.json", description="line 3: write a comma")


def every_error():
    return [c for c in core.GalleyError.__subclasses__() if c.__module__ == core.__name__]


@pytest.mark.parametrize("kind", every_error(), ids=lambda c: c.__name__)
def test_every_kind_is_an_object_in_message_and_never_error_at_the_top(kind):
    answer = errors.render(kind("What, where, how.", issues=[ISSUE], retry_after_s=7))
    shown = json.loads(answer.body)
    assert list(shown) == ["message"]
    assert 400 <= answer.status_code < 600
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["content-type"] == "application/json"


def test_every_kind_has_a_status():
    assert set(errors.STATUS) == set(core.ErrorKind)


def test_bad_input_lists_its_issues_beside_the_text():
    shown = json.loads(errors.render(core.Invalid("No.", issues=[ISSUE])).body)
    assert shown == {
        "message": {
            "error": "No.",
            "issues": [
                {
                    "severity": "error",
                    "file": "variables.json",
                    "description": "line 3: write a comma",
                }
            ],
        }
    }


def test_a_refused_order_is_417_with_its_issues_in_the_detail():
    answer = errors.render(core.Refused("It does not compile.", issues=[ISSUE]))
    assert answer.status_code == 417
    error = json.loads(answer.body)["message"]["error"]
    assert error["message"] == "It does not compile."
    assert error["detail"][0]["file"] == "variables.json"


def test_without_issues_the_error_is_plain_text():
    answer = errors.render(core.NotFound("Order x does not exist."))
    assert answer.status_code == 400
    assert json.loads(answer.body) == {"message": {"error": "Order x does not exist."}}
    assert "retry-after" not in answer.headers
