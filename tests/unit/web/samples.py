"""Runs as the core's readers would give them, for looking at pages without an engine."""

import dataclasses
from datetime import UTC, datetime, timedelta

from galley.core.runs.plan import Need, Plan, Source, StepPlan
from galley.core.runs.states import AttemptState, OrderState, RunState, StepState
from galley.core.runs.task import CheckResult
from galley.core.runs.views import (
    ArtifactView,
    AttemptView,
    LogLine,
    OrderView,
    RunDetail,
    RunView,
    StepView,
)
from galley.kit.ids import uid_of

NOW = datetime(2026, 11, 23, 22, 58, 41, tzinfo=UTC)
START = NOW - timedelta(seconds=47.3)

GRAPH = {
    "load_flights": [],
    "load_weather": [],
    "load_airlines": [],
    "load_airports": [],
    "load_planes": [],
    "join_and_clean": [
        "load_flights",
        "load_weather",
        "load_airlines",
        "load_airports",
        "load_planes",
    ],
    "gate_quality": ["join_and_clean"],
    "aggregate": ["gate_quality"],
    "train_delay_model": ["gate_quality"],
    "write_report": ["aggregate", "train_delay_model", "load_airlines"],
}
TIMES = {
    "load_flights": (0.2, 6.8),
    "load_weather": (0.2, 1.9),
    "load_airlines": (0.3, 0.34),
    "load_airports": (1.9, 0.41),
    "load_planes": (2.3, 0.52),
    "join_and_clean": (7.1, 11.2),
    "gate_quality": (18.4, 2.1),
    "aggregate": (20.6, 5.2),
    "train_delay_model": (20.6, 26.7),
}


def uid(number: int) -> str:
    found = uid_of(f"0193{number:04x}-5a7b-7c1d-9e2f-{number:012x}")
    assert found is not None
    return found


def run_view(number: int, state: RunState, **changes) -> RunView:
    facts = {
        "id": number,
        "uid": uid(number),
        "order_id": number,
        "order_uid": uid(5000 + number),
        "project_id": 1,
        "kitchen": "production",
        "kitchen_id": None,
        "source_kind": "recipe",
        "source_path": "flights",
        "variation": "main",
        "origin": "api",
        "state": state,
        "reason": "",
        "paused": False,
        "priority": 0,
        "parameters": {"region": "NYC"},
        "exports": {},
        "source_date": None,
        "due_at": None,
        "resumed_from": None,
        "resumed_by": None,
        "resumed_by_uid": None,
        "warnings": 0,
        "steps_total": len(GRAPH),
        "steps_left": 2 if state is RunState.RUNNING else 0,
        "created_by": 1,
        "created_by_login": "ada@example.org",
        "created_at": START,
        "started_at": None if state is RunState.QUEUED else START,
        "finished_at": START + timedelta(seconds=46)
        if state not in {RunState.RUNNING, RunState.QUEUED}
        else None,
    }
    return RunView(**{**facts, **changes})


def run_list() -> list[RunView]:
    kinds = [
        (RunState.RUNNING, {}),
        (RunState.QUEUED, {"source_path": "delay-report", "kitchen": "dev", "steps_left": 10}),
        (RunState.SUCCEEDED, {"warnings": 2, "source_date": "2026-11-22", "origin": "schedule"}),
        (RunState.FAILED, {"reason": "x", "steps_left": 3}),
        (RunState.SUCCEEDED, {"kitchen": "dev", "variation": "small_sample"}),
        (RunState.CANCELED, {"created_by_login": "grace.hopper@example.org"}),
        (RunState.RUNNING, {"paused": True, "source_path": "customer_churn_weekly"}),
    ]
    rows = []
    for index in range(26):
        state, changes = kinds[index % len(kinds)]
        started = NOW - timedelta(minutes=index * index * 7, seconds=47)
        took = timedelta(seconds=(index * 37.7) % 4000 + 0.4)
        times = {
            "created_at": started,
            "started_at": None if state is RunState.QUEUED else started,
            "finished_at": started + took
            if state in {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED}
            else None,
        }
        rows.append(run_view(4000 - index, state, **{**times, **changes}))
    return rows


def checks(*, broken: bool) -> tuple[CheckResult, ...]:
    return (
        CheckResult(
            "flights_row_count",
            "passed",
            "stop",
            "336776 == 336776",
            336776,
            336776,
            ("notebook", ""),
            "Every flight of 2013 is there",
        ),
        CheckResult(
            "dep_delay_null_rate",
            "failed" if broken else "passed",
            "stop",
            "0.419 <= 0.05 is false: 141,203 of 336,776 rows have no dep_delay",
            0.41927,
            0.05,
            ("source", "flights_db"),
            "At most 5 % of departures have no delay recorded",
        ),
        CheckResult(
            "temperature_range",
            "warning",
            "warn",
            "1 reading above 100 °F",
            104.0,
            100,
            ("source", "weather_db"),
        ),
        CheckResult("carriers_known", "logged", "log", "16 carriers", 16, 16, ("sink", "clean")),
        CheckResult(
            "airports_known", "passed", "warn", "4 destinations are not in airports", 4, 10
        ),
    )


