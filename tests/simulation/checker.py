"""What must hold of a finished simulation, judged from its rows and from the steps' own story."""

from collections import Counter, defaultdict
from typing import Any

import msgspec
import sqlalchemy as sa

from galley.core.runs import models
from galley.core.runs.ledger import Ledger
from galley.core.runs.plan import Plan
from galley.core.runs.states import (
    RUN_FINAL,
    STEP_FINAL,
    AttemptState,
    RunState,
    StepState,
)
from galley.core.runs.task import Outcome
from galley.core.runs.transitions import MAX_LOSSES, MAX_UNSTARTED
from galley.storage.db import Database

_ALL = {
    table.name: sa.select(table).order_by(*table.primary_key)
    for table in (
        models.orders, models.runs, models.plans, models.schedule_fires, models.steps,
        models.attempts, models.events,
    )
}  # fmt: skip
_decode = msgspec.json.Decoder(Plan).decode
_RAN = {StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELED}


class History:
    """All rows of one simulation, by run."""

    def __init__(self, database: Database) -> None:
        with database.connection() as connection:

            def rows(table: sa.Table) -> list[Any]:
                found = connection.execute(_ALL[table.name])
                names = tuple(found.keys())
                return [dict(zip(names, row, strict=True)) for row in found]

            self.orders = {row["id"]: row for row in rows(models.orders)}
            self.runs = {row["id"]: row for row in rows(models.runs)}
            bodies = {row["id"]: row["body"] for row in rows(models.plans)}
            self.fires = rows(models.schedule_fires)
            self.steps = _by_run(rows(models.steps))
            self.attempts = _by_run(rows(models.attempts))
            self.events = _by_run(rows(models.events))
        plans = {key: _decode(body) for key, body in bodies.items()}
        self.plans = {run: plans[row["plan_id"]] for run, row in self.runs.items()}
        self.planned = {
            (run, step.key): step for run, plan in self.plans.items() for step in plan.steps
        }
        """What (run, step) was planned to be."""
        self.reused = {
            row["id"]
            for found in self.attempts.values()
            for row in found
            if row["reused_from"] is not None or row["started_at"] is None
        }
        """The attempts that never ran, or took over what another one achieved."""


