"""A step that makes systems do something."""

from galley.engine.nodes import flow
from galley.engine.nodes.base import Step
from galley.engine.nodes.conditions import choose


def run(step: Step) -> None:
    """Carry out the actions, then check."""
    flow.run_actions(step)
    step.reload()
    with step.timed("notebook"):
        step.check(step.spec.checks, ("notebook", ""))
    choose(step)
