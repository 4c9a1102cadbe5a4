"""Customers who write and read while things break, and keep what they were answered.

A write that is refused for now (503, 507) is sent again with the same Idempotency-Key until it is
taken. So at the end the server must hold exactly what was acknowledged, each thing once.
"""

import itertools
import json
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa
from click.testing import CliRunner, Result
from tests.chaos import witness
from tests.chaos.test_kills import FINAL, Stage
from tests.contract.live import PATIENCE_S, Answer, Api, until

from galley.cli.maintenance import doctor
from galley.core.events.audit import digest_of
from galley.core.events.models import audit_entries
from galley.core.runs import models
from galley.kit.ids import uuid_of
from galley.storage.blobs import LocalBlobs
from galley.storage.db import Database
from galley.storage.git import GitStore

LONG = bool(os.environ.get("GALLEY_CHAOS_LONG"))
ORDERERS = 3 if LONG else 1
FOR_NOW = (503, 507)
EDGES = [["a", "b"], ["b", "keep"]]
KEEP = {
    "description.json": {"type": "DKNode_DataMapper", "description": "leaves a result"},
    "notebook.json": {
        "mappings": {
            "m": {
                "source-name": "from",
                "source-key": "run",
                "sink-name": "to",
                "sink-key": "run.txt",
            }
        },
        "artifacts": ["run.txt"],
    },
    "data_sources/from.json": {
        "name": "from",
        "type": "DKDataSource_Dictionary",
        "config": {},
        "keys": {"run": {"value": "{{CurrentOrderRunId}}"}},
    },
    "data_sinks/to.json": {
        "name": "to",
        "type": "DKDataSink_File",
        "config": {},
        "keys": {"run.txt": {}},
    },
}
"""A step whose result is kept: a blob of its own for each run."""
RECIPE = "/v2/recipe/update/master/chaos"
READS = (
    "/v2/order/status/master",
    "/v2/recipe/tree/master/chaos",
    "/v2/recipe/file/master/chaos/note.txt",
)
PROJECT = "main/recipes"


def load_recipe(stage: Stage, api: Api, *, step_s: float = 0.05) -> None:
    """Make the recipe `chaos`: two of the witness's steps, one that leaves a blob, and a note."""
    api.good("POST", "/v2/recipe/create/master/chaos", {"templatename": "qs1"})
    files: dict[str, Any] = {path: {} for path in _paths(api)}
    for path, text in witness.recipe(stage.witness, step_s=step_s).items():
        if path[:2] in {"a/", "b/"} or "/" not in path:
            files[path] = {"contents": text, "isNew": True}
    for path, document in KEEP.items():
        files[f"keep/{path}"] = {"contents": json.dumps(document), "isNew": True}
    variations = json.loads(files["variations.json"]["contents"])
    variations["graph-setting-list"] = {"g": EDGES}
    files["variations.json"]["contents"] = json.dumps(variations)
    files["note.txt"] = {"contents": "edit 0", "isNew": True}
    api.good("POST", RECIPE, {"message": "m", "files": files})


def _paths(api: Api) -> list[str]:
    tree = api.good("GET", "/v2/recipe/tree/master/chaos")["recipes"]["chaos"]
    return [
        f"{folder}/{entry['filename']}".removeprefix("chaos/")
        for folder, entries in tree.items()
        for entry in entries
    ]


