"""What is done to orders and runs that are there: stop, pause, resume, delete."""

import uuid

import pytest
from tests.contract.datakitchen.world import new_name

pytestmark = pytest.mark.evidence(
    "source", "contract 3.6, from dkcloudcommand 1.5.33 and DKUtils 2.11.6"
)

OK = {"status": "success"}


def failed_run(demo):
    order = demo.order(body={"parameters": {"amount": "3"}})
    run = demo.ended(order)
    assert run["status"] == "SERVING_ERROR"
    return order, run["hid"]


def test_a_failed_run_is_resumed(demo):
    order, old = failed_run(demo)
    body = {
        "serving_hid": old, "kitchen_name": demo.kitchen, "skip-failed-nodes": False,
        "parameters": {"amount": "30"},
    }  # fmt: skip
    told = demo.api.good("PUT", "/v2/order/resume/None", body)
    assert set(told) == {"status", "order_id", "serving_hid"}
    assert told["order_id"] == order
    newest = demo.ended(order, count=2)
    assert newest["hid"] == told["serving_hid"] != old
    assert newest["status"] == "COMPLETED_SERVING"
    oldest = demo.runs(order)[1]
    assert (oldest["hid"], oldest["status"]) == (old, "SERVING_RERAN")
    assert oldest["resumed_by"] == newest["hid"]
    assert newest["timings"]["start-time"] > oldest["timings"]["start-time"]
    assert demo.status_of(order) == "COMPLETED_ORDER"
    nodes = demo.details(serving_hid=newest["hid"], summary=True)["servings"][0]["summary"]["nodes"]
    assert {n["status"] for n in nodes.values()} == {"DKNodeStatus_completed_production"}


def test_a_resume_can_skip_what_failed(demo):
    order, old = failed_run(demo)
    body = {"kitchen_name": demo.kitchen, "skip-failed-nodes": True}
    demo.api.good("PUT", f"/v2/order/resume/{old}", body)
    newest = demo.ended(order, count=2)
    assert newest["status"] == "COMPLETED_SERVING"
    shown = demo.details(serving_hid=newest["hid"], summary=True)["servings"][0]
    assert shown["summary"]["nodes"]["last"]["status"] == "DKNodeStatus_completed_production"


def test_what_completed_is_not_resumed(demo):
    order = demo.order()
    run = demo.ended(order)["hid"]
    got = demo.api.call("PUT", f"/v2/order/resume/{run}", {"kitchen_name": demo.kitchen})
    assert got.status in {412, 417}
    assert got.json["message"]["error"]
    assert len(demo.runs(order)) == 1


def test_nothing_is_resumed_twice(demo):
    order, old = failed_run(demo)
    body = {"kitchen_name": demo.kitchen, "serving_hid": old}
    demo.api.good("PUT", "/v2/order/resume/None", body)
    assert demo.api.call("PUT", "/v2/order/resume/None", body).status in {412, 417}
    demo.ended(order, count=2)
    assert len(demo.runs(order)) == 2


def test_a_scheduled_order_is_paused_and_goes_on(demo):
    order = demo.order("daily")
    body = {"kitchen_name": demo.kitchen}
    assert demo.api.good("PUT", f"/v2/order/pause/{order}", body) == OK
    assert demo.status_of(order) == "PAUSED_ORDER"
    assert demo.api.good("PUT", f"/v2/order/unpause/{order}", body) == OK
    assert demo.status_of(order) == "ACTIVE_ORDER"


def test_a_finished_order_is_not_paused(demo):
    order = demo.order()
    demo.ended(order)
    got = demo.api.call("PUT", f"/v2/order/pause/{order}", {"kitchen_name": demo.kitchen})
    assert got.status in {412, 417}
    assert demo.status_of(order) == "COMPLETED_ORDER"


def test_an_order_is_stopped_by_the_id_of_its_body(demo):
    order = demo.order("slow")
    demo.active(order)
    body = {"serving_book_hid": order, "kitchen_name": demo.kitchen}
    assert demo.api.good("PUT", "/v2/order/stop/None", body) == OK
    assert demo.ended(order)["status"] == "STOPPED_SERVING"
    assert demo.status_of(order) == "STOPPED_ORDER"
    assert demo.api.good("PUT", "/v2/order/stop/None", body) == OK


def test_a_stopped_schedule_is_over(demo):
    order = demo.order("daily")
    demo.api.good("PUT", f"/v2/order/stop/{order}", {"kitchen_name": demo.kitchen})
    assert demo.status_of(order) == "STOPPED_ORDER"
    got = demo.api.call("PUT", f"/v2/order/unpause/{order}", {"kitchen_name": demo.kitchen})
    assert got.status in {412, 417}


def test_a_run_is_stopped(demo):
    order = demo.order("slow")
    run = demo.active(order)["hid"]
    body = {"serving_hid": run, "kitchen_name": demo.kitchen}
    assert demo.api.good("PUT", f"/v2/serving/stop/{run}", body) == OK
    assert demo.ended(order)["status"] == "STOPPED_SERVING"
    shown = demo.details(serving_hid=run, summary=True)["servings"][0]
    assert shown["summary"]["nodes"]["slow"]["status"] == "DKNodeStatus_production_stopped"


