from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.engine.console import MemoryConsole

from galley.core.runs.task import Task


@pytest.fixture
def console() -> MemoryConsole:
    return MemoryConsole()


@pytest.fixture
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreters are shared by the tests of one process."""
    return tmp_path_factory.getbasetemp() / "environments"


@pytest.fixture
def task(tmp_path: Path, environments: Path) -> Callable[..., Task]:
    """Makes tasks of one run: they share its work folder and the source's tree."""
    made = 0
    (tmp_path / "tree").mkdir()
    (tmp_path / "attempts").mkdir()

    def make(kind: str = "noop", **more: Any) -> Task:
        nonlocal made
        made += 1
        known = {
            "key": f"run:step:{made}",
            "run_id": 7,
            "step_id": 1,
            "attempt_id": made,
            "number": 1,
            "fence": 1,
            "run_uid": "RUN",
            "order_uid": "ORDER",
            "step_key": "step1",
            "kind": kind,
            "body": {},
            "text": {},
            "variables": {"limit": 10},
            "folder": str(tmp_path / "attempts" / str(made)),
            "work": str(tmp_path / "work"),
            "log": str(tmp_path / "log"),
            "tree": str(tmp_path / "tree"),
            "environments": str(environments),
        }
        return Task(**{**known, **more})

    return make


@pytest.fixture
def tree(tmp_path: Path, task: object) -> Path:
    return tmp_path / "tree"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def script(tree: Path) -> Callable[[str, str], str]:
    """Puts a program into the step's folder; gives its path as a specification names it."""

    def put(name: str, text: str) -> str:
        path = tree / "step1" / "share" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return f"share/{name}"

    return put
