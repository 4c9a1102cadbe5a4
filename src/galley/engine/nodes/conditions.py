"""How a step chooses the branches that come after it."""

from typing import Any

from galley.core.recipes.spec import ConditionSpec
from galley.engine.checks import CheckFault, compare, converted
from galley.engine.faults import StepError
from galley.engine.nodes.base import Step


def choose(step: Step) -> None:
    """Decide every condition of the step; the chosen branches go into its outcome.

    Raises:
        StepError: a condition's variable has no value, or cannot be compared.
    """
    for condition in step.spec.conditions:
        branch = _branch(condition, step.variables)
        if branch is None:
            step.console.info(f"Condition {condition.name}: no branch")
        else:
            step.branches.append(branch)
            step.console.info(f"Condition {condition.name}: {branch}")


def _branch(condition: ConditionSpec, variables: dict[str, Any]) -> str | None:
    """The chosen branch, or None.

    A comparison chooses among `true` and `false`; without cases its own name stands for true.
    """
    if condition.variable not in variables:
        raise StepError(
            f"The condition {condition.name} reads the variable {condition.variable}, which has no"
            " value. Define it, or export it from an earlier step."
        )
    value = variables[condition.variable]
    try:
        if condition.compare is None:
            text = _text(converted(value, condition.convert))
        else:
            other = condition.value
            if isinstance(other, str) and other in variables:
                other = variables[other]
            holds = compare(condition.compare, value, other, condition.convert)
            text = "true" if holds else "false"
    except CheckFault as fault:
        raise StepError(f"The condition {condition.name} cannot be decided: {fault}.") from fault
    if condition.compare is not None and not condition.cases and condition.otherwise is None:
        return condition.name if text == "true" else None
    return condition.cases.get(text, condition.otherwise)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
