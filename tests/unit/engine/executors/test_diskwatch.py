"""What attempts put on the disk together, from outside."""

import os
import time

import pytest

from galley.core.runs.plan import Limits
from galley.engine.executors.local import diskwatch
from galley.engine.executors.local.diskwatch import changed_bytes

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(diskwatch, "LOOK_S", 0.1)
    monkeypatch.setattr(diskwatch, "_REST", 1)


def watched(bench):
    """Wait until the watch has looked a few times."""
    time.sleep(0.6)
    assert bench.executor._supervisor._disk._thread.is_alive()


def test_many_files_of_programs_are_limited_together(make_bench):
    bench = make_bench().start()
    script = "for i in 1 2 3 4 5 6; do head -c 1000000 /dev/urandom > $i; done; sleep 600"
    outcome = bench.run("program", body={"argv": ["sh", "-c", script]}, limits=Limits(disk_mb=4))
    assert (outcome.state, outcome.retryable) == ("failed", False)
    assert outcome.reason.startswith("wrote 6 MB to disk, over its limit of 4 MB: raise `disk_mb`")
    assert "GALLEY_STEP_LIMITS__DISK_MB" in outcome.reason
    assert "E The step wrote 6 MB to disk, over its limit" in bench.log()


@pytest.mark.parametrize("place", ["folder", "work"])
def test_a_step_that_cannot_be_interrupted_is_killed(make_bench, place, tmp_path):
    bench = make_bench(limits=Limits(disk_mb=4)).start()
    body = {"place": place, "files": 6, "until": str(tmp_path / "never"), "deaf": True}
    outcome = bench.run("fill", body=body)
    assert (outcome.state, outcome.retryable) == ("failed", False)
    assert "over its limit of 4 MB" in outcome.reason


def test_what_earlier_steps_wrote_is_not_counted(make_bench, tmp_path):
    bench = make_bench().start()
    go = tmp_path / "go"
    go.touch()
    bench.run("fill", "early", body={"place": "work", "files": 6, "until": str(go)})
    go.unlink()
    time.sleep(0.02)  # the clock of files moves in steps
    body = {"place": "work", "files": 2, "until": str(go)}
    bench.executor.submit(bench.task("late", "fill", body=body, limits=Limits(disk_mb=4)))
    bench.recorder.until(("started",), "late")
    watched(bench)
    go.touch()
    assert bench.recorder.outcome("late").state == "succeeded"


def test_steps_of_a_run_may_write_together_what_their_limits_allow(make_bench, tmp_path):
    bench = make_bench().start()
    go, never = tmp_path / "go", tmp_path / "never"
    idle = {"place": "work", "files": 1, "until": str(go)}
    bench.executor.submit(bench.task("idle", "fill", body=idle, limits=Limits(disk_mb=2)))
    bench.recorder.until(("started",), "idle")
    busy = {"place": "work", "files": 8, "until": str(go)}
    bench.executor.submit(bench.task("busy", "fill", body=busy, limits=Limits(disk_mb=10)))
    bench.recorder.until(("started",), "busy")
    watched(bench)
    go.touch()
    assert bench.recorder.outcome("busy").state == "succeeded"
    assert bench.recorder.outcome("idle").state == "succeeded"
    greedy = {"place": "work", "files": 8, "until": str(never)}
    assert "over its limit" in bench.run("fill", "g", body=greedy, limits=Limits(disk_mb=5)).reason


def test_links_are_counted_once_and_not_followed(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "deep").mkdir(parents=True)
    outside.mkdir()
    (outside / "big").write_bytes(os.urandom(3 * MIB))
    (inside / "deep" / "one").write_bytes(os.urandom(MIB))
    os.link(inside / "deep" / "one", inside / "same")
    (inside / "away").symlink_to(outside)
    (inside / "file").symlink_to(outside / "big")
    before, after = changed_bytes(str(inside), [0.0, time.time() + 60])
    assert MIB <= before < 1.1 * MIB
    assert after == 0
    assert changed_bytes(str(tmp_path / "nowhere"), [0.0]) == [0]


def test_of_a_very_large_folder_a_part_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(diskwatch, "_MOST_FILES", 2)
    for number in range(5):
        (tmp_path / str(number)).write_bytes(os.urandom(MIB))
    (seen,) = changed_bytes(str(tmp_path), [0.0])
    assert 2 * MIB <= seen < 2.1 * MIB
