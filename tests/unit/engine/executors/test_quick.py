"""Two templates: a small one for the tasks that it takes, and the whole one for all others."""

import json
import subprocess
import sys

from tests.contract.live import until

from galley.core.runs.plan import Limits
from galley.engine.executors.local import Quick
from galley.engine.nodes import quick

SETTLED = {"spec": {"kind": "noop", "checks": [{"name": "c", "action": "log", "variable": "v"}]}}
STEPS = "steps:run_step"


def takes(task):
    return task.step_key == "small"


def test_a_task_goes_to_the_template_that_takes_it(make_bench):
    bench = make_bench(run_step=STEPS, quick=Quick(f"{quick.__name__}:run_step", takes)).start()
    assert bench.run("noop", "whole").exports["pid"] > 0  # the steps of tests, which export it
    checked = bench.run("noop", "small", body=SETTLED)
    assert checked.state == "succeeded", checked
    assert [check.name for check in checked.checks] == ["c"]
    assert "c" in bench.log("small")
    assert bench.executor.trouble is None


def test_tasks_of_both_are_known_canceled_and_adopted(make_bench):
    keys = ("whole", "small")
    both = Quick(STEPS, takes)
    bench = make_bench(quick=both).start()
    gate = {"at": f"{bench.folder}/there", "until": f"{bench.folder}/gate"}
    bench.folder.mkdir(exist_ok=True)
    for key in keys:
        bench.executor.submit(bench.task(key, "wait", body=gate))
        bench.recorder.until(("started",), key)
    assert bench.executor.list_keys() == {"whole", "small"}
    pids = {key: bench.recorder.of(key)[0][3]["pid"] for key in keys}
    bench.executor.stop()
    bench.executor = bench.make(quick=both)
    bench.start()
    for key in keys:
        bench.executor.adopt(bench.task(key, "wait", body=gate))
    bench.cancel("small")
    bench.cancel("nobody")
    assert bench.recorder.outcome("small").state == "canceled"
    (bench.folder / "gate").touch()
    assert bench.recorder.outcome("whole").exports["pid"] == pids["whole"]


def test_what_others_write_is_not_laid_at_the_door_of_a_small_step(make_bench, tmp_path):
    bench = make_bench(quick=Quick(STEPS, takes)).start()
    go = tmp_path / "go"
    little, much = Limits(disk_mb=1), Limits(disk_mb=100)
    gate = {"at": f"{tmp_path}/there", "until": str(go)}
    bench.executor.submit(bench.task("small", "wait", body=gate, limits=little))
    bench.recorder.until(("started",), "small")
    body = {"place": "work", "files": 6, "until": str(go)}
    bench.executor.submit(bench.task("whole", "fill", body=body, limits=much))
    until(lambda: len(list(bench.folder.glob("work/whole-*"))) == 6, what="six files")
    bench.executor._supervisors[0]._disk.look()  # the whole one's watch; the small one has none
    assert bench.executor._supervisors[1]._disk is None
    go.touch()
    assert bench.recorder.outcome("small").state == "succeeded"
    assert bench.recorder.outcome("whole").state == "succeeded"


def test_a_step_that_keeps_files_is_not_small(make_bench):
    bench = make_bench()
    kept = {"spec": {"kind": "noop", "artifacts": ["a.txt"]}}
    assert quick.takes(bench.task("one", "noop", body=SETTLED))
    assert not quick.takes(bench.task("one", "noop", body=kept))
    assert not quick.takes(bench.task("one", "noop"))


def test_the_small_template_loads_nothing_that_acts_at_every_fork():
    load = "import sys, json, importlib, galley.engine.executors.local.template as t\n"
    load += "import galley.engine.nodes.quick as q\n"
    load += "[importlib.import_module(name) for name in q.PRELOAD]\n"
    load += "print(json.dumps(sorted(sys.modules)))"
    printed = subprocess.check_output([sys.executable, "-c", load])
    loaded = set(json.loads(printed))
    assert not loaded & {"threading", "random", "logging", "subprocess", "duckdb", "jinja2"}
