"""Steps that only wait, check and choose: a template of their own runs them.

What a fork costs is the memory that the process has and touches, so a template that has loaded
nothing but this serves such steps with less than half of the processor time. It may not load
`threading` or `random`, whose hooks run at every fork.
"""

from galley.core.recipes.spec import SETTLED
from galley.core.runs.task import Task
from galley.engine.nodes import REHEARSAL, run_step

__all__ = ["PRELOAD", "REHEARSAL", "is_empty", "run_step", "takes"]

PRELOAD = (
    "galley.engine.nodes.base",
    "galley.engine.nodes.noop",
    "galley.engine.nodes.staging",
)


def takes(task: Task) -> bool:
    """Whether the task can run here: nothing is still to be rendered, and it keeps no files."""
    settled = task.body.get(SETTLED)
    return task.kind == "noop" and settled is not None and not settled.get("artifacts")


def is_empty(task: Task) -> bool:
    """Whether a task that is taken here has nothing to do: nothing to check, to choose, to hide."""
    asked = {name for name, value in task.body[SETTLED].items() if value}
    return asked == {"kind"} and not task.secrets
