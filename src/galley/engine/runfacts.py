"""The facts of a run that a step may name in its text, beside the plan's own variables."""

from typing import Any

from galley.core.recipes.formats.system import run_variables as run_system_variables
from galley.core.runs.live import LiveRun, LiveStep
from galley.kit.ids import uuid_of


def run_variables(run: LiveRun, step: LiveStep, work: str) -> dict[str, Any]:
    """The system variables that exist only while a step runs."""
    return run_system_variables(
        order_id=uuid_of(run.order_uid),
        run_id=uuid_of(run.uid),
        step=step.key,
        worker=step.attempt.worker or "",
        work_folder=work,
        warnings=run.warnings,
    )
