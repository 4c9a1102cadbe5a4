import resource
import signal
import subprocess
import sys
import time

import pytest

from galley.core.recipes.spec import CheckSpec, ConditionSpec, EndpointSpec, KeySpec, StepSpec
from galley.engine.nodes import run_spec, run_step

STOP = CheckSpec("enough", "stop", variable="limit", compare="gt", metric=11)


def test_a_noop_checks_and_succeeds(task, console):
    checks = (
        CheckSpec("a", "stop", variable="limit", compare="eq", metric=10),
        CheckSpec("b", "warn", variable="limit", compare="eq", metric=11),
        CheckSpec("c", "log", expression="limit"),
    )
    outcome = run_spec(task(), StepSpec("noop", checks=checks), console)
    assert outcome.state == "succeeded"
    assert [(c.name, c.status) for c in outcome.checks] == [
        ("a", "passed"), ("b", "warning"), ("c", "logged"),
    ]  # fmt: skip
    assert "W Check b warning: 10 equal-to 11" in console.text
    assert set(outcome.timings) == {"notebook"}


def test_a_failed_stop_check_ends_the_step_for_good(task, console):
    later = CheckSpec("later", "stop", variable="limit", compare="eq", metric=10)
    outcome = run_spec(task(), StepSpec("noop", checks=(STOP, later)), console)
    assert outcome.state == "failed"
    assert not outcome.retryable
    assert outcome.reason == (
        "The check enough of step step1 (notebook) failed: 10 greater-than 11."
    )
    assert [c.status for c in outcome.checks] == ["failed", "passed"]
    assert f"E {outcome.reason}" in console.text


@pytest.mark.parametrize(
    ("condition", "value", "branches"),
    [
        (ConditionSpec("c", "x", compare="gt", value=5), 6, ("c",)),
        (ConditionSpec("c", "x", compare="gt", value=5), 5, ()),
        (ConditionSpec("c", "x", compare="gt", value="limit"), 11, ("c",)),
        (ConditionSpec("c", "x", compare="eq", value="6", convert="integer"), "6.0", ("c",)),
        (ConditionSpec("c", "x", compare="lt", value=5, cases={"false": "f"}), 9, ("f",)),
        (ConditionSpec("c", "x", cases={"eu": "east", "us": "west"}), "eu", ("east",)),
        (ConditionSpec("c", "x", cases={"eu": "east"}, otherwise="rest"), "asia", ("rest",)),
        (ConditionSpec("c", "x", cases={"eu": "east"}), "asia", ()),
        (ConditionSpec("c", "x", cases={"true": "yes"}), True, ("yes",)),
        (ConditionSpec("c", "x", cases={"3": "three"}, convert="integer"), "3.0", ("three",)),
    ],
)  # fmt: skip
def test_conditions_choose_branches(task, console, condition, value, branches):
    made = task(variables={"x": value, "limit": 10})
    outcome = run_spec(made, StepSpec("noop", conditions=(condition,)), console)
    assert (outcome.state, outcome.branches) == ("succeeded", branches)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (ConditionSpec("c", "nope", compare="gt", value=5), "the variable nope, which has no"),
        (ConditionSpec("c", "limit", compare="gt", value="x", convert="integer"), "x is not"),
        (ConditionSpec("c", "limit", compare="like", value=1), "like is no comparison"),
    ],
)  # fmt: skip
def test_a_condition_that_cannot_be_decided_fails_the_step(task, console, condition, words):
    outcome = run_spec(task(), StepSpec("noop", conditions=(condition,)), console)
    assert outcome.state == "failed"
    assert words in outcome.reason


def test_waiting_takes_its_time(task, console):
    outcome = run_spec(task(), StepSpec("noop", sleep_s=0.01), console)
    assert outcome.timings["notebook"] >= 0.01


def test_an_unknown_kind_names_the_known_ones(task, console):
    outcome = run_spec(task(), StepSpec("magic"), console)
    assert "no step kind magic; there are action, noop, script, transfer" in outcome.reason


