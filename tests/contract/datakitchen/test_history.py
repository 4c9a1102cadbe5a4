"""Checks that look back on earlier order runs, through whole servers on both databases."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.datakitchen import recipes
from tests.contract.datakitchen.world import ADMIN, Demo
from tests.contract.live import serve

pytestmark = pytest.mark.evidence(
    "source", "contract 2.8: historical metrics, previous value or running average"
)
GATE = {
    "tests": {
        "no_drop": {
            "test-variable": "amount",
            "type": "test-contents-as-integer",
            "test-logic": {
                "test-compare": "greater-than-equal-to",
                "test-metric": {"historic-calculation": "average"},
            },
        },
        "no_jump": {
            "action": "warning",
            "test-variable": "amount",
            "keep-history": True,
            "test-logic": "int(amount) < int(previous) * 2",
        },
    }
}


@pytest.fixture(params=["sqlite", "postgres"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Demo]:
    """The demo recipe on a server of its own, its gate compared with earlier runs."""
    on = request.param == "postgres"
    more = {"GALLEY_DATABASE_URL": request.getfixturevalue("postgres_url")} if on else {}
    with serve(tmp_path / "data", **more) as server:
        server.add_user(ADMIN, admin=True)
        api = server.log_in(ADMIN)
        api.good("PUT", "/v2/kitchen/create/master/tools", {})
        api.good("POST", "/v2/recipe/create/tools/demo", {"templatename": "qs1"})
        files = recipes.changes()
        files["gate/notebook.json"]["contents"] = json.dumps(GATE)
        api.good("POST", "/v2/recipe/update/tools/demo", {"message": "m", "files": files})
        yield Demo(api, "tools")


def told(demo: Demo, amount: int) -> tuple[str, str]:
    """Order a run with this amount; how it ended, and what its tests say."""
    order = demo.order(body={"parameters": {"amount": str(amount)}})
    status = demo.ended(order)["status"]
    shown = demo.details(order_id=order, testresults=True)
    return status, shown["servings"][0]["testresults"]


def test_a_check_is_compared_with_what_it_found_in_earlier_runs(history: Demo) -> None:
    status, said = told(history, 10)
    assert status == "COMPLETED_SERVING"
    assert "no_drop (10 (no earlier value to compare with))" in said
    assert "no earlier value to compare with" in said.partition("no_jump")[2]

    status, said = told(history, 30)
    assert status == "COMPLETED_SERVING"
    assert "no_drop (30 greater-than-equal-to average=10.0)" in said
    assert "(amount=30, previous=10)" in said.partition("Tests: Warning")[2]

    status, said = told(history, 19)
    assert status == "SERVING_ERROR"
    assert "no_drop (19 greater-than-equal-to average=20.0)" in said

    status, said = told(history, 20)
    assert status == "COMPLETED_SERVING"
    assert "previous=19" in said
