"""The plain-text layouts inside an order run's details: test results and timings.

Clients parse them line by line: `Tests: <Word>`, `Step (<node>)`, `<n>. <name> (<text>)`.
Source: contract 3.8; datakitchen-api-tools 0.4.1, DKOrder.py.
"""

from collections.abc import Sequence

from galley.core.runs.views import RunDetail, StepView
from galley.dialects.datakitchen.states import NODE_STATUS, TEST_STATUS, WHOLE_STATUS

_MS_PER_S = 1000
_S_PER_MINUTE = 60
_GROUPS = (
    ("Failed", " No Tests Failed"),
    ("Warning", " No Tests Gave Warning Messages"),
    ("Log", " No Tests Were Logged"),
    ("Passed", " No Tests Passed"),
)
_TAKEN = "does not exist."


def harmless(text: str) -> str:
    """The text without the one phrase that clients take for "no such order" anywhere in an answer.

    Source: contract 3.1; datakitchen-api-tools 0.4.1 searches the whole answer for it.
    """
    return text.replace(_TAKEN, "does not exist") if _TAKEN in text else text


def one_line(text: str) -> str:
    """The text with every run of white space, line ends included, made one blank."""
    return " ".join(text.split())


def test_results(steps: Sequence[StepView]) -> str:
    """All checks of a run, grouped by outcome and step; begins with a line end, as clients expect.

    The command line writes its own heading right before it, without a line end.
    """
    lines = [""]
    for word, nothing in _GROUPS:
        lines.append(f"Tests: {word}")
        found = [line for step in steps for line in _tests_of(step, word)]
        lines.extend(found or [nothing])
    return "\n".join(lines) + "\n"


def _tests_of(step: StepView, word: str) -> list[str]:
    mine = [check for check in step.checks if TEST_STATUS.get(check.status) == word]
    if not mine:
        return []
    numbered = (
        f"  {number}. {one_line(check.name)} ({one_line(check.text)})"
        for number, check in enumerate(mine, start=1)
    )
    return [f"Step ({step.key})", *numbered]


def clock_text(milliseconds: int) -> str:
    """A duration as `H:MM:SS.mmm`."""
    seconds, rest = divmod(max(milliseconds, 0), _MS_PER_S)
    minutes, second = divmod(seconds, _S_PER_MINUTE)
    hour, minute = divmod(minutes, _S_PER_MINUTE)
    return f"{hour}:{minute:02}:{second:02}.{rest:03}"


def timing_results(detail: RunDetail, *, total_ms: int, step_ms: dict[str, int | None]) -> str:
    """How long the run, each step and each part of a step took; a part is `source/name` or so."""
    run = detail.run
    lines = [
        f"DKRecipe timing ({run.source_path}), status = {WHOLE_STATUS[run.state]}",
        f"total recipe execution time|{clock_text(total_ms)}",
    ]
    for step in detail.steps:
        took = step_ms.get(step.key)
        shown = "not started" if took is None else clock_text(took)
        state = NODE_STATUS[step.state]
        lines.append(f"Node ({step.key}), status = {state}, timing is||{shown}")
        lines.extend(
            f"    {part}|{clock_text(round(seconds * _MS_PER_S))}"
            for part, seconds in step.timings.items()
        )
    return "\n".join(lines) + "\n"
