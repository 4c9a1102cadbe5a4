"""Every change of state of a run, its steps and attempts. Pure: no SQL, no clock, no process.

Each function changes the live run and notes the rows and acts in the `Turn`; nothing else in
Galley changes these states.
"""

from datetime import timedelta
from random import Random
from typing import Any

from galley.core.runs import alerts, models
from galley.core.runs.live import LiveAttempt, LiveRun, LiveStep
from galley.core.runs.plan import Retry
from galley.core.runs.states import AttemptState, OrderState, RunState, StepState
from galley.core.runs.task import Outcome
from galley.core.runs.turn import Turn

_ATTEMPT_OF = {
    StepState.SUCCEEDED: AttemptState.SUCCEEDED,
    StepState.FAILED: AttemptState.FAILED,
    StepState.CANCELED: AttemptState.CANCELED,
    StepState.SKIPPED: AttemptState.SKIPPED,
    StepState.UNREACHED: AttemptState.UNREACHED,
}
MAX_LOSSES = 5
"""How often a step may die without a word (out of memory, a crash) before it has failed."""
MAX_UNSTARTED = 20
"""How often a step may fail to be started at all before it has failed."""

_jitter = Random()  # noqa: S311 - spreads retries, decides nothing


def open_run(turn: Turn, run: LiveRun) -> None:
    """Make the first steps ready; a run without steps has already succeeded."""
    turn.tell(run, "run.queued")
    for step in list(run.steps.values()):
        is_open = step.state is StepState.WAITING and step.open_needs == 0
        if is_open and not _resolve(turn, run, step):
            release_followers(turn, run, step)
    _end_if_done(turn, run)


def begin_run(turn: Turn, run: LiveRun) -> None:
    """The run gets its turn: its first step is about to start."""
    run.state, run.started_at = RunState.RUNNING, turn.now
    turn.changes.update(models.runs, run.id, {"state": run.state, "started_at": turn.now})
    turn.tell(run, "run.started")
    alerts.raise_alert(turn, run, "start")


def assign(turn: Turn, run: LiveRun, step: LiveStep, worker: str) -> None:
    """Give a ready step's attempt to a worker, under a fresh fence."""
    attempt = step.attempt
    step.state, attempt.state = StepState.RUNNING, AttemptState.STARTING
    attempt.fence, attempt.worker = turn.ids.take("fence"), worker
    attempt.started_at = turn.now
    run.active += 1
    turn.changes.update(
        models.attempts,
        attempt.id,
        {"state": attempt.state, "fence": attempt.fence, "worker": worker, "started_at": turn.now},
    )
    turn.changes.update(models.steps, step.id, {"state": step.state, "started_at": turn.now})
    turn.tell(run, "step.started", step=step.key, attempt=attempt.id, number=attempt.number)
    turn.starts.append((run, step))


def note_started(turn: Turn, step: LiveStep, handle: dict[str, Any]) -> None:
    """The attempt's process is there."""
    if step.attempt.state is AttemptState.STARTING:
        step.attempt.state = AttemptState.RUNNING
        turn.changes.update(
            models.attempts, step.attempt.id, {"state": AttemptState.RUNNING, "handle": handle}
        )


def finish_attempt(turn: Turn, run: LiveRun, step: LiveStep, outcome: Outcome) -> None:
    """Take over how an attempt ended: retry it, or settle its step and what hangs on it."""
    run.active -= 1
    _note_results(turn, run, step, outcome)
    state = StepState(outcome.state)
    if state is StepState.SUCCEEDED and run.cancel_reason is not None:
        turn.tell(run, "step.late", step=step.key)
    if state is StepState.CANCELED and run.cancel_reason is None:
        state = StepState.FAILED
    if state is StepState.FAILED and outcome.retryable and _retry(turn, run, step, outcome.reason):
        return
    _close_attempt(turn, step, state, outcome)
    _settle(turn, run, step, state, outcome)
    _end_if_done(turn, run)


