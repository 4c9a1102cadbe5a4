"""Programs of users: output, environment, limits, walls; with bubblewrap and without it."""

import resource
import sys
from pathlib import Path

import pytest

from galley.core.runs.plan import Limits
from galley.engine.executors.local import cgroup


def test_output_goes_to_the_log_in_order(walled):
    outcome = walled.run("program", body={"argv": ["sh", "-c", "echo a; echo b >&2; printf c"]})
    assert outcome.exit_code == 0
    assert [line[28:] for line in walled.log().splitlines()] == ["O a", "O b", "O c"]


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", -9)])
def test_exit_statuses(walled, script, code):
    outcome = walled.run("program", body={"argv": ["sh", "-c", script]})
    assert (outcome.state, outcome.exit_code) == ("failed", code)


def test_the_environment_is_clean(walled, monkeypatch):
    monkeypatch.setenv("A_SERVERS_MATTER", "x")
    walled.run("program", body={"argv": ["env"], "env": {"MINE": "yes"}})
    shown = {line[30:].partition("=")[0] for line in walled.log().splitlines()}
    assert shown - {"PWD", "SHLVL", "_"} == {
        "PATH", "HOME", "LANG", "TMPDIR", "MINE", "GALLEY_PROCESS_OF"
    }  # fmt: skip


def test_home_is_the_work_folder_and_temporary_files_work(walled):
    script = "pwd; echo $HOME; f=$(mktemp) && echo x > $f && cat $f"
    walled.run("program", body={"argv": ["sh", "-c", script]})
    work = str(walled.folder / "work")
    assert [line[30:] for line in walled.log().splitlines()] == [work, work, "x"]


def test_a_secret_cut_by_two_writes_is_masked(walled):
    script = "printf 'say hush-'; sleep 0.2; echo hush-now"
    walled.run("program", body={"argv": ["sh", "-c", script]}, secrets={"v": "hush-hush"})
    assert walled.log()[28:] == "O say [masked]-now\n"


def test_a_missing_program_and_a_missing_folder_are_told(walled):
    missing = walled.run("missing", body={"argv": ["no-such-program"]})
    assert "there is no such program" in missing.reason
    place = walled.run("missing", "two", body={"argv": ["true"], "cwd": "/no/such/place"})
    assert "there is no such folder" in place.reason


def test_standard_input(walled):
    assert walled.run("stdin", body={"size": 300_000}).exit_code == 0
    assert walled.log().split()[-1] == "300000"


def test_a_program_has_its_own_timeout(walled):
    body = {"argv": ["sh", "-c", "sleep 600 & sleep 600"], "timeout_s": 0.3}
    outcome = walled.run("timed", body=body)
    assert outcome.reason == "TimeoutError: sh was ended because its 0.3 s were over"


def test_orphans_end_with_the_program(walled):
    script = "setsid sleep 600 & (setsid sleep 600 &) ; echo started"
    outcome = walled.run("program", body={"argv": ["sh", "-c", script]})
    assert outcome.state == "succeeded"
    assert walled.recorder.outcome("one").usage["wall_s"] < 300


def test_the_log_is_cut_and_the_program_goes_on(make_bench):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bench = make_bench(log_limit_bytes=100_000).start()
    script = "head -c 300000000 /dev/zero | tr '\\0' 'x' ; echo; echo more; touch reached"
    outcome = bench.run("program", body={"argv": ["sh", "-c", script]})
    assert outcome.state == "succeeded"
    assert (bench.folder / "work" / "reached").exists()
    log = bench.log()
    assert len(log) < 101_000
    assert log.splitlines()[-1].endswith(
        "W The log has reached its limit of 0.1 MB: what follows is not kept."
    )
    assert outcome.usage["max_rss_mb"] < 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_memory_of_a_program_is_limited(walled):
    code = "x = bytearray(600 * 1024 * 1024)"
    outcome = walled.run("python", body={"code": code}, limits=Limits(memory_mb=300))
    assert outcome.state == "failed"
    assert "limit of 300 MB of memory: raise `memory_mb`" in outcome.reason


def test_memory_of_all_programs_together_is_limited(walled):
    code = (
        "import os, time\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        x = bytearray(os.urandom(1 << 20)) * 60\n"
        "        time.sleep(600)\n"
        "time.sleep(600)\n"
    )
    outcome = walled.run("python", body={"code": code}, limits=Limits(memory_mb=250))
    assert outcome.state == "failed"
    assert "limit of 250 MB of memory" in outcome.reason


def test_processor_time_of_a_program_is_limited(walled):
    outcome = walled.run("python", body={"code": "while True: pass"}, limits=Limits(cpu_s=1))
    assert "limit of 1 s of processor time" in outcome.reason


def test_a_file_of_a_program_is_limited(walled):
    body = {"argv": ["sh", "-c", "head -c 5000000 /dev/zero > big"]}
    outcome = walled.run("program", body=body, limits=Limits(disk_mb=1))
    assert "limit of 1 MB for one file: raise `disk_mb`" in outcome.reason
    assert (walled.folder / "work" / "big").stat().st_size == 1024 * 1024


@pytest.mark.parametrize(
    "bomb", ["b() { b | b & }; b; sleep 600", "while true; do setsid sleep 600 & done"]
)
def test_a_fork_bomb_is_bounded(walled, bomb):
    body = {"argv": ["bash", "-c", bomb]}
    outcome = walled.run("program", body=body, limits=Limits(processes=40))
    assert outcome.state == "failed"
    assert "limit of 40 processes at once: raise `processes`" in outcome.reason
    assert walled.run("noop", "two").state == "succeeded"