def step_view(index: int, key: str, state: StepState, run: RunView) -> StepView:
    start, took = TIMES.get(key, (None, None))
    begun = START + timedelta(seconds=start) if start is not None else None
    ended = begun + timedelta(seconds=took) if begun and state is not StepState.RUNNING else None
    if state in {StepState.WAITING, StepState.UNREACHED}:
        begun = ended = None
    attempt_state = AttemptState(state.value)
    attempts = [
        AttemptView(
            id=100 + index,
            number=2 if key == "load_weather" else 1,
            state=attempt_state,
            reason="",
            exit_code=0 if state is StepState.SUCCEEDED else None,
            executor="local",
            worker="host-1",
            usage={},
            reused_from=None,
            created_at=START,
            started_at=begun,
            finished_at=ended,
        )
    ]
    if key == "load_weather":
        attempts.append(
            AttemptView(
                90, 1, AttemptState.FAILED, "weather.csv: connection reset by peer", 1, "local",
                "host-1", {}, None, START, START, START + timedelta(seconds=0.4),
            )
        )  # fmt: skip
    kind = {"gate_quality": "action", "train_delay_model": "script"}.get(key, "transfer")
    return StepView(
        id=10 + index,
        key=key,
        position=index,
        kind=kind,
        title="",
        state=state,
        reason="Check dep_delay_null_rate failed: 0.419 is above 0.05. Repair column dep_delay of"
        " table flights, or raise max_null_rate in variables.json."
        if state is StepState.FAILED
        else "",
        needs=tuple(GRAPH[key]),
        exports={"row_count": 336776} if key == "load_flights" else {},
        branches=(),
        timings={},
        started_at=begun,
        finished_at=ended,
        attempts=tuple(attempts),
        checks=checks(broken=state is StepState.FAILED) if key == "gate_quality" else (),
    )


def run_detail(state: RunState = RunState.RUNNING, **changes) -> RunDetail:
    reason = "Check dep_delay_null_rate of step gate_quality failed: 0.419 is above 0.05."
    run = run_view(4000, state, reason=reason if state is RunState.FAILED else "", warnings=1)
    run = dataclasses.replace(run, **changes)
    states = dict.fromkeys(GRAPH, StepState.SUCCEEDED)
    if state is RunState.RUNNING:
        states |= {"train_delay_model": StepState.RUNNING, "write_report": StepState.WAITING}
    if state is RunState.FAILED:
        states |= {
            "gate_quality": StepState.FAILED,
            "aggregate": StepState.UNREACHED,
            "train_delay_model": StepState.UNREACHED,
            "write_report": StepState.UNREACHED,
        }
    order = OrderView(
        id=1, uid=uid(5000), project_id=1, kitchen="production", kitchen_id=None,
        source_kind="recipe", source_path="flights", variation="main", origin="api",
        state=OrderState.ACTIVE, schedule=None, parameters={}, only_steps=None, alerts=None,
        source_date=None, priority=0, parent_run_id=None, created_by=1,
        created_by_login="ada@example.org", created_at=START, updated_at=START,
    )  # fmt: skip
    plan = Plan(
        source=Source("recipe", "main/recipes", "flights", "main", "production", "9f8e7d6c5b4a"),
        steps=tuple(
            StepPlan(key, "transfer", needs=tuple(Need(one) for one in needs))
            for key, needs in GRAPH.items()
        ),
        variables={
            "bucket": "s3://flights-prod",
            "max_null_rate": 0.05,
            "password": "vault://flights/postgres/password",
            "columns": ["dep_delay", "arr_delay", "distance"],
            "region": "EWR",
        },
        origins={"bucket": "kitchen", "max_null_rate": "variation"},
    )
    artifacts = (
        ArtifactView(1, 19, "report.html", "a3f1" * 16, 482_113, "text/html", NOW),
        ArtifactView(2, 17, "delays.parquet", "77b0" * 16, 38_204_118, "application/parquet", NOW),
    )
    steps = tuple(step_view(i, key, states[key], run) for i, key in enumerate(GRAPH))
    return RunDetail(run, order, plan, steps, artifacts if state is not RunState.FAILED else ())


def log_lines() -> list[LogLine]:
    lines = []
    texts = [
        ("info", "load_flights", "Reading flights.csv.gz: 336,776 rows, 19 columns"),
        ("debug", "load_flights", "read_csv: sample_size=20480, threads=2"),
        ("info", "load_weather", "Reading weather.csv"),
        ("error", "load_weather", "weather.csv: connection reset by peer; trying again in 1.1 s"),
        ("info", "load_weather", "26,115 rows"),
        ("info", "join_and_clean", "Joined 336,776 flights with 26,115 weather readings"),
        ("warning", "gate_quality", "Check temperature_range: 104 is above 100, going on"),
        ("info", "gate_quality", "Check flights_row_count passed: 336776 == 336776"),
        ("output", "train_delay_model", "fold 1/5  mae=11.482  r2=0.412"),
        ("output", "train_delay_model", "fold 2/5  mae=11.377  r2=0.419"),
        ("output", "train_delay_model", "<script>alert(1)</script> & \x1b[31mred\x1b[0m"),
    ]
    for index, (level, step, text) in enumerate(texts * 3):
        at = START + timedelta(seconds=index * 1.31)
        lines.append(LogLine(at, level, text, step, 1))
    return lines