def start_anew(turn: Turn, run: LiveRun, step: LiveStep, reason: str) -> None:
    """Nothing of the attempt ever ran: another one starts, whatever the crash policy says."""
    run.active -= 1
    step.unstarted += 1
    if not run.is_closing and step.unstarted <= MAX_UNSTARTED:
        delay_s = pause_s(Retry(), step.unstarted - 1) if step.unstarted > 1 else 0.0
        _replace_attempt(turn, run, step, AttemptState.UNREACHED, reason, delay_s=delay_s)
        return
    if not run.is_closing:
        reason = f"It could not be started {step.unstarted} times; last: {reason}"
    _give_up(turn, run, step, reason)


def lose_attempt(turn: Turn, run: LiveRun, step: LiveStep, reason: str) -> None:
    """The attempt is gone without a word: the step's crash policy decides."""
    run.active -= 1
    step.losses += 1
    may_retry = step.plan.on_crash == "retry" and not run.is_closing
    if may_retry and step.losses <= MAX_LOSSES:
        delay_s = pause_s(Retry(), step.losses - 1) if step.losses > 1 else 0.0
        _replace_attempt(turn, run, step, AttemptState.LOST, reason, delay_s=delay_s)
        return
    if may_retry:
        reason = f"It was lost {step.losses} times; last: {reason}"
    _give_up(turn, run, step, reason)


def _give_up(turn: Turn, run: LiveRun, step: LiveStep, reason: str) -> None:
    """The attempt left no result, and no other follows."""
    lost = Outcome(state="failed", reason=reason)
    state = StepState.CANCELED if run.cancel_reason is not None else StepState.FAILED
    _close_attempt(turn, step, state, lost)
    _settle(turn, run, step, state, lost)
    _end_if_done(turn, run)


def cancel_run(turn: Turn, run: LiveRun, reason: str) -> None:
    """Start nothing more and kill what lives; a second call changes nothing."""
    if run.cancel_reason is not None:
        return
    run.cancel_reason = reason
    turn.changes.update(models.runs, run.id, {"cancel_reason": reason})
    turn.tell(run, "run.canceling", reason=reason)
    _leave_unreached(turn, run)
    turn.kills.extend((step.attempt.id, step.attempt.worker) for step in run.living())
    _end_if_done(turn, run)


def pause_run(turn: Turn, run: LiveRun, *, paused: bool) -> None:
    """Start no further step, or go on."""
    if run.paused != paused:
        run.paused = paused
        turn.changes.update(models.runs, run.id, {"paused": paused})
        turn.tell(run, "run.paused" if paused else "run.unpaused")


def _settle(turn: Turn, run: LiveRun, step: LiveStep, state: StepState, outcome: Outcome) -> None:
    """Put the step into a final state, then everything that this decides, without recursion."""
    step.exports, step.branches = outcome.exports, outcome.branches
    run.exports.update(outcome.exports)
    turn.changes.update(
        models.steps,
        step.id,
        {
            "state": state,
            "reason": outcome.reason,
            "exports": outcome.exports or None,
            "branches": list(outcome.branches) or None,
            "timings": outcome.timings or None,
            "finished_at": turn.now,
        },
    )
    _count_out(run, step, state)
    turn.tell(run, "step.finished", step=step.key, state=state, reason=outcome.reason)
    if state is StepState.FAILED and not step.plan.allow_failure:
        _fail_run(turn, run, step, outcome.reason)
    elif not run.is_closing:
        release_followers(turn, run, step)


def release_followers(turn: Turn, run: LiveRun, first: LiveStep) -> None:
    """Make ready what waited only for this step; skip what no taken edge leads to."""
    stack = [first]
    while stack:
        step = stack.pop()
        passes = step.state is StepState.SUCCEEDED or (
            step.state is StepState.FAILED and step.plan.allow_failure
        )
        for follower, when in step.followers:
            follower.open_needs -= 1
            if passes and (when is None or when in step.branches):
                follower.is_wanted = True
            is_open = follower.state is StepState.WAITING and follower.open_needs == 0
            if is_open and not _resolve(turn, run, follower):
                stack.append(follower)


