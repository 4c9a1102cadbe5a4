"""Builders of small recipes."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from galley.core.errors import Issue
from galley.core.recipes.compile import Compilation, compile_source
from galley.core.runs.ports import CompileRequest

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)


def make_request(
    files: Mapping[str, Any],
    variation: str = "v",
    *,
    kitchen: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    only_steps: tuple[str, ...] | None = None,
    system: Mapping[str, Any] | None = None,
) -> CompileRequest:
    """A request; contents that are not bytes or text are written as JSON."""
    return CompileRequest(
        kind="recipe",
        project="main/recipes",
        branch="dev",
        commit="c1",
        tree="t1",
        path="rec",
        variation=variation,
        files={path: as_bytes(content) for path, content in files.items()},
        levels=(("kitchen", kitchen or {}), ("parameter", parameters or {})),
        system={
            "kitchen": "dev",
            "parent": "master",
            "user": "a@x.org",
            "user_name": "Ann",
            "now": NOW,
            "source_date": None,
            **(system or {}),
        },
        only_steps=only_steps,
    )


def as_bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def make_files(
    edges: list[Any] | None = None,
    *,
    variables: Mapping[str, Any] | None = None,
    variation: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    **sections: Any,
) -> dict[str, Any]:
    """A recipe of NoOp steps `a` -> `b`, or of these edges; `more` are further files."""
    edges = [["a", "b"]] if edges is None else edges
    files: dict[str, Any] = {
        "description.json": {"description": "a recipe"},
        "variables.json": {"variable-list": dict(variables or {})},
        "variations.json": {
            "variation-list": {"v": {"graph-setting": "g", **(variation or {})}},
            "graph-setting-list": {"g": edges},
            **{name.replace("_", "-"): value for name, value in sections.items()},
        },
    }
    steps = {end for edge in edges if isinstance(edge, list) for end in edge[:2]}
    for step in sorted(str(step) for step in steps):
        files[f"{step}/description.json"] = {"type": "DKNode_NoOp"}
        files[f"{step}/notebook.json"] = {}
    files.update(more or {})
    return files


@pytest.fixture
def request_for() -> Callable[..., CompileRequest]:
    return make_request


@pytest.fixture
def files_of() -> Callable[..., dict[str, Any]]:
    return make_files


@pytest.fixture
def compiled() -> Callable[..., Compilation]:
    """Compile a recipe: first the words of `make_files`, then those of `make_request`."""

    def run(files: Mapping[str, Any], variation: str = "v", **request: Any) -> Compilation:
        return compile_source(make_request(files, variation, **request))

    return run


@pytest.fixture
def errors_of(compiled: Callable[..., Compilation]) -> Callable[..., list[Issue]]:
    """The errors of a recipe, which must have some."""

    def run(files: Mapping[str, Any], variation: str = "v", **request: Any) -> list[Issue]:
        found = compiled(files, variation, **request)
        assert found.compiled is None, "the recipe compiled"
        return [issue for issue in found.issues if issue.severity == "error"]

    return run
