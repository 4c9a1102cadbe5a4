"""A step that moves data: all sources, then the checks, then all sinks."""

from galley.engine.nodes import flow
from galley.engine.nodes.base import Step
from galley.engine.nodes.conditions import choose


def run(step: Step) -> None:
    """Read everything, check, and only then write."""
    flow.read_sources(step)
    step.reload()
    with step.timed("notebook"):
        step.check(step.spec.checks, ("notebook", ""))
        given = flow.mapped(step)
    flow.write_sinks(step, given)
    choose(step)
