"""Steps that hang, breed, hoard, babble or kill: each is ended in time, and nothing stays behind.

GALLEY_CHAOS_LONG=1 lets a script print 1 GB instead of 120 MB.
"""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.chaos import crowd
from tests.chaos.test_kills import FINAL, Stage
from tests.contract.live import Api, until

from galley.core.runs import models

IS_LONG = os.environ.get("GALLEY_CHAOS_LONG") == "1"
DETECTED_S = 10.0 if IS_LONG else 120.0  # the promise is 10 s; other tests run beside this one
TIMEOUT_S = 2.0
MEGABYTES = 1000 if IS_LONG else 120
GROWTH_BYTES = 64 << 20
SLOTS = 4
pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("crowds")]
LIMITS = {
    "GALLEY_SLOTS": str(SLOTS),
    "GALLEY_STEP_LIMITS__MEMORY_MB": "256",
    "GALLEY_STEP_LIMITS__PROCESSES": "40",
    "GALLEY_STEP_LIMITS__DISK_MB": "150",
}
SLEEPY = "sleep 600"
ORPHAN = """\
import os, subprocess, sys
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            subprocess.Popen(["sleep", "600"], start_new_session=True)
            os.execvp("sleep", ["sleep", "600"])
        os._exit(0)
print("left three behind")
"""
BABBLE = f"""\
import sys
line = "x" * 999 + "\\n"
for _ in range({MEGABYTES}):
    sys.stdout.write(line * 1000)
"""
KILLER = """\
import os, signal
os.kill(os.getppid(), signal.SIGKILL)  # without effect behind a wall
os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Odd:
    """A misbehaving step: what it runs, how its run ends, and what the step's reason says."""

    state: str
    says: str = ""
    program: tuple[str, ...] = ()
    script: str = ""


ODD = {
    "hang": Odd(
        "failed", "timed out after 2 s",
        program=("bash", "-c", "trap '' TERM HUP INT; while :; do sleep 1; done"),
    ),
    "breed": Odd(
        "failed", "limit of 40 processes at once",
        program=("bash", "-c", "while :; do setsid sleep 600 & done"),
    ),
    "hoard": Odd(
        "failed", "limit of 256 MB of memory",
        program=("python3", "-c", "x = bytearray(10**9)"),
    ),
    "flood": Odd(
        "failed", "limit of 150 MB for one file",
        program=("sh", "-c", "head -c 1000000000 /dev/zero"),
    ),
    "babble": Odd("succeeded", script=BABBLE),
    "orphan": Odd("succeeded", script=ORPHAN),
    "scatter": Odd(
        "succeeded", program=("sh", "-c", f"setsid {SLEEPY} & (setsid {SLEEPY} &) ; echo started")
    ),
    "mute": Odd(
        "failed", "timed out after 2 s",
        program=("sh", "-c", f"exec <&- >&- 2>&-; {SLEEPY}"),
    ),
    "kill": Odd("failed", "SIGKILL", script=KILLER),
}  # fmt: skip
"""Each of them is a step of its own recipe variation."""
PLAIN = {
    "fine": Odd("succeeded", program=("true",)),
    "wait": Odd("canceled", program=("sh", "-c", SLEEPY)),
}


def recipe() -> dict[str, str]:
    """A variation for each odd step, and for the plain ones."""
    steps = {**ODD, **PLAIN}
    files: dict[str, Any] = {
        "description.json": {"description": "for misbehaving steps"},
        "variables.json": {"variable-list": {}},
        "variations.json": {
            "variation-list": {key: {"description": "", "graph-setting": key} for key in steps},
            "graph-setting-list": {key: [[key]] for key in steps},
            "schedule-setting-list": {},
            "override-setting-list": {},
            "conditions-list": {},
            "ingredient-definition-list": [],
        },
    }
    for key, odd in steps.items():
        kind = "DKNode_Container" if odd.script else "DKNode_Action"
        timed = {"timeout": TIMEOUT_S} if "timed out" in odd.says else {}
        files[f"{key}/description.json"] = {"type": kind, "on-crash": "fail", **timed}
        files[f"{key}/notebook.json"] = {}
        if odd.script:
            config = {"dependencies": [], "keys": {"x": {"script": "odd.py"}}}
            files[f"{key}/docker-share/config.json"] = config
            files[f"{key}/docker-share/odd.py"] = odd.script
        else:
            files[f"{key}/actions/do.json"] = {
                "name": "do",
                "type": "DKDataSource_SHELL",
                "config": {},
                "keys": {"do": {"command": list(odd.program)}},
            }
    return {
        path: text if isinstance(text, str) else json.dumps(text) for path, text in files.items()
    }


