"""What a deleted kitchen leaves, and that nobody who takes its name gets any of it."""

import pytest
from tests.contract.datakitchen.world import MEMBER
from tests.contract.live import until

pytestmark = pytest.mark.evidence("assumed", "design.md, section 1: the runs of a kitchen stay")

OK = {"status": "success"}


@pytest.fixture
def closed(demo):
    """A kitchen that only the member may enter."""
    document = demo.api.good("GET", f"/v2/kitchen/{demo.kitchen}")["kitchen"]
    document["kitchen-staff"] = [MEMBER]
    path = f"/v2/kitchen/update/{demo.kitchen}"
    demo.api.good("POST", path, {"kitchen.json": document})
    return demo


def test_who_makes_its_name_again_gets_nothing_of_it(closed, outsider, admin):
    name, mine = closed.kitchen, closed.api
    once = closed.order(body={"schedule": "now", "parameters": {"region": "hidden"}})
    (run,) = [closed.ended(once)["hid"]]
    often = closed.order(body={"schedule": "0 0 1 1 *"})
    mine.good("DELETE", f"/v2/kitchen/delete/{name}")
    outsider.good("PUT", f"/v2/kitchen/create/master/{name}", {})
    listed = outsider.good("GET", f"/v2/order/status/{name}")
    assert (listed["orders"], listed["servings"], listed["total-orders"]) == ([], {}, 0)
    assert outsider.good("POST", f"/v2/order/details/{name}", {"logs": True})["servings"] == []
    for wanted in ({"serving_hid": run}, {"order_id": once}, {"order_id": often}):
        got = outsider.call("POST", f"/v2/order/details/{name}", {**wanted, "logs": True})
        assert (got.status, "does not exist." in got.text) == (400, True), wanted
    for method, path in (
        ("GET", f"/v2/order/servings/{name}/{once}"),
        ("PUT", f"/v2/order/stop/{often}"),
        ("PUT", f"/v2/order/unpause/{often}"),
        ("PUT", f"/v2/order/resume/{run}"),
        ("DELETE", f"/v2/order/delete/{once}"),
        ("DELETE", f"/v2/serving/delete/{run}"),
    ):
        assert outsider.call(method, path, {}).status == 400, path
    assert outsider.good("DELETE", f"/v2/order/deleteall/{name}") == OK
    for reader in (mine, admin):
        shown = reader.good("POST", f"/v2/order/details/{name}", {"order_id": often})["orders"]
        assert [entry["order-status"] for entry in shown] == ["STOPPED_ORDER"]
        (kept,) = reader.good("GET", f"/v2/order/servings/{name}/{once}")["servings"]
        assert (kept["hid"], kept["status"]) == (run, "COMPLETED_SERVING")
        assert reader.good("GET", f"/v2/order/status/{name}")["orders"] == []


def test_what_runs_in_it_is_stopped_and_is_not_resumed_elsewhere(demo, admin):
    order = demo.order("slow")
    run = demo.active(order)["hid"]
    demo.api.good("DELETE", f"/v2/kitchen/delete/{demo.kitchen}")
    admin.good("PUT", f"/v2/kitchen/create/master/{demo.kitchen}", {})
    assert demo.status_of(order) == "STOPPED_ORDER"
    until(lambda: demo.ended(order)["status"] == "STOPPED_SERVING", what="the end of the run")
    got = demo.api.call("PUT", f"/v2/order/resume/{run}", {})
    assert got.status == 412
    assert f"The kitchen {demo.kitchen}, to which this belongs, was deleted" in got.text


def test_its_runs_are_stopped_by_whoever_ordered_them(demo):
    order = demo.order()
    run = demo.ended(order)["hid"]
    demo.api.good("DELETE", f"/v2/kitchen/delete/{demo.kitchen}")
    assert demo.api.good("PUT", f"/v2/serving/stop/{run}", {}) == OK
    assert demo.api.good("DELETE", f"/v2/order/delete/{order}", {}) == OK
    assert demo.api.call("PUT", f"/v2/order/stop/{order}", {}).status == 400
