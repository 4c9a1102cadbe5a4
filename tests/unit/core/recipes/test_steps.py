import json
from collections.abc import Mapping
from typing import Any

import pytest

from galley.core.errors import Refused
from galley.core.recipes.formats import load_step
from galley.core.recipes.spec import CheckSpec, ConditionSpec, KeySpec, MappingSpec, StepSpec


def load(
    kind: str,
    files: Mapping[str, Any],
    variables: Mapping[str, Any] | None = None,
    *,
    others: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> StepSpec:
    text = {
        path: content if isinstance(content, str) else json.dumps(content)
        for path, content in files.items()
    }
    read = dict(others or {}).__getitem__
    return load_step(kind, text, variables or {}, read_file=read, secrets=secrets)


def faults(kind: str, files: Mapping[str, Any], **more: Any) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as caught:
        load(kind, files, **more)
    return [(issue.file, issue.description) for issue in caught.value.issues]


def source(**more: Any) -> dict[str, Any]:
    return {"type": "DKDataSource_File", "keys": {"k": {"file-key": "a.csv"}}, **more}


MAPPING = {"source-name": "s", "source-key": "k", "sink-name": "t", "sink-key": "k"}


def transfer(**more: Any) -> dict[str, Any]:
    return {
        "notebook.json": {"mappings": {"m": MAPPING}},
        "data_sources/s.json": source(),
        "data_sinks/t.json": {"type": "DKDataSink_File", "keys": {"k": {"file-key": "b.csv"}}},
        **more,
    }


def test_a_step_that_does_nothing_needs_no_file() -> None:
    assert load("noop", {}) == StepSpec("noop")
    assert load("noop", {"notebook.json": ""}) == StepSpec("noop")
    assert load("noop", {"notebook.json": {"sleep": "{{n}}"}}, {"n": 1.5}).sleep_s == 1.5


def test_a_transfer_with_its_parts() -> None:
    files = transfer(
        **{
            "data_sources/s.json": source(
                config={"folder": "{{CurrentKitchen}}"},
                keys={
                    "k": {
                        "file-key": "in/{{KeyName}}.csv",
                        "use-only-file-key": True,
                        "format": "CSV",
                        "delimiter": ";",
                        "set-runtime-vars": {"row_count": "rows", "md5": "sum"},
                    }
                },
                **{"set-runtime-vars": {"key_count": "keys"}},
            )
        }
    )
    step = load("transfer", files, {"CurrentKitchen": "dev"})
    assert step.mappings == (MappingSpec("s", "k", "t", "k", name="m"),)
    found = step.sources[0]
    assert (found.system, found.config, found.exports) == (
        "file",
        {"folder": "dev"},
        {"key_count": "keys"},
    )
    assert found.keys == (
        KeySpec(
            "k",
            "read_file",
            path="in/k.csv",
            format="csv",
            exports={"row_count": "rows", "md5": "sum"},
            options={"delimiter": ";"},
        ),
    )
    assert step.sinks[0].keys == (KeySpec("k", "write_file", path="k/b.csv"),)


def test_a_bucket_has_files_like_a_folder() -> None:
    places = {"config": {"bucket": "b"}, "type": "DKDataSource_s3"}
    keys = {"a.csv": {}, "k": {"file-key": "b.csv"}}
    whole = {"k": {"file-key": "b.csv", "use-only-file-key": True}}
    for given, paths in ((keys, ["a.csv", "k/b.csv"]), (whole, ["b.csv"])):
        files = transfer(**{"data_sources/s.json": source(keys=given, **places)})
        found = load("transfer", files).sources[0]
        assert (found.system, found.config) == ("s3", {"bucket": "b"})
        assert [(key.operation, key.path) for key in found.keys] == [
            ("read_file", path) for path in paths
        ]


def test_wildcards_make_keys_at_run_time() -> None:
    files = transfer(
        **{
            "notebook.json": {
                "wildcard-will-automatically-create-mappings": [
                    {"data-source": "s", "data-sink": "t"}
                ]
            },
            "data_sources/s.json": source(keys={}, wildcard="*.csv", format="csv"),
        }
    )
    step = load("transfer", files)
    assert step.wildcards == (("s", "t"),)
    assert step.sources[0].wildcard == "*.csv"
    assert step.sources[0].key_template is not None
    assert step.sources[0].key_template.format == "csv"


@pytest.mark.parametrize(
    ("code", "system"),
    [
        ("DKDataSource_PostgreSQL", "postgres"),
        ("dkdatasource_postgresql", "postgres"),
        ("DKDataSource_HTTP", "http"),
        ("DKDataSource_SQLite", "sqlite"),
        ("DKDataSource_DuckDB", "duckdb"),
        ("DKDataSource_Dictionary", "dictionary"),
        ("DKDataSource_SHELL", "shell"),
        ("DKDataSource_NoOp", "none"),
    ],
)
def test_types_are_known_in_any_letter_case(code: str, system: str) -> None:
    key = {"sql": "select 1", "command": "ls -l", "value": 1}
    entry = {"type": code, "config": {"database": "x"}, "keys": {"k": key}}
    step = load("action", {"notebook.json": {}, "actions/a.json": entry})
    assert step.actions[0].system == system


def test_files_have_no_actions() -> None:
    entry = {"type": "DKDataSource_File", "keys": {"k": {}}}
    found = faults("action", {"notebook.json": {}, "actions/a.json": entry})
    assert found == [
        (
            "actions/a.json",
            "`keys.k` does nothing: files have no actions. Use a source or a sink.",
        )
    ]


def test_web_addresses() -> None:
    entry = {
        "type": "DKDataSource_HTTP",
        "config": {"url": "https://x.example/"},
        "keys": {"all": {}, "one": {"url": "a.csv", "headers": {"A": "b"}}},
    }
    files = transfer(**{"data_sources/s.json": entry})
    files["notebook.json"] = {"mappings": {"m": {**MAPPING, "source-key": "one"}}}
    everything, one = load("transfer", files).sources[0].keys
    assert (everything.operation, everything.path) == ("read_file", None)
    assert (one.path, one.options) == ("a.csv", {"headers": {"A": "b"}})
    call = {
        "type": "DKDataSource_HTTP",
        "keys": {"k": {"url": "https://x.example", "method": "POST"}},
    }
    step = load("action", {"notebook.json": {}, "actions/a.json": call})
    assert step.actions[0].keys[0].operation == "statement"


def test_database_keys() -> None:
    entry = {
        "type": "DKDataSource_PostgreSQL",
        "config": {"hostname": "h"},
        "keys": {
            "q": {"sql": "select 1", "insert-column-names": True},
            "one": {"query-type": "execute_scalar", "sql-file": "resources/one.sql"},
            "do": {"query-type": "execute_non_query", "sql": "vacuum"},
        },
    }
    sink = {
        "type": "DKDataSink_PostgreSQL",
        "config": {"hostname": "h"},
        "keys": {
            "k": {"query-type": "bulk_insert", "table-name": "t", "first-row-column-names": "true"}
        },
    }
    files = transfer(**{"data_sources/s.json": entry, "data_sinks/t.json": sink})
    files["notebook.json"] = {"mappings": {"m": {**MAPPING, "source-key": "q"}}}
    step = load(
        "transfer",
        files,
        {"t": "x'y"},
        others={"resources/one.sql": 'select "{{t}}"\n'},
    )
    query, one, act = step.sources[0].keys
    assert (query.operation, query.sql, query.header) == ("query", "select 1", True)
    assert (one.operation, one.sql) == ("scalar", 'select "x\'y"\n')
    assert act.operation == "statement"
    assert step.sinks[0].keys[0] == KeySpec("k", "insert", table="t", header=True)


def test_the_configuration_may_be_a_variable_or_a_reference_to_one() -> None:
    database = {"hostname": "h", "password": "#{vault://pg/pw}"}
    by_name = source(type="DKDataSource_PostgreSQL", keys={"k": {"sql": "select 1"}})
    by_name["config-ref"] = "db"
    unquoted = '{"type": "DKDataSource_SQLite", "config": {{db}}, "keys": {"k": {"sql": "x"}}}'
    for entry in (by_name, unquoted):
        files = transfer(**{"data_sources/s.json": entry})
        step = load("transfer", files, {"db": database}, secrets={"vault://pg/pw": 'p"{{x}}'})
        assert step.sources[0].config == {"hostname": "h", "password": 'p"{{x}}'}


def test_secrets_stay_closed_until_they_are_given() -> None:
    files = transfer(**{"data_sources/s.json": source(config={"folder": "#{vault://a/b}"})})
    assert load("transfer", files).sources[0].config == {"folder": "#{vault://a/b}"}
    assert faults("transfer", files, secrets={}) == [
        (
            "notebook.json",
            "the secret #{vault://a/b} is not there. Create it, or correct its path.",
        )
    ]


@pytest.mark.parametrize(
    ("word", "compare"),
    [
        ("equal-to", "eq"),
        ("not-equal-to", "ne"),
        ("greater-than", "gt"),
        ("greater-than-equal-to", "ge"),
        ("less-than", "lt"),
        ("less-than-equal-to", "le"),
        ("==", "eq"),
        (">=", "ge"),
    ],
)
def test_every_comparison(word: str, compare: str) -> None:
    test = {
        "description": "d",
        "action": "warning",
        "test-variable": "n",
        "type": "test-contents-as-float",
        "test-logic": {"test-compare": word, "test-metric": "{{m}}"},
        "keep-history": True,
        "applies-to-keys": ["k"],
    }
    step = load("noop", {"notebook.json": {"tests": {"t/1": test}}}, {"m": 5})
    assert step.checks == (
        CheckSpec(
            "t/1",
            "warn",
            variable="n",
            convert="float",
            compare=compare,
            metric="5",
            description="d",
            keep_history=True,
            over=("k",),
        ),
    )


def test_checks_by_expression_by_history_and_for_the_log() -> None:
    tests = {
        "e": {"action": "log", "test-logic": "bad * 100 < good"},
        "v": {"action": "log", "test-variable": "n"},
        "h": {
            "test-variable": "n",
            "test-logic": {
                "test-compare": "equal-to",
                "test-metric": {"historic-calculation": "previous-value"},
            },
        },
    }
    step = load("noop", {"notebook.json": {"tests": tests}})
    assert step.checks == (
        CheckSpec("e", "log", expression="bad * 100 < good"),
        CheckSpec("v", "log", variable="n"),
        CheckSpec(
            "h",
            "stop",
            variable="n",
            compare="eq",
            metric={"history": "previous"},
            keep_history=True,
        ),
    )


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ({"action": "explode", "test-logic": "a"}, "stop-on-error, warning or log"),
        ({"test-logic": {"test-compare": "like", "test-metric": 1}, "test-variable": "a"}, "like"),
        ({"test-logic": {"test-compare": "equal-to"}, "test-variable": "a"}, "test-metric"),
        ({"test-logic": {"test-compare": "equal-to", "test-metric": 1}}, "test-variable"),
        ({"test-logic": "a >"}, "no expression"),
        ({"test-variable": "a"}, "test-logic"),
        ({"test-logic": ["a"]}, "list"),
        ({"test-logic": "a", "type": "test-contents-as-money"}, "test-contents-as-integer"),
        ({"test-logic": "a > previous", "keep-history": True}, "whose earlier values"),
        (
            {
                "test-variable": "a",
                "test-logic": {
                    "test-compare": "equal-to",
                    "test-metric": {"historic-calculation": "average", "last": 101},
                },
            },
            "at most 100",
        ),
        ({}, "empty"),
    ],
)
def test_a_faulty_check_is_explained(test: dict[str, Any], says: str) -> None:
    found = faults("noop", {"notebook.json": {"tests": {"t": test}}})
    assert any("tests.t" in text and says in text for _, text in found), found


