"""Plans, orders and people's acts, drawn from a seed."""

from datetime import timedelta
from random import Random
from typing import Any

from galley.core.runs import messages as msg
from galley.core.runs.plan import Need, Plan, Retry, ScheduleSpec, Source, StepPlan, Thresholds
from galley.core.runs.schedule import next_due
from galley.kit.ids import new_uid

_CRONS = ("* * * * *", "*/2 * * * *", "*/5 * * * *")


def plan(random: Random) -> Plan:
    """A graph of one to nine steps; edges lead from earlier to later ones."""
    steps: list[StepPlan] = []
    for number in range(random.randint(1, 9)):
        needs = tuple(
            Need(before.key, random.choice(("yes", "no")) if random.random() < 0.15 else None)
            for before in steps
            if random.random() < 0.3
        )
        steps.append(
            StepPlan(
                key=f"s{number}",
                kind="noop",
                needs=needs,
                retry=Retry(attempts=random.choice((1, 1, 2, 3)), backoff_s=random.uniform(0.1, 5)),
                on_crash=random.choice(("retry", "retry", "fail")),
                allow_failure=random.random() < 0.15,
                brief=random.random() < 0.3,
            )
        )
    return Plan(
        source=Source(kind="recipe", project="main/recipes", path="rec", variation="v"),
        steps=tuple(steps),
        max_parallel=random.choice((None, None, 1, 2)),
        thresholds=Thresholds(
            duration_s=random.choice((None, None, None, 20.0)),
            stop_on_duration=random.random() < 0.5,
        ),
    )


def order(random: Random, schedule: ScheduleSpec | None = None) -> msg.NewOrder:
    """An order of nobody in particular."""
    return msg.NewOrder(
        uid=new_uid(),
        project_id=1,
        source_kind="recipe",
        source_path="rec",
        variation="v",
        origin="api",
        kitchen="master",
        schedule=schedule,
        priority=random.choice((0, 0, 5)),
    )


def run(random: Random, lanes: dict[str, int]) -> msg.NewRun:
    """A run, perhaps in one of the lanes (name -> runs at once)."""
    lane = random.choice((None, *lanes))
    return msg.NewRun(
        uid=new_uid(),
        plan=plan(random),
        lane=lane,
        lane_limit=lanes.get(lane or ""),
    )


def schedule(random: Random, now: Any) -> ScheduleSpec:
    """A cron line that ends within some minutes, with any policy for missed times."""
    start = now + timedelta(seconds=random.uniform(-60, 60))
    return ScheduleSpec(
        cron=random.choice(_CRONS),
        end_at=(start + timedelta(minutes=random.randint(3, 15))).isoformat(),
        catch_up=random.choice(("skip", "latest", "all")),
        catch_up_limit=random.choice((1, 3, 10)),
    )


def due_times(spec: ScheduleSpec, after: Any) -> list[Any]:
    """All due times of a schedule that ends."""
    found = []
    due = next_due(spec, after)
    while due is not None:
        found.append(due)
        due = next_due(spec, due)
    return found
