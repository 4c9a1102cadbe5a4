import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from galley.core.errors import Issue, Refused
from galley.core.recipes.compile import Compilation, check_recipe, compile_recipe
from galley.core.recipes.formats import load_step
from galley.core.recipes.templates import TEMPLATES
from galley.core.runs.plan import Need, Plan
from galley.core.runs.ports import CompileRequest

Compile = Callable[..., Compilation]
Errors = Callable[..., list[Issue]]
Files = Callable[..., dict[str, Any]]
Request = Callable[..., CompileRequest]


def plan_of(found: Compilation) -> Plan:
    assert found.compiled is not None, found.issues
    return found.compiled.plan


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_template_compiles_and_its_steps_load(name: str, compiled: Compile) -> None:
    files = TEMPLATES[name]("rec", "what it does")
    found = compiled(files, "variation1")
    assert not found.issues
    plan = plan_of(found)
    for step in plan.steps:
        spec = load_step(
            step.kind, step.text, plan.variables, read_file=lambda path: files[path].decode()
        )
        assert spec.kind == step.kind


def test_a_step_that_no_run_can_change_is_read_beforehand(
    compiled: Compile, files_of: Files
) -> None:
    notebooks: dict[str, Any] = {
        "fixed": {"sleep": 2},
        "rendered": {"sleep": "{{n}}"},
        "warned": {"slepe": 2},
        "secret": {"artifacts": ["#{vault://a/b}"]},
    }
    files = files_of(
        [[name] for name in notebooks],
        variables={"n": 1},
        more={f"{name}/notebook.json": text for name, text in notebooks.items()},
    )
    found = {step.key: step.body.get("spec") for step in plan_of(compiled(files)).steps}
    assert found == {
        "fixed": {"kind": "noop", "sleep_s": 2.0},
        "rendered": None,
        "warned": None,
        "secret": None,
    }


def test_the_first_template_is_as_its_clients_know_it(compiled: Compile) -> None:
    files = TEMPLATES["qs1"]("rec", "")
    steps = ("placeholder-node1", "placeholder-node2")
    assert sorted(files) == sorted(
        [
            "description.json",
            "variables.json",
            "variations.json",
            "resources/README.txt",
            *(f"{step}/{file}.json" for step in steps for file in ("description", "notebook")),
        ]
    )
    assert list(json.loads(files["variations.json"])["variation-list"]) == ["variation1"]
    assert tuple(step.key for step in plan_of(compiled(files, "variation1")).steps) == steps


def test_a_plan_says_where_it_came_from_and_what_it_starts_with(
    compiled: Compile, files_of: Files
) -> None:
    files = files_of(
        variables={"a": 1, "b": "{{a}}", "c": {"k": "#{vault://x/y}"}},
        variation={
            "override-setting": ["s", "t"],
            "schedule-setting": "when",
            "alert-thresholds": {
                "max-warnings": 3,
                "max-duration-minutes": 90,
                "stop-on-max-duration": True,
            },
        },
        override_setting_list={"s": {"a": 2, "o": 1}, "t": {"a": 3}},
        schedule_setting_list={
            "when": {
                "schedule": "0 6 * * 1-5",
                "scheduleTimeZone": "Europe/Paris",
                "max-ram": 2048,
                "max-disk": 4096,
                "max-threads": 4,
            }
        },
        more={
            "description.json": {
                "description": "d",
                "recipe-emails": {
                    "email-delivery-service": "aws-email",
                    "orderrunError": ["a@x.org"],
                    "orderrunStart": "b@x.org, c@x.org",
                },
            }
        },
    )
    found = compiled(files, kitchen={"o": 5}, parameters={"extra": "{{a}}"})
    plan = plan_of(found)
    assert plan.source.kind == "recipe"
    assert (plan.source.branch, plan.source.tree, plan.source.variation) == ("dev", "t1", "v")
    assert [step.key for step in plan.steps] == ["a", "b"]
    assert plan.steps[1].needs == (Need("a"),)
    assert {name: plan.variables[name] for name in ("a", "b", "c", "o", "extra")} == {
        "a": 3,
        "b": "3",
        "c": {"k": "#{vault://x/y}"},
        "o": 5,
        "extra": "{{a}}",
    }
    assert plan.origins["a"] == "variation"
    assert plan.origins["o"] == "kitchen"
    assert plan.variables["CurrentKitchen"] == "dev"
    assert plan.origins["CurrentKitchen"] == "system"
    assert (plan.limits.memory_mb, plan.limits.disk_mb, plan.max_parallel) == (2048, 4096, 4)
    assert plan.thresholds.warnings == 3
    assert plan.thresholds.duration_s == 5400
    assert plan.thresholds.stop_on_duration
    assert plan.alerts == {"failure": ["a@x.org"], "start": ["b@x.org", "c@x.org"]}
    assert found.compiled is not None
    schedule = found.compiled.schedule
    assert schedule is not None
    assert (schedule.cron, schedule.zone) == ("0 6 * * 1-5", "Europe/Paris")
    assert found.is_lasting