def test_a_script_step() -> None:
    files = {
        "notebook.json": {
            "image-repo": "tools",
            "image-tag": "{{tag}}",
            "dockerhub-namespace": "acme",
            "dockerhub-url": "https://reg.example",
            "dockerhub-username": "u",
            "dockerhub-password": "#{vault://reg/pw}",
            "container-input-file-keys": [{"key": "s.k", "filename": "in.csv"}],
            "container-output-file-keys": [{"key": "t.k", "filename": "out.csv"}],
            "assign-variables": [{"name": "report", "file": "report.txt"}],
            "artifacts": ["out.csv"],
        },
        "docker-share/config.json": '{"dependencies": ["pandas"], "apt-dependencies": ["jq"],'
        '"keys": {"one": {"script": "load.py", "environment": {"LANG": "C", "N": 1},'
        '"parameters": {"rows": {{rows}}, "t": "{{t}}"}, "export": ["total"],'
        '"assign": {"text": "x.txt"}}}}',
    }
    values = {"tag": "v2", "rows": [1, 2], "t": 'a"b'}
    step = load("script", files, values, secrets={"vault://reg/pw": "s3"})
    assert step.environment.image == "reg.example/acme/tools:v2"
    assert (step.environment.registry_user, step.environment.registry_password) == ("u", "s3")
    assert step.environment.requirements == ("pandas",)
    assert step.environment.apt_packages == ("jq",)
    assert step.inputs == (("s.k", "in.csv"),)
    assert step.outputs == (("out.csv", "t.k"),)
    assert step.assign == {"report": "report.txt"}
    assert step.artifacts == ("out.csv",)
    script = step.scripts[0]
    assert (script.name, script.path) == ("one", "docker-share/load.py")
    assert script.parameters == {"rows": [1, 2], "t": 'a"b'}
    assert script.environment == {"LANG": "C", "N": "1"}
    assert (script.exports, script.assign) == (("total",), {"text": "x.txt"})


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"notebook.json": {}}, "runs nothing"),
        (
            {"notebook.json": {}, "docker-share/config.json": {"keys": {"a": {"script": "../x"}}}},
            "leave its folder",
        ),
        ({"notebook.json": {"image-repo": "a b"}}, "no spaces"),
        ({"notebook.json": {"command": "ls", "requirements": ["--index-url=x"]}}, "an option"),
        (
            {
                "notebook.json": {
                    "command": "ls",
                    "container-input-file-keys": [{"key": "k", "filename": "/etc/x"}],
                }
            },
            "source.orders",
        ),
    ],
)
def test_a_faulty_script_step_is_explained(files: dict[str, Any], says: str) -> None:
    found = faults("script", files)
    assert any(says in text for _, text in found), found


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        (
            {"data_sources/s.json": source(type="DKDataSource_Punch")},
            "data_sources/s.json",
            "Punch",
        ),
        ({"data_sources/s.json": source(type="DKDataSource_SFTP")}, "data_sources/s.json", "built"),
        ({"data_sources/s.json": source(keys={})}, "data_sources/s.json", "at least one key"),
        ({"data_sources/s.json": source(config=5)}, "data_sources/s.json", "number"),
        ({"data_sources/s.json": "{"}, "data_sources/s.json", "no valid JSON"),
        ({"data_sources/s.json": "{{x.y.z}}"}, "data_sources/s.json", "not defined"),
        ({"data_sources/s.json": "[]"}, "data_sources/s.json", "write an object"),
        ({"notebook.json": {}}, "notebook.json", "mappings"),
        (
            {"notebook.json": {"mappings": {"m": {**MAPPING, "source-name": "q"}}}},
            "notebook.json",
            "known: s",
        ),
        (
            {"notebook.json": {"mappings": {"m": {**MAPPING, "sink-key": "q"}}}},
            "notebook.json",
            "known: k",
        ),
    ],
)
def test_a_faulty_transfer_is_explained(change: dict[str, Any], place: str, says: str) -> None:
    found = faults("transfer", transfer(**change))
    assert any(file == place and says in text for file, text in found), found


