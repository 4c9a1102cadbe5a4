"""Placing orders and listing them, over plain HTTP."""

import json
import re
import time
import uuid

import pytest
from tests.contract.datakitchen.world import ADMIN, MEMBER

pytestmark = pytest.mark.evidence(
    "source", "contract 3.6 and 3.7, from dkcloudcommand 1.5.33 and DKUtils 2.11.6"
)

UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")


def create(demo, body=None, *, variation="v1", **extra):
    path = f"/v2/order/create/{demo.kitchen}/demo/{variation}"
    return demo.api.call("PUT", path, body, **extra)


def listed(demo, **params):
    return demo.api.good("GET", f"/v2/order/status/{demo.kitchen}", params=params)


def test_an_order_runs_and_is_read_back(demo):
    began_ms = int(time.time() * 1000)
    got = create(demo, {"parameters": {"amount": "50"}, "schedule": "now"})
    assert got.status == 200
    placed = got.json
    assert set(placed) == {"status", "order_id", "serving_hid", "variable_overrides"}
    assert placed["status"] == "success"
    assert UUID.match(placed["order_id"])
    assert placed["serving_hid"] == placed["order_id"]
    assert placed["variable_overrides"] == {"amount": "50"}
    run = demo.ended(placed["order_id"])
    assert run["status"] == "COMPLETED_SERVING"
    assert run["orderrun_status"] == "OrderRun Completed"
    assert (run["recipe_name"], run["variation_name"]) == ("demo", "v1")
    times = run["timings"]
    assert began_ms - 1000 <= times["start-time"] <= times["end-time"]
    assert times["duration"] == times["end-time"] - times["start-time"]
    assert demo.status_of(placed["order_id"]) == "COMPLETED_ORDER"


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (None, {}),
        ("", {"Content-Type": "application/json"}),
        ("{}", {}),
        ('{"parameters":{"amount":"51"}}', {"Content-Type": "application/x-www-form-urlencoded"}),
        ('{"parameters":{"amount":"51"}}', {"Content-Type": "text/plain"}),
        ('{"parameters":{"amount":"51"}}', {}),
        ("parameters=%7B%22amount%22%3A%2251%22%7D", {"Content-Type": "application/json"}),
    ],
)
def test_a_body_is_understood_whatever_its_label(demo, content, headers):
    extra = {} if content is None else {"content": content}
    got = create(demo, headers=headers, **extra)
    assert got.status == 200, got.text
    expected = {"amount": "51"} if content and "51" in content else {}
    assert got.json["variable_overrides"] == expected
    entry = listed(demo)["orders"][0]
    assert entry["hid"] == got.json["order_id"]
    assert entry["input_settings"]["parameters"] == expected


def test_an_order_of_single_nodes(demo):
    path = f"/v2/order/create/graph/{demo.kitchen}/demo/daily"
    placed = demo.api.good("PUT", path, {"graph-setting": [["first"]], "schedule": "now"})
    assert demo.ended(placed["order_id"])["status"] == "COMPLETED_SERVING"
    shown = demo.details(order_id=placed["order_id"], summary=True)["servings"][0]
    assert list(shown["summary"]["nodes"]) == ["first"]
    entry = listed(demo)["orders"][0]
    assert entry["input_settings"]["graph-setting"] == [["first"]]
    got = demo.api.call("PUT", path, {"schedule": "now"})
    assert got.status == 400
    assert "graph-setting" in got.json["message"]["error"]


