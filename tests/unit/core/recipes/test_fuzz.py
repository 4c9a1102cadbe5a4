"""Whatever stands in a recipe's files, the compiler answers with a plan or with issues."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galley.core.errors import Refused
from galley.core.recipes.compile import compile_source
from galley.core.recipes.formats import load_step
from galley.core.runs.plan import CompiledSource
from galley.core.runs.ports import CompileRequest

TEXTS = st.one_of(
    st.sampled_from(
        ["", "a", "b", "v", "g", "s", "k", "now", "{{x}}", "{{y.z}}", "{{", "{% if %}", "0 6 * * *",
         "R/P1D", "DKNode_NoOp", "DKNode_DataMapper", "DKNode_Container", "DKNode_Action",
         "DKDataSource_File", "DKDataSource_SQLite", "#{vault://a/b}", "n > 1", "1e400"]
    ),
    st.text(max_size=5),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


def base() -> dict[str, Any]:
    source = {"type": "DKDataSource_File", "config": {}, "keys": {"k": {"file-key": "{{x}}"}}}
    test = {
        "action": "log",
        "test-variable": "x",
        "test-logic": {"test-compare": "==", "test-metric": 1},
    }
    return {
        "description.json": {"recipe-emails": {"orderrunStart": ["a@x"]}},
        "variables.json": {"variable-list": {"x": "1", "y": {"z": "{{x}}"}}},
        "variations.json": {
            "variation-list": {
                "v": {"graph-setting": "g", "schedule-setting": "s", "override-setting": ["o"],
                      "alert-thresholds": {"max-warnings": 1}}
            },
            "graph-setting-list": {"g": [["a", "b", {"condition": "c"}], ["b", "d"], ["d", "e"]]},
            "schedule-setting-list": {"s": {"schedule": "0 6 * * *", "max-ram": 1}},
            "override-setting-list": {"o": {"x": "2"}},
            "conditions-list": {"c": {"variable": "x", "operator": "==", "value": 1}},
            "ingredient-definition-list": [{"ingredient-name": "i"}],
        },
        "a/description.json": {"type": "NoOp", "retry": {"attempts": 2}},
        "a/notebook.json": {"sleep": 1, "tests": {"t": test}},
        "b/description.json": {"type": "DKNode_DataMapper"},
        "b/notebook.json": {
            "mappings": {
                "m": {"source-name": "s", "source-key": "k", "sink-name": "t", "sink-key": "k"}
            }
        },
        "b/data_sources/s.json": {**source, "tests": {"t": test}},
        "b/data_sinks/t.json": {**source, "set-runtime-vars": {"key_count": "n"}},
        "d/description.json": {"type": "DKNode_Action"},
        "d/notebook.json": {},
        "d/actions/x.json": {
            "type": "DKDataSource_SQLite", "config": {"database": "x"}, "keys": {"k": {"sql": "x"}}
        },
        "e/description.json": {"type": "DKNode_Container"},
        "e/notebook.json": {"image-repo": "x", "assign-variables": [{"name": "n", "file": "f"}]},
        "e/docker-share/config.json": {"keys": {"k": {"script": "s.py", "export": ["z"]}}},
    }  # fmt: skip


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, item in entries:
        if isinstance(item, dict | list):
            found += places(item, (*path, key))
        else:
            found.append((*path, key))
    return found


def put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


BASE = base()
PLACES = [path for path in places(BASE) if path]


def answer_to(files: dict[str, bytes]) -> CompiledSource | None:
    request = CompileRequest(
        kind="recipe", project="p", branch="b", commit="c", tree="t", path="r", variation="v",
        files=files, levels=(("parameter", {}),), system={},
    )  # fmt: skip
    found = compile_source(request)
    assert (found.compiled is None) == any(issue.severity == "error" for issue in found.issues)
    assert all(issue.file and issue.description for issue in found.issues)
    return found.compiled


def test_the_seed_itself_compiles() -> None:
    assert answer_to({path: json.dumps(item).encode() for path, item in BASE.items()})


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_any_value_anywhere_is_answered(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    documents = base()
    for path, value in changes:
        try:
            put(documents, path, value)
        except (TypeError, KeyError, IndexError):
            continue
    compiled = answer_to({path: json.dumps(item).encode() for path, item in documents.items()})
    if compiled is not None:
        load_all(compiled)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(BASE)), st.binary(max_size=40))
def test_any_bytes_in_any_file_are_answered(file: str, content: bytes) -> None:
    files = {path: json.dumps(item).encode() for path, item in BASE.items()}
    answer_to({**files, file: content})


def load_all(compiled: CompiledSource) -> None:
    read: Callable[[str], str] = {}.__getitem__
    for step in compiled.plan.steps:
        try:
            load_step(step.kind, step.text, compiled.plan.variables, read_file=read)
        except Refused as refused:
            assert refused.issues  # noqa: PT017 - both ends are right
