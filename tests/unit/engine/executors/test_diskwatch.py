"""What attempts put on the disk together, from outside."""

import os
import re
import time

import pytest
from tests.contract.live import until

from galley.core.runs.plan import Limits
from galley.engine.executors.local import diskwatch
from galley.engine.executors.local.attempt import Attempt
from galley.engine.executors.local.diskwatch import DiskWatch, Mark, added_bytes, mark_of
from galley.engine.executors.local.link import TemplateLink

MIB = 1 << 20
NOTHING = Mark(0.0, {})


@pytest.fixture(autouse=True)
def looks(monkeypatch):
    """Lets watches look often; which watch has looked, once for each look."""
    monkeypatch.setattr(diskwatch, "LOOK_S", 0.1)
    monkeypatch.setattr(diskwatch, "_REST", 1)
    done, look = [], DiskWatch.look

    def noted(watch):
        look(watch)
        done.append(watch)

    monkeypatch.setattr(DiskWatch, "look", noted)
    return done


def watched(bench, looks):
    """Wait until the watch has looked a few times at what has been at work for long enough."""
    time.sleep(0.1)
    before, watch = len(looks), bench.executor._supervisors[0]._disk
    until(lambda: looks[before:].count(watch) > 3, what="four looks")


def test_many_files_of_programs_are_limited_together(make_bench):
    bench = make_bench().start()
    script = "for i in 1 2 3 4 5 6; do head -c 1000000 /dev/urandom > $i; done; sleep 600"
    outcome = bench.run("program", body={"argv": ["sh", "-c", script]}, limits=Limits(disk_mb=4))
    assert (outcome.state, outcome.retryable) == ("failed", False)
    said = re.match(r"wrote \d MB to disk, over its limit of 4 MB: raise `disk_mb`", outcome.reason)
    assert said is not None, outcome.reason
    assert "GALLEY_STEP_LIMITS__DISK_MB" in outcome.reason
    assert f"E The step {said[0].split(':')[0]}" in bench.log()


@pytest.mark.parametrize("place", ["folder", "work"])
def test_a_step_that_cannot_be_interrupted_is_killed(make_bench, place, tmp_path):
    bench = make_bench(limits=Limits(disk_mb=4)).start()
    body = {"place": place, "files": 6, "until": str(tmp_path / "never"), "deaf": True}
    outcome = bench.run("fill", body=body)
    assert (outcome.state, outcome.retryable) == ("failed", False)
    assert "over its limit of 4 MB" in outcome.reason


def test_what_earlier_steps_wrote_is_not_counted(make_bench, looks, tmp_path):
    bench = make_bench().start()
    go = tmp_path / "go"
    go.touch()
    bench.run("fill", "early", body={"place": "work", "files": 6, "until": str(go)})
    go.unlink()
    time.sleep(0.02)  # the clock of files moves in steps
    body = {"place": "work", "files": 2, "until": str(go)}
    bench.executor.submit(bench.task("late", "fill", body=body, limits=Limits(disk_mb=4)))
    bench.recorder.until(("started",), "late")
    watched(bench, looks)
    go.touch()
    assert bench.recorder.outcome("late").state == "succeeded"


def test_a_step_may_move_and_append_to_what_earlier_ones_wrote(make_bench, looks, tmp_path):
    bench = make_bench().start()
    go = tmp_path / "go"
    go.touch()
    bench.run("fill", "early", body={"place": "work", "files": 6, "until": str(go)})
    go.unlink()
    time.sleep(0.05)  # more than a tick of the kernel's
    work = bench.folder / "work"
    script = (
        f"set -e; cd {work}; mkdir new; for f in $(ls); do [ $f = new ] && continue; "
        f"echo x >> $f; chmod 600 $f; ln $f new/l-$f; mv $f new/$f; done; touch {tmp_path}/moved; "
        f"while ! [ -e {go} ]; do sleep 0.05; done; "
        "for i in 1 2 3; do head -c 2000000 /dev/urandom > $i; done; sleep 600"
    )
    body = {"argv": ["sh", "-c", script]}
    bench.executor.submit(bench.task("late", "program", body=body, limits=Limits(disk_mb=4)))
    bench.recorder.until(("started",), "late")
    until((tmp_path / "moved").exists, what="what it moved")
    watched(bench, looks)
    assert "finished" not in bench.recorder.kinds("late")
    go.touch()  # what it writes itself is still counted
    assert "over its limit of 4 MB" in bench.recorder.outcome("late").reason