def test_an_action_runs_its_keys_in_order_and_exports(task, console):
    database = {"database": "shop.db"}
    keys = (
        KeySpec("make", "statement", sql="CREATE TABLE t AS SELECT 1 AS n UNION ALL SELECT 2"),
        KeySpec("count", "scalar", sql="SELECT count(*) FROM t", exports={"result": "rows"}),
        KeySpec("day", "scalar", sql="SELECT DATE '2026-11-24'", exports={"result": "day"}),
    )
    check = CheckSpec("rows", "stop", variable="rows", compare="eq", metric=2)
    action = EndpointSpec(
        "act", "duckdb", database, keys, exports={"key_count": "n"}, checks=(check,)
    )
    outcome = run_spec(task("action"), StepSpec("action", actions=(action,)), console)
    assert outcome.state == "succeeded", outcome.reason
    assert outcome.exports == {"rows": 2, "day": "2026-11-24", "n": 3}
    assert outcome.checks[0].place == ("action", "act")
    assert set(outcome.timings) == {"action/act", "notebook"}


def test_a_fault_names_endpoint_and_key(task, console):
    action = EndpointSpec(
        "act", "duckdb", {"database": "x.db"}, (KeySpec("k1", "statement", sql="SELEC"),)
    )
    outcome = run_spec(task("action"), StepSpec("action", actions=(action,)), console)
    assert outcome.reason.startswith("Action act: key k1: DuckDB (x.db) refused: Parser Error")
    assert outcome.state == "failed"


def test_options_that_mean_nothing_are_told(task, console):
    key = KeySpec("k", "statement", value=1, options={"cache": True})
    action = EndpointSpec("act", "none", {}, (key,))
    run_spec(task("action"), StepSpec("action", actions=(action,)), console)
    assert "W act: none knows nothing of cache" in console.text


def test_a_step_is_read_from_its_text(task, console):
    notebook = '{"tests": {"t": {"action": "stop-on-error", "test-variable": "limit",'
    notebook += '"test-logic": {"test-compare": "greater-than", "test-metric": "{{limit - 1}}"},'
    notebook += '"type": "test-contents-as-integer"}}}'
    outcome = run_step(task("noop", text={"notebook.json": notebook}), console)
    assert outcome.state == "succeeded", outcome.reason
    assert outcome.checks[0].text == "10 greater-than 9"


def test_a_slip_in_a_key_is_told_at_the_start_of_the_log(task, console):
    notebook = '{"testz": {"t": {"action": "log", "test-variable": "limit"}}}'
    outcome = run_step(task("noop", text={"notebook.json": notebook}), console)
    assert outcome.state == "succeeded", outcome.reason
    assert outcome.checks == ()
    assert console.lines[0] == (
        "W",
        "step1/notebook.json: `testz` is not known here (did you mean 'tests'?); it has no effect.",
    )


def test_a_step_without_slips_logs_no_warning(task, console):
    run_step(task("noop", text={"notebook.json": "{}"}), console)
    assert [text for level, text in console.lines if level == "W"] == []


def test_faulty_text_is_refused_with_its_place(task, console):
    outcome = run_step(task("noop", text={"notebook.json": '{"sleep": "{{nope}}"}'}), console)
    assert outcome.state == "failed"
    assert not outcome.retryable
    assert "notebook.json" in outcome.reason
    assert "nope" in outcome.reason


def test_importing_the_kinds_is_light():
    code = (
        "import sys, threading, galley.engine.nodes;"
        "heavy = {'duckdb', 'sqlalchemy', 'httpx2', 'psycopg', 'pandas'} & set(sys.modules);"
        "print(sorted(heavy), threading.active_count())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[] 1"


LOOP = "{% for a in range(total) %}{% for b in range(total) %}{% endfor %}{% endfor %}"


def test_a_template_that_takes_too_long_fails_the_step_and_names_its_file(task, console):
    made = task(text={"notebook.json": f'{{"sleep": 0}}{LOOP}'}, variables={"total": 90_000})
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGPROF)
    begun = time.process_time()
    outcome = run_step(made, console)
    assert time.process_time() - begun < 4
    assert (outcome.state, outcome.retryable) == ("failed", False)
    assert "notebook.json: the template took more than 2 s to render" in outcome.reason
    after = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGPROF)
    assert after == before
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)
    assert run_step(task(text={"notebook.json": "{}"}), console).state == "succeeded"


def test_a_template_that_takes_too_much_memory_fails_the_step(task, console):
    text = "{% set big = 'x' * total %}{}"
    made = task(text={"notebook.json": text}, variables={"total": 400 * 1024 * 1024})
    outcome = run_step(made, console)
    assert (outcome.state, outcome.retryable) == ("failed", False)
    assert "needs too much memory" in outcome.reason
