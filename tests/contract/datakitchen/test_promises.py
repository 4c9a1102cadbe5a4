"""What Galley promises beside the vendor's contract: safe repeats, and a log that says why."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.contract.datakitchen.world import MEMBER
from tests.contract.live import Api, until

pytestmark = pytest.mark.evidence("assumed", "security-and-reliability.md, B5")


def keyed(key):
    return {"Idempotency-Key": key}


def orders_of(demo):
    return demo.api.good("GET", f"/v2/order/status/{demo.kitchen}")["total-orders"]


def test_an_order_that_is_sent_again_is_placed_once(demo):
    path = f"/v2/order/create/{demo.kitchen}/demo/v1"
    key = str(uuid.uuid4())
    first = demo.api.call("PUT", path, {"parameters": {"amount": "20"}}, headers=keyed(key))
    again = demo.api.call("PUT", path, {"parameters": {"amount": "20"}}, headers=keyed(key))
    assert (first.status, again.status) == (200, 200)
    assert again.json == first.json
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert orders_of(demo) == 1
    other = demo.api.call("PUT", path, {"parameters": {"amount": "21"}}, headers=keyed(key))
    assert other.status == 422
    assert other.json["message"]["error"]
    assert orders_of(demo) == 1


def test_a_refused_order_may_be_sent_again_with_its_key(demo):
    key = str(uuid.uuid4())
    path = f"/v2/order/create/{demo.kitchen}/demo/"
    assert demo.api.call("PUT", path + "nope", {}, headers=keyed(key)).status == 417
    assert demo.api.call("PUT", path + "nope", {}, headers=keyed(key)).status == 417
    assert orders_of(demo) == 0


def test_of_many_at_once_with_one_key_one_is_placed(live, demo):
    path = f"/v2/order/create/{demo.kitchen}/demo/daily"
    key = str(uuid.uuid4())

    def place(_number):
        return Api(live.base, demo.api.token).call("PUT", path, {}, headers=keyed(key))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(place, range(16)))
    assert {got.status for got in answers} <= {200, 409}
    assert len({got.json["order_id"] for got in answers if got.status == 200}) == 1
    assert orders_of(demo) == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v2/kitchen/create/master/{new}", {}),
        ("POST", "/v2/recipe/create/{kitchen}/{new}", {}),
        ("POST", "/v2/recipe/copy/{kitchen}/demo/{new}", {}),
        ("DELETE", "/v2/order/delete/{order}", {}),
        ("PUT", "/v2/order/stop/{order}", {}),
    ],
)
def test_other_writes_with_a_key_take_effect_once(demo, admin, method, path, body):
    new = f"again_{uuid.uuid4().hex[:8]}"
    order = demo.order("daily")
    key = str(uuid.uuid4())
    filled = path.format(kitchen=demo.kitchen, new=new, order=order)
    first = demo.api.call(method, filled, body, headers=keyed(key))
    again = demo.api.call(method, filled, body, headers=keyed(key))
    assert first.status == again.status == 200, again.text
    assert again.json == first.json
    assert again.headers["idempotent-replayed"] == "true"
    admin.call("DELETE", f"/v2/kitchen/delete/{new}")


def test_a_resumed_run_is_resumed_once(demo):
    order = demo.order(body={"parameters": {"amount": "3"}})
    old = demo.ended(order)["hid"]
    key = str(uuid.uuid4())
    body = {"kitchen_name": demo.kitchen, "parameters": {"amount": "30"}}
    path = f"/v2/order/resume/{old}"
    first = demo.api.call("PUT", path, body, headers=keyed(key))
    again = demo.api.call("PUT", path, body, headers=keyed(key))
    assert first.status == again.status == 200, again.text
    assert first.json == again.json
    assert demo.ended(order, count=2)["hid"] == first.json["serving_hid"]
    assert len(demo.runs(order)) == 2


def logged(live, *texts):
    return until(
        lambda: [line for line in live.lines if all(text in line for text in texts)],
        what=f"a log line with {texts}",
    )


def test_a_refused_login_and_a_refused_order_are_logged_with_their_reason(live, demo):
    Api(live.base).call("POST", "/v2/login", {"username": MEMBER, "password": "not-my-password"})
    (line, *_rest) = logged(live, "login refused", MEMBER)
    assert "wrong password" in line
    assert "not-my-password" not in "".join(live.lines)
    variation = f"no_{uuid.uuid4().hex[:8]}"
    demo.api.call("PUT", f"/v2/order/create/{demo.kitchen}/demo/{variation}")
    assert logged(live, "order refused", variation, demo.kitchen)


def test_two_different_credentials_are_not_guessed_between(live, member, admin):
    headers = [
        ("Authorization", f"Bearer {member.token}"),
        ("Authorization", f"Bearer {admin.token}"),
    ]
    got = Api(live.base).call("GET", "/v2/userinfo", headers=headers)
    assert got.status == 400
    same = [("Authorization", f"Bearer {member.token}")] * 2
    assert Api(live.base).call("GET", "/v2/userinfo", headers=same).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nowhere", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2", 404),
        ("GET", "/v2/userinfo/", 404),
        ("PATCH", "/v2/userinfo", 405),
        ("POST", "/v2/kitchen/list", 405),
        ("DELETE", "/v2/vault/config", 405),
        ("PUT", "/v2/secret/a/b", 405),
    ],
)
def test_addresses_that_are_none_or_not_built_yet_say_so(member, method, path, status):
    got = member.call(method, path)
    assert (got.status, set(got.json)) == (status, {"message"}), got.text
    assert got.json["message"]["error"]


def test_a_body_that_is_too_large_is_413(member, demo):
    path = f"/v2/order/create/{demo.kitchen}/demo/v1"
    got = member.call("PUT", path, content=b'{"a": "' + b"x" * 10_000_000 + b'"}')
    assert got.status == 413
    assert got.json["message"]["error"]
    assert orders_of(demo) == 0