def test_an_order_of_one_node_by_its_path(demo):
    path = f"/v2/order/create/onenode/{demo.kitchen}/demo/v1/last"
    placed = demo.api.good("PUT", path)
    assert demo.ended(placed["order_id"])["status"] == "COMPLETED_SERVING"
    shown = demo.details(order_id=placed["order_id"], summary=True)["servings"][0]
    assert list(shown["summary"]["nodes"]) == ["last"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("{k}/demo/nope", 417),
        ("{k}/nope/v1", 400),
        ("nowhere/demo/v1", 400),
        ("graph/{k}/demo/v1", 417),
    ],
)
def test_a_refused_order_leaves_nothing(demo, path, status):
    body = {"graph-setting": [["no_such_node"]]}
    got = demo.api.call("PUT", "/v2/order/create/" + path.format(k=demo.kitchen), body)
    assert got.status == status, got.text
    assert set(got.json) == {"message"}
    assert got.json["message"]["error"]
    assert listed(demo)["total-orders"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"parameters": "amount=1"},
        {"parameters": [1]},
        {"schedule": "sometimes"},
        {"schedule": "61 * * * *"},
        {"schedule": {"recurrence": "0 6 * * *", "zone": "Mars/Base"}},
        {"schedule": {"recurrence": "0 6 * * *", "start": "2030-01-02", "end": "2030-01-01"}},
        {"schedule": {"start": "soon"}},
        {"schedule": {"start": "2001-01-01T00:00:00Z"}},
        {"schedule": {"end": "2030-01-01"}},
        {"source-date": "yesterday"},
        {"priority": 101},
        {"alerts": {"boom": ["a@example.com"]}},
        {"alerts": ["not an address"]},
        {"graph-setting": "x"},
        {"ingredient_owner_order_run": "887d01ba-365e-11e9-8394-0242ac110002"},
    ],
)
def test_an_order_that_cannot_be_meant_so_is_refused(demo, body):
    got = create(demo, body)
    assert got.status in {400, 417}, got.text
    assert got.json["message"]["error"]
    assert listed(demo)["total-orders"] == 0


@pytest.mark.parametrize("content", ["{", '{"parameters": NaN}', "[]", '"x"', "5", "\xff\xfe{"])
def test_a_body_that_is_no_object_is_400(demo, content):
    got = create(demo, content=content, headers={"Content-Type": "application/json"})
    assert got.status == 400, got.text
    assert got.json["message"]["error"]
    assert listed(demo)["total-orders"] == 0


def test_the_variations_own_schedule_applies_without_one_in_the_body(demo):
    order = demo.order("daily")
    entry = listed(demo)["orders"][0]
    assert (entry["hid"], entry["schedule"]) == (order, "0 6 * * *")
    assert entry["order-status"] == entry["order_status"] == "ACTIVE_ORDER"
    assert entry["input_settings"]["schedule-setting"]["zone"] == "Europe/Paris"
    assert demo.runs(order) == []


def test_run_time_overrides_are_kept_with_the_order(demo):
    body = {
        "parameters": {"amount": "60"},
        "schedule": {"recurrence": "30 5 * * *", "zone": "Asia/Tokyo", "start": "2031-01-01"},
        "infrastructure": {"bucket": "other"},
        "date-of-source-data": "2026-11-01",
        "alerts": {"orderrunError": ["ops@example.com"]},
        "priority": 7,
    }
    got = create(demo, body)
    assert got.status == 200, got.text
    assert got.json["variable_overrides"] == {"amount": "60", "bucket": "other"}
    settings = listed(demo)["orders"][0]["input_settings"]
    assert settings["parameters"] == {"amount": "60", "bucket": "other"}
    assert settings["source-date"] == "2026-11-01"
    assert settings["priority"] == 7
    assert settings["alerts"] == {"orderrunError": ["ops@example.com"]}
    assert settings["schedule-setting"] == {
        "recurrence": "30 5 * * *", "zone": "Asia/Tokyo", "start": "2031-01-01T00:00:00+09:00"
    }  # fmt: skip
    assert settings["login"] == MEMBER


def test_an_infrastructure_override_reaches_the_run(demo):
    placed = create(demo, {"infrastructure": {"region": "mars"}, "schedule": "now"}).json
    demo.ended(placed["order_id"])
    shown = demo.details(order_id=placed["order_id"])["servings"][0]
    assert shown["run_time_variables"]["region"] == "mars"


