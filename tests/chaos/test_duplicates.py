"""Each write is sent one to five times, at once or in turn, some connections cut: one effect a key.

200 keys, or 2,000 with GALLEY_CHAOS_LONG=1; GALLEY_CHAOS_SEED sets what happens to each, and
failures print it.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa
from tests.chaos import crowd
from tests.chaos.test_kills import Stage
from tests.contract.live import NO_RATES, Api, serve

from galley.core.projects.models import Kitchen
from galley.core.runs import models

IS_LONG = os.environ.get("GALLEY_CHAOS_LONG") == "1"
KEYS = 2000 if IS_LONG else 200
SEED = int(os.environ.get("GALLEY_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
pytestmark = pytest.mark.timeout(max(1800, KEYS * 2))
SHARED = ("git", "logs", "attempts", "work", "trees", "environments", "files", "blobs")
WHOLE, CUT_AFTER_SENDING, CUT_AT_ANSWER = "whole", "cut after sending", "cut at the answer"
FATES = (WHOLE, CUT_AFTER_SENDING, CUT_AT_ANSWER)
FAR = "0 0 1 1 *"
BUSY, AWAY = 409, 503  # of a busy machine's servers one may not answer the other in time


@dataclass
class World:
    """The servers of one database (two share a Postgres), and the one user who writes to them."""

    stage: Stage
    bases: list[str]
    api: Api


@dataclass
class Letter:
    """One write, and what becomes of its copies; `servers` says which one each goes to."""

    number: int
    kind: str
    key: str | None
    at_once: bool
    fates: list[str]
    servers: list[int]
    answers: list[crowd.Reply] = field(default_factory=list)
    cut_at_answer: int = 0

    def request(self, token: str, amount: str = "1") -> bytes:
        headers = {"Authorization": f"Bearer {token}", "Content_Type": "application/json"}
        if self.key is not None:
            headers["Idempotency_Key"] = self.key
        if self.kind == "kitchen":
            body = {"description": amount}
            return crowd.request(
                "PUT", f"/v2/kitchen/create/master/k{self.number}", body, **headers
            )
        body = {"schedule": FAR, "parameters": {"number": str(self.number), "amount": amount}}
        return crowd.request("PUT", "/v2/order/create/master/chaos/v", body, **headers)


@pytest.fixture(params=["sqlite", *["postgres"] * IS_LONG, "two servers"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    on_postgres = request.param != "sqlite"
    address = request.getfixturevalue("postgres_url") if on_postgres else None
    stage = Stage(tmp_path, address)
    with ExitStack() as stack:
        live, api = stack.enter_context(stage.up(**NO_RATES))
        stage.load_recipe(api, step_s=0)
        bases = [live.base]
        if request.param == "two servers":
            other = tmp_path / "other"
            other.mkdir()
            for name in SHARED:
                (stage.data / name).mkdir(exist_ok=True)
                (other / name).symlink_to(stage.data / name)
            (other / "secret.key").symlink_to(stage.data / "secret.key")
            beside = stack.enter_context(serve(other, **stage.environment, **NO_RATES))
            bases.append(beside.base)
        yield World(stage, bases, api)
    stage.database.close()


def letters_of(chance: random.Random, servers: int) -> list[Letter]:
    """All writes: KEYS with a key, a tenth as many without."""
    made = []
    for number in range(KEYS + KEYS // 10):
        is_keyed = number < KEYS
        copies = chance.randint(1, 5)
        letter = Letter(
            number,
            kind="kitchen" if is_keyed and number % 5 == 0 else "order",
            key=f"key-{number}" if is_keyed else None,
            at_once=chance.random() < 0.5,
            fates=chance.choices(FATES, (6, 2, 2), k=copies),
            servers=[chance.randrange(servers) for _ in range(copies)],
        )
        made.append(letter)
    return made


def deliver(world: World, letter: Letter) -> None:
    """Send all copies; with a key, then once more until it is answered, as a client would."""
    sent = letter.request(str(world.api.token))
    if letter.at_once:
        open_ones = [crowd.connect(world.bases[at]) for at in letter.servers]
        for connection in open_ones:
            connection.sendall(sent)
        for connection, fate in zip(open_ones, letter.fates, strict=True):
            meet(letter, connection, fate)
    else:
        for at, fate in zip(letter.servers, letter.fates, strict=True):
            connection = crowd.connect(world.bases[at])
            connection.sendall(sent)
            meet(letter, connection, fate)
    if letter.key is not None:
        while True:
            connection = crowd.connect(world.bases[letter.servers[-1]])
            connection.sendall(sent)
            if meet(letter, connection, WHOLE) not in {BUSY, AWAY}:
                return
            Event().wait(0.05)  # the server asks for a whole second


def meet(letter: Letter, connection: Any, fate: str) -> int:
    """What becomes of one copy after it was sent; the status of its answer, or 0."""
    if fate == CUT_AFTER_SENDING:
        connection.close()
        return 0
    if fate == CUT_AT_ANSWER:
        head = connection.recv(12)
        crowd.cut(connection)
        letter.cut_at_answer += head == b"HTTP/1.1 200"
        return 0
    with connection:
        got = crowd.reply_on(connection)
    assert got.status in {200, BUSY, AWAY}, f"seed {SEED}: {letter} {got}"
    if got.status == BUSY:
        assert b"still running" in got.body, f"seed {SEED}: {letter} {got}"
    elif got.status == 200:
        letter.answers.append(got)
    return got.status


def effects_of(world: World) -> Counter[str]:
    """How often each write took effect."""
    orders = world.stage.rows(sa.select(models.orders.c.parameters))
    kitchens = world.stage.rows(sa.select(Kitchen.name).where(Kitchen.name.startswith("k")))
    count = Counter(parameters["number"] for (parameters,) in orders)
    count.update(name[1:] for (name,) in kitchens)
    return count


def test_each_key_takes_effect_once_and_each_answered_request_without_one(world: World) -> None:
    chance = random.Random(SEED)  # noqa: S311 - decides what is cut, nothing secret
    print(f"seed {SEED}, {KEYS} keys")
    letters = letters_of(chance, len(world.bases))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda letter: deliver(world, letter), letters))
    count = effects_of(world)
    assert sum(letter.cut_at_answer for letter in letters) > KEYS // 10
    for letter in letters:
        told = f"seed {SEED}: {letter}"
        made = count[str(letter.number)]
        if letter.key is not None:
            assert made == 1, told
            assert len({answer.body for answer in letter.answers}) == 1, told
            first = [a for a in letter.answers if a.headers["idempotent-replayed"] is None]
            assert len(first) <= 1, told
        else:
            answered = len(letter.answers) + letter.cut_at_answer
            assert answered <= made <= len(letter.fates), told
            assert len({answer.body for answer in letter.answers}) == len(letter.answers), told
    check_other_bodies(world, letters)
    later = effects_of(world)
    for letter in letters:  # one without a key that was cut off may have come in meanwhile
        most = count[str(letter.number)] if letter.key is not None else len(letter.fates)
        assert count[str(letter.number)] <= later[str(letter.number)] <= most, (
            f"seed {SEED}: {letter}"
        )
    assert later.keys() <= {str(letter.number) for letter in letters}


def check_other_bodies(world: World, letters: list[Letter]) -> None:
    """A key that comes with another body is refused, as the dialect refuses, by every server."""
    for letter in letters[: KEYS : max(1, KEYS // 40)]:
        for base in world.bases:
            with crowd.connect(base) as connection:
                connection.sendall(letter.request(str(world.api.token), amount="2"))
                got = crowd.reply_on(connection)
            assert got.status == 422, f"seed {SEED}: {letter}"
            assert "different request body" in json.loads(got.body)["message"]["error"]
