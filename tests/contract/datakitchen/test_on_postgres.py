"""The same server on Postgres: one order's whole life, by HTTP."""

import pytest
from tests.contract.datakitchen import recipes, secretive
from tests.contract.datakitchen.world import ADMIN, Demo
from tests.contract.live import serve


@pytest.mark.evidence("source", "design.md, section 2: SQLite and Postgres behind one ledger")
def test_an_order_runs_fails_and_is_resumed(tmp_path, postgres_url):
    with serve(tmp_path / "data", GALLEY_DATABASE_URL=postgres_url) as server:
        server.add_user(ADMIN, admin=True)
        api = server.log_in(ADMIN)
        api.good("PUT", "/v2/kitchen/create/master/tools", {})
        api.good("POST", "/v2/recipe/create/tools/demo", {"templatename": "qs1"})
        body = {"message": "m", "files": recipes.changes()}
        api.good("POST", "/v2/recipe/update/tools/demo", body)
        demo = Demo(api, "tools")
        good = demo.order(body={"parameters": {"amount": "20"}})
        bad = demo.order(body={"parameters": {"amount": "1"}})
        assert demo.ended(good)["status"] == "COMPLETED_SERVING"
        failed = demo.ended(bad)
        assert failed["status"] == "SERVING_ERROR"
        told = api.good(
            "PUT", f"/v2/order/resume/{failed['hid']}",
            {"kitchen_name": "tools", "parameters": {"amount": "20"}},
        )  # fmt: skip
        newest = demo.ended(bad, count=2)
        assert (newest["hid"], newest["status"]) == (told["serving_hid"], "COMPLETED_SERVING")
        shown = demo.details(order_id=good, summary=True, testresults=True, logs=True)
        assert "1. enough (" in shown["servings"][0]["testresults"]
        listed = api.good("GET", "/v2/order/status/tools", {"orderRunStatus": "SERVING_RERAN"})
        assert [order["hid"] for order in listed["orders"]] == [bad]
        slow = demo.order("slow")
        demo.active(slow)
        api.good("PUT", "/v2/order/stop/None", {"serving_book_hid": slow, "kitchen_name": "tools"})
        assert demo.ended(slow)["status"] == "STOPPED_SERVING"
        api.good("DELETE", "/v2/order/deleteall/tools")
        assert api.good("GET", "/v2/order/status/tools")["total-orders"] == 0


@pytest.mark.evidence("source", "contract 3.9; design.md, section 5: secrets are sealed")
def test_a_run_uses_a_secret_of_its_kitchen_then_of_the_account(tmp_path, postgres_url):
    with serve(tmp_path / "data", GALLEY_DATABASE_URL=postgres_url) as server:
        server.add_user(ADMIN, admin=True)
        api = server.log_in(ADMIN)
        api.good("PUT", "/v2/kitchen/create/master/tools", {})
        demo = secretive.make_recipe(api, "tools")
        api.good("POST", "/v2/secret/pg/password", {"value": "of-the-account"})
        large = "kitchen=\n" + "é" * 500_000
        api.good("POST", "/v2/secret/pg/password", {"value": large, "kitchen": "tools"})
        assert secretive.gets(demo, large)
        api.good("DELETE", "/v2/secret/pg/password", {"kitchen": "tools"})
        assert secretive.gets(demo, "of-the-account")
        listed = api.good("GET", "/v2/secret", {"kitchens": "tools"})
        assert listed["tools"] == {"error": False, "list": []}
        assert listed["**__GLOBAL__**"] == {"error": False, "list": ["vault://pg/password"]}