def test_an_order_names_the_run_that_ordered_it(demo):
    owner = demo.ended(demo.order())["hid"]
    order = demo.order(body={"ingredient_owner_order_run": owner})
    entry = listed(demo)["orders"][0]
    assert entry["hid"] == order
    assert entry["input_settings"]["ingredient_owner_order_run"] == owner


def test_orders_are_listed_with_every_filter(demo):
    good = demo.order(body={"schedule": "now"})
    bad = demo.order(body={"parameters": {"amount": "1"}, "schedule": "now"})
    demo.ended(good)
    failed = demo.ended(bad)
    assert failed["status"] == "SERVING_ERROR"
    daily = demo.order("daily")
    everything = listed(demo)
    assert set(everything) == {
        "customer", "repo", "kitchenname", "total-orders", "orders", "servings"
    }  # fmt: skip
    assert everything["kitchenname"] == demo.kitchen
    assert [o["hid"] for o in everything["orders"]] == [daily, bad, good]
    assert everything["total-orders"] == 3
    held = everything["servings"]
    assert held[daily] == {"total": 0, "servings": []}
    assert held[bad]["total"] == 1
    assert held[bad]["servings"] == [failed]

    def body_filter(**body):
        shown = demo.api.good("GET", f"/v2/order/status/{demo.kitchen}", body)
        return [o["hid"] for o in shown["orders"]]

    assert body_filter(recipe="demo", variation="v1", timePeriod=24, search=".*") == [bad, good]
    assert body_filter(orderStatus="ORDER_ERROR") == [bad]
    assert body_filter(orderRunStatus="COMPLETED_SERVING", servingsCount=3) == [good]
    assert body_filter(search=f"^{good[:13]}", timePeriod=1) == [
        o["hid"] for o in everything["orders"] if o["hid"].startswith(good[:13])
    ]
    assert body_filter(search=good) == [good]
    assert body_filter(recipe="other") == []
    assert body_filter(timePeriod=0) == []
    page = listed(demo, start=1, count=1, scount=0, r="demo")
    assert [o["hid"] for o in page["orders"]] == [bad]
    assert page["total-orders"] == 3
    assert page["servings"][bad] == {"total": 1, "servings": []}


@pytest.mark.parametrize(
    "body",
    [{"orderStatus": "NONSENSE"}, {"orderRunStatus": "x"}, {"search": "(a+)+$"}, {"search": "("},
     {"timePeriod": "long"}, {"servingsCount": -1}],
)  # fmt: skip
def test_a_filter_that_cannot_be_is_400(demo, body):
    got = demo.api.call("GET", f"/v2/order/status/{demo.kitchen}", body)
    assert got.status == 400, got.text
    assert got.json["message"]["error"]


def test_runs_of_an_order(demo):
    order = demo.order()
    newest = demo.ended(order)
    path = f"/v2/order/servings/{demo.kitchen}/{order}"
    assert demo.api.good("GET", path) == {"servings": [newest]}
    assert demo.api.good("GET", path, {"count": 0}) == {"servings": []}
    got = demo.api.call("GET", f"/v2/order/servings/{demo.kitchen}/{uuid.uuid1()}")
    assert got.status == 400
    assert "does not exist." in got.text


def test_an_order_of_another_kitchen_is_unknown_here(demo):
    order = demo.order()
    for path in (f"/v2/order/servings/master/{order}", "/v2/order/details/master"):
        method = "GET" if "servings" in path else "POST"
        got = demo.api.call(method, path, {"order_id": order})
        assert got.status == 400
        assert "does not exist." in got.text


def test_the_same_order_reads_alike_for_the_administrator(demo, admin):
    order = demo.order()
    demo.ended(order)
    mine = demo.details(order_id=order, summary=True)
    theirs = admin.good(
        "POST", f"/v2/order/details/{demo.kitchen}", {"order_id": order, "summary": True}
    )
    assert json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True)
    assert ADMIN not in json.dumps(theirs)