def test_all_faults_come_at_once() -> None:
    files = transfer(
        **{
            "data_sources/s.json": source(type="Punch"),
            "data_sinks/t.json": source(keys={"k": {"format": "xls"}}),
        }
    )
    assert {file for file, _ in faults("transfer", files)} >= {
        "data_sources/s.json",
        "data_sinks/t.json",
    }


def test_what_the_step_itself_exports_may_come_later() -> None:
    files = transfer(
        **{
            "data_sources/s.json": source(
                keys={"k": {"file-key": "a", "set-runtime-vars": {"row_count": "rows"}}}
            ),
            "data_sinks/t.json": source(
                type="DKDataSink_File", keys={"k": {"file-key": "out_{{rows}}.csv"}}
            ),
        }
    )
    first = load("transfer", files)
    assert first.late == ("rows",)
    second = load("transfer", files, {"rows": 7})
    assert second.late == ()
    assert second.sinks[0].keys[0].path == "k/out_7.csv"


def test_variables_that_waited_for_the_run_are_filled_in() -> None:
    files = {
        "notebook.json": {
            "description": "{{place}}",
            "tests": {"t": {"test-logic": "'{{place}}'"}},
        },
        "@variables.json": {"place": "{{WorkDir}}/{{name}}.db"},
    }
    step = load("noop", files, {"WorkDir": "/w", "name": "{{x}}"})
    assert step.checks[0].expression == "'/w/{{x}}.db'"


def test_conditions() -> None:
    files = {
        "@conditions.json": {
            "c": {
                "variable": "n",
                "operator": ">=",
                "value": "{{limit}}",
                "type": "integer",
            },
        }
    }
    assert load("noop", files, {"limit": 3}).conditions == (
        ConditionSpec(
            "c",
            "n",
            compare="ge",
            value="3",
            convert="integer",
            cases={"true": "c_true", "false": "c_false"},
        ),
    )
    files = {
        "@conditions.json": {
            "c": {"variable": "region", "cases": {"eu": "west", "us": "west"}, "otherwise": "rest"}
        }
    }
    assert load("noop", files).conditions == (
        ConditionSpec("c", "region", cases={"eu": "c_west", "us": "c_west"}, otherwise="c_rest"),
    )


def test_programs_ask_for_the_network_or_have_none() -> None:
    for asked, has in (({}, False), ({"network": False}, False), ({"network": "true"}, True)):
        step = load("script", {"notebook.json": {"command": "ls", **asked}})
        assert step.network is has