def test_an_order_is_deleted(demo):
    order = demo.order()
    run = demo.ended(order)["hid"]
    body = {"serving_book_hid": order, "kitchen_name": demo.kitchen}
    assert demo.api.good("DELETE", "/v2/order/delete/None", body) == OK
    for key, value in (("order_id", order), ("serving_hid", run)):
        got = demo.api.call("POST", f"/v2/order/details/{demo.kitchen}", {key: value})
        assert "does not exist." in got.text
    by_path = demo.order("daily")
    demo.api.good("DELETE", f"/v2/order/delete/{by_path}", {"kitchen_name": demo.kitchen})
    assert demo.api.good("GET", f"/v2/order/status/{demo.kitchen}")["orders"] == []


def test_a_run_is_deleted(demo):
    order = demo.order()
    run = demo.ended(order)["hid"]
    body = {"serving_hid": run, "kitchen_name": demo.kitchen}
    assert demo.api.good("DELETE", "/v2/serving/delete/None", body) == OK
    assert demo.runs(order) == []
    got = demo.api.call("DELETE", "/v2/serving/delete/None", body)
    assert got.status == 400
    assert "does not exist." in got.text


def test_all_orders_of_a_kitchen_are_deleted(demo):
    demo.ended(demo.order())
    demo.order("daily")
    slow = demo.order("slow")
    demo.active(slow)
    for _again in range(2):
        assert demo.api.good("DELETE", f"/v2/order/deleteall/{demo.kitchen}") == OK
        assert demo.api.good("GET", f"/v2/order/status/{demo.kitchen}")["total-orders"] == 0


def test_only_who_may_delete_a_kitchen_deletes_all_its_orders(demo, outsider):
    order = demo.order("daily")
    for path in (f"/v2/order/deleteall/{demo.kitchen}", f"/v2/kitchen/delete/{demo.kitchen}"):
        got = outsider.call("DELETE", path)
        assert (got.status, "by whoever made it" in got.text) == (403, True), got.text
    assert demo.status_of(order) == "ACTIVE_ORDER"
    assert outsider.good("DELETE", f"/v2/order/delete/{order}", {}) == OK


CALLS = [
    ("PUT", "/v2/order/resume/{}", "serving_hid"),
    ("PUT", "/v2/order/pause/{}", "serving_book_hid"),
    ("PUT", "/v2/order/unpause/{}", "serving_book_hid"),
    ("PUT", "/v2/order/stop/{}", "serving_book_hid"),
    ("PUT", "/v2/serving/stop/{}", "serving_hid"),
    ("DELETE", "/v2/order/delete/{}", "serving_book_hid"),
    ("DELETE", "/v2/serving/delete/{}", "serving_hid"),
]


@pytest.mark.parametrize(("method", "path", "key"), CALLS)
def test_an_unknown_id_does_not_exist(demo, method, path, key):
    nobody = str(uuid.uuid1())
    for got in (
        demo.api.call(method, path.format("None"), {key: nobody, "kitchen_name": demo.kitchen}),
        demo.api.call(method, path.format(nobody), {"kitchen_name": demo.kitchen}),
    ):
        assert got.status == 400
        assert "does not exist." in got.json["message"]["error"]


@pytest.mark.parametrize(("method", "path", "key"), CALLS)
def test_without_an_id_anywhere_the_cure_is_told(demo, method, path, key):
    got = demo.api.call(method, path.format("None"), {"kitchen_name": demo.kitchen})
    assert got.status == 400
    assert key in got.json["message"]["error"]


@pytest.mark.parametrize(("method", "path", "key"), CALLS)
def test_an_id_of_another_kitchen_is_unknown(demo, method, path, key):
    order = demo.order()
    run = demo.ended(order)["hid"]
    named = {"serving_hid": run, "serving_book_hid": order}[key]
    got = demo.api.call(method, path.format("None"), {key: named, "kitchen_name": "master"})
    assert got.status == 400
    assert demo.runs(order)[0]["hid"] == run


def test_orders_of_a_closed_kitchen_are_unknown_to_others(demo, outsider, admin):
    order = demo.order()
    run = demo.ended(order)["hid"]
    shown = demo.api.good("GET", f"/v2/kitchen/{demo.kitchen}")["kitchen"]
    document = {**shown, "kitchen-staff": ["mia@example.com"]}
    path = f"/v2/kitchen/update/{demo.kitchen}"
    demo.api.good("POST", path, {"kitchen.json": document})
    for method, route, key in CALLS:
        target = {"serving_hid": run, "serving_book_hid": order}[key]
        assert outsider.call(method, route.format(target), {}).status == 400
    assert outsider.call("GET", f"/v2/order/status/{demo.kitchen}").status == 400
    assert admin.call("GET", f"/v2/order/status/{demo.kitchen}").status == 200
    assert demo.runs(order)[0]["hid"] == run


def test_a_deleted_kitchen_takes_its_orders_from_sight(demo, admin):
    order = demo.order()
    demo.ended(order)
    child = new_name("later")
    admin.good("DELETE", f"/v2/kitchen/delete/{demo.kitchen}")
    admin.good("PUT", f"/v2/kitchen/create/master/{child}", {})
    got = admin.call("POST", f"/v2/order/details/{child}", {"order_id": order})
    assert "does not exist." in got.text
