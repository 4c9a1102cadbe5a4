"""Clients that are slow, silent or gone take nothing from the others, and are cut in their time.

GALLEY_CHAOS_LONG=1 keeps the shipped time-outs, makes the log 1 GB and, where the machine has
nothing else to do, holds the others' answers to 200 ms; without it time-outs are short and the log
has 100 MB.
"""

import os
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from tests.chaos import crowd
from tests.chaos.test_kills import USER, Stage
from tests.contract.live import NO_RATES, Api, Live, until

from galley.core.runs import models
from galley.core.runs.logs import log_path

IS_LONG = os.environ.get("GALLEY_CHAOS_LONG") == "1"
TIMEOUT_S = 30.0 if IS_LONG else 4.0
MEGABYTES = 1000 if IS_LONG else 100
HALF_OPEN, SLOW_BODIES, SLOW_READERS, WATCHERS = 500, 100, 50, 50
P99_S = 0.2
GROWTH_BYTES = 200 << 20
pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("crowds")]
SHORT = {
    f"GALLEY_LIMITS__{name}": str(TIMEOUT_S)
    for name in ("HEADER_S", "BODY_IDLE_S", "STREAM_STALL_S")
}


@dataclass
class Place:
    """A server that has run one order, for all crowds one after the other."""

    stage: Stage
    live: Live
    api: Api


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    stage = Stage(tmp_path_factory.mktemp("crowds"))
    with stage.up(**NO_RATES, **({} if IS_LONG else SHORT)) as (live, api):
        stage.load_recipe(api, step_s=0)
        stage.order(api)
        until(lambda: stage.open_runs() == 0, what="the end of a run")
        yield Place(stage, live, api)
    stage.database.close()


def usual(api: Api) -> list[bytes]:
    """What healthy clients ask."""
    auth = {"Authorization": f"Bearer {api.token}"}
    order = {**auth, "Content_Type": "application/json"}
    return [
        crowd.request("GET", "/v2/kitchen/list", **auth),
        crowd.request("GET", "/v2/order/status/master", **auth),
        crowd.request("PUT", "/v2/order/create/master/chaos/v", {"schedule": "0 0 1 1 *"}, **order),
        crowd.request("GET", "/healthz"),
    ]


def judge(others: crowd.Healthy, alone: crowd.Healthy) -> None:
    """The others were answered; in time, where the machine has nothing else to do."""
    print(f"alone: {alone}; in the crowd: {others}")
    assert not others.faults
    assert len(others.seconds) >= 10  # few, where the machine is busy
    if IS_LONG and alone.p99_s < P99_S / 4:
        assert others.p99_s < P99_S


def without_crowd(live: Live, api: Api) -> crowd.Healthy:
    """What the same clients meet while nobody else is there."""
    with crowd.healthy(live.base, *usual(api)) as alone:
        until(lambda: len(alone.seconds) >= 100, what="a hundred answers")
    return alone


def all_end(connections: list[socket.socket]) -> None:
    """The server ends every one of them in its time."""
    left = list(connections)

    def none_left() -> bool:
        left[:] = [connection for connection in left if not crowd.is_ended(connection)]
        return not left

    until(none_left, seconds=TIMEOUT_S * 3 + 30, what="the end of slow connections")
    for connection in connections:
        connection.close()


def test_half_open_connections_hold_up_nobody(place: Place) -> None:
    beginnings = (b"", b"GET /v2/kit", b"GET / HTTP/1.1\r\nHost: x\r\nX-Sl")
    live, api = place.live, place.api
    alone = without_crowd(live, api)
    with crowd.Meter(live.process.pid) as meter:
        with crowd.healthy(live.base, *usual(api)) as others:
            silent = [crowd.connect(live.base) for _ in range(HALF_OPEN)]
            for number, connection in enumerate(silent):
                connection.sendall(beginnings[number % len(beginnings)])
            all_end(silent)
        judge(others, alone)
        meter.check(GROWTH_BYTES)


def test_bodies_a_byte_at_a_time_hold_up_nobody(place: Place) -> None:
    live, api = place.live, place.api
    alone = without_crowd(live, api)
    with crowd.Meter(live.process.pid) as meter:
        whole = crowd.request(
            "PUT", "/v2/order/create/master/chaos/v", {"schedule": "now" + " " * 10_000},
            Authorization=f"Bearer {api.token}", Content_Type="application/json",
        )  # fmt: skip
        head = whole.index(b"\r\n\r\n") + 4
        slow = [crowd.connect(live.base) for _ in range(SLOW_BODIES)]
        with crowd.healthy(live.base, *usual(api)) as others:
            for connection in slow:
                connection.sendall(whole[:head])
            trickle(slow, whole[head:])
        judge(others, alone)
        meter.check(GROWTH_BYTES)


