"""What the step kinds share: the step at work, with its variables, results and folders."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from galley.core.recipes.spec import CheckSpec, StepSpec
from galley.core.runs.task import CheckResult, Outcome, Staged, Task, check_key
from galley.engine import checks
from galley.engine.connectors.base import DEFAULT_MEMORY_MB, Batch, Place
from galley.engine.console import Console
from galley.engine.faults import StepError
from galley.engine.folders import OUT

MAX_VALUE_BYTES = 1024 * 1024
"""The largest run-time variable."""


class CheckStopped(StepError):
    """A check with the action `stop` failed; what it gates must not happen."""


@dataclass(slots=True)
class Step:
    """A step at work. `variables` hold what the plan, the run and this step's parts have given.

    `batches` are what the sources read, by (source, key); `measures` what was measured of a key
    or an endpoint, by the same names.
    """

    task: Task
    spec: StepSpec
    console: Console
    variables: dict[str, Any]
    exports: dict[str, Any] = field(default_factory=dict)
    results: list[CheckResult] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)
    staged: list[Staged] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    batches: dict[tuple[str, str], Batch] = field(default_factory=dict)
    measures: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    reloader: Callable[[dict[str, Any]], StepSpec] | None = None
    artifact_base: Path | None = None
    segments: int = 0
    exit_code: int | None = None
    _place: Place | None = None

    @property
    def place(self) -> Place:
        """The folders that the step works in; made when somebody asks, as many steps need none."""
        if self._place is None:
            task = self.task
            self._place = Place(
                folder=Path(task.folder),
                work=Path(task.work),
                console=self.console,
                tree=Path(task.tree) if task.tree else None,
                roots=tuple(Path(root) for root in task.roots),
                memory_mb=task.limits.memory_mb or DEFAULT_MEMORY_MB,
            )
        return self._place

    @property
    def out(self) -> Path:
        """The attempt's folder for files to be published; made when somebody asks for it."""
        folder = Path(self.task.folder, OUT)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def reload(self) -> None:
        """Read the step again if its later files use variables that it has exported by now."""
        if self.reloader is not None and any(name in self.exports for name in self.spec.late):
            self.spec = self.reloader(self.variables)

    def export(self, name: str, value: Any) -> None:
        """Make a run-time variable.

        Raises:
            StepError: the value is larger than 1 MB, or no valid text.
        """
        try:
            size = len(msgspec.json.encode(value, enc_hook=str))
        except UnicodeEncodeError as error:
            raise StepError(
                f"The variable {name} holds half of a character (a lone surrogate), so it is no"
                " valid text. Decode or replace it before it is exported."
            ) from error
        if size > MAX_VALUE_BYTES:
            raise StepError(
                f"The value of {name} is larger than {MAX_VALUE_BYTES} bytes; put it into a file."
            )
        self.exports[name] = value
        self.variables[name] = value

    def new_segment(self) -> Path:
        """A new folder of the attempt's own for one batch."""
        self.segments += 1
        self.place.segments.mkdir(mode=0o700, exist_ok=True)
        folder = self.place.segments / str(self.segments)
        folder.mkdir(mode=0o700)
        return folder

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Note how long a part of the step took, in seconds."""
        begun = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - begun
            self.timings[part] = self.timings.get(part, 0.0) + spent

    def check(self, wanted: tuple[CheckSpec, ...], place: tuple[str, str]) -> None:
        """Make the checks of one place, all of them.

        Raises:
            CheckStopped: one with the action `stop` failed.
        """
        stopped: list[CheckResult] = []
        for spec in wanted:
            for name, variables in self._loops(spec, place):
                past = self.task.history.get(check_key(place, name), ())
                result = checks.evaluate(spec, variables, past, name=name, place=place)
                self.results.append(result)
                self._tell(result)
                if result.status == "failed":
                    stopped.append(result)
        if stopped:
            raise CheckStopped(_stop_reason(stopped, self.task.step_key))

    def outcome(self, state: str, reason: str = "", *, retryable: bool = True) -> Outcome:
        """How the step ended, with all that it did until then."""
        return Outcome(
            state=state,
            reason=reason,
            exit_code=self.exit_code,
            exports=self.exports,
            branches=tuple(self.branches),
            checks=tuple(self.results),
            staged=tuple(self.staged),
            timings={part: round(spent, 6) for part, spent in self.timings.items()},
            retryable=retryable,
        )

    def _loops(
        self, spec: CheckSpec, place: tuple[str, str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The check once, or once for each key that it loops over, with that key's measures."""
        if not spec.over:
            yield spec.name, self.variables
        for key in spec.over:
            measured = self.measures.get((place[1], key), {})
            yield f"{spec.name}/{key}", {**self.variables, **measured, "KeyName": key}

    def _tell(self, result: CheckResult) -> None:
        text = f"Check {result.name} {result.status}: {result.text}"
        if result.status == "failed":
            self.console.error(text)
        elif result.status == "warning":
            self.console.warning(text)
        else:
            self.console.info(text)


def new_step(
    task: Task,
    spec: StepSpec,
    console: Console,
    reloader: Callable[[dict[str, Any]], StepSpec] | None = None,
) -> Step:
    """A step ready to work; its folders are made."""
    for wanted in (task.folder, task.work):
        if not os.path.isdir(wanted):  # noqa: PTH112 - mostly they are there: no path objects
            Path(wanted).mkdir(mode=0o700, exist_ok=True)
    return Step(task, spec, console, dict(task.variables), reloader=reloader)


def _stop_reason(stopped: list[CheckResult], step: str) -> str:
    first = stopped[0]
    more = f" ({len(stopped) - 1} more failed)" if len(stopped) > 1 else ""
    where = f"{first.place[0]} {first.place[1]}".strip()
    return f"The check {first.name} of step {step} ({where}) failed: {first.text}.{more}"