def _by_run(rows: list[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row["run_id"]].append(row)
    return found


def check(
    database: Database, story: list[tuple[str, int, str, int]], told: dict[int, Outcome | None]
) -> History:
    """Judge everything that is left; gives it back for further questions.

    `told` has what each attempt that began would say at its end.
    """
    history = History(database)
    of_run = defaultdict(list)
    for entry in story:
        of_run[entry[1]].append(entry)
    for run in history.runs.values():
        _check_run(history, run)
        _check_retries(history, run, told)
        _check_story(history, run, of_run[run["id"]])
    _check_lanes(history)
    ledger = Ledger()
    with database.connection() as connection:
        assert ledger.load(connection) == [], "a reader finds attempts under way"
        assert ledger.live_runs == [], "a reader finds runs under way"
    return history


def _check_run(history: History, run: Any) -> None:
    """Every run has ended, once, and its state is what its steps' states say."""
    run_id, steps = run["id"], {row["key"]: row for row in history.steps[run["id"]]}
    assert run["state"] in RUN_FINAL, f"run {run_id} never ended: {run['state']}"
    told = Counter(
        (event["kind"], event["body"].get("step", "")) for event in history.events[run_id]
    )
    assert told["run.finished", ""] == 1, f"run {run_id} ended {told['run.finished', '']} times"
    assert told["run.started", ""] <= 1
    for key, step in steps.items():
        assert step["state"] in STEP_FINAL, f"run {run_id}: step {key} is {step['state']}"
        assert told["step.finished", key] <= 1, f"run {run_id}: step {key} ended twice"
        _check_attempts(history, run_id, step)
    failed = [
        key
        for key, step in steps.items()
        if step["state"] == StepState.FAILED and not history.planned[run_id, key].allow_failure
    ]
    if run["state"] == RunState.SUCCEEDED:
        assert not failed
        assert all(s["state"] not in {"unreached", "canceled"} for s in steps.values())
        _check_choices(history, run_id, steps)
    elif run["state"] == RunState.FAILED:
        assert failed, f"run {run_id} failed without a failed step"
    else:
        assert run["cancel_reason"]


def _check_attempts(history: History, run_id: int, step: Any) -> None:
    """At most one attempt succeeded, the last one; none is left open; none is too many."""
    mine = [row for row in history.attempts[run_id] if row["step_id"] == step["id"]]
    states = [row["state"] for row in mine]
    assert [row["number"] for row in mine] == list(range(1, len(mine) + 1))
    assert mine[-1]["id"] == step["attempt_id"]
    assert states[-1] == step["state"], f"run {run_id} {step['key']}: {states} {step['state']}"
    between = {AttemptState.FAILED, AttemptState.LOST, AttemptState.UNREACHED}
    assert set(states[:-1]) <= between, f"run {run_id} {step['key']}: {states}"
    retry = history.planned[run_id, step["key"]].retry
    most = {
        AttemptState.FAILED: retry.attempts,
        AttemptState.LOST: MAX_LOSSES,
        AttemptState.UNREACHED: MAX_UNSTARTED + 1,
    }
    for state, bound in most.items():
        assert states.count(state) <= bound, f"run {run_id} {step['key']}: {states}"


def _check_retries(history: History, run: Any, told: dict[int, Outcome | None]) -> None:
    """A step whose failure ended a run, or no run, had every attempt that its plan grants."""
    if run["cancel_reason"] is not None:
        return
    failed = [step for step in history.steps[run["id"]] if step["state"] == StepState.FAILED]
    plans = {step["key"]: history.planned[run["id"], step["key"]] for step in failed}
    fatal = [step for step in failed if not plans[step["key"]].allow_failure]
    if len(fatal) > 1:
        return  # one of them ended the run, and the others got no more attempts
    for step in fatal or failed:
        last = told.get(step["attempt_id"])
        if last is not None and last.state == "failed" and last.retryable:
            mine = [row for row in history.attempts[run["id"]] if row["step_id"] == step["id"]]
            tried = sum(row["state"] == AttemptState.FAILED for row in mine)
            granted = plans[step["key"]].retry.attempts
            assert tried == granted, f"run {run['id']}: {step['key']} {tried} of {granted} times"


def _check_choices(history: History, run_id: int, steps: dict[str, Any]) -> None:
    """In a run that succeeded, exactly those steps ran that a taken edge leads to."""
    left_out = _left_out(history, run_id)
    for planned in history.plans[run_id].steps:
        if planned.key in left_out or _was_reused(history, steps[planned.key]):
            continue  # what an earlier run achieved stays, whatever the new plan would choose
        taken = not planned.needs
        for need in planned.needs:
            before = steps[need.step]
            passes = before["state"] in {StepState.SUCCEEDED, StepState.FAILED}
            passes |= need.step in left_out
            taken |= passes and (need.when is None or need.when in (before["branches"] or ()))
        is_skipped = steps[planned.key]["state"] == StepState.SKIPPED
        assert is_skipped == (not taken), f"run {run_id}: {planned.key} taken {taken}"


def _left_out(history: History, run_id: int) -> set[str]:
    """The failed steps of the run that this one goes on with, which it may skip."""
    old = history.runs[run_id]["resumed_from"]
    mine = {row["key"] for row in history.steps[run_id] if row["state"] == StepState.SKIPPED}
    failed = {row["key"] for row in history.steps[old or 0] if row["state"] == StepState.FAILED}
    return mine & failed


def _check_story(history: History, run: Any, story: list[tuple[str, int, str, int]]) -> None:
    """What truly happened: nothing too early, nothing side by side with itself, nothing twice."""
    run_id = run["id"]
    steps = {row["key"]: row for row in history.steps[run_id]}
    alive: dict[str, int] = {}
    over: set[str] = set()
    began: Counter[int] = Counter()
    for what, _, key, attempt in story:
        if what == "ended":
            assert alive.pop(key, None) == attempt
            if steps[key]["attempt_id"] == attempt:
                over.add(key)
            continue
        began[attempt] += 1
        assert began[attempt] == 1, f"run {run_id}: attempt {attempt} of {key} began twice"
        assert key not in alive, f"run {run_id}: {key} runs twice at once"
        assert key not in over, f"run {run_id}: {key} ran again after its end"
        alive[key] = attempt
        for need in history.planned[run_id, key].needs:
            before = steps[need.step]
            if before["state"] in _RAN and not _was_reused(history, before):
                assert need.step in over or _never_began(history, run_id, before, story), (
                    f"run {run_id}: {key} began before {need.step} had ended"
                )
    for key, step in steps.items():
        if step["state"] == StepState.SUCCEEDED and not _was_reused(history, step):
            assert began[step["attempt_id"]] == 1, f"run {run_id}: {key} succeeded unseen"


def _was_reused(history: History, step: Any) -> bool:
    return step["attempt_id"] in history.reused


def _never_began(
    history: History, run_id: int, step: Any, story: list[tuple[str, int, str, int]]
) -> bool:
    """The step failed for good without its last attempt ever having begun."""
    del history, run_id
    return step["state"] == StepState.FAILED and all(
        entry[3] != step["attempt_id"] for entry in story
    )


def _check_lanes(history: History) -> None:
    """Never more runs of a lane under way at once than its limit."""
    events = sorted(
        (event for found in history.events.values() for event in found), key=lambda e: e["id"]
    )
    busy: dict[str, set[int]] = defaultdict(set)
    for event in events:
        run = history.runs.get(event["run_id"])
        if run is None or run["lane"] is None:
            continue
        if event["kind"] == "run.started":
            busy[run["lane"]].add(run["id"])
            assert len(busy[run["lane"]]) <= run["lane_limit"], f"lane {run['lane']} is too full"
        elif event["kind"] == "run.finished":
            busy[run["lane"]].discard(run["id"])