class Cage(Stage):
    """A stage whose recipe has the odd steps."""

    def prepare(self, api: Api) -> None:
        api.good("POST", "/v2/recipe/create/master/odd", {"templatename": "qs1"})
        tree = api.good("GET", "/v2/recipe/tree/master/odd")["recipes"]["odd"]
        files: dict[str, Any] = {
            f"{folder}/{entry['filename']}".removeprefix("odd/"): {}
            for folder, entries in tree.items()
            for entry in entries
        }
        files |= {path: {"contents": text, "isNew": True} for path, text in recipe().items()}
        api.good("POST", "/v2/recipe/update/master/odd", {"message": "m", "files": files})

    def place(self, api: Api, variation: str) -> str:
        made = api.good("PUT", f"/v2/order/create/master/odd/{variation}", {"schedule": "now"})
        self.orders.append(made["order_id"])
        return str(made["order_id"])

    def ended(self) -> dict[str, Any]:
        """Of each variation: its newest run's state and its step's reason and seconds."""
        r, s, a = models.runs.c, models.steps.c, models.attempts.c
        query = (
            sa.select(s.key, r.uid, r.state, s.reason, a.started_at, a.finished_at)
            .join_from(models.attempts, models.steps, s.id == a.step_id)
            .join(models.runs, r.id == s.run_id)
            .where(r.state.in_(FINAL))
            .order_by(a.id)
        )
        return {row.key: row for row in self.rows(query)}

    def left_behind(self) -> list[int]:
        """The processes that bear the mark of an attempt of this data folder."""
        found = []
        for place in Path("/proc").iterdir():
            if place.name.isdigit():
                try:
                    environ = (place / "environ").read_bytes()
                except OSError:
                    continue
                if f"GALLEY_PROCESS_OF={self.data}".encode() in environ:
                    found.append(int(place.name))
        return found


@pytest.fixture
def cage(tmp_path: Path) -> Iterator[Cage]:
    made = Cage(tmp_path)
    made.environment |= LIMITS
    yield made
    made.database.close()


def told(api: Api, order: str) -> str:
    """Everything that the order's details tell, the log included."""
    body = {"serving_book_hid": order, "logs": True, "summary": True}
    return json.dumps(api.good("POST", "/v2/order/details/master", body))


def test_odd_steps_end_in_time_give_back_their_slots_and_say_why(cage: Cage) -> None:
    with cage.up() as (live, api):
        cage.prepare(api)
        with crowd.Meter(live.process.pid) as meter:
            orders = {key: cage.place(api, key) for key in ODD}
            until(lambda: cage.open_runs() == 0, what="the end of odd steps")
        ended = cage.ended()
        for key, odd in ODD.items():
            row = ended[key]
            took_s = (row.finished_at - row.started_at).total_seconds()
            limit_s = TIMEOUT_S if "timed out" in odd.says else 0.0
            assert (key, row.state) == (key, odd.state), row
            assert odd.says in row.reason, row
            if odd.state == "failed":
                assert took_s < limit_s + DETECTED_S, row
                assert odd.says in told(api, orders[key])
        assert "The log has reached its limit" in told(api, orders["babble"])
        until(lambda: not cage.left_behind(), what="the end of what steps left")
        for _ in range(SLOTS):
            cage.place(api, "wait")
        until(lambda: len(cage.living()) == SLOTS, what="all slots at work")
        api.good("DELETE", "/v2/order/deleteall/master")
        fine = cage.place(api, "fine")
        until(lambda: "fine" in cage.ended(), what="an ordinary run")
        assert '"COMPLETED_SERVING"' in told(api, fine)
        until(lambda: cage.open_runs() == 0, what="the end of what was stopped")
        until(lambda: not cage.left_behind(), what="the end of all its programs")
        meter.check(GROWTH_BYTES)


def test_a_step_whose_own_process_is_killed_is_lost_at_once_with_all_its_children(
    cage: Cage,
) -> None:
    with cage.up() as (_, api):
        cage.prepare(api)
        cage.place(api, "wait")
        (pid,) = until(cage.living, what="a living step").values()
        until(cage.left_behind, what="its program")
        os.kill(pid, signal.SIGKILL)
        until(lambda: "wait" in cage.ended(), seconds=DETECTED_S, what="the run's end")
        assert "SIGKILL" in cage.ended()["wait"].reason
        until(lambda: not cage.left_behind(), what="the end of its program")
        cage.place(api, "fine")
        until(lambda: "fine" in cage.ended(), what="an ordinary run")
