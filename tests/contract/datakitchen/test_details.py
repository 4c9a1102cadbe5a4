"""The details of order runs: every part, every filter."""

import re

import pytest

pytestmark = pytest.mark.evidence(
    "source", "contract 3.8, from dkcloudcommand 1.5.33, DKUtils 2.11.6, api-tools 0.4.1"
)

NOBODY = "887d01ba-365e-11e9-8394-0242ac110002"
EVERYTHING = {
    "summary": True, "logs": True, "timingresults": True, "testresults": True,
    "servingjson": True, "schedule": "now",
}  # fmt: skip
ALWAYS = {
    "hid", "order_id", "status", "orderrun_status", "variation_name", "recipe_name", "resumed_by",
    "timings", "recipe_id", "scheduled_start_time", "state", "status_message", "variation",
    "run_time_variables", "conditions",
}  # fmt: skip


def test_details_have_every_part_asked_for(demo):
    order = demo.order(body={"parameters": {"amount": "12"}})
    run = demo.ended(order)
    shown = demo.details(order_id=order, **EVERYTHING)
    assert set(shown) == {"status", "orders", "servings"}
    assert shown["status"] == "success"
    assert shown["orders"] == [
        {"hid": order, "order-status": "COMPLETED_ORDER", "order_status": "COMPLETED_ORDER",
         "schedule": "now", "recipes": ["demo"], "variation": "v1"}
    ]  # fmt: skip
    (serving,) = shown["servings"]
    parts = {"summary", "testresults", "timingresults", "log", "servingjson"}
    assert set(serving) == ALWAYS | parts
    assert {key: serving[key] for key in run} == run
    assert serving["state"] == "DKNodeStatus_completed_production"
    variables = serving["run_time_variables"]
    assert (variables["CurrentKitchen"], variables["amount"]) == (demo.kitchen, "12")
    assert variables["CurrentOrderRunId"] == run["hid"]
    nodes = serving["summary"]["nodes"]
    assert list(nodes) == ["first", "gate", "last"]
    for node in nodes.values():
        assert {"status", "start_time", "timing", "tests", "type"} <= set(node)
        assert node["status"] == "DKNodeStatus_completed_production"
        assert node["type"] == "DKNode_NoOp"
        assert type(node["start_time"]) is int
        assert type(node["timing"]) is int
    tests = nodes["gate"]["tests"]
    assert tests["enough"]["status"] == "Passed"
    assert tests["plenty"]["status"] == "Warning"
    lines = serving["testresults"].splitlines()
    assert [line for line in lines if line.startswith("Tests: ")] == [
        "Tests: Failed", "Tests: Warning", "Tests: Log", "Tests: Passed"
    ]  # fmt: skip
    assert re.search(r"Tests: Passed\nStep \(gate\)\n  1\. enough \(.*\)", serving["testresults"])
    timing = serving["timingresults"].splitlines()
    assert timing[0] == "DKRecipe timing (demo), status = DKNodeStatus_completed_production"
    assert re.match(r"total recipe execution time\|\d+:\d\d:\d\d\.\d{3}$", timing[1])
    assert any(line.startswith("Node (gate), status = ") for line in timing)
    assert serving["servingjson"]["graph-setting"] == [["first", "gate"], ["gate", "last"]]
    log = serving["log"]
    assert log["count"] == len(log["lines"]) > 0
    assert {"datetime", "record_type", "thread_name", "message", "node"} <= set(log["lines"][0])


def test_a_run_alone(demo):
    order = demo.order()
    run = demo.ended(order)["hid"]
    demo.ended(demo.order())
    shown = demo.details(serving_hid=run)
    assert [entry["hid"] for entry in shown["servings"]] == [run]
    assert [entry["hid"] for entry in shown["orders"]] == [order]
    assert set(shown["servings"][0]) == ALWAYS


def test_without_a_filter_the_newest_run_is_first(demo):
    first, second = demo.order(), demo.order()
    demo.ended(first)
    demo.ended(second)
    shown = demo.details(testresults=True)
    assert [entry["order_id"] for entry in shown["servings"]] == [second, first]
    assert {entry["hid"] for entry in shown["orders"]} == {first, second}


def test_without_runs_the_answer_is_empty_and_good(demo):
    assert demo.details(summary=True) == {"status": "success", "orders": [], "servings": []}
    order = demo.order("daily")
    shown = demo.details(serving_book_hid=order, summary=True)
    assert [entry["hid"] for entry in shown["orders"]] == [order]
    assert shown["orders"][0]["schedule"] == "0 6 * * *"
    assert shown["servings"] == []


@pytest.mark.parametrize("key", ["serving_hid", "order_id", "serving_book_hid"])
@pytest.mark.parametrize("value", [NOBODY, "nonsense", "' or 1=1", "x" * 5000])
def test_an_unknown_id_does_not_exist(demo, key, value):
    got = demo.api.call("POST", f"/v2/order/details/{demo.kitchen}", {key: value})
    assert got.status == 400
    assert "does not exist." in got.json["message"]["error"]


def test_the_id_of_an_order_in_the_place_of_a_runs_is_told_apart(demo):
    order = demo.order()
    run = demo.ended(order)["hid"]
    resume = {"kitchen_name": demo.kitchen}
    for method, path, body in (
        ("POST", f"/v2/order/details/{demo.kitchen}", {"serving_hid": order}),
        ("PUT", f"/v2/order/resume/{order}", resume),
        ("PUT", f"/v2/serving/stop/{order}", resume),
    ):
        told = demo.api.call(method, path, body).json["message"]["error"]
        assert f"Run {order} does not exist. That is an order; its newest run is {run}." in told
    waiting = demo.order("daily")
    got = demo.api.call("PUT", f"/v2/serving/stop/{waiting}", resume)
    assert "That is an order; it has no run yet." in got.json["message"]["error"]


def test_a_failed_run_says_why(demo):
    order = demo.order(body={"parameters": {"amount": "3"}})
    run = demo.ended(order)
    assert (run["status"], run["orderrun_status"]) == ("SERVING_ERROR", "Error in OrderRun")
    assert demo.status_of(order) == "ORDER_ERROR"
    shown = demo.details(serving_hid=run["hid"], **EVERYTHING)["servings"][0]
    assert shown["state"] == "DKNodeStatus_production_error"
    nodes = shown["summary"]["nodes"]
    assert nodes["first"]["status"] == "DKNodeStatus_completed_production"
    assert nodes["gate"]["status"] == "DKNodeStatus_production_error"
    assert nodes["last"]["status"] == "DKNodeStatus_ready_for_production"
    assert nodes["last"]["start_time"] is None
    assert nodes["gate"]["tests"]["enough"]["status"] == "Failed"
    assert "enough" in shown["status_message"]
    failed = shown["testresults"].split("Tests: Warning")[0]
    assert "Step (gate)" in failed
    assert "1. enough (" in failed


def test_a_run_under_way_has_no_end(demo):
    order = demo.order("slow")
    run = demo.active(order)
    assert "end-time" not in run["timings"]
    shown = demo.details(order_id=order, summary=True)
    assert shown["orders"][0]["order-status"] == "ACTIVE_ORDER"
    summary = shown["servings"][0]["summary"]
    assert "end-time" not in summary
    assert type(summary["total-recipe-time"]) is int
    demo.api.good("PUT", f"/v2/order/stop/{order}", {"kitchen_name": demo.kitchen})
    assert demo.ended(order)["status"] == "STOPPED_SERVING"
