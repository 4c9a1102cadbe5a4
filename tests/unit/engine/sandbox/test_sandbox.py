"""The command line of the wall, and whether there is one."""

import subprocess
import sys

import pytest

from galley.engine import sandbox


@pytest.fixture(autouse=True)
def fresh():
    for known in (sandbox._program, sandbox.unavailable_because):
        known.cache_clear()
    yield
    for known in (sandbox._program, sandbox.unavailable_because):
        known.cache_clear()


def pairs(argv):
    return {(argv[at], argv[at + 1]) for at in range(len(argv) - 1)}


def test_the_walls(tmp_path):
    argv = sandbox.build_argv(["python", "x.py"], cwd=str(tmp_path), writable=[str(tmp_path)])
    for word in (
        "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net",
        "--die-with-parent", "--new-session",
    ):  # fmt: skip
        assert word in argv
    assert ("--cap-drop", "ALL") in pairs(argv)
    assert argv[-3:] == ["--", "python", "x.py"]
    assert ("--bind", str(tmp_path)) in pairs(argv)
    assert ("--chdir", str(tmp_path)) in pairs(argv)


def test_the_network_on_request():
    assert "--unshare-net" not in sandbox.build_argv(["x"], cwd="/", network=True)


def test_inner_folders_are_bound_after_outer_ones(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    argv = sandbox.build_argv(["x"], cwd="/", readable=[str(inner)], writable=[str(tmp_path)])
    assert argv.index(str(tmp_path)) < argv.index(str(inner))
    assert ("--ro-bind", str(inner)) in pairs(argv)


def test_what_is_not_there_is_left_out_and_the_root_is_never_bound(tmp_path):
    argv = sandbox.build_argv(["x"], cwd="/", readable=["/no/such", "/"], writable=["/"])
    assert "/no/such" not in argv
    assert ("--bind", "/") not in pairs(argv)
    assert ("--ro-bind", "/") not in pairs(argv)


def test_the_interpreter_is_there():
    argv = sandbox.build_argv(["x"], cwd="/")
    base = sys.base_prefix
    assert ("--ro-bind", base) in pairs(argv) or base.startswith("/usr")


def test_no_program_no_wall(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not sandbox.available()
    assert sandbox.unavailable_because() == "the program bwrap is not installed"


def test_a_wall_that_does_not_work_is_told(monkeypatch, tmp_path):
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'no user namespaces' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert sandbox.unavailable_because() == "bwrap failed: no user namespaces"


def test_it_is_tried_once(monkeypatch):
    tries = []

    def run(command, **options):
        tries.append(command)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.setattr(sandbox.subprocess, "run", run)
    monkeypatch.setattr(sandbox.shutil, "which", lambda _name: "/usr/bin/bwrap")
    assert sandbox.available()
    assert sandbox.available()
    assert len(tries) == 1


def test_isolation_says_what_there_is():
    assert any("bubblewrap: own" in text for text in sandbox.isolation(sandboxed=True))
    assert any("no bubblewrap" in text for text in sandbox.isolation(sandboxed=False))
