import re
from dataclasses import replace
from datetime import timedelta

from tests.unit.dialects.datakitchen.views import CHECK, LATER, START, detail, step_view

from galley.core.runs.states import StepState
from galley.core.runs.views import LogLine
from galley.dialects.datakitchen import details
from galley.dialects.datakitchen.texts import clock_text, test_results, timing_results

test_results.__test__ = False


def parsed(text):
    """What datakitchen-api-tools 0.4.1 reads out of the text: (name, step, level, result)."""
    level, step, found = "Failed", "", []
    for line in text.strip().split("\n"):
        bare = line.strip()
        if match := re.match(r"Tests: (\w+)", bare):
            level = match[1]
        elif match := re.match(r"Step \((.+)\)", bare):
            step = match[1]
        elif match := re.match(r"\d+\. (.+) \((.+)\)", bare):
            found.append((match[1], step, level, match[2]))
    return found


def test_results_without_tests_say_so():
    text = test_results([step_view(checks=())])
    assert text.splitlines() == [
        "", "Tests: Failed", " No Tests Failed", "Tests: Warning",
        " No Tests Gave Warning Messages", "Tests: Log", " No Tests Were Logged",
        "Tests: Passed", " No Tests Passed",
    ]  # fmt: skip
    assert parsed(text) == []


def test_results_are_grouped_so_that_clients_can_parse_them():
    failed = replace_check(name="no_nulls", status="failed", text="3 equal-to 0\nsecond line")
    logged = replace_check(name="note", status="logged", text="x")
    steps = [
        step_view(key="load (all)", checks=(CHECK, failed)),
        step_view(key="b", checks=(logged,)),
    ]
    assert parsed(test_results(steps)) == [
        ("no_nulls", "load (all)", "Failed", "3 equal-to 0 second line"),
        ("note", "b", "Log", "x"),
        ("row_floor", "load (all)", "Passed", "12 greater-than limit=10"),
    ]


def replace_check(**changes):
    import msgspec

    return msgspec.structs.replace(CHECK, **changes)


def test_timings_have_the_total_each_node_and_its_parts():
    waiting = step_view(key="late", started_at=None, state=StepState.UNREACHED, timings={})
    shown = timing_results(
        detail(steps=(step_view(), waiting)), total_ms=5000, step_ms={"load": 4000, "late": None}
    )
    assert shown.splitlines() == [
        "DKRecipe timing (demo), status = DKNodeStatus_completed_production",
        "total recipe execution time|0:00:05.000",
        "Node (load), status = DKNodeStatus_completed_production, timing is||0:00:04.000",
        "    action/source|0:00:01.500",
        "Node (late), status = DKNodeStatus_ready_for_production, timing is||not started",
    ]


def test_a_duration_reads_as_hours_minutes_seconds():
    assert clock_text(0) == "0:00:00.000"
    assert clock_text(3_723_004) == "1:02:03.004"
    assert clock_text(-5) == "0:00:00.000"
    assert clock_text(100 * 3_600_000) == "100:00:00.000"


def test_log_lines_have_the_vendors_shape_and_never_the_phrase_for_unknown_orders():
    line = LogLine(
        at=START, level="warning", text="table x does not exist.", step_key="load", attempt_id=7
    )
    shown = details.run(detail(), details.Wanted(logs=True), LATER, log=[line])["log"]
    assert shown["count"] == 1
    assert shown["lines"][0] == {
        "datetime": "2026-11-23T06:00:00.123456", "record_type": "WARN",
        "thread_name": "MainThread", "message": "table x does not exist", "node": "load",
        "syslogts": "2026-11-23T06:00:00+00:00", "priority": 28, "pid": 0, "hostname": "host1",
        "mem_usage": "", "disk_used": "", "order_run_id": detail().run.uuid, "exc_type": None,
        "exc_desc": None, "traceback": None,
    }  # fmt: skip


def test_the_phrase_is_taken_out_of_every_text_of_an_answer():
    run = replace(detail().run, reason="a does not exist.", exports={"v": ["b does not exist."]})
    step = step_view(reason="c does not exist.", finished_at=START + timedelta(seconds=1))
    shown = details.run(
        detail(run=run, steps=(step,)),
        details.Wanted(summary=True, tests=True, timings=True, serving=True),
        LATER,
    )
    assert "does not exist." not in str(shown)
    assert shown["run_time_variables"]["v"] == ["b does not exist"]