def test_without_a_control_group_the_tasks_of_the_user_are_limited(walled):
    walled.run("program", body={"argv": ["bash", "-c", "ulimit -u"]}, limits=Limits(processes=40))
    shown = walled.log().split()[-1]
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if cgroup.can_be_had():
        assert shown == ("unlimited" if hard == resource.RLIM_INFINITY else str(hard))
    else:
        assert 0 < int(shown) < 40_000


def test_a_container_engine_would_run_outside_the_wall(walled):
    body = {"argv": ["sh", "-c", "echo $TMPDIR"], "sandboxed": False}
    assert walled.run("program", body=body).state == "succeeded"
    assert walled.log().endswith(f"O {walled.file('one', 'tmp')}\n")


BEHIND_THE_WALL = pytest.mark.parametrize("walled", ["sandboxed"], indirect=True)


@BEHIND_THE_WALL
def test_the_wall_hides_files(walled):
    (walled.folder / "private").write_text("x")
    control = walled.file("one", "exit.json")
    script = f"cat {walled.folder}/private; ls /root /home; cat {control}; touch /usr/x"
    walled.run("program", body={"argv": ["sh", "-c", script]})
    log = walled.log()
    assert log.count("No such file or directory") >= 3
    assert "Read-only file system" in log


@BEHIND_THE_WALL
def test_the_wall_hides_processes_and_the_network(walled):
    code = (
        "import os, socket\n"
        "print('processes', sum(name.isdigit() for name in os.listdir('/proc')) < 6)\n"
        "print('interfaces', [name for _, name in socket.if_nameindex()])\n"
        "print('privileges', open('/proc/self/status').read().split('CapEff:')[1].split()[0])\n"
    )
    assert walled.run("python", body={"code": code}).state == "succeeded"
    shown = [line[30:] for line in walled.log().splitlines()]
    assert shown == ["processes True", "interfaces ['lo']", "privileges 0000000000000000"]


@BEHIND_THE_WALL
def test_the_network_is_there_on_request(walled):
    code = "import os; print(os.readlink('/proc/self/ns/net'))"
    walled.run("python", body={"code": code, "network": True})
    assert walled.log().strip().endswith(str(Path("/proc/self/ns/net").readlink()))


@BEHIND_THE_WALL
def test_a_program_that_fails_without_network_is_told_so(walled):
    connect = "import socket; socket.create_connection(('127.0.0.1', 9))"
    hint = "Ask for the network."
    walled.run("python", body={"code": connect, "hint": hint})
    assert hint in walled.log()
    walled.run("python", "two", body={"code": connect, "hint": hint, "network": True})
    walled.run("python", "three", body={"code": "pass", "hint": hint})
    walled.run("python", "four", body={"code": connect})
    others = walled.log("two") + walled.log("three") + walled.log("four")
    assert hint not in others
    assert "network" not in others
    walled.run("shell", "five", body={"command": ["false"]})
    assert "GALLEY_STEP_NETWORK=declared" in walled.log("five")


@BEHIND_THE_WALL
def test_the_tree_is_read_only(walled):
    tree = walled.folder / "tree"
    tree.mkdir()
    (tree / "script.py").write_text("print('from the tree')")
    body = {"argv": ["sh", "-c", f"cat {tree}/script.py; touch {tree}/x"]}
    walled.run("program", body=body, tree=str(tree))
    assert "from the tree" in walled.log()
    assert "Read-only" in walled.log()


def test_an_interpreter_of_an_environment_runs(walled):
    outcome = walled.run("python", body={"code": "import msgspec; print('imported')"})
    assert outcome.state == "succeeded", walled.log()
    assert "O imported" in walled.log()
    assert sys.prefix != sys.base_prefix


@BEHIND_THE_WALL
def test_only_the_place_of_work_can_be_written(walled):
    place = walled.folder / "place"
    place.mkdir()
    kept = walled.file("one", "")
    script = f"touch here; touch {kept}/exit.json; touch {kept}/out/result; ls {kept}"
    walled.run("placed", body={"argv": ["sh", "-c", script], "cwd": str(place)})
    assert (place / "here").exists()
    assert (kept / "out" / "result").exists()
    assert walled.recorder.outcome("one").exit_code == 0
    assert walled.recorder.outcome("one").state == "succeeded"


@BEHIND_THE_WALL
def test_a_shell_command_cannot_swap_the_file_of_its_output(walled):
    secret = walled.folder / "secret.key"
    secret.write_text("TOP SECRET")
    swap = f'out=$(readlink /proc/$$/fd/1); rm -f "$out"; ln -s {secret} "$out"; echo on'
    outcome = walled.run("shell", body={"command": ["sh", "-c", swap]})
    assert outcome.exports == {"value": "on", "left": 0}
    assert "ln: " in walled.log()


def test_file_areas_can_be_used(walled):
    area = walled.folder / "area"
    area.mkdir()
    (area / "in.csv").write_text("a,b")
    body = {"argv": ["sh", "-c", f"cat {area}/in.csv; echo x > {area}/out.csv"]}
    assert walled.run("program", body=body, roots=(str(area),)).state == "succeeded"
    assert walled.log().endswith("O a,b\n")
    assert (area / "out.csv").read_text() == "x\n"
