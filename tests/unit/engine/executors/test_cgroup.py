"""The kernel's own bound on a step's programs, where this machine lets us set one."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.contract.live import until

from galley.engine.executors.local import cgroup, processes
from galley.engine.executors.local.cgroup import ControlGroup
from galley.engine.executors.local.processes import Mark

OURS = processes.mark_of(os.getpid())


@pytest.fixture
def group():
    made = ControlGroup.of(OURS)
    if made is None:
        pytest.skip("this machine's control groups are not ours to use")
    yield made
    made.kill()
    made.remove(240)
    assert not made.exists


def start_within(group, *argv):
    door = group.open_door(20)
    try:
        return subprocess.Popen(
            argv,
            preexec_fn=lambda: os.write(door, b"0"),  # noqa: PLW1509 (a system call only)
            stderr=subprocess.DEVNULL,
        )
    finally:
        os.close(door)


def test_programs_that_only_fork_stay_within_the_bound_and_die(group):
    bomb = start_within(group, "bash", "-c", "b() { b | b & }; b; sleep 600")
    until(group.was_full, what="the bound")
    counted = (cgroup._base() / cgroup._name(OURS) / "pids.current").read_text()
    assert int(counted) <= 20
    assert group.kill() >= 1
    assert bomb.wait(240) == -signal.SIGKILL


def test_a_group_with_somebody_in_it_stays(group):
    program = start_within(group, "sleep", "600")
    group.remove(0)
    assert group.exists
    assert group.kill() == 1
    program.wait(240)
    assert not group.was_full()


def test_what_is_refused_while_all_are_killed_is_no_fault_of_theirs(group):
    program = start_within(group, "sh", "-c", "while true; do sleep 0.02; done")
    until(lambda: processes.children(program.pid), what="a fork")
    (cgroup._base() / cgroup._name(OURS) / "pids.max").write_text("0")
    group._refused_in_all = 0  # as `kill` leaves it
    until(lambda: group._refused_now() > 0, what="a refusal")
    assert not group.was_full()
    group.kill()
    program.wait(240)
    assert not group.was_full()


def test_a_group_that_was_killed_takes_the_next_program(group):
    assert start_within(group, "true").wait(240) == 0
    assert group.kill() == 0
    assert start_within(group, "sh", "-c", "true & wait").wait(240) == 0
    assert not group.was_full()


def test_groups_of_shims_that_are_no_more_are_taken_away(group):
    lost = ControlGroup.of(Mark(pid=OURS.pid, started=OURS.started + 1, boot=""))
    for one in (lost, group):
        os.close(one.open_door(20))
    cgroup.remove_abandoned()
    assert (lost.exists, group.exists) == (False, True)


def test_no_group_stays_after_a_program_that_cannot_be_started(bench):
    (bench.folder / "work").mkdir()
    script = bench.folder / "work" / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    outcome = bench.run("program", body={"argv": [str(script)]})
    assert outcome.state == "failed"
    assert left_by(bench) == []


def left_by(bench):
    _, _, _, handle = bench.recorder.until(("started",), "one")
    base = cgroup._base()
    return [] if base is None else list(base.glob(f"galley.{handle['pid']}.*"))


def test_a_killed_shims_programs_and_group_are_gone(own_bench):
    script = "echo up; setsid sleep 600 & sleep 600"
    own_bench.executor.submit(own_bench.task("one", "program", body={"argv": ["sh", "-c", script]}))
    _, _, _, handle = own_bench.recorder.until(("started",), "one")
    log = own_bench.folder / "logs" / "one.log"
    until(lambda: log.exists() and "up" in log.read_text(), what="the program")
    mark = processes.mark_of(handle["pid"])
    group = ControlGroup.of(mark)
    assert group is None or group.exists
    below = processes.descendants(mark.pid)
    os.kill(mark.pid, signal.SIGKILL)
    own_bench.recorder.wait("one")
    assert group is None or not group.exists
    assert [pid for pid in below if processes.started_ticks(pid) is not None] == []


def test_no_group_stays_after_a_step(bench):
    assert bench.run("program", body={"argv": ["true"]}).state == "succeeded"
    assert left_by(bench) == []


@pytest.mark.parametrize(
    ("root", "place", "below"),
    [
        ("/", "/", ""),
        ("/", "/user/7", "user/7"),
        ("/docker/x", "/docker/x", ""),
        ("/docker/x", "/docker/x/y", "y"),
        ("/docker/x", "/docker/xy", None),
    ],
)
def test_the_folder_below_a_mount_of_version_1(root, place, below):
    mount = f"39 31 0:36 {root} /groups rw shared:3 - cgroup cgroup rw,pids".split()
    found = cgroup._base_of(mount, {"pids": place, "": "/"})
    assert found == (None if below is None else Path("/groups", below))


def test_another_controllers_mount_is_none_of_ours():
    mount = "35 31 0:32 / /groups rw shared:3 - cgroup cgroup rw,memory"
    assert cgroup._base_of(mount.split(), {"pids": "/", "memory": "/"}) is None


@pytest.mark.parametrize("enabled", ["", "cpu pids\n"])
def test_version_2_divides_what_was_delegated(tmp_path, enabled):
    unit = tmp_path / "system.slice" / "galley.service"
    (unit / "main").mkdir(parents=True)
    control = unit / "cgroup.subtree_control"
    control.write_text(enabled)
    mount = f"41 31 0:38 / {tmp_path} rw - cgroup2 cgroup2 rw,nsdelegate".split()
    places = {"": "/system.slice/galley.service/main"}
    assert cgroup._base_of(mount, places) is None
    try:
        os.setxattr(unit, "user.delegate", b"1")
    except OSError:
        pytest.skip("the folder for temporary files has no extended attributes")
    assert cgroup._base_of(mount, places) == unit
    assert control.read_text() == (enabled or "+pids")


def test_where_groups_cannot_be_made_there_is_none(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cgroup, "_base", lambda: tmp_path / "file")
    assert ControlGroup.of(OURS).open_door(20) is None
    monkeypatch.setattr(cgroup, "_base", lambda: None)
    assert ControlGroup.of(OURS) is None


def test_who_could_not_look_looks_again(monkeypatch):
    def fail():
        raise OSError(24, "Too many open files")

    cgroup._base.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(cgroup, "_own_places", fail)
        assert ControlGroup.of(OURS) is None
        assert not cgroup.can_be_had()
    assert cgroup.can_be_had() == (ControlGroup.of(OURS) is not None)