def _resolve(turn: Turn, run: LiveRun, step: LiveStep) -> bool:
    """All that the step needed has ended: it becomes ready, or is skipped (False)."""
    if not step.is_wanted:
        _leave(turn, run, step, StepState.SKIPPED, "no condition chose it")
        return False
    step.state, step.attempt.state = StepState.READY, AttemptState.READY
    turn.changes.update(models.steps, step.id, {"state": step.state})
    turn.changes.update(models.attempts, step.attempt.id, {"state": step.attempt.state})
    turn.ready.append((run, step))
    return True


def _fail_run(turn: Turn, run: LiveRun, step: LiveStep, reason: str) -> None:
    if run.failure is None:
        run.failure = f"Step {step.key} failed: {reason}" if reason else f"Step {step.key} failed."
        turn.changes.update(models.runs, run.id, {"reason": run.failure})
    _leave_unreached(turn, run)


def _leave_unreached(turn: Turn, run: LiveRun) -> None:
    for step in run.steps.values():
        if step.state in {StepState.WAITING, StepState.READY}:
            _leave(turn, run, step, StepState.UNREACHED, "the run ended first")


def _leave(turn: Turn, run: LiveRun, step: LiveStep, state: StepState, reason: str) -> None:
    """A step ends without having run."""
    _count_out(run, step, state)
    step.attempt.state = _ATTEMPT_OF[state]
    turn.changes.update(
        models.steps, step.id, {"state": state, "reason": reason, "finished_at": turn.now}
    )
    turn.changes.update(
        models.attempts,
        step.attempt.id,
        {"state": step.attempt.state, "reason": reason, "finished_at": turn.now},
    )


def _count_out(run: LiveRun, step: LiveStep, state: StepState) -> None:
    step.state = state
    run.left -= 1


def _end_if_done(turn: Turn, run: LiveRun) -> None:
    """Close the run when no step can change any more."""
    if run.left > 0:
        turn.changes.update(models.runs, run.id, {"steps_left": run.left})
        return
    if run.cancel_reason is not None:
        run.state, run.reason = RunState.CANCELED, run.cancel_reason
    elif run.failure is not None:
        run.state, run.reason = RunState.FAILED, run.failure
    else:
        run.state = RunState.SUCCEEDED
    turn.changes.update(
        models.runs,
        run.id,
        {
            "state": run.state,
            "reason": run.reason,
            "exports": run.exports,
            "warnings": run.warnings,
            "steps_left": 0,
            "finished_at": turn.now,
        },
    )
    if not run.is_scheduled:
        state = order_state_after(run.state)
        turn.changes.update(models.orders, run.order_id, {"state": state, "updated_at": turn.now})
    turn.tell(run, "run.finished", state=run.state, reason=run.reason)
    if run.state is not RunState.CANCELED:
        alerts.raise_alert(turn, run, "success" if run.state is RunState.SUCCEEDED else "failure")
    turn.ended.append(run)
    turn.finished[run.state] += 1


def order_state_after(state: RunState) -> OrderState:
    """What an order that runs once becomes when its run ends."""
    return {
        RunState.SUCCEEDED: OrderState.COMPLETED,
        RunState.FAILED: OrderState.FAILED,
        RunState.CANCELED: OrderState.STOPPED,
    }[state]


def _close_attempt(turn: Turn, step: LiveStep, state: StepState, outcome: Outcome) -> None:
    step.attempt.state = _ATTEMPT_OF[state]
    turn.changes.update(
        models.attempts,
        step.attempt.id,
        {
            "state": step.attempt.state,
            "reason": outcome.reason,
            "exit_code": outcome.exit_code,
            "usage": outcome.usage or None,
            "finished_at": turn.now,
        },
    )