def test_single_steps_older_names_and_templates_in_variations(
    compiled: Compile, files_of: Files
) -> None:
    files = files_of(
        [["a"], ["b"]],
        variables={"when": "R/2026-11-23T06:00:00Z/PT24H"},
        variation={"mesos-setting": "m"},
        mesos_setting_list={"m": {"schedule": "{{when}}", "epsilon": "PT15M", "owner": "x"}},
    )
    found = compiled(files)
    assert [step.needs for step in plan_of(found).steps] == [(), ()]
    assert found.compiled is not None
    assert found.compiled.schedule is not None
    assert found.compiled.schedule.cron == "0 6 * * *"


def test_very_old_recipes(compiled: Compile, files_of: Files) -> None:
    files = files_of(
        [["a"]],
        more={
            "graph.json": {"nodes": ["a", {"name": "b"}], "edges": [["a", "b"]]},
            "variables.json": {
                "region": {"string-replace-key": "region", "string-replace-value": "eu"}
            },
            "a/notebook.json": '{"tests": {"t": {"test-logic": "\'$region\' == \'$regional\'"}}}',
            "b/description.json": {"type": "DKNode_noop"},
        },
    )
    variations = files["variations.json"]
    del variations["variation-list"]["v"]["graph-setting"]
    plan = plan_of(compiled(files))
    assert [(step.key, step.needs) for step in plan.steps] == [("a", ()), ("b", (Need("a"),))]
    spec = load_step("noop", plan.steps[0].text, plan.variables, read_file=lambda path: path)
    assert spec.checks[0].expression == "'eu' == '$regional'"


def test_conditions_decide_edges(compiled: Compile, files_of: Files) -> None:
    files = files_of(
        [
            ["decide", "yes", {"condition": "c"}],
            ["decide", "no", {"condition": "c_false"}],
            ["decide", "always"],
        ],
        variables={"n": 5},
        conditions_list={
            "c": {"node": "decide", "variable": "n", "operator": ">", "value": 3, "type": "integer"}
        },
    )
    plan = plan_of(compiled(files))
    needs = {step.key: step.needs for step in plan.steps}
    assert needs["yes"] == (Need("decide", "c_true"),)
    assert needs["no"] == (Need("decide", "c_false"),)
    assert needs["always"] == (Need("decide"),)
    spec = load_step("noop", plan.steps[0].text, plan.variables, read_file=lambda path: path)
    assert spec.conditions[0].cases == {"true": "c_true", "false": "c_false"}


