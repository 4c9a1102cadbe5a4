"""Attempts whose log or folder finds no room on the disk: each ends with a reason."""

import pytest


@pytest.fixture
def full(bench):
    """The log of the attempt `one` lies on a disk that takes no byte."""
    logs = bench.folder / "logs"
    logs.mkdir()
    (logs / "one.log").symlink_to("/dev/full")
    return bench


def test_a_step_whose_log_takes_nothing_fails_and_may_be_tried_again(full):
    outcome = full.run("noop")
    assert (outcome.state, outcome.retryable) == ("failed", True)
    assert "No space left on device" in outcome.reason


def test_a_program_whose_output_the_log_does_not_take_is_ended(full):
    outcome = full.run("program", body={"argv": ["sh", "-c", "echo a; exec sleep 600"]})
    assert outcome.state == "failed"
    assert "No space left on device" in outcome.reason
    assert outcome.usage["wall_s"] < 300


def test_a_reason_is_told_although_the_log_does_not_take_it(full):
    outcome = full.run("raise", body={"kind": "invalid"})
    assert outcome.reason == "The key `x` is missing in f.json."


def test_a_step_is_stopped_although_its_log_takes_nothing(full):
    full.executor.submit(full.task("one", "program", body={"argv": ["sleep", "600"]}))
    full.recorder.until(("started",), "one")
    full.cancel("one")
    assert full.recorder.outcome("one").state == "canceled"


def test_a_step_that_cannot_begin_is_lost_with_the_reason(bench):
    (bench.folder / "logs").write_text("no folder")
    bench.executor.submit(bench.task("one", "noop"))
    kind, reason = bench.recorder.wait("one")
    assert kind == "lost"
    assert "could not begin" in reason
    assert "disk" in reason


def test_nothing_is_made_where_the_data_folder_was(bench):
    bench.folder /= "away"
    bench.executor.submit(bench.task("one", "noop"))
    kind, reason = bench.recorder.wait("one")
    assert kind in {"lost", "never_ran"}
    assert "could not begin" in reason
    assert not bench.folder.exists()


def test_a_result_that_cannot_be_written_is_lost_with_the_reason(bench):
    bench.file("one", "exit.json").mkdir(parents=True)
    bench.executor.submit(bench.task("one", "noop"))
    kind, reason = bench.recorder.wait("one")
    assert kind == "lost"
    assert "result could not be written" in reason
