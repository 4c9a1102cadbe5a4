"""A client that writes down what it was answered, and what must hold because of that.

What a kill cuts short is unknown: it is asked again with the same Idempotency-Key until there is an
answer, so that in the end exactly what was answered must be there.
"""

import random
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2
from tests.contract.live import Api

ROOM = {"kitchen_name": "master"}
YEARLY = {"recurrence": "0 0 1 1 *", "zone": "UTC"}


@dataclass(frozen=True)
class Call:
    """One write: what it is for, the order that it is about, and how it is sent."""

    kind: str
    target: str
    path: str
    body: dict[str, Any]
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass
class Journal:
    """What was answered. Orders are named by their ids of the API.

    `orders` run at once, `schedules` never come due here: True if the last answer says paused.
    `stopped` tells when the answer to an order's stop was there.
    """

    orders: list[str] = field(default_factory=list)
    schedules: dict[str, bool] = field(default_factory=dict)
    stopped: dict[str, datetime] = field(default_factory=dict)
    unanswered: list[Call] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def catch_up(self, api: Api) -> None:
        """Ask again what was cut short; this server must answer."""
        waiting, self.unanswered = self.unanswered, []
        for call in waiting:
            self.send(api, call)

    def send(self, api: Api, call: Call) -> bool:
        """Send it and note the answer; False if there was none."""
        headers = {"Idempotency-Key": call.key}
        try:
            got = api.call("PUT", call.path, call.body, headers=headers)
        except httpx2.TransportError:
            self.unanswered.append(call)
            return False
        if got.status != 200:
            self.faults.append(f"{call.kind} {call.target}: {got.status} {got.text[:300]}")
        elif call.kind == "order":
            self.orders.append(got.json["order_id"])
        elif call.kind == "schedule":
            self.schedules[got.json["order_id"]] = False
        elif call.kind == "stop":
            self.stopped[call.target] = datetime.now(UTC)
        else:
            self.schedules[call.target] = call.kind == "pause"
        return True

    def draw(self, chance: random.Random) -> Call:
        """Something to ask for, in the midst of what was asked for so far."""
        kind = chance.choices(("order", "stop", "pause", "schedule"), (8, 2, 3, 1))[0]
        busy = {call.target for call in self.unanswered}
        orders = [it for it in self.orders[-6:] if it not in self.stopped and it not in busy]
        schedules = [it for it in self.schedules if it not in busy]
        if kind == "stop" and orders:
            order = chance.choice(orders)
            return Call("stop", order, f"/v2/order/stop/{order}", ROOM)
        if kind == "pause" and schedules:
            order = chance.choice(schedules)
            what = "unpause" if self.schedules[order] else "pause"
            return Call(what, order, f"/v2/order/{what}/{order}", ROOM)
        wish = YEARLY if kind == "schedule" else "now"
        kind = "schedule" if kind == "schedule" else "order"
        return Call(kind, "", "/v2/order/create/master/chaos/v", {"schedule": wish})


class Client:
    """Sends calls from a thread of its own until the server dies under it, or all are sent."""

    def __init__(self, journal: Journal, api: Api, chance: random.Random, count: int) -> None:
        self._journal, self._api, self._count = journal, api, count
        self._chance = random.Random(chance.random())  # noqa: S311 - seeded on purpose
        self._thread = threading.Thread(target=self._send_all)
        self._thread.start()

    def end(self) -> None:
        """Wait for the last answer, or for the certainty that there is none."""
        self._thread.join()

    def _send_all(self) -> None:
        for _ in range(self._count):
            if not self._journal.send(self._api, self._journal.draw(self._chance)):
                return
