"""An order run in full: summary, tests, timings, log, variables, conditions. Pure functions.

Source: contract 3.8.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from galley.core.runs.plan import Plan
from galley.core.runs.task import CheckResult
from galley.core.runs.views import LogLine, RunDetail, StepView
from galley.dialects.datakitchen import render
from galley.dialects.datakitchen.states import (
    NODE_STATUS,
    NODE_TYPE,
    PLACE,
    PRIORITY,
    RECORD_TYPE,
    TEST_STATUS,
    WHOLE_STATUS,
)
from galley.dialects.datakitchen.texts import harmless, test_results, timing_results

_SECONDS = 19  # len("2026-11-23T22:47:02")
_RECIPES = uuid.UUID("5b1c0d6e-6f0b-4a53-9d0f-9e2b8e7c4a11")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which parts of a run's details were asked for; the rest is always there."""

    summary: bool = False
    logs: bool = False
    timings: bool = False
    tests: bool = False
    serving: bool = False


def run(
    detail: RunDetail, wanted: Wanted, now: datetime, *, log: Sequence[LogLine] = ()
) -> dict[str, Any]:
    """One entry of `servings`: what every list shows of a run, and the wanted parts."""
    view = detail.run
    shown: dict[str, Any] = {
        **render.run(view, now),
        "recipe_id": str(uuid.uuid5(_RECIPES, f"{view.project_id}/{view.source_path}")),
        "scheduled_start_time": render.millis(view.due_at or view.created_at),
        "state": WHOLE_STATUS[view.state],
        "status_message": view.reason,
        "variation": {},
        "run_time_variables": _variables(detail),
        "conditions": _conditions(detail.plan),
    }
    if detail.plan.warnings:
        shown["issues"] = [
            {"severity": "warning", "file": file, "description": text}
            for file, text in detail.plan.warnings
        ]
    if wanted.summary:
        shown["summary"] = _summary(detail, now)
    if wanted.tests:
        shown["testresults"] = test_results(detail.steps)
    if wanted.timings:
        shown["timingresults"] = timing_results(
            detail,
            total_ms=render.timings(view, now)["duration"],
            step_ms={step.key: _took(step, now) for step in detail.steps},
        )
    if wanted.serving:
        shown["servingjson"] = _serving(detail.plan)
    harmless_shown = {key: _harmless(value) for key, value in shown.items()}
    if wanted.logs:
        harmless_shown["log"] = log_of(detail, log)
    return harmless_shown


def _variables(detail: RunDetail) -> dict[str, Any]:
    view = detail.run
    system = {
        "CurrentKitchen": view.kitchen,
        "CurrentOrderId": detail.order.uuid,
        "CurrentOrderRunId": view.uuid,
        "CurrentVariation": view.variation,
        "RecipeName": view.source_path,
        "CurrentUser": view.created_by_login,
        "WarningCount": view.warnings,
    }
    return {**detail.plan.variables, **view.parameters, **view.exports, **system}


def _conditions(plan: Plan) -> dict[str, dict[str, str]]:
    """Every branch that an edge waits for, and the node that chooses it."""
    return {
        need.when: {"node": need.step}
        for step in plan.steps
        for need in step.needs
        if need.when is not None
    }


def _serving(plan: Plan) -> dict[str, Any]:
    edges = [
        [need.step, step.key, *([{"condition": need.when}] if need.when else [])]
        for step in plan.steps
        for need in step.needs
    ]
    linked = {key for edge in edges for key in edge[:2]}
    alone = [[step.key] for step in plan.steps if step.key not in linked]
    return {
        "recipe": plan.source.path,
        "variation": plan.source.variation,
        "graph-setting": edges + alone,
        "variables": plan.variables,
    }


def _summary(detail: RunDetail, now: datetime) -> dict[str, Any]:
    view = detail.run
    times = render.timings(view, now)
    kinds = {step.key: step.kind for step in detail.plan.steps}
    shown: dict[str, Any] = {
        "name": view.source_path,
        "hid": view.uuid,
        "status": WHOLE_STATUS[view.state],
        "start-time": times["start-time"],
        "total-recipe-time": times["duration"],
        "nodes": {s.key: _node(s, kinds.get(s.key, s.kind), now) for s in detail.steps},
    }
    if "end-time" in times:
        shown["end-time"] = times["end-time"]
    return shown


def _node(step: StepView, kind: str, now: datetime) -> dict[str, Any]:
    node: dict[str, Any] = {
        "status": NODE_STATUS[step.state],
        "start_time": None if step.started_at is None else render.millis(step.started_at),
        "timing": _took(step, now),
        "type": NODE_TYPE.get(kind, kind),
        "message": step.reason,
        "tests": {c.name: _test(c) for c in step.checks if c.place[0] not in PLACE},
    }
    for check in step.checks:
        part = PLACE.get(check.place[0])
        if part is not None:
            file = node.setdefault(part, {}).setdefault(check.place[1], {"tests": {}})
            file["tests"][check.name] = _test(check)
    return node


def _took(step: StepView, now: datetime) -> int | None:
    if step.started_at is None:
        return None
    end = step.finished_at or now
    return max(render.millis(end) - render.millis(step.started_at), 0)


def _test(check: CheckResult) -> dict[str, Any]:
    return {
        "status": TEST_STATUS.get(check.status, check.status),
        "results": check.text,
        "value": check.value,
        "metric": check.metric,
        "description": check.description,
        "applies-to-keys": None,
    }


def log_of(detail: RunDetail, lines: Sequence[LogLine], start: int = 0) -> dict[str, Any]:
    """The lines as clients read them, the first of which is number `start`.

    There may be thousands: each one's work is kept small.
    """
    hosts = {a.id: harmless(a.worker or "") for step in detail.steps for a in step.attempts}
    run_id = detail.run.uuid
    return {
        "count": len(lines),
        "start": start,
        "lines": [_line(line, run_id, hosts.get(line.attempt_id, "")) for line in lines],
    }


def _line(line: LogLine, run_id: str, host: str) -> dict[str, Any]:
    record_type = RECORD_TYPE.get(line.level, "INFO")
    stamp = line.stamp or line.at.replace(tzinfo=None).isoformat(timespec="microseconds")
    return {
        "datetime": stamp,
        "record_type": record_type,
        "thread_name": "MainThread",
        "message": harmless(line.text),
        "node": harmless(line.step_key),
        "syslogts": f"{stamp[:_SECONDS]}+00:00",
        "priority": PRIORITY[record_type],
        "pid": 0,
        "hostname": host,
        "mem_usage": "",
        "disk_used": "",
        "order_run_id": run_id,
        "exc_type": None,
        "exc_desc": None,
        "traceback": None,
    }


def _harmless(value: Any) -> Any:
    """The document with every text in it made harmless (see `texts.harmless`)."""
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, dict):
        return {harmless(key): _harmless(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_harmless(item) for item in value]
    return value