class Customers:
    """Some who order, one who edits, one who reads; each write by a connection of its own.

    `orders` holds the order's name for each acknowledged key, `edits` the acknowledged edits in
    their order, `refused` how often each kind of write was refused with which status.
    """

    def __init__(self, stage: Stage, api: Api, seed: int) -> None:
        self.stage = stage
        self.orders: dict[str, str] = {}
        self.edits: list[str] = []
        self.refused: Counter[tuple[str, int]] = Counter()
        self.read: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.is_server_down = False
        self._seed = seed
        self._base, self._token = api.base, api.token
        self._leaving = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        acts = [lambda n=n: self._orderer(n) for n in range(ORDERERS)]
        acts += [self._editor, self._reader]
        self._threads = [
            threading.Thread(target=self._guarded, args=(act,), daemon=True) for act in acts
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def move(self, base: str) -> None:
        """The server is at another address now (it was started again)."""
        self._base = base
        self.is_server_down = False

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Nobody begins anything while the block lasts."""
        self._awake.clear()
        try:
            yield
        finally:
            self._awake.set()

    def leave(self) -> None:
        """Let everybody end with what they are about: what they want must be taken by then."""
        self._leaving.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), f"a write was never taken; {self.told()}"

    def count(self, *statuses: int) -> int:
        """How many writes were refused with one of these statuses."""
        return sum(n for (_, status), n in list(self.refused.items()) if status in statuses)

    def until_refused(self, *statuses: int, reads: int = 3) -> None:
        """Wait until some more writes were refused so, and some more reads were answered."""
        before, seen = self.count(*statuses), self.read[200]
        until(
            lambda: (
                self.wrong
                or (self.count(*statuses) > before + 2 and self.read[200] >= seen + reads)
            ),
            what=f"writes refused with {statuses} and {reads} reads that go on",
        )
        assert not self.wrong, self.told()

    def until_taken(self) -> None:
        """Wait until a new order and a new edit were acknowledged."""
        orders, edits = len(self.orders), len(self.edits)
        until(
            lambda: self.wrong or (len(self.orders) > orders and len(self.edits) > edits),
            what="an order and an edit that are taken",
        )
        assert not self.wrong, self.told()

    def told(self) -> str:
        """What went wrong, and with which seed."""
        return f"seed {self._seed}: {'; '.join(self.wrong[:5])} {dict(self.refused)}"

    # --- what each of them does

    def _guarded(self, act: Any) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            self.wrong.append(f"{type(error).__name__}: {error}")

    def _orderer(self, number: int) -> None:
        chance = random.Random(self._seed + number)  # noqa: S311 - when to order
        for count in itertools.count():
            key = f"order-{number}-{count}"
            asked = ("PUT", "/v2/order/create/master/chaos/v", {"schedule": "now"})
            self.orders[key] = self._insist("order", key, *asked).json["order_id"]
            if self._has_left(chance.uniform(0.05, 0.5)):
                return

    def _editor(self) -> None:
        for count in itertools.count(1):
            text = f"edit {count}"
            body = {"message": text, "filepath": "note.txt", "file": text, "skipCompile": True}
            self._insist("edit", f"edit-{count}", "POST", RECIPE, body)
            self.edits.append(text)
            if self._has_left(0.1):
                return

    def _reader(self) -> None:
        api = None
        for path in itertools.cycle(READS):
            api = self._api(api)
            answer = self._call(api, "GET", path)
            if answer is not None:
                self.read[answer.status] += 1
                if answer.status != 200:
                    self._check_refusal(f"GET {path}", answer)
            if self._has_left(0.05):
                return

    def _has_left(self, pause_s: float) -> bool:
        """Wait a moment, and longer while all rest; whether it is time to go."""
        has_left = self._leaving.wait(pause_s)
        self._awake.wait()
        return has_left or self._leaving.is_set()

    def _insist(self, kind: str, key: str, method: str, path: str, body: Any) -> Answer:
        """Send it until it is taken, and see that each refusal is a proper one."""
        api = None
        while True:
            api = self._api(api)
            answer = self._call(api, method, path, body, headers={"Idempotency-Key": key})
            if answer is not None and answer.status == 200:
                api.close()
                return answer
            if answer is not None:
                self.refused[kind, answer.status] += 1
                self._check_refusal(f"{method} {path}", answer)
            threading.Event().wait(0.1)  # not as long as Retry-After says: the test is impatient

    def _api(self, api: Api | None) -> Api:
        """This one while the server has not moved, else one with a new connection."""
        return api if api is not None and api.base == self._base else Api(self._base, self._token)

    def _call(self, api: Api, *asked: Any, **extra: Any) -> Answer | None:
        """One call; None if the server went away in the middle, which only a killed one may."""
        try:
            return api.call(*asked, **extra)
        except Exception:
            if api.base == self._base and not self.is_server_down:
                raise
            return None

    def _check_refusal(self, asked: str, answer: Answer) -> None:
        """It says why in the dialect's shape, and when to come again."""
        try:
            proper = (
                answer.status in FOR_NOW
                and int(answer.headers["Retry-After"]) > 0
                and isinstance(answer.json["message"]["error"], str)
            )
        except (KeyError, ValueError, TypeError):
            proper = False
        if not proper:
            headers = dict(answer.headers)
            raise AssertionError(f"{asked}: {answer.status} {answer.text[:300]} {headers}")


def stored_orders(stage: Stage) -> set[str]:
    """The names of all orders that there are."""
    return {uuid_of(row.uid) for row in stage.rows(sa.select(models.orders.c.uid))}


def check_kept(customers: Customers) -> None:
    """What was acknowledged is there, once, and nothing else: orders, runs, commits, audit."""
    stage, told = customers.stage, customers.told()
    assert customers.wrong == [], told
    stored = stored_orders(stage)
    assert stored == set(customers.orders.values()), told
    assert len(stored) == len(customers.orders), told
    assert len(stage.rows(sa.select(models.runs.c.id))) == len(stored), told
    assert commits(stage.data) == Counter(customers.edits), told
    assert audited(stage) == Counter(map(digest_of, customers.edits)), told


def commits(data: Path) -> Counter[str]:
    """The messages of all edits on the branch, with how often each is there."""
    repository = GitStore(data / "git").repository(PROJECT)
    past = repository.history("master", limit=100_000)
    return Counter(one.message for one in past if re.fullmatch(r"edit \d+", one.message))


def audited(stage: Stage) -> Counter[str | None]:
    """The digests of the messages of all edits that the audit knows."""
    edits = {digest_of(f"edit {number}") for number in range(1, 10_000)}
    e = audit_entries.c
    query = sa.select(e.after_digest).where(e.action == "recipe.write", e.outcome == "done")
    found = Counter(row.after_digest for row in stage.rows(query))
    return Counter({digest: n for digest, n in found.items() if digest in edits})


def check_ends(customers: Customers) -> None:
    """Every run has ended, no step's end is recorded twice, and the steps' own story agrees."""
    stage, told = customers.stage, customers.told()
    states = Counter(row.state for row in stage.rows(sa.select(models.runs.c.state)))
    assert set(states) <= set(FINAL), told
    e = models.events.c
    ends = Counter(
        (row.run_id, row.body["step"])
        for row in stage.rows(sa.select(e.run_id, e.body).where(e.kind == "step.finished"))
    )
    assert max(ends.values()) == 1, told
    a = models.attempts.c
    succeeded = stage.rows(
        sa.select(models.runs.c.uid, models.steps.c.key, a.step_id)
        .join_from(models.attempts, models.steps, models.steps.c.id == a.step_id)
        .join(models.runs, models.runs.c.id == a.run_id)
        .where(a.state == "succeeded")
    )
    assert len({row.step_id for row in succeeded}) == len(succeeded), told
    story = witness.read(stage.witness)
    told_of = [row for row in succeeded if row.key != "keep"]
    assert all(story.ends[uuid_of(row.uid), row.key] >= 1 for row in told_of), told
    assert check_blobs(stage.database, stage.data) == len(succeeded) - len(told_of), told
    tried = stage.rows(sa.select(sa.func.count()).select_from(models.attempts))[0][0]
    assert sum(story.starts.values()) <= tried, told
    story.check_order()


def check_blobs(database: Database, data: Path) -> int:
    """Every result is there, and is what was said of it; how many there are."""
    blobs = LocalBlobs(data / "blobs")
    query = sa.select(models.runs.c.uid, models.artifacts.c.sha256).join(models.runs)
    with database.reading() as session:
        rows = session.execute(query).all()
    for uid, sha256 in rows:
        assert uuid_of(uid) in blobs.read(sha256).decode()  # `read` compares with the hash
    return len(rows)


def galley(command: click.Command, environment: dict[str, str], *arguments: object) -> Result:
    """Run a command of `galley`; here, for a process of its own takes a second to begin."""
    ours = {name: text for name, text in environment.items() if name.startswith("GALLEY_")}
    return CliRunner().invoke(command, [str(argument) for argument in arguments], env=ours)


def check_health(data: Path, environment: dict[str, str], *, but: tuple[str, ...] = ()) -> None:
    """`galley doctor` finds no fault, except in these subjects."""
    told = galley(doctor, environment, "--deep", "--data", data).output
    faults = [line for line in told.splitlines() if line.startswith("FAULT")]
    assert "is sound" in told
    assert [line for line in faults if line.split()[1] not in but] == []