def test_growth_counts_and_a_new_file_counts_whole(tmp_path):
    old = tmp_path / "old"
    old.write_bytes(os.urandom(3 * MIB))
    time.sleep(0.05)  # more than a tick of the kernel's
    mark = mark_of(str(tmp_path))
    old.chmod(0o600)
    os.link(old, tmp_path / "same")
    assert added_bytes(str(tmp_path), [mark]) == [0]
    with old.open("ab") as file:
        file.write(os.urandom(MIB))
    (tmp_path / "new").write_bytes(os.urandom(2 * MIB))
    (added,) = added_bytes(str(tmp_path), [mark])
    assert 3 * MIB <= added < 3.1 * MIB
    old.write_bytes(b"")  # what shrinks makes no room for more
    (added,) = added_bytes(str(tmp_path), [mark])
    assert 2 * MIB <= added < 2.1 * MIB


def test_of_a_large_folder_a_part_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(diskwatch, "_MOST_NOTED", 2)
    for number in range(5):
        (tmp_path / str(number)).write_bytes(os.urandom(MIB))
    mark = mark_of(str(tmp_path))
    assert len(mark.blocks) == 2
    for path in tmp_path.iterdir():
        path.chmod(0o600)
    (added,) = added_bytes(str(tmp_path), [Mark(0.0, mark.blocks)])
    assert 3 * MIB <= added < 3.1 * MIB


def test_folders_take_from_what_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(diskwatch, "_MOST_NOTED", 3)
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "far").touch()
    assert mark_of(str(tmp_path)).blocks == {}
    (deep / "far").rename(deep.parent.parent / "near")
    assert len(mark_of(str(tmp_path)).blocks) <= 1


def test_what_a_fast_step_writes_at_once_is_its_own(make_bench, monkeypatch):
    def slow_mark(folder):
        time.sleep(1)
        return mark_of(folder)

    monkeypatch.setattr(diskwatch, "mark_of", slow_mark)
    bench = make_bench().start()
    work = bench.folder / "work"
    script = (
        f"cd {work}; for i in 1 2 3 4 5 6; do head -c 1000000 /dev/urandom > $i; done; sleep 600"
    )
    outcome = bench.run("program", body={"argv": ["sh", "-c", script]}, limits=Limits(disk_mb=4))
    assert "over its limit of 4 MB" in outcome.reason


def test_an_attempt_that_was_not_sent_is_not_watched(make_bench, monkeypatch):
    seen = []
    send = TemplateLink.send

    def refuse_once(link, *request):
        supervisor = bench.executor._supervisors[0]
        seen.append((supervisor._busy, len(supervisor._disk._watched)))
        return len(seen) > 1 and send(link, *request)

    bench = make_bench()
    monkeypatch.setattr(TemplateLink, "send", refuse_once)
    bench.start()
    assert bench.run("noop").state == "succeeded"
    assert seen == [(1, 1), (1, 1)]


def test_attempts_that_begin_together_share_a_mark(bench, tmp_path, monkeypatch):
    marked = []

    def mark(folder):
        marked.append(folder)
        time.sleep(0.01)
        return mark_of(folder)

    monkeypatch.setattr(diskwatch, "mark_of", mark)
    monkeypatch.setattr(diskwatch, "_REST", 1000)
    watch = DiskWatch(Limits(disk_mb=4), lambda *_: None)
    for key in "abc":
        watch.began(Attempt.of(bench.task(key, "noop"), None))
    assert len(marked) == 1
    for key in "abc":
        watch.ended(bench.prefix + key)
    watch.began(Attempt.of(bench.task("d", "noop"), None))
    assert len(marked) == 2
    watch.close()


def test_steps_of_a_run_may_write_together_what_their_limits_allow(make_bench, looks, tmp_path):
    bench = make_bench().start()
    go, never = tmp_path / "go", tmp_path / "never"
    idle = {"place": "work", "files": 1, "until": str(go)}
    bench.executor.submit(bench.task("idle", "fill", body=idle, limits=Limits(disk_mb=2)))
    bench.recorder.until(("started",), "idle")
    busy = {"place": "work", "files": 8, "until": str(go)}
    bench.executor.submit(bench.task("busy", "fill", body=busy, limits=Limits(disk_mb=10)))
    bench.recorder.until(("started",), "busy")
    watched(bench, looks)
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
    before, after = added_bytes(str(inside), [NOTHING, Mark(time.time() + 60, {})])
    assert MIB <= before < 1.1 * MIB
    assert after == 0
    assert added_bytes(str(tmp_path / "nowhere"), [NOTHING]) == [0]


def test_of_a_very_large_folder_a_part_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(diskwatch, "_MOST_FILES", 2)
    for number in range(5):
        (tmp_path / str(number)).write_bytes(os.urandom(MIB))
    (seen,) = added_bytes(str(tmp_path), [NOTHING])
    assert 2 * MIB <= seen < 2.1 * MIB