def test_choices_among_cases(compiled: Compile, files_of: Files) -> None:
    files = files_of(
        [["d", "w", {"condition": "c_west"}], ["d", "r", {"condition": "c_otherwise"}]],
        variables={"region": "eu"},
        conditions_list={"c": {"variable": "region", "cases": {"eu": "west", "us": "west"}}},
    )
    needs = {step.key: step.needs for step in plan_of(compiled(files)).steps}
    assert needs == {
        "d": (),
        "w": (Need("d", "c_west"),),
        "r": (Need("d", "c_otherwise"),),
    }


@pytest.mark.parametrize(
    ("edges", "conditions", "says"),
    [
        ([["a", "b", {"condition": "q"}]], {"c": {"variable": "n"}}, "'q'"),
        ([["a", "b", {"condition": "c"}]], {"c": {}}, "conditions-list.c.variable"),
        (
            [["a", "b", {"condition": "c"}]],
            {"c": {"variable": "nobody", "operator": "==", "value": 1}},
            "variable nobody",
        ),
        (
            [["a", "b", {"condition": "c"}]],
            {"c": {"variable": "n", "operator": "==", "value": "{{nothing}}"}},
            "variable nothing",
        ),
        ([["a", "b", {"condition": "c"}]], {"c": {"variable": "n", "value": 1}}, "operator"),
        (
            [["a", "b", {"condition": "c"}]],
            {"c": {"node": "z", "variable": "n", "operator": "==", "value": 1}},
            "belongs to 'z'",
        ),
        (
            [["a", "b", {"condition": "c"}], ["a", "b", {"condition": "d"}]],
            {
                "c": {"variable": "n", "operator": "==", "value": 1},
                "d": {"variable": "n", "operator": "==", "value": 1},
            },
            "give it one condition",
        ),
    ],
)
def test_faulty_conditions(
    edges: list[Any], conditions: dict[str, Any], says: str, errors_of: Errors, files_of: Files
) -> None:
    files = files_of(edges, variables={"n": 1}, conditions_list=conditions)
    issues = errors_of(files)
    assert {issue.file for issue in issues} == {"variations.json"}
    texts = [issue.description for issue in issues]
    assert any(says in text for text in texts), texts


def test_only_plain_steps_decide(errors_of: Errors, files_of: Files) -> None:
    files = files_of(
        [["a", "b", {"condition": "c"}]],
        variables={"n": 1},
        conditions_list={"c": {"variable": "n", "operator": "==", "value": 1}},
        more={
            "a/description.json": {"type": "DKNode_Container"},
            "a/notebook.json": {"command": "ls"},
        },
    )
    assert any("only NoOp steps can" in issue.description for issue in errors_of(files))


def test_some_steps_alone(compiled: Compile, errors_of: Errors, files_of: Files) -> None:
    files = files_of([["a", "b"], ["b", "c"]])
    plan = plan_of(compiled(files, only_steps=("a", "c")))
    assert [(step.key, step.needs) for step in plan.steps] == [("a", ()), ("c", (Need("a"),))]
    issues = errors_of(files, only_steps=("q",))
    assert "no step 'q'" in issues[0].description
    assert "a, b, c" in issues[0].description


def test_how_a_step_is_tried(compiled: Compile, files_of: Files) -> None:
    files = files_of(
        [["a"]],
        variables={"s": 30},
        more={
            "a/description.json": {
                "type": "NoOp",
                "description": "waits",
                "retry": {"attempts": 3, "backoff": 0.5, "factor": 3, "max-backoff": 10},
                "timeout": "{{s}}",
                "tags": ["big"],
                "on-crash": "fail",
                "allow-failure": True,
            }
        },
    )
    step = plan_of(compiled(files)).steps[0]
    assert (step.title, step.timeout_s, step.tags) == ("waits", 30.0, ("big",))
    assert (step.retry.attempts, step.retry.backoff_s) == (3, 0.5)
    assert (step.retry.factor, step.retry.max_backoff_s) == (3, 10)
    assert (step.on_crash, step.allow_failure) == ("fail", True)


