"""Two servers on one Postgres: whatever is asked of the one that does not lead holds as well."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.contract.datakitchen import recipes
from tests.contract.datakitchen.world import ADMIN, Demo
from tests.contract.live import Live, serve

from galley.core.events.models import idempotency_keys
from galley.core.runs import models
from galley.storage.db import Database

SHARED = ("git", "logs", "attempts", "work", "trees", "environments", "files", "blobs")
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.evidence("source", "design.md, section 2: several servers on one Postgres"),
]


@pytest.fixture
def follower(tmp_path: Path, postgres_url: str) -> Iterator[Live]:
    """The second of two servers, with the folders of docs/how-to/serve.md shared."""
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    with serve(first, GALLEY_DATABASE_URL=postgres_url) as leader:
        for name in SHARED:
            (first / name).mkdir(exist_ok=True)
            (second / name).symlink_to(first / name)
        for name in ("secret.key", "webhook.key"):
            if (first / name).exists():
                (second / name).symlink_to(first / name)
        leader.add_user(ADMIN, admin=True)
        with serve(second, GALLEY_DATABASE_URL=postgres_url) as server:
            yield server


def test_writes_with_idempotency_keys_reach_the_leader_once(
    follower: Live, postgres_url: str
) -> None:
    api = follower.log_in(ADMIN)
    api.good("PUT", "/v2/kitchen/create/master/tools", {})
    api.good("POST", "/v2/recipe/create/tools/demo", {"templatename": "qs1"})
    api.good("POST", "/v2/recipe/update/tools/demo", {"message": "m", "files": recipes.changes()})
    demo = Demo(api, "tools")

    def twice(method: str, path: str, body: Any = None) -> Any:
        key = {"Idempotency-Key": str(uuid.uuid4())}
        first = api.good(method, path, body, headers=key)
        again = api.call(method, path, body, headers=key)
        assert (again.json, again.headers["idempotent-replayed"]) == (first, "true")
        return first

    placed = twice("PUT", "/v2/order/create/tools/demo/v1", {"parameters": {"amount": "1"}})
    order = placed["order_id"]
    failed = demo.ended(order)
    assert failed["status"] == "SERVING_ERROR"
    resumed = {"kitchen_name": "tools", "parameters": {"amount": "20"}}
    twice("PUT", f"/v2/order/resume/{failed['hid']}", resumed)
    assert demo.ended(order, count=2)["status"] == "COMPLETED_SERVING"
    slow = demo.order("slow")
    demo.active(slow)
    stop = {"serving_book_hid": slow, "kitchen_name": "tools"}
    twice("PUT", "/v2/order/stop/None", stop)
    assert demo.ended(slow)["status"] == "STOPPED_SERVING"
    twice("DELETE", "/v2/order/deleteall/tools")
    database = Database(postgres_url)
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(models.orders)) == 0
        assert session.scalar(sa.select(sa.func.count()).select_from(idempotency_keys)) == 4
        assert session.scalar(sa.select(sa.func.count()).select_from(models.inbox))
    database.close()