def trickle(connections: list[socket.socket], body: bytes) -> None:
    """Send a byte on each, again and again, until the server has answered 408 and ended all."""
    left, at, seen = list(connections), 0, []

    def turn() -> bool:
        nonlocal at
        for connection in list(left):
            with suppress(OSError):
                connection.sendall(body[at : at + 1])
            connection.setblocking(False)
            with suppress(BlockingIOError):
                try:
                    seen.append(connection.recv(65_536)[:12])
                except ConnectionResetError:
                    seen.append(b"")
                left.remove(connection)
                connection.close()
        at += 1
        return not left

    until(turn, seconds=TIMEOUT_S * 3 + 30, what="the end of slow bodies")
    assert set(seen) <= {b"HTTP/1.1 408", b""}
    assert b"HTTP/1.1 408" in seen


def make_large_log(stage: Stage) -> str:
    """Give the run's log MEGABYTES; the run's id, as its page has it."""
    r, a, s = models.runs.c, models.attempts.c, models.steps.c
    query = sa.select(r.id, r.uid, a.id).join_from(models.attempts, models.steps, s.id == a.step_id)
    run, uid, attempt = stage.rows(query.join(models.runs, r.id == s.run_id))[0]
    began = datetime.now(UTC)
    stamps = [began + timedelta(microseconds=number) for number in range(5000)]
    lines = [
        f"{at.isoformat(timespec='microseconds')[:26]}Z I line {number} {'x' * 1500}\n"
        for number, at in enumerate(stamps)
    ]
    block = "".join(lines).encode()
    with log_path(stage.data / "logs", run, attempt).open("wb") as file:
        for _ in range(MEGABYTES * 1_000_000 // len(block) + 1):
            file.write(block)
    return str(uid)


def test_slow_readers_of_a_large_log_and_of_streams_hold_up_nobody(place: Place) -> None:
    live, api = place.live, place.api
    uid = make_large_log(place.stage)
    alone = without_crowd(live, api)
    cookie = crowd.sign_in(live.base, USER)
    details = crowd.request(
        "POST", "/v2/order/details/master", {"logs": True},
        Authorization=f"Bearer {api.token}", Content_Type="application/json",
    )  # fmt: skip
    log = crowd.request("GET", f"/runs/{uid}/log", Cookie=cookie)
    stream = crowd.request("GET", "/runs/stream", Cookie=cookie)
    asked = [*[log] * SLOW_READERS, *[details] * (SLOW_READERS // 10)]
    with (
        crowd.Meter(live.process.pid) as meter,
        crowd.healthy(live.base, *usual(api)) as others,
    ):
        slow = [crowd.connect(live.base, receive_bytes=4096) for _ in asked]
        watching = [crowd.connect(live.base) for _ in range(WATCHERS - 5)]
        for connection, request in zip(slow, asked, strict=True):
            connection.sendall(request)
        for connection in watching:
            connection.sendall(stream)
        waiting = list(slow)
        until(lambda: none_waits(waiting), what="the first bytes of each answer")
        all_are_cut(slow)
        assert not any(map(has_ended, watching))  # who reads, or has nothing to read, stays
        for connection in watching:
            crowd.cut(connection)
    judge(others, alone)
    meter.check(GROWTH_BYTES)


def none_waits(connections: list[socket.socket]) -> bool:
    """Whether every answer has begun; those that have, which may be cut soon, are asked no more."""
    connections[:] = [connection for connection in connections if not has_begun(connection)]
    return not connections


def has_begun(connection: socket.socket) -> bool:
    connection.setblocking(False)
    with suppress(BlockingIOError):
        return bool(connection.recv(1, socket.MSG_PEEK))
    return False


def has_ended(connection: socket.socket) -> bool:
    """Whether the server has ended the connection, as the kernel tells, without reading."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def all_are_cut(connections: list[socket.socket]) -> None:
    """The server cuts every one of those that take nothing."""
    until(
        lambda: all(map(has_ended, connections)),
        seconds=TIMEOUT_S * 3 + 30,
        what="the end of slow readers",
    )
    for connection in connections:
        connection.close()