def with_script(name: str, **keys: Any) -> dict[str, Any]:
    return {
        f"{name}/description.json": {"type": "DKNode_Container"},
        f"{name}/notebook.json": {"image-repo": "x", "max-ram": 512, "max-storage": 100},
        f"{name}/docker-share/config.json": {"keys": {"k": {"script": "s.py", **keys}}},
        f"{name}/docker-share/s.py": "print('{{ not a template }}')",
    }


def test_a_script_step_names_its_environment_and_limits(compiled: Compile, files_of: Files) -> None:
    step = plan_of(compiled(files_of([["a"]], more=with_script("a")))).steps[0]
    assert step.kind == "script"
    assert step.environment.image == "x:latest"
    assert (step.limits.memory_mb, step.limits.disk_mb) == (512, 100)
    assert sorted(step.text) == ["docker-share/config.json", "notebook.json"]


@pytest.mark.parametrize(
    ("test", "keeps"),
    [
        ({"test-logic": {"test-compare": "equal-to", "test-metric": 1}}, False),
        (
            {
                "test-logic": {
                    "test-compare": "equal-to",
                    "test-metric": {"historic-calculation": "previous-value"},
                }
            },
            True,
        ),
        ({"test-logic": "n < previous and n > average * 0.5", "keep-history": True}, True),
        (
            {
                "description": "{{NodeName}}",
                "test-logic": "n > 1",
                "keep-history": "{{'yes' if n else 'no'}}",
            },
            True,
        ),
    ],
)
def test_a_plan_tells_which_steps_look_back(
    test: dict[str, Any], keeps: bool, compiled: Compile, files_of: Files
) -> None:
    check = {"test-variable": "n", "action": "warning", **test}
    files = files_of(
        [["a"], ["b"]], variables={"n": 3}, more={"a/notebook.json": {"tests": {"t": check}}}
    )
    assert [step.keeps_history for step in plan_of(compiled(files)).steps] == [keeps, False]


def test_names_exported_by_earlier_steps_are_known(compiled: Compile, files_of: Files) -> None:
    files = files_of(
        [["a", "b"], ["b", "c"]],
        variables={"path": "out/{{total}}.csv"},
        more={
            **with_script("a", export=["total"], assign={"text": "x.txt"}),
            "c/notebook.json": {
                "sleep": "{{total}}",
                "description": "{{text}} {{path}} {{CurrentOrderRunId}} {{NodeName}}",
                "tests": {"t": {"test-logic": "total > 5"}},
            },
        },
    )
    plan = plan_of(compiled(files))
    step = plan.steps[2]
    known = {**plan.variables, "total": 7, "text": "", "CurrentOrderRunId": "r", "NodeName": "c"}
    assert load_step("noop", step.text, known, read_file=lambda path: path).sleep_s == 7


def test_a_variable_set_too_late_names_the_edge_that_is_missing(
    errors_of: Errors, files_of: Files
) -> None:
    files = files_of(
        [["a"], ["b"]],
        more={**with_script("a", export=["total"]), "b/notebook.json": {"sleep": "{{total}}"}},
    )
    issues = errors_of(files)
    assert [issue.file for issue in issues] == ["b/notebook.json"]
    assert 'Add the edge ["a", "b"]' in issues[0].description


def test_an_image_of_its_own_may_set_anything(compiled: Compile, files_of: Files) -> None:
    files = files_of(
        [["a", "b"]],
        more={
            "a/description.json": {"type": "DKNode_Container"},
            "a/notebook.json": {"image-repo": "x"},
            "b/notebook.json": {"sleep": "{{seconds}}"},
        },
    )
    assert plan_of(compiled(files)).steps[1].key == "b"


def test_questions_about_a_variable_are_no_need_of_it(compiled: Compile, files_of: Files) -> None:
    text = '{"sleep": {{ wait|default(0) }}{% if q is defined %}, "x": "{{q}}"{% endif %}}'
    assert plan_of(compiled(files_of([["a"]], more={"a/notebook.json": text})))


