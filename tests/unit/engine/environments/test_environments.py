import io
import os
import subprocess
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from tests.unit.engine.console import MemoryConsole

from galley.engine import environments
from galley.engine.environments import (
    EnvironmentStore,
    checked_requirements,
    environment_key,
)
from galley.engine.faults import StepError

WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of packages that uv takes instead of an index; gives a function that adds one."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")

    def add(name, version="1.0", size=0):
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", f"VERSION = '{version}'\n" + "#" * size)
            facts = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            wheel.writestr(f"{info}/METADATA", facts)
            wheel.writestr(f"{info}/WHEEL", WHEEL)
            wheel.writestr(f"{info}/RECORD", "")

    return add


@pytest.fixture
def console():
    return MemoryConsole()


def run(interpreter, code):
    argv = [interpreter.python, "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != ".cache")


def test_an_environment_has_its_requirements_and_is_built_once(tmp_path, shelf, console):
    shelf("tinypkg", "1.5")
    store = EnvironmentStore(tmp_path / "envs")
    with store.using(["tinypkg==1.5"], console) as found:
        assert run(found, "import tinypkg; print(tinypkg.VERSION)") == "1.5"
        assert run(found, "import importlib.util as u; print(u.find_spec('galley'))") == "None"
    built = len(console.programs)
    with store.using(["tinypkg==1.5"], console) as again:
        assert again == found
    assert len(console.programs) == built == 3
    assert [p["network"] for p in console.programs] == [True, True, False]
    assert all(p["sandboxed"] for p in console.programs)
    assert not any(p["hint"] for p in console.programs)
    assert visible(tmp_path / "envs") == [environment_key(["tinypkg==1.5"])]


def test_the_key_names_the_set_of_requirements():
    assert environment_key(["a==1", "b==2"]) == environment_key(["b==2", "a==1"])
    assert environment_key(["a==1"]) != environment_key(["a==2"])


def test_many_at_once_build_once(tmp_path, console):
    store = EnvironmentStore(tmp_path / "envs")
    together = threading.Barrier(4)
    found = []

    def use():
        together.wait()
        with store.using([], console) as interpreter:
            found.append(interpreter)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert len(console.programs) == 1


def test_what_cannot_be_installed_leaves_nothing(tmp_path, shelf, console):
    store = EnvironmentStore(tmp_path / "envs")
    with (
        pytest.raises(
            StepError, match=r"missingpkg==9 could not be built: uv ended with exit code"
        ),
        store.using(["missingpkg==9"], console),
    ):
        pytest.fail("no environment can be there")
    assert visible(tmp_path / "envs") == []
    assert "missingpkg" in console.text


@pytest.mark.parametrize(
    "line",
    ["pandas", "pandas==2.3", "a[b,c]>=1,<2", "a ~= 1.4.2", "a!=1.5", "zope.interface",
     "a==1 ; python_version < '3.12'", "a==1.*", "torch==2.0+cpu"],
)  # fmt: skip
def test_plain_requirements_are_taken(line):
    assert checked_requirements([line]) == (line,)


@pytest.mark.parametrize(
    "line",
    ["-r other.txt", "--index-url=http://x", "-e .", "pkg @ file:///etc", "pkg @ http://x/y.whl",
     "./local", "/abs/path.whl", "http://x/y.whl", "git+https://x/y", "a b", "a==1 --hash=x",
     "a\n-r b", "a==1\\", "", "  # only words"],
)  # fmt: skip
def test_everything_else_is_refused_or_left_out(line):
    if line.strip() == "" or line.strip().startswith("#"):
        assert checked_requirements([line]) == ()
    else:
        with pytest.raises(StepError, match="not of the form name==version"):
            checked_requirements([line])


def test_the_least_recently_used_goes_unless_it_is_in_use(tmp_path, shelf, console):
    for name in ("one", "two", "three"):
        shelf(name, size=900_000)
    store = EnvironmentStore(tmp_path / "envs", max_mb=2)
    folder = tmp_path / "envs"
    keys = {name: environment_key([name]) for name in ("one", "two", "three")}
    with store.using(["one"], console):
        with store.using(["two"], console):
            pass
        os.utime(folder / f"{keys['one']}.lock", (1, 1))
        os.utime(folder / f"{keys['two']}.lock", (2, 2))
        with store.using(["three"], console):
            pass
        assert visible(folder) == sorted([keys["one"], keys["three"]])
    with store.using(["two"], console):
        assert keys["two"] in visible(folder)
        assert keys["one"] not in visible(folder)


def test_what_killed_builds_and_deletions_left_goes_once_it_is_surely_dead(
    tmp_path, shelf, console, monkeypatch
):
    for name in ("one", "two"):
        shelf(name, size=900_000)
    folder = tmp_path / "envs"
    store = EnvironmentStore(folder, max_mb=1)

    def crash(name):
        if name == "environment.doomed":
            raise SystemError

    with store.using(["one"], console):
        pass
    monkeypatch.setattr(environments, "failpoint", crash)
    with pytest.raises(SystemError), store.using(["two"], console):
        pass
    (left,) = folder.glob(".*.old")
    (folder / ".young.1.tmp").mkdir()
    (folder / ".odd.1.build").mkdir()
    for litter in (left, folder / ".odd.1.build"):
        os.utime(litter, (1, 1))
    monkeypatch.undo()
    with store.using([], console):
        pass
    assert [path.name for path in folder.glob(".*.*")] == [".young.1.tmp"]


BACKEND = """
import os, zipfile


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "srcpkg-1.0-py3-none-any.whl"
    info = "srcpkg-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("srcpkg.py", "BUILT = True\\n")
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: srcpkg\\nVersion: 1.0\\n")
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/RECORD", "")
    return name
"""  # noqa: E501 - a file's text


def test_a_build_from_source_may_write_its_own_folders_alone(tmp_path, shelf, console):
    files = {
        "pyproject.toml": (
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "srcpkg"\nversion = "1.0"\n'
        ),
        "backend.py": BACKEND,
        "PKG-INFO": "Metadata-Version: 2.1\nName: srcpkg\nVersion: 1.0\n",
    }
    with tarfile.open(tmp_path / "shelf" / "srcpkg-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"srcpkg-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    envs = tmp_path / "envs"
    with EnvironmentStore(envs).using(["srcpkg==1.0"], console) as found:
        assert run(found, "import srcpkg; print(srcpkg.BUILT)") == "True"
    _, wheels_only, built, _ = console.programs
    assert [str(path) for path in wheels_only["writable"]] == [str(envs)]
    assert "--only-binary" in wheels_only["argv"]
    assert "--only-binary" not in built["argv"]
    assert all(path.parent == envs and path.name.startswith(".") for path in built["writable"])
    assert Path(built["env"]["UV_CACHE_DIR"]).parent in built["writable"]
    assert visible(envs) == [environment_key(["srcpkg==1.0"])]


def test_a_wheel_runs_nothing_while_it_is_installed_and_compiled(tmp_path, shelf, console):
    shelf("pthpkg")
    canary = tmp_path / "canary"
    with zipfile.ZipFile(tmp_path / "shelf" / "pthpkg-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr("pthpkg.pth", f"import pathlib; pathlib.Path({str(canary)!r}).touch()\n")
    with EnvironmentStore(tmp_path / "envs").using(["pthpkg"], console) as found:
        assert not canary.exists()
        assert list(found.folder.rglob("pthpkg*.pyc"))
        run(found, "pass")
        assert canary.exists()  # the trap itself works


def test_a_build_that_takes_too_long_is_not_begun_again_from_source(tmp_path, shelf, console):
    tried = []

    def slow(argv, **_options):
        tried.append(argv)
        if "install" in argv:
            raise TimeoutError
        return 0

    console.run_program = slow
    with (
        pytest.raises(StepError, match="it took longer than"),
        EnvironmentStore(tmp_path / "envs").using(["tinypkg==1.5"], console),
    ):
        pass
    assert len(tried) == 2
