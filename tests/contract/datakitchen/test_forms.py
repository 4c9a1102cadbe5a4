"""Bodies are understood as forms, and as JSON whatever the label says, on every operation."""

import json
import random
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.contract.datakitchen.world import new_name
from tests.contract.live import Live
from tests.fuzz.datakitchen_world import GOOD, World, good_request
from tests.fuzz.mutations import Request
from tests.fuzz.test_datakitchen_fuzz import DONE

WITH_BODY = [found for found in DONE if found["id"] in GOOD and found["id"] != "login"]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def world(live: Live) -> World:
    """A kitchen with a recipe, and an administrator in it."""
    email = live.add_user(f"{new_name('form')}@example.com", admin=True)
    return World(live.log_in(email), email, random.Random(7))  # noqa: S311 - the same calls again


def as_form(body: dict[str, Any]) -> str:
    """Texts as they are; everything else as its JSON text; nothing for null."""
    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in body.items()}
    return urlencode({key: text for key, text in texts.items() if text != "null"})


def calls(world: World, operation: dict[str, Any]) -> list[Request]:
    """Good calls of the operation with bodies of every shape that it takes."""
    drawn = [good_request(world, operation) for _ in range(8)]
    made = {json.dumps(sorted(request.body or {})): request for request in drawn}
    return list(made.values())


@pytest.mark.evidence("source", "contract 0, rule 4; issue: forms and JSON on every endpoint")
@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda found: found["id"])
@pytest.mark.parametrize("shape", ["form", "json labelled as a form", "json without a label"])
def test_a_good_call_is_good_in_every_shape(world: World, operation: Any, shape: str) -> None:
    for request in calls(world, operation):
        body = request.body or {}
        content = as_form(body) if shape == "form" else json.dumps(body)
        headers = {} if shape == "json without a label" else FORM
        got = world.api.call(request.method, request.target, content=content, headers=headers)
        assert got.status == 200, f"{request.target} {content}: {got.status} {got.text}"