def _retry(turn: Turn, run: LiveRun, step: LiveStep, reason: str) -> bool:
    """Plan one more attempt after a failure, if the plan grants one."""
    retry = step.plan.retry
    failures = step.attempt.number - step.losses - step.unstarted
    if run.is_closing or failures >= retry.attempts:
        return False
    delay_s = pause_s(retry, failures)
    _replace_attempt(turn, run, step, AttemptState.FAILED, reason, delay_s=delay_s)
    return True


def pause_s(retry: Retry, failures: int) -> float:
    """How long to wait after that many failures: grows by the factor, 10 % jitter, bounded."""
    wait = retry.backoff_s * retry.factor ** (failures - 1)
    return min(wait, retry.max_backoff_s) * _jitter.uniform(0.95, 1.05)


def _replace_attempt(
    turn: Turn, run: LiveRun, step: LiveStep, state: AttemptState, reason: str, *, delay_s: float
) -> None:
    """End the attempt without ending its step, and make the next one ready (after a pause)."""
    old = step.attempt
    turn.changes.update(
        models.attempts, old.id, {"state": state, "reason": reason, "finished_at": turn.now}
    )
    new = LiveAttempt(turn.ids.take("attempt"), old.number + 1, AttemptState.READY)
    if delay_s > 0:
        new.not_before = turn.now + timedelta(seconds=delay_s)
    step.attempt, step.state = new, StepState.READY
    turn.changes.insert(models.attempts, attempt_row(turn, run, step))
    turn.changes.update(
        models.steps, step.id, {"state": StepState.READY, "attempt_id": new.id, "reason": reason}
    )
    turn.tell(run, "step.retrying", step=step.key, number=new.number, reason=reason)
    turn.ready.append((run, step))


def attempt_row(turn: Turn, run: LiveRun, step: LiveStep, **more: Any) -> dict[str, Any]:
    """The row of a step's newest attempt, every column named."""
    attempt = step.attempt
    return {
        "id": attempt.id,
        "run_id": run.id,
        "step_id": step.id,
        "number": attempt.number,
        "state": attempt.state,
        "reason": "",
        "fence": attempt.fence,
        "executor": None,
        "worker": attempt.worker,
        "handle": None,
        "not_before": attempt.not_before,
        "exit_code": None,
        "usage": None,
        "reused_from": None,
        "created_at": turn.now,
        "started_at": None,
        "finished_at": None,
    } | more


def _note_results(turn: Turn, run: LiveRun, step: LiveStep, outcome: Outcome) -> None:
    """Store checks and artefacts of an attempt, and count its warnings."""
    place = {"run_id": run.id, "step_id": step.id, "attempt_id": step.attempt.id}
    for check in outcome.checks:
        turn.changes.insert(
            models.checks,
            {"id": turn.ids.take("check_result"), **place}
            | {
                "name": check.name,
                "status": check.status,
                "action": check.action,
                "text": check.text,
                "value": check.value,
                "metric": check.metric,
                "place_kind": check.place[0],
                "place_name": check.place[1],
                "description": check.description,
                "series": run.series(step.key) if check.keeps_history else None,
                "created_at": turn.now,
            },
        )
    if outcome.state == StepState.SUCCEEDED:
        for staged in outcome.staged:
            turn.changes.insert(
                models.artifacts,
                {"id": turn.ids.take("artifact"), **place}
                | {
                    "name": staged.name,
                    "sha256": staged.sha256,
                    "size_bytes": staged.size_bytes,
                    "media_type": staged.media_type,
                    "created_at": turn.now,
                },
            )
    warned = sum(check.status == "warning" for check in outcome.checks)
    if warned:
        run.warnings += warned
        turn.changes.update(models.runs, run.id, {"warnings": run.warnings})
        limit = run.plan.thresholds.warnings
        if limit is not None and run.warnings > limit:
            alerts.raise_alert(turn, run, "warning")
