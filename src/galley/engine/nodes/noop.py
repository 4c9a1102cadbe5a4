"""A step that only waits, checks and chooses branches."""

import time

from galley.engine.nodes.base import Step
from galley.engine.nodes.conditions import choose


def run(step: Step) -> None:
    """Wait, make the checks, decide the conditions."""
    with step.timed("notebook"):
        if step.spec.sleep_s > 0:
            step.console.info(f"Waiting {step.spec.sleep_s:g} s")
            time.sleep(step.spec.sleep_s)
        step.check(step.spec.checks, ("notebook", ""))
        choose(step)
