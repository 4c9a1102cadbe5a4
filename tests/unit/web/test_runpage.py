import dataclasses

from galley.core.runs.plan import Plan
from galley.core.runs.states import RunState, StepState
from galley.web.runpage import GRAPH_STEPS, STEPS_PER_PAGE, compose

from . import samples


def changed(detail, **changes):
    return dataclasses.replace(detail, **changes)


def test_a_live_run_has_a_graph_with_every_step():
    page = compose(samples.run_detail(RunState.RUNNING), samples.NOW)
    assert page.is_live
    assert not page.is_resumable
    assert [node.row.step.key for node in page.picture.nodes] == list(samples.GRAPH)
    taken = {(edge.source, edge.target): was for edge, was in page.picture.edges}
    assert taken["join_and_clean", "gate_quality"]
    assert not taken["train_delay_model", "write_report"]


def test_durations_of_running_steps_go_on_until_now():
    page = compose(samples.run_detail(RunState.RUNNING), samples.NOW)
    rows = {row.step.key: row for row in page.steps}
    assert round(page.duration_s, 1) == 47.3
    assert round(rows["train_delay_model"].duration_s, 1) == 26.7
    assert rows["train_delay_model"].is_open
    assert rows["write_report"].duration_s is None
    assert rows["write_report"].bar is None


def test_bars_stay_within_the_run_and_are_never_invisible():
    page = compose(samples.run_detail(RunState.RUNNING), samples.NOW)
    bars = [row.bar for row in page.steps if row.bar]
    assert len(bars) == 9
    for bar in bars:
        assert bar.width >= 4
        assert bar.start >= 0
        assert bar.start + bar.width <= 1000


def test_a_failed_run_names_the_step_and_can_be_resumed_once():
    detail = samples.run_detail(RunState.FAILED)
    page = compose(detail, samples.NOW)
    assert page.first_failure.key == "gate_quality"
    assert page.is_resumable
    assert dict(page.tallies) == {
        StepState.SUCCEEDED: 6,
        StepState.FAILED: 1,
        StepState.UNREACHED: 3,
    }
    resumed = changed(detail, run=dataclasses.replace(detail.run, resumed_by=7))
    assert not compose(resumed, samples.NOW).is_resumable


def test_checks_that_need_attention_come_first():
    page = compose(samples.run_detail(RunState.FAILED), samples.NOW)
    (group,) = page.check_groups
    assert [check.status for check in group.checks] == [
        "failed",
        "warning",
        "logged",
        "passed",
        "passed",
    ]
    assert page.check_tallies == {"failed": 1, "warning": 1, "logged": 1, "passed": 2}
    row = next(row for row in page.steps if row.step.key == "gate_quality")
    assert (row.passed, row.troubled) == (2, 2)


def test_attempts_that_never_started_are_not_counted():
    page = compose(samples.run_detail(RunState.RUNNING), samples.NOW)
    tries = {row.step.key: row.tries for row in page.steps}
    assert tries["load_weather"] == 2
    assert tries["write_report"] == 0


def test_variables_show_the_last_value_and_who_set_it():
    page = compose(samples.run_detail(RunState.RUNNING), samples.NOW)
    found = {one.name: (one.value, one.origin) for one in page.variables}
    assert list(found) == sorted(found)
    assert found["bucket"] == ("s3://flights-prod", "kitchen")
    assert found["columns"][1] == "base"
    assert found["region"] == ("NYC", "parameter")
    assert found["row_count"] == (336776, "step load_flights")


def many_steps(count):
    detail = samples.run_detail(RunState.RUNNING)
    first = detail.steps[0]
    steps = tuple(
        dataclasses.replace(first, id=n, key=f"s{n}", position=n, needs=()) for n in range(count)
    )
    return changed(detail, steps=steps, plan=Plan(source=detail.plan.source, steps=()))


def test_many_steps_are_paged_and_make_no_graph():
    detail = many_steps(GRAPH_STEPS + 1)
    page = compose(detail, samples.NOW, step_page=2)
    assert page.picture is None
    assert page.step_pages == 2
    assert page.steps[0].step.key == f"s{STEPS_PER_PAGE}"
    assert compose(detail, samples.NOW, step_page=99).step_page == 2


def test_a_run_that_has_not_started_has_no_duration():
    detail = samples.run_detail(RunState.QUEUED)
    page = compose(detail, samples.NOW)
    assert page.duration_s is None
    assert all(row.bar is None for row in page.steps)


def test_a_picture_a_little_wider_than_a_page_is_shrunk_to_it_and_no_other():
    page = compose(samples.run_detail(RunState.RUNNING), samples.NOW)
    sizes = {500: False, 1390: True, 5000: False}
    for width, is_fitted in sizes.items():
        assert dataclasses.replace(page.picture, width=width).is_fitted is is_fitted