def test_secrets_of_inserted_files_are_named_for_the_launch(
    compiled: Compile, files_of: Files
) -> None:
    files = files_of(
        [["a"]],
        more={
            "a/description.json": {"type": "DKNode_Action"},
            "a/notebook.json": {},
            "a/actions/x.json": {
                "type": "DKDataSource_SQLite",
                "config": {"database": "#{vault://db/path}"},
                "keys": {"k": {"sql-file": "resources/q.sql"}},
            },
            "resources/q.sql": "attach '#{vault://db/other}'",
        },
    )
    assert plan_of(compiled(files)).steps[0].body == {"secrets": ["#{vault://db/other}"]}


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "kind",
        {"a/description.json": {"type": "DKNode_Magic"}},
        "a/description.json",
        "DKNode_Magic",
    ),
    (
        "ingredient",
        {"a/description.json": {"type": "DKNode_Ingredient"}},
        "a/description.json",
        "not built yet",
    ),
    ("no kind", {"a/description.json": {}}, "a/description.json", "`type` is missing"),
    ("no description", {"a/description.json": None}, "a/description.json", "is missing"),
    (
        "no folder",
        {"a/description.json": None, "a/notebook.json": None},
        "variations.json",
        "no folder a/",
    ),
    (
        "no notebook",
        {"a/description.json": {"type": "DKNode_Action"}, "a/notebook.json": None},
        "a/notebook.json",
        "is missing",
    ),
    (
        "no sources",
        {"a/description.json": {"type": "DKNode_DataMapper"}},
        "a/data_sources/",
        "no .json file",
    ),
    (
        "missing variable",
        {"a/notebook.json": {"sleep": "{{wait}}"}},
        "a/notebook.json",
        "variable wait, which nothing defines",
    ),
    (
        "missing entry",
        {"a/notebook.json": {"sleep": "{{db.port}}"}},
        "a/notebook.json",
        "no attribute 'port'",
    ),
    (
        "missing in variables",
        {"variables.json": {"variable-list": {"x": "{{nope}}", "db": {}}}},
        "variables.json",
        "variable nope",
    ),
    (
        "checked name",
        {"a/notebook.json": {"tests": {"t": {"test-logic": "rows > 5"}}}},
        "a/notebook.json",
        "variable rows",
    ),
    (
        "bad template",
        {"a/notebook.json": '{"a": "{% if %}"}'},
        "a/notebook.json",
        "not well formed",
    ),
    ("bad json", {"a/notebook.json": "{'a': 1}"}, "a/notebook.json", "no valid JSON"),
    (
        "key twice",
        {"a/notebook.json": '{"sleep": 1, "sleep": 2}'},
        "a/notebook.json",
        "'sleep' twice",
    ),
    (
        "variable twice",
        {"variables.json": '{"variable-list": {"a": 1, "a": 2}}'},
        "variables.json",
        "'a' twice",
    ),
    (
        "variations twice",
        {"variations.json": '{"variation-list": {}, "variation-list": {}}'},
        "variations.json",
        "twice",
    ),
    ("no variations", {"variations.json": None}, "variations.json", "is missing"),
    ("empty variations", {"variations.json": "{}"}, "variations.json", "at least one variation"),
    ("no list", {"variations.json": "[]"}, "variations.json", "write an object"),
    ("not text", {"variables.json": b"\xff\xfe"}, "variables.json", "not UTF-8"),
    ("no variable list", {"variables.json": {"db": 1}}, "variables.json", '"variable-list"'),
    (
        "a slip in variable list",
        {"variables.json": {"variables-list": {}}},
        "variables.json",
        """has no "variable-list", but 'variables-list'. Write""",
    ),
    ("a list", {"variables.json": "[]"}, "variables.json", "write an object"),
    ("null", {"variables.json": "null"}, "variables.json", "write an object"),
    ("a text", {"description.json": '""'}, "description.json", "write an object"),
    (
        "list in list",
        {"variables.json": {"variable-list": []}},
        "variables.json",
        "`variable-list` is a list",
    ),
    ("dots", {"a/../x": "x"}, "a/../x", "leave its folder"),
    ("device", {"a/CON.json": "x"}, "a/CON.json", "reserved on Windows"),
    ("git", {"a/.git/hooks/post-receive": "x"}, "a/.git/hooks/post-receive", "reserved for git"),
    ("letter case", {"a/Notebook.json": "x"}, "a/notebook.json", "letter case"),
    ("attack", {"a/notebook.json": {"x": "{{ ''.__class__ }}"}}, "a/notebook.json", "not allowed"),
    ("bad sleep", {"a/notebook.json": {"sleep": "long"}}, "a/notebook.json", "write a number"),
    (
        "bad retry",
        {"a/description.json": {"type": "NoOp", "retry": {"attempts": 0}}},
        "a/description.json",
        "at least 1",
    ),
    (
        "bad crash",
        {"a/description.json": {"type": "NoOp", "on-crash": "ask"}},
        "a/description.json",
        "write one of retry, fail.",
    ),
    (
        "bad alert",
        {"description.json": {"recipe-emails": {"orderrunError": 5}}},
        "description.json",
        "addresses",
    ),
]


