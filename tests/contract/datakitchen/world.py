"""Who and what the contract tests work with."""

import itertools
import os
from dataclasses import dataclass
from typing import Any

from tests.contract.live import Api, until

ADMIN, MEMBER, OUTSIDER = "ada@example.com", "mia@example.com", "otto@example.com"
FINAL = {"COMPLETED_SERVING", "SERVING_ERROR", "STOPPED_SERVING", "SERVING_RERAN"}
_numbers = itertools.count(1)


def new_name(prefix: str = "k") -> str:
    """A name that no other test uses."""
    return f"{prefix}_{os.getpid()}_{next(_numbers)}"


@dataclass
class Demo:
    """A kitchen that holds the recipe `demo`, and how to order it."""

    api: Api
    kitchen: str
    recipe: str = "demo"

    def order(self, variation: str = "v1", body: Any = None) -> str:
        """Order a variation; the order's id."""
        path = f"/v2/order/create/{self.kitchen}/{self.recipe}/{variation}"
        placed = self.api.good("PUT", path, body)
        return str(placed["order_id"])

    def details(self, **wanted: Any) -> Any:
        """The kitchen's `order/details`."""
        return self.api.good("POST", f"/v2/order/details/{self.kitchen}", wanted)

    def runs(self, order: str) -> list[Any]:
        """An order's runs, newest first."""
        path = f"/v2/order/servings/{self.kitchen}/{order}"
        return list(self.api.good("GET", path, {"count": 100000})["servings"])

    def ended(self, order: str, *, count: int = 1) -> Any:
        """The order's newest run, once there are `count` and it has ended."""

        def look() -> Any:
            found = self.runs(order)
            is_over = len(found) >= count and found[0]["status"] in FINAL
            return found[0] if is_over else None

        return until(look, what=f"the end of order {order}")

    def active(self, order: str) -> Any:
        """The order's run, once it is under way."""

        def look() -> Any:
            found = self.runs(order)
            return found[0] if found and found[0]["status"] == "ACTIVE_SERVING" else None

        return until(look, what=f"the start of order {order}")

    def status_of(self, order: str) -> str:
        """The order's own status."""
        found = self.details(order_id=order)["orders"]
        assert [entry["hid"] for entry in found] == [order]
        return str(found[0]["order-status"])
