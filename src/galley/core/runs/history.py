"""What the checks of a step found in earlier runs of the same source and variation."""

from collections import defaultdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.runs import models
from galley.core.runs.live import LiveRun
from galley.core.runs.states import RUN_FINAL
from galley.core.runs.task import MOST_RUNS, check_key

_MOST_ROWS = 10_000
_LONGEST_VALUE = 1_000


def read_history(session: Session, run: LiveRun, step_key: str) -> dict[str, list[Any]]:
    """Each check's kept values by `check_key`, oldest first, of at most `MOST_RUNS` runs.

    Counted are runs of every order that began before this one and have ended, however they did; of
    a step its last attempt, of runs that went on with one another the last that made the check, and
    nothing of the runs that this one goes on with. Values that are missing, or longer than 1000
    characters as JSON, do not count.
    """
    checks, steps, runs = models.checks.c, models.steps.c, models.runs.c
    query = (
        sa.select(checks.name, checks.place_kind, checks.place_name, checks.value, runs.work_id)
        .join_from(
            models.checks,
            models.steps,
            (steps.id == checks.step_id) & (steps.attempt_id == checks.attempt_id),
        )
        .join(models.runs, runs.id == checks.run_id)
        .where(
            checks.series == run.series(step_key),
            checks.run_id < run.id,
            checks.value.is_not(None),
            sa.func.length(checks.value) <= _LONGEST_VALUE,
            runs.work_id != run.work_id,
            runs.state.in_(RUN_FINAL),
        )
        .order_by(checks.id.desc())
        .limit(_MOST_ROWS)
    )
    found: dict[str, dict[int, Any]] = defaultdict(dict)
    for name, kind, place, value, work_id in session.execute(query):
        of_check = found[check_key((kind, place), name)]
        if value is not None and len(of_check) < MOST_RUNS:
            of_check.setdefault(work_id, value)
    return {key: list(reversed(values.values())) for key, values in found.items() if values}