@pytest.mark.parametrize(
    ("change", "file", "says"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_bad_input_is_refused_with_file_and_cure(
    change: dict[str, Any], file: str, says: str, errors_of: Errors, files_of: Files
) -> None:
    files = files_of([["a", "b"]], variables={"db": {"host": "h"}})
    for path, content in change.items():
        files.pop(path, None)
        if content is not None:
            files[path] = content
    issues = errors_of(files)
    assert any(issue.file == file and says in issue.description for issue in issues), issues


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"edges": [["a", "b"], ["b", "c"], ["c", "a"]]}, "circle: "),
        ({"edges": [["a", "a"]]}, "to itself"),
        ({"edges": [["a", "b", "c", "d"]]}, "is no edge"),
        ({"edges": ["a"]}, "is no edge"),
        ({"edges": [[1, 2]]}, "names a number"),
        ({"edges": []}, "at least one step"),
        ({"variation": {"graph-setting": "zzz"}}, "is 'zzz', which is not in graph-setting-list"),
        ({"variation": {"graph-setting": ""}}, "graph-setting` is missing"),
        ({"variation": {"override-setting": "zzz"}}, "not in override-setting-list"),
        ({"variation": {"schedule-setting": "zzz"}}, "not in schedule-setting-list"),
        ({"variation": {"ingredient-definition": "zzz"}}, "not in ingredient-definition-list"),
        (
            {
                "variation": {"schedule-setting": "s"},
                "schedule_setting_list": {"s": {"schedule": "0 0 31 2 *"}},
            },
            "0 0 31 2 *",
        ),
        ({"ingredient_definition_list": [{"description": "x"}]}, "ingredient-name"),
    ],
)
def test_bad_variations_are_refused(
    words: Mapping[str, Any], says: str, errors_of: Errors, files_of: Files
) -> None:
    texts = [issue.description for issue in errors_of(files_of(**words))]
    assert any(says in text for text in texts), texts


def test_an_unknown_variation_names_those_there_are(errors_of: Errors, files_of: Files) -> None:
    assert "no variation 'w'. Use one of v." in errors_of(files_of(), "w")[0].description


def test_all_faults_are_collected(request_for: Request, files_of: Files) -> None:
    files = files_of(
        [["a", "b"], ["b", "c"]],
        variables={"limit": 10},
        variation={"override-setting": "nope"},
        more={
            "a/description.json": {"type": "Magic"},
            "b/notebook.json": {"sleep": "{{nobody}}"},
            "c/notebook.json": "{",
        },
    )
    request = request_for(files, parameters={"limit": {"a": 1}})
    with pytest.raises(Refused) as caught:
        compile_recipe(request)
    issues = caught.value.issues
    assert {issue.file for issue in issues} == {
        "variations.json",
        "the order's parameters",
        "a/description.json",
        "b/notebook.json",
        "c/notebook.json",
    }
    assert all(issue.description for issue in issues)
    assert f"{len(issues) - 1} more" in caught.value.message
    assert check_recipe(request) == list(issues)


