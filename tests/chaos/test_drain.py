"""SIGTERM in the middle of a crowd: whoever asked is answered, connections end well, status 0."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.chaos import crowd
from tests.chaos.test_kills import USER, Stage
from tests.contract.live import NO_RATES, PATIENCE_S, Api

from galley.core.runs import models

pytestmark = pytest.mark.timeout(1800)
IN_FLIGHT = 200
FAR = "0 0 1 1 *"
END_S = PATIENCE_S
LINGER_S = 0.5  # how long the server keeps an idle connection at its end
PATH = "/v2/order/create/master/chaos/v"


@pytest.fixture(params=["sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    address = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    made = Stage(tmp_path, address)
    yield made
    made.database.close()


def order(api: Api, number: int) -> bytes:
    """A keyed request for an order whose time is far away."""
    return crowd.request(
        "PUT",
        PATH,
        {"schedule": FAR, "parameters": {"number": str(number)}},
        Authorization=f"Bearer {api.token}",
        Content_Type="application/json",
        Idempotency_Key=f"key-{number}",
    )


def numbers_of(stage: Stage) -> list[int]:
    rows = stage.rows(sa.select(models.orders.c.parameters))
    return sorted(int(parameters["number"]) for (parameters,) in rows)


def ask_once(base: str, api: Api) -> socket.socket:
    """A connection that was used once and is kept."""
    connection = crowd.connect(base)
    connection.sendall(
        crowd.request("GET", "/v2/kitchen/list", Authorization=f"Bearer {api.token}")
    )
    assert crowd.reply_on(connection).status == 200
    return connection


def test_all_of_two_hundred_requests_in_flight_are_answered(stage: Stage) -> None:
    with stage.up(**NO_RATES) as (live, api):
        stage.load_recipe(api, step_s=0)
        kept = [ask_once(live.base, api) for _ in range(IN_FLIGHT // 2)]
        idle = [ask_once(live.base, api) for _ in range(20)]
        watcher = crowd.connect(live.base)
        cookie = crowd.sign_in(live.base, USER)
        watcher.sendall(crowd.request("GET", "/runs/stream", Cookie=cookie))
        assert watcher.recv(12) == b"HTTP/1.1 200"
        live.process.send_signal(signal.SIGSTOP)  # so that it has not taken the fresh ones yet
        fresh = [crowd.connect(live.base) for _ in range(IN_FLIGHT // 2)]
        asking = [*kept, *fresh]
        for number, connection in enumerate(asking):
            connection.sendall(order(api, number))
        live.process.send_signal(signal.SIGTERM)
        live.process.send_signal(signal.SIGCONT)
        answers = [crowd.reply_on(connection) for connection in asking]
        assert {answer.status for answer in answers} <= {200, 503}
        made = [number for number, answer in enumerate(answers) if answer.status == 200]
        for connection in (*asking, *idle):
            assert connection.recv(1) == b""  # an end, not a reset
        story = b""
        while chunk := watcher.recv(65_536):
            story += chunk
        assert story.endswith(b"0\r\n\r\n")
        assert live.process.wait(END_S) == 0
        for connection in (*asking, *idle, watcher):
            connection.close()
    assert set(made) <= set(numbers_of(stage))
    print(f"{len(made)} of {IN_FLIGHT} were answered 200")


def test_a_request_that_comes_while_the_server_ends_is_answered_as_the_last(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path)
    with stage.up(**NO_RATES) as (live, api):
        asked = crowd.request("GET", "/v2/kitchen/list", Authorization=f"Bearer {api.token}")
        busy = [(time.monotonic(), ask_once(live.base, api)) for _ in range(8)]
        with ThreadPoolExecutor(len(busy)) as pool:
            ends = [pool.submit(ask_until_the_end, *one, asked) for one in busy]
            live.process.send_signal(signal.SIGTERM)
        assert any(end.result() for end in ends)
        assert live.process.wait(END_S) == 0
    stage.database.close()


def ask_until_the_end(before: float, connection: socket.socket, asked: bytes) -> bool:
    """Ask again and again; True if an answer said that it is the last.

    Otherwise the server ended the connection because it was idle for long enough. It counts from
    its last answer, and so no sooner than from the moment before that was asked for.
    """
    with connection:
        while True:
            now = time.monotonic()
            try:
                connection.sendall(asked)
                got = crowd.reply_on(connection)
            except (OSError, http.client.HTTPException):
                assert time.monotonic() - before > LINGER_S
                return False
            assert got.status in {200, 503}
            before = now
            if got.headers["connection"] == "close":
                assert connection.recv(1) == b""
                return True


def test_who_is_not_done_by_the_end_of_the_drain_time_hears_so(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with stage.up(GALLEY_LIMITS__DRAIN_S="1") as (live, api):
        whole = order(api, 1)
        half = [crowd.connect(live.base) for _ in range(5)]
        for connection in half:
            connection.sendall(whole[:-10])
        live.process.send_signal(signal.SIGTERM)
        for connection in half:
            got = crowd.reply_on(connection)
            assert got.status == 503
            assert got.headers["retry-after"] == "5"
            assert "stopping" in json.loads(got.body)["message"]["error"]
            assert connection.recv(1) == b""
            connection.close()
        assert live.process.wait(END_S) == 0
    stage.database.close()
