"""Empty steps: processes that only leave a claim, a log and an exit file."""

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.contract.live import until

from galley.engine.executors.local import Quick, claims, messages, processes, template
from galley.engine.nodes import quick

EMPTY = {"spec": {"kind": "noop", "sleep_s": 0.0}}
CHECKS = {"spec": {"kind": "noop", "checks": [{"name": "c", "action": "log", "variable": "v"}]}}
KILLS = 30


def _bench(make_bench):
    small = Quick(f"{quick.__name__}:run_step", quick.takes, quick.is_empty)
    return make_bench(quick=small).start()


def _template(bench):
    link = bench.executor._supervisors[1]._template.link
    return link.pid if link is not None and link.ready else 0


def test_only_a_step_with_nothing_to_do_is_empty(make_bench):
    bench = make_bench()
    assert quick.is_empty(bench.task("one", "noop", body=EMPTY))
    assert not quick.is_empty(bench.task("one", "noop", body=CHECKS))
    assert not quick.is_empty(bench.task("one", "noop", body=EMPTY, secrets={"vault://a": "b"}))
    sleeps = {"spec": {"kind": "noop", "sleep_s": 0.5}}
    assert not quick.is_empty(bench.task("one", "noop", body=sleeps))


def test_it_leaves_the_same_files_as_any_other_step(make_bench):
    bench = _bench(make_bench)
    outcome = bench.run("noop", body=EMPTY)
    other = bench.run("noop", "two", body=CHECKS)
    assert (outcome.state, outcome.reason, outcome.exit_code) == ("succeeded", "", None)
    assert outcome.timings.keys() == other.timings.keys()
    assert outcome.usage.keys() == other.usage.keys()
    assert outcome.usage["max_rss_mb"] > 1
    started, finished = bench.recorder.of("one")
    assert finished[0] == "finished"
    folder = f"{bench.folder}/attempts/one"
    claim = claims.find(folder)
    assert claim.pid == started[3]["pid"] != _template(bench)
    assert claim.boot == processes.boot_id()
    assert claim.started <= claims.find(f"{bench.folder}/attempts/two").started
    assert sorted(path.name for path in Path(folder).iterdir()) == ["exit.json", "pid"]
    assert bench.log("one") == ""
    assert Path(folder, "exit.json").stat().st_mode & 0o777 == 0o600
    assert not processes.alive(claim.mark)


def test_who_comes_second_leaves_the_attempt_alone(make_bench):
    bench = _bench(make_bench)
    folder = f"{bench.folder}/attempts/one"
    assert claims.abandon(folder, 0)
    bench.executor.submit(bench.task("one", "noop", body=EMPTY))
    kind, _ = bench.recorder.wait("one")
    assert kind in {"never_ran", "lost"}
    assert not Path(folder, "exit.json").exists()
    assert bench.run("noop", "two", body=EMPTY).state == "succeeded"


@pytest.mark.parametrize(
    "point",
    ["empty.forked", "empty.claimed", "empty.before_exit_file", "empty.after_exit_file"],
)
def test_one_that_dies_half_way_takes_its_template_along_and_nothing_else(
    make_bench, monkeypatch, point
):
    monkeypatch.setenv("GALLEY_FAILPOINTS", f"{point}=kill@3")
    bench = _bench(make_bench)
    until(lambda: _template(bench), what="a template")
    first = _template(bench)
    for key in "abcdef":
        bench.executor.submit(bench.task(key, "noop", body=EMPTY))
    ends = {key: bench.recorder.wait(key)[0] for key in "abcdef"}
    monkeypatch.delenv("GALLEY_FAILPOINTS")
    assert set(ends.values()) <= {"finished", "lost"}
    assert (ends["c"] == "lost") == (point in {"empty.claimed", "empty.before_exit_file"})
    until(lambda: _template(bench) not in {0, first}, what="another template")


def test_where_every_one_dies_they_are_not_tried_for_ever(make_bench, monkeypatch):
    monkeypatch.setenv("GALLEY_FAILPOINTS", "empty.forked=kill")
    bench = _bench(make_bench)
    bench.executor.submit(bench.task("one", "noop", body=EMPTY))
    assert bench.recorder.wait("one")[0] == "never_ran"
    assert sorted(path.name for path in Path(bench.folder, "attempts/one").iterdir()) == [
        "pid",
        "pid.1",
    ]


def test_one_that_killed_its_template_is_forked_and_ends_well(make_bench, monkeypatch):
    monkeypatch.setenv("GALLEY_FAILPOINTS", "empty.forked=kill@1")
    bench = _bench(make_bench)
    monkeypatch.delenv("GALLEY_FAILPOINTS")
    bench.executor.submit(bench.task("one", "noop", body=EMPTY))
    assert bench.recorder.outcome("one").state == "succeeded"


def test_where_none_can_be_made_beside_the_template_they_are_forked(monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(
        template, "Beside", type("Beside", (), {"possible": True, "__new__": refuse})
    )
    assert object.__new__(template._Template)._beside is None


def test_however_they_are_killed_every_one_ends_and_no_result_is_half(make_bench):
    chance = random.Random(int(os.environ.get("GALLEY_CHAOS_SEED", "7")))  # noqa: S311
    bench = _bench(make_bench)
    keys, killed = [], 0
    while killed < KILLS:
        if len(bench.executor.list_keys()) < 10:
            keys.append(f"step-{len(keys)}")
            bench.executor.submit(bench.task(keys[-1], "noop", body=EMPTY))
        template = _template(bench)
        children = processes.children(template) if template else []
        if children and chance.random() < 0.5:
            with suppress(ProcessLookupError):
                os.kill(children[0], signal.SIGKILL)
                killed += 1
    for key in keys:
        kind, what = bench.recorder.wait(key)
        assert kind == "lost" or what.state == "succeeded"
        if kind == "finished":
            assert messages.read_outcome(f"{bench.folder}/attempts/{key}") == what
        assert bench.recorder.kinds(key).count(kind) == 1
    assert bench.run("noop", "after", body=EMPTY).state == "succeeded"


def test_where_memory_cannot_be_shared_it_is_forked_as_the_others(tmp_path):
    script = """
import os, socket, sys
from galley.engine.executors.local import template, shim, messages
from galley.engine.executors.local.beside import Beside
Beside.possible = False
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
made = template._Template(theirs, None)
made._leave_files(1, 0, f"{sys.argv[1]}/a\\0{sys.argv[1]}/log".encode())
kind, _, pid = messages.REPORT.unpack(ours.recv(100))
os.waitpid(pid, 0)
print(kind, os.readlink(f"{sys.argv[1]}/a/pid").startswith('{"pid":%d,' % pid))
print(messages.read_outcome(f"{sys.argv[1]}/a").state)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["b's'", "True", "succeeded"], done.stderr
