"""Keys that nobody asks for are told, with what may have been meant; they forbid nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from galley.core.recipes.compile import Compilation, check_recipe
from galley.core.recipes.faults import MAX_ISSUES, MAX_WARNINGS, Faults
from galley.core.runs.ports import CompileRequest

Compile = Callable[..., Compilation]
Files = Callable[..., dict[str, Any]]
Request = Callable[..., CompileRequest]
Told = list[tuple[str, str]]

EXAMPLES = Path(__file__).parents[4] / "examples"
SOURCE = {"name": "s", "type": "DKDataSource_File", "keys": {"k": {"file-key": "a.csv"}}}
SINK = {
    "type": "DKDataSink_PostgreSQL",
    "config": {"hostname": "h"},
    "keys": {"k": {"table-name": "t"}},
}
MAPPING = {"source-name": "s", "source-key": "k", "sink-name": "t", "sink-key": "k"}
CHECK = {"test-variable": "n", "test-logic": {"test-compare": "==", "test-metric": 1}}


def warnings_of(found: Compilation) -> Told:
    assert found.compiled is not None, found.issues
    assert found.compiled.plan.warnings == tuple(
        (issue.file, issue.description) for issue in found.issues
    )
    return list(found.compiled.plan.warnings)


def transfer(**files: Any) -> dict[str, Any]:
    """The files of a DataMapper step `a`, some of them replaced."""
    return {
        "a/description.json": {"type": "DKNode_DataMapper"},
        "a/notebook.json": {"mappings": {"m": MAPPING}},
        "a/data_sources/s.json": SOURCE,
        "a/data_sinks/t.json": SINK,
    } | {f"a/{name}": content for name, content in files.items()}


def script(notebook: Any, config: Any) -> dict[str, Any]:
    return {
        "a/description.json": {"type": "DKNode_Container"},
        "a/notebook.json": notebook,
        "a/docker-share/config.json": config,
        "a/docker-share/x.py": "",
    }


SLIPS: list[tuple[dict[str, Any], tuple[str, str, str | None]]] = [
    ({"variation": {"schedul-setting": "s"}},
     ("variations.json", "variation-list.v.schedul-setting", "schedule-setting")),
    ({"schedule_setting": {}},
     ("variations.json", "schedule-setting", "schedule-setting-list")),
    ({"variation": {"alert-thresholds": {"max-warning": 1}}},
     ("variations.json", "variation-list.v.alert-thresholds.max-warning", "max-warnings")),
    ({"variation": {"schedule-setting": "s"}, "schedule_setting_list": {"s": {"shedule": "now"}}},
     ("variations.json", "schedule-setting-list.s.shedule", "schedule")),
    ({"edges": [["a", "b", {"condtion": "c"}]]},
     ("variations.json", "graph-setting-list.g[0].condtion", "condition")),
    ({"edges": [["a", "b", {"condition": "c"}]],
      "conditions_list": {"c": {"variable": "x", "operator": "==", "value": 1, "nod": "a"}},
      "variables": {"x": 1}},
     ("variations.json", "conditions-list.c.nod", "node")),
    ({"ingredient_definition_list": [{"ingredient-name": "i", "descripton": "d"}]},
     ("variations.json", "ingredient-definition-list[0].descripton", "description")),
    ({"more": {"description.json": {"recipe-email": {}}}},
     ("description.json", "recipe-email", "recipe-emails")),
    ({"more": {"description.json": {"recipe-emails": {"orderrunErrors": ["a@x.org"]}}}},
     ("description.json", "recipe-emails.orderrunErrors", "orderrunError")),
    ({"more": {"variables.json": {"variable-list": {}, "region": 1}}},
     ("variables.json", "region", None)),
    ({"more": {"a/description.json": {"type": "DKNode_NoOp", "retries": 3}}},
     ("a/description.json", "retries", "retry")),
    ({"more": {"a/description.json": {"type": "DKNode_NoOp", "retry": {"attempt": 3}}}},
     ("a/description.json", "retry.attempt", "attempts")),
    ({"more": {"a/notebook.json": {"test": {"t": CHECK}}}},
     ("a/notebook.json", "test", "tests")),
    ({"more": {"a/notebook.json": {"tests": {"t": {**CHECK, "acton": "log"}}}},
      "variables": {"n": 1}},
     ("a/notebook.json", "tests.t.acton", "action")),
    ({"more": transfer(**{"notebook.json": {"mappings": {"m": {**MAPPING, "sinkkey": "k"}}}})},
     ("a/notebook.json", "mappings.m.sinkkey", "sink-key")),
    ({"more": transfer(**{"data_sources/s.json": {**SOURCE, "wild-card": "*"}})},
     ("a/data_sources/s.json", "wild-card", "wildcard")),
    ({"more": transfer(**{"data_sources/s.json": {
        **SOURCE, "keys": {"k": {"file-key": "a", "delimeter": ";"}}}})},
     ("a/data_sources/s.json", "keys.k.delimeter", "delimiter")),
    ({"more": transfer(**{"data_sources/s.json": {
        **SOURCE, "keys": {"k": {"file-key": "a", "write-mode": "replace"}}}})},
     ("a/data_sources/s.json", "keys.k.write-mode", None)),
    ({"more": transfer(**{"data_sinks/t.json": {**SINK, "config": {"hostnam": "h"}}})},
     ("a/data_sinks/t.json", "config.hostnam", "hostname")),
    ({"more": script({}, {"keys": {"k": {"script": "x.py", "exports": ["n"]}}})},
     ("a/docker-share/config.json", "keys.k.exports", "export")),
    ({"more": script({}, {"keys": {"k": {"script": "x.py"}}, "dependancies": ["pandas"]})},
     ("a/docker-share/config.json", "dependancies", "dependencies")),
    ({"more": script({"assign-variable": []}, {"keys": {"k": {"script": "x.py"}}})},
     ("a/notebook.json", "assign-variable", "assign-variables")),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "told"), SLIPS, ids=[told[1] for _, told in SLIPS])
def test_a_slip_is_told_with_its_place_and_what_was_meant(
    wrong: dict[str, Any], told: tuple[str, str, str | None], compiled: Compile, files_of: Files
) -> None:
    file, place, meant = told
    ((where, text),) = warnings_of(compiled(files_of(**wrong)))
    assert where == file
    assert text.startswith(f"`{place}` is not known here")
    assert ("did you mean" in text) == (meant is not None)
    assert meant is None or f"did you mean {meant!r}?" in text


def test_the_keys_of_the_vendor_are_known(compiled: Compile, files_of: Files) -> None:
    """Source: contract 2, its samples and tables."""
    image = {
        "image-repo": "x", "image-tag": "1", "dockerhub-namespace": "n", "dockerhub-url": "u",
        "dockerhub-username": "me", "dockerhub-password": "p", "analytic-container": True,
        "max-ram": 1, "max-storage": 1, "container-input-file-keys": [],
        "container-output-file-keys": [], "assign-variables": [{"name": "n", "file": "f"}],
        "delete-container-when-complete": False, "tests": {},
    }  # fmt: skip
    files = files_of(
        [["a", "b"], ["c"]],
        variation={
            "description": "d", "schedule-setting": "s", "override-setting": "o",
            "ingredient-definition": "i",
        },
        schedule_setting_list={
            "s": {
                "schedule": "0 6 * * 1-5", "scheduleTimeZone": "Europe/Paris", "max-threads": 2,
                "name": "n", "owner": "o", "async": True,
            }
        },
        override_setting_list={"o": {"anything": 1}},
        conditions_list={},
        ingredient_definition_list=[{"ingredient-name": "i", "short-description": "s"}],
        more={
            "description.json": {
                "description": "d", "recipe-emails": {"email-delivery-service": "aws-email"}
            },
            **transfer(),
            "b/description.json": {"type": "DKNode_Container", "icon": "i", "description": "d"},
            "b/notebook.json": image,
            "b/docker-share/config.json": {"an-image": "may read", "whatever": "it wants"},
            "c/notebook.json": {
                "sleep": 0,
                "tests": {"t": {**CHECK, "description": "d", "test-variable": "anything",
                                "type": "test-contents-as-integer", "action": "log",
                                "applies-to-keys": ["k"]}},
            },
        },
    )  # fmt: skip
    assert warnings_of(compiled(files)) == []


def test_known_keys_that_do_nothing_yet_say_so_where_they_wish_something(
    compiled: Compile, files_of: Files
) -> None:
    more = transfer(
        **{
            "data_sources/s.json": {
                **SOURCE,
                "keys": {"k": {"file-key": "a", "cache": True}, "l": {"cache": False}},
            }
        }
    )
    files = files_of(
        variation={"schedule-setting": "s"},
        schedule_setting_list={"s": {"schedule": "now", "max-ram": 9, "epsilon": "PT15M"}},
        ingredient_definition_list=[{"ingredient-name": "i", "rollback-ingredient": "j"}],
        more=more,
    )
    assert warnings_of(compiled(files)) == [
        ("variations.json",
         "`ingredient-definition-list[0].rollback-ingredient` has no effect yet."),
        ("variations.json", "`schedule-setting-list.s.epsilon` has no effect yet."),
        ("a/data_sources/s.json", "`keys.k.cache` has no effect yet."),
    ]  # fmt: skip


def test_a_file_that_waits_for_a_run_is_judged_too(compiled: Compile, files_of: Files) -> None:
    more = {"a/notebook.json": '{"slep": 1, "tests": {"t": {"test-logic": "{{NodeName}} == 1"}}}'}
    ((file, text),) = warnings_of(compiled(files_of(more=more)))
    assert (file, "did you mean 'sleep'?" in text) == ("a/notebook.json", True)


def test_warnings_never_displace_the_errors() -> None:
    faults = Faults()
    for number in range(2 * MAX_ISSUES):
        faults.warning("f", f"odd {number}")
    faults.error("f", "wrong")
    assert len(faults.warnings) == MAX_WARNINGS
    assert faults.issues[-1].description == "wrong"


def test_the_examples_are_clean(request_for: Request) -> None:
    for recipe in (path.parent for path in EXAMPLES.glob("*/recipes/*/variations.json")):
        files = {
            path.relative_to(recipe).as_posix(): path.read_bytes()
            for path in recipe.rglob("*")
            if path.is_file()
        }
        assert json.loads(files["variations.json"])["variation-list"]
        assert check_recipe(request_for(files, "")) == []


def test_a_parameter_that_nothing_uses_is_told(compiled: Any, files_of: Any) -> None:
    notebook = {"sleep": "{{minimum_rows - 10}}"}
    files = files_of(more={"a/notebook.json": notebook}, variables={"minimum_rows": 10, "day": "1"})
    given = {"minimum_row": 11, "minimum_rows": 12, "day": "2", "other": "x"}
    found = compiled(files, parameters=given, kitchen={"other": "y"})
    text = "what it gives as `minimum_row` is used by nothing in the recipe"
    told = f"{text} (did you mean 'minimum_rows'?)."
    assert found.compiled.plan.warnings == (("the order", told),)


@pytest.mark.parametrize(
    ("source", "given", "kitchen"),
    [
        ({"sleep": "{{n}}"}, {"n": "{{bucket}}", "bucket": 1}, {}),
        ({"sleep": "{{n}}"}, {"bucket": 1}, {"n": "{{bucket}}"}),
        ({"sleep": "{{n}}"}, {"bucket": 1}, {"n": ["a\nbucket"]}),
        ({"x": "import os\nbucket = 1"}, {"bucket": 1}, {}),
        ({"x": "\tbucket\r"}, {"bucket": 1}, {}),
        ({"x": "\u00a0bucket"}, {"bucket": 1}, {}),
        ({"x": "\\nbucket"}, {"nbucket": 1}, {}),
    ],
)
def test_a_name_in_another_value_or_after_an_escape_is_used(
    compiled: Any, files_of: Any, source: Any, given: Any, kitchen: Any
) -> None:
    files = files_of(more={"a/notebook.json": {"sleep": 0}, "notes.ipynb": source})
    found = compiled(files, parameters=given, kitchen=kitchen)
    assert [text for _, text in warnings_of(found) if "used by nothing" in text] == []


def test_a_name_that_stands_in_keys_alone_is_not_used(compiled: Any, files_of: Any) -> None:
    found = compiled(files_of(), parameters={"bucket": 1}, kitchen={"target": "b"})
    told = "what it gives as `bucket` is used by nothing in the recipe."
    assert warnings_of(found) == [("the order", told)]
