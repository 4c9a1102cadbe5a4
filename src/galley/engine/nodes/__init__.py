"""Step kinds, and the one function that runs an attempt: `run_step`.

Imported by the warm template, so it stays light: kinds and drivers are imported when used.
"""

import os
import shutil
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from galley.core.errors import GalleyError, NoSpace
from galley.core.recipes.spec import SETTLED, StepSpec
from galley.core.runs.task import Outcome, Task
from galley.engine.console import Console
from galley.engine.faults import StepError

if TYPE_CHECKING:
    from galley.engine.nodes.base import Step

GROUP = "galley.step_kinds"
"""The entry-point group in which other packages offer step kinds: functions of a `Step`."""

BUILT_IN = {
    "action": "galley.engine.nodes.action:run",
    "noop": "galley.engine.nodes.noop:run",
    "script": "galley.engine.nodes.script:run",
    "transfer": "galley.engine.nodes.transfer:run",
}
PRELOAD = (
    "duckdb",
    "galley.core.recipes.formats.steps",
    "galley.engine.connectors.dictionary",
    "galley.engine.connectors.duckdb",
    "galley.engine.connectors.file",
    "galley.engine.connectors.sqlite",
    "galley.engine.executors.local.programs",
    "galley.engine.nodes.action",
    "galley.engine.nodes.noop",
    "galley.engine.nodes.script",
    "galley.engine.nodes.staging",
    "galley.engine.nodes.transfer",
    "galley.engine.rendering",
)
"""What a warm process should import before it forks: without it each step pays for all of it."""

REHEARSAL: dict[str, Any] = {"kind": "noop", "body": {SETTLED: {"kind": "noop"}}}
"""Fields of a task that a warm process should run a few times before it forks."""

_LEFT_OVER = ("segments", "spill", "step")
_SHOWN_ISSUES = 5
_NO_SPACE = 28
_TOO_LARGE = "The step's files need too much memory when rendered; make their texts smaller."

Reload = Callable[[dict[str, Any]], StepSpec]


def run_step(task: Task, console: Console) -> Outcome:
    """Run one attempt to its end. Every fault is an outcome; nothing is raised.

    A faulty recipe, a failed check or a refusing system reads as one clear reason; what nobody
    foresaw goes to the log with its traceback.
    """
    settled = task.body.get(SETTLED)
    if settled is not None:
        return run_spec(task, msgspec.convert(settled, StepSpec), console)
    try:
        spec = load(task, task.variables, console)
    except GalleyError as error:
        return _failed(None, console, _with_issues(error), retryable=False)
    except MemoryError:
        return _failed(None, console, _TOO_LARGE, retryable=False)
    return run_spec(task, spec, console, reload=lambda variables: load(task, variables))


def load(task: Task, variables: dict[str, Any], console: Console | None = None) -> StepSpec:
    """What the step is to do, from its text rendered with these variables, within limits.

    Keys that are not known, and whatever else its author should look at, go to the console.

    Raises:
        Refused: the text is faulty, or takes too long; `issues` tell where.
    """
    from galley.core.recipes.formats import load_step
    from galley.engine.rendering import bounded

    def read_file(path: str) -> str:
        if task.tree is None:
            raise FileNotFoundError(path)
        file = Path(task.tree, path)
        if not file.resolve().is_relative_to(Path(task.tree).resolve()):
            raise FileNotFoundError(path)
        return file.read_text(encoding="utf-8")

    def warn(file: str, text: str) -> None:
        if console is not None:
            console.warning(f"{f'{task.step_key}/' if file in task.text else ''}{file}: {text}")

    with bounded(len(task.text)):
        return load_step(
            task.kind,
            task.text,
            variables,
            read_file=read_file,
            secrets=task.secrets,
            warn=warn,
        )


def run_spec(  # noqa: PLR0911 - one line for each kind of end
    task: Task, spec: StepSpec, console: Console, *, reload: Reload | None = None
) -> Outcome:
    """Run a step that is already read; `reload` reads it again when its own exports are known."""
    from galley.engine.nodes.base import CheckStopped, new_step
    from galley.engine.nodes.staging import stage

    step: Step | None = None
    try:
        step = new_step(task, spec, console, reload)
        _kind(spec.kind)(step)
        stage(step)
        return step.outcome("succeeded")
    except CheckStopped as stopped:
        return _failed(step, console, stopped.message, retryable=False)
    except StepError as error:
        return _failed(step, console, error.message, retryable=error.retryable)
    except GalleyError as error:
        return _failed(step, console, _with_issues(error), retryable=isinstance(error, NoSpace))
    except OSError as error:
        console.debug(traceback.format_exc())
        return _failed(step, console, _disk_reason(error), retryable=True)
    except MemoryError:
        return _failed(step, console, "The step needs more memory than it has; raise its limit.")
    except Exception as error:  # noqa: BLE001 - the attempt must end with a reason
        console.error(traceback.format_exc())
        kind = type(error).__name__
        return _failed(
            step, console, f"The step failed in Galley itself ({kind}: {error}); see its log."
        )
    finally:
        for name in _LEFT_OVER:
            if os.path.lexists(left := f"{task.folder}/{name}"):
                shutil.rmtree(left, ignore_errors=True)


def _kind(name: str) -> "Callable[[Step], None]":
    """The function that runs a kind of step.

    Raises:
        StepError: no such kind is installed.
    """
    known = BUILT_IN.get(name)
    if known is not None:
        module, _, attribute = known.partition(":")
        return cast("Callable[[Step], None]", getattr(import_module(module), attribute))
    from importlib.metadata import entry_points

    found = entry_points(group=GROUP, name=name)
    if not found:
        raise StepError(
            f"There is no step kind {name}; there are {', '.join(sorted(BUILT_IN))}. Install the"
            " package that offers it, or use another kind."
        )
    return cast("Callable[[Step], None]", next(iter(found)).load())


def _failed(
    step: "Step | None", console: Console, reason: str, *, retryable: bool = True
) -> Outcome:
    console.error(reason)
    if step is None:
        return Outcome(state="failed", reason=reason, retryable=retryable)
    return step.outcome("failed", reason, retryable=retryable)


def _with_issues(error: GalleyError) -> str:
    """A refusal with the places of its faults."""
    if not error.issues:
        return error.message
    told = "; ".join(f"{i.file}: {i.description}" for i in error.issues[:_SHOWN_ISSUES])
    more = len(error.issues) - _SHOWN_ISSUES
    return f"{error.message} {told}" + (f" (and {more} more)" if more > 0 else "")


def _disk_reason(error: OSError) -> str:
    if error.errno == _NO_SPACE:
        return "There is no space left on the disk; free some, or raise the limit."
    what = os.strerror(error.errno) if error.errno else str(error)
    where = f" ({error.filename})" if error.filename else ""
    return f"The step's files could not be used: {what}{where}."