def test_a_check_without_a_variation_looks_at_all_of_them(
    request_for: Request, files_of: Files
) -> None:
    files = files_of()
    files["variations.json"]["variation-list"] |= {
        "w": {"graph-setting": "nope"},
        "x": {"graph-setting": "neither"},
    }
    texts = [issue.description for issue in check_recipe(request_for(files, ""))]
    assert len(texts) == 2
    assert "nope" in texts[0]
    assert "neither" in texts[1]
    assert check_recipe(request_for(files_of(), "")) == []


def chain(length: int) -> dict[str, Any]:
    edges = [[f"s{i}", f"s{i + 1}"] for i in range(length - 1)]
    files: dict[str, Any] = {
        "variations.json": {
            "variation-list": {"v": {"graph-setting": "g"}},
            "graph-setting-list": {"g": edges},
        }
    }
    for number in range(length):
        files[f"s{number}/description.json"] = b'{"type": "NoOp"}'
    return files


def test_the_longest_allowed_run_compiles_and_one_more_step_is_refused(
    compiled: Compile, errors_of: Errors
) -> None:
    assert len(plan_of(compiled(chain(20_000))).steps) == 20_000
    issues = errors_of(chain(20_001))
    assert any("more than 20,000 steps" in issue.description for issue in issues)


def test_a_plan_that_holds_the_present_moment_does_not_last(
    compiled: Compile, files_of: Files
) -> None:
    files = files_of(variables={"stamp": "{{date_format(now, '%Y%m%d')}}"})
    found = compiled(files)
    assert plan_of(found).variables["stamp"] == "20261123"
    assert not found.is_lasting


@pytest.mark.parametrize(
    ("schedule", "lasts"),
    [
        ("now", True),
        ("{{ when }}", True),
        ("{{ date_format(now, '%M') }} 6 * * *", False),
        ("0 6 {% if SourceDate %}*{% endif %} * *", False),
    ],
)
def test_only_a_template_asks_the_clock(
    schedule: str, lasts: bool, compiled: Compile, files_of: Files
) -> None:
    files = files_of(
        variables={"when": "now"},
        variation={"schedule-setting": "s"},
        schedule_setting_list={"s": {"schedule": schedule}},
    )
    found = compiled(files)
    assert plan_of(found).steps
    assert found.is_lasting == lasts


def test_the_source_date_is_a_variable(compiled: Compile, files_of: Files) -> None:
    files = files_of(variables={"day": "{{SourceDate}}"})
    plan = plan_of(compiled(files, system={"source_date": "2026-01-31"}))
    assert plan.variables["day"] == "2026-01-31"
    assert plan.variables["SourceDate"] == "2026-01-31"
    assert plan_of(compiled(files)).variables["day"] == "2026-11-23"


def test_a_value_with_braces_stays_data_all_the_way(compiled: Compile, files_of: Files) -> None:
    nasty = '{{ 7*7 }}", "sleep": 99, "x": "{% for %}\n'
    files = files_of(
        [["a"]],
        variables={"p": "", "q": "<{{p}}>"},
        more={"a/notebook.json": {"tests": {"t": {"test-logic": "x", "description": "{{q}}"}}}},
    )
    plan = plan_of(compiled(files, parameters={"p": nasty, "x": 1}))
    spec = load_step("noop", plan.steps[0].text, plan.variables, read_file=lambda path: path)
    assert spec.checks[0].description == f"<{nasty}>"
    assert spec.sleep_s == 0
