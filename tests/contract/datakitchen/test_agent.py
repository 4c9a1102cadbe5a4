"""The agent's status: what the workers have room for."""

import shutil

import psutil
import pytest
from tests.contract.datakitchen import recipes
from tests.contract.datakitchen.world import ADMIN, Demo
from tests.contract.live import serve, until

pytestmark = pytest.mark.evidence("source", "contract 3.2, from dkcloudcommand 1.1.227")

MB = 1024 * 1024


def demo_of(api):
    """A kitchen with the demo."""
    api.good("PUT", "/v2/kitchen/create/master/tools", {})
    api.good("POST", "/v2/recipe/create/tools/demo", {"templatename": "qs1"})
    body = {"message": "m", "files": recipes.changes()}
    api.good("POST", "/v2/recipe/update/tools/demo", body)
    return Demo(api, "tools")


@pytest.fixture(params=["sqlite", "postgres"])
def small(request, tmp_path):
    """A server with one slot, and its administrator."""
    url = {}
    if request.param == "postgres":
        url = {"GALLEY_DATABASE_URL": request.getfixturevalue("postgres_url")}
    with serve(tmp_path / "data", GALLEY_SLOTS="1", **url) as server:
        server.add_user(ADMIN, admin=True)
        yield server, server.log_in(ADMIN)


def test_the_agent_tells_whether_a_run_can_start(small):
    server, api = small

    def status():
        answer = api.good("GET", "/v2/sys/agent")
        assert list(answer) == ["agent_status"]
        assert set(answer["agent_status"]) == {"available", "mem", "disk"}
        return answer["agent_status"]

    shown = status()
    assert shown["available"] is True
    assert 0 < shown["mem"] <= psutil.virtual_memory().total // MB
    free = shutil.disk_usage(server.data).free // MB
    assert abs(shown["disk"] - free) < max(free // 4, 2000)
    demo = demo_of(api)
    order = demo.order("slow")
    demo.active(order)
    until(lambda: status()["available"] is False, what="that the slot is taken")
    api.good("PUT", "/v2/order/stop/None", {"serving_book_hid": order, "kitchen_name": "tools"})
    demo.ended(order)
    until(lambda: status()["available"], what="that the slot is free")
