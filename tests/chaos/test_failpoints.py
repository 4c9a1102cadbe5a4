"""Killed at each durable step on the way of a run, a schedule, an alert and a result.

Each test arms one failpoint, lets everything happen that passes by it, and starts a fresh server
after the kill, to which the same requests are sent again. A point that nothing passes fails.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from tests.chaos import witness
from tests.chaos.test_kills import USER, Stage
from tests.chaos.test_workers import worker
from tests.contract.live import PASSWORD, PATIENCE_S, Api, until

from galley.core.runs import models
from galley.storage.blobs import LocalBlobs

pytestmark = pytest.mark.timeout(1800)

IN_STEPS = (
    "shim.forked",
    "shim.claimed",
    "shim.prepared",
    "shim.before_exit_file",
    "shim.after_exit_file",
    "environment.built",
    "environment.named",
    "connector.table_written",
    "connector.table_named",
    "connector.file_written",
    "connector.file_named",
    "step.staged",
)
"""Where the process of a step is killed."""
IN_SERVER = (
    "session.before_commit",
    "session.after_commit",
    "idempotency.before_store",
    "git.objects_written",
    "git.branch_moved",
    "git.checked_out",
    "ledger.before_write",
    "writer.before_commit",
    "writer.after_commit",
    "writer.between_acts",
    "executor.sent",
    "blobs.written",
    "blobs.named",
    "publish.stored",
    "mailer.before_send",
    "mailer.after_send",
    "mailer.after_mark",
    "scheduler.before_fire",
    "scheduler.after_fire",
)
"""Where the server is killed."""
IN_CLUSTER = (
    ("cluster.lease_taken", "start"),
    ("inbox.before_commit", "worker"),
    ("inbox.after_commit", "worker"),
    ("worker.taken", "worker"),
    ("inbox.taken", "server"),
    ("inbox.answered", "server"),
)
"""Where a server or a worker that share a Postgres is killed."""
QUICK = {
    ("sqlite", name)
    for name in (
        "shim.claimed",
        "publish.stored",
        "writer.before_commit",
        "writer.after_commit",
        "mailer.after_send",
        "scheduler.before_fire",
    )
}
RECIPE = {
    "variations.json": {
        "variation-list": {"v": {"description": "", "graph-setting": "g"}},
        "graph-setting-list": {"g": [*witness.EDGES, ["h", "i"], ["i", "j"]]},
        "schedule-setting-list": {},
        "override-setting-list": {},
        "conditions-list": {},
        "ingredient-definition-list": [],
    },
    "i/description.json": {"type": "DKNode_Container", "description": "leaves a report"},
    "i/notebook.json": {},
    "i/docker-share/config.json": {"dependencies": [], "keys": {"x": {"script": "report.py"}}},
    "j/description.json": {"type": "DKNode_DataMapper", "description": "copies a table"},
    "j/notebook.json": {
        "mappings": {
            "m": {
                "source-name": "from",
                "source-key": "numbers.csv",
                "sink-name": "to",
                "sink-key": "copy.jsonl",
            }
        },
        "artifacts": ["copy.jsonl"],
    },
    "j/data_sources/from.json": {
        "name": "from",
        "type": "DKDataSource_File",
        "config": {},
        "keys": {"numbers.csv": {}},
    },
    "j/data_sinks/to.json": {
        "name": "to",
        "type": "DKDataSink_File",
        "config": {},
        "keys": {"copy.jsonl": {}},
    },
}
SCRIPT = """\
open(HELPERS.output("report.txt"), "w").write("a report of " + HELPERS.run)
open(HELPERS.shared("numbers.csv"), "w").write("a,b\\n1,2\\n")
"""
_FORM = "application/x-www-form-urlencoded"
LEFT = sorted(["copy.jsonl", "report.txt", *map(witness.kept_name, witness.KEPT)])


class Postbox:
    """What came by mail: Message-ID -> how often."""

    def __init__(self) -> None:
        self.letters: Counter[str] = Counter()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        head = envelope.content.decode().splitlines()
        self.letters[next(line for line in head if line.startswith("Message-ID:"))] += 1
        return "250 taken"


class Scene(Stage):
    """A stage whose recipe also leaves results, with a mail server and a schedule to come due."""

    def __init__(self, folder: Path, address: str | None, mail_port: int, box: Postbox) -> None:
        super().__init__(folder, address, steps=10)
        self.box = box
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.clock = folder / "clock"
        self.clock.write_text("0")
        self.environment |= {
            "GALLEY_TEST_CLOCK": str(self.clock),
            "GALLEY_SMTP_HOST": "127.0.0.1",
            "GALLEY_SMTP_PORT": str(mail_port),
        }
        self.due = (datetime.now(UTC) + timedelta(minutes=40)).replace(second=0, microsecond=0)

    def arming(self, name: str) -> dict[str, str]:
        return {"GALLEY_FAILPOINTS": f"{name}=kill", "GALLEY_FAILPOINTS_AT": str(self.marks)}

    def arm(self) -> None:
        (self.marks / "armed").touch()

    def prepare(self) -> None:
        """The recipe, and an order whose time is in forty minutes."""
        texts = {path: json.dumps(content) for path, content in RECIPE.items()}
        texts["i/docker-share/report.py"] = SCRIPT
        with self.up() as (_, api):
            self.load_recipe(api, step_s=0.05, **texts)
            self.place(api, "scheduled", f"{self.due.minute} {self.due.hour} * * *")
        self.orders = ["now", "scheduled"]

    def place(self, api: Api, key: str, schedule: str) -> None:
        body = {"schedule": schedule, "alerts": {"orderrunSuccess": ["ann@example.org"]}}
        path = "/v2/order/create/master/chaos/v"
        api.good("PUT", path, body, headers={"Idempotency-Key": key})

    def act(self, api: Api) -> None:
        """Send every request; those that a kill cuts short are sent again after it."""
        change = {"description.json": {"contents": '{"description": "again"}'}}
        calls: tuple[Callable[[], object], ...] = (
            lambda: api.call(
                "POST",
                "/v2/login",
                content=urlencode({"username": USER, "password": PASSWORD}),
                headers={"Idempotency-Key": "login", "Content-Type": _FORM},
            ),
            lambda: api.good(
                "POST",
                "/v2/recipe/update/master/chaos",
                {"message": "m", "files": change},
                headers={"Idempotency-Key": "update"},
            ),
            lambda: self.place(api, "now", "now"),
            self.advance,
            lambda: self.place(api, "far", "0 0 1 1 *"),  # wakes the scheduler
        )
        for call in calls:
            with suppress(httpx2.TransportError):
                call()

    def advance(self) -> None:
        """Let the schedule be due."""
        self.clock.write_text(str((self.due - datetime.now(UTC)).total_seconds() + 2))

    def is_done(self) -> bool:
        """Two runs have ended, and nothing waits to be told."""
        box = models.outbox.c
        waiting = sa.select(sa.func.count()).where(box.state == "waiting")
        runs = self.rows(sa.select(sa.func.count()).select_from(models.runs))[0][0]
        return runs == 2 and self.open_runs() == 0 and self.rows(waiting)[0][0] == 0

    def check_all(self) -> None:
        """Every promise: steps and runs once, the schedule once, results once, alerts at least."""
        self.check()
        self.check_finishes()
        self.check_file()
        fires = self.rows(sa.select(models.schedule_fires.c.outcome))
        assert [row.outcome for row in fires] == ["fired"]
        a = models.artifacts.c
        kept: dict[int, list[str]] = {}
        blobs = LocalBlobs(self.data / "blobs")
        for run_id, name, sha256 in self.rows(sa.select(a.run_id, a.name, a.sha256)):
            kept.setdefault(run_id, []).append(name)
            assert blobs.read(sha256)
        assert [sorted(names) for names in kept.values()] == [LEFT, LEFT]
        box = models.outbox.c
        assert [row.state for row in self.rows(sa.select(box.state))] == ["sent", "sent"]
        assert len(self.box.letters) == 2
        assert sum(self.box.letters.values()) <= 3


@contextmanager
def scene(folder: Path, address: str | None, port: int) -> Iterator[Scene]:
    box = Postbox()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    made = Scene(folder, address, port, box)
    try:
        made.prepare()
        yield made
    finally:
        made.database.close()
        controller.stop()


def finish(stage: Scene) -> None:
    """A fresh server ends what was begun."""
    with stage.up() as (live, api):
        stage.act(api)
        until(stage.is_done, what="the end of everything")
        stage.check_results(live.base)
    stage.check_all()


SOLO = [
    pytest.param(kind, name, marks=() if (kind, name) in QUICK else pytest.mark.slow)
    for kind in ("sqlite", "postgres")
    for name in (*IN_SERVER, *IN_STEPS)
]


@pytest.mark.parametrize(("kind", "name"), SOLO)
def test_killed_there_nothing_is_lost_or_done_twice(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    free_port: Callable[[], int],
    kind: str,
    name: str,
) -> None:
    address = request.getfixturevalue("postgres_url") if kind == "postgres" else None
    with scene(tmp_path, address, free_port()) as stage:
        mark = stage.marks / name
        with stage.up(**stage.arming(name)) as (live, api):
            stage.arm()
            stage.act(api)
            until(lambda: mark.exists() or stage.is_done(), what="the kill")
            assert mark.exists(), f"nothing passes by {name}"
            if name in IN_SERVER:
                assert live.process.wait(PATIENCE_S) == 137
        finish(stage)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "who"), IN_CLUSTER)
def test_killed_there_servers_and_workers_go_on(
    tmp_path: Path, postgres_url: str, free_port: Callable[[], int], name: str, who: str
) -> None:
    with scene(tmp_path, postgres_url, free_port()) as stage:
        mark, arming = stage.marks / name, stage.arming(name)
        if who == "start":
            stage.arm()
            with pytest.raises(AssertionError, match="did not get ready"), stage.up(**arming):
                pass
        else:
            stage.environment["GALLEY_SLOTS"] = "1"
            server = arming if who == "server" else {}
            helper = arming if who == "worker" else {}
            with stage.up(**server) as (live, api), worker(stage, "w1", **helper) as process:
                stage.arm()
                stage.act(api)
                until(lambda: mark.exists() or stage.is_done(), what="the kill")
                assert mark.exists(), f"nothing passes by {name}"
                killed = live.process if who == "server" else process
                assert killed.wait(PATIENCE_S) == 137
        assert mark.exists()
        if who == "start":
            finish(stage)
            return
        with worker(stage, "w1"):
            finish(stage)
