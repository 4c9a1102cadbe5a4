"""The demo's folder: only what a demo made is emptied, and never under a server."""

import ast
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from galley.cli.place import LOCK_NAME, locked

DEMO = Path(__file__).parents[3] / "examples/flights/demo.py"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flights_demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_it_imports_is_installed_by_its_own_command() -> None:
    """Not only by that of the tests."""
    root = DEMO.parents[2]
    locked = "".join((root / f"requirements/{name}.txt").read_text() for name in ("extras", "demo"))
    provided = set(re.findall(r"^([a-z0-9-]+)==", locked, re.MULTILINE))
    nodes = list(ast.walk(ast.parse(DEMO.read_text())))
    names = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    names |= {it.name for node in nodes if isinstance(node, ast.Import) for it in node.names}
    outside = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert "rich" in outside
    assert outside <= provided


def test_an_earlier_demo_is_deleted_but_for_its_interpreters(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo-data"
    demo.empty(folder)
    assert "deleted" not in capsys.readouterr().out
    (folder / "galley.db").write_text("old")
    (folder / "environments/one").mkdir(parents=True)
    demo.empty(folder)
    assert not (folder / "galley.db").exists()
    assert (folder / "environments/one").is_dir()
    assert f"what is in {folder} is deleted" in capsys.readouterr().out.replace("\n", "")


def test_a_folder_that_somebody_else_filled_is_left_alone(demo: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "galley.db").write_text("precious")
    with pytest.raises(demo.DemoError, match="did not put there"):
        demo.empty(tmp_path)
    assert (tmp_path / "galley.db").read_text() == "precious"


def test_a_folder_with_a_server_is_left_alone(demo: ModuleType, tmp_path: Path) -> None:
    demo.empty(tmp_path)
    (tmp_path / "galley.db").write_text("in use")
    with locked(tmp_path), pytest.raises(demo.DemoError, match=f"kill {os.getpid()}"):
        demo.empty(tmp_path)
    assert (tmp_path / "galley.db").read_text() == "in use"
    assert (tmp_path / LOCK_NAME).exists()
