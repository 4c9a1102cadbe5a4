"""What runs need done by the floors above: declared here, implemented in `engine`."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from galley.core.runs.plan import CompiledSource
from galley.core.runs.task import Outcome, Task


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an executor offers: its name, how many attempts at once, which tags, which walls.

    `memory_mb` and `disk_mb` are free now on its machine, which `host` names.
    """

    name: str
    slots: int
    tags: frozenset[str]
    isolation: tuple[str, ...]
    host: str = ""
    memory_mb: int = 0
    disk_mb: int = 0


class ExecutorEvents(Protocol):
    """Where an executor reports to. All calls return at once and may come from any thread."""

    def started(self, key: str, fence: int, handle: Mapping[str, Any]) -> None:
        """The attempt's process is there."""
        ...

    def finished(self, key: str, fence: int, outcome: Outcome) -> None:
        """The attempt ended and said how."""
        ...

    def lost(self, key: str, fence: int, reason: str) -> None:
        """The attempt's process is gone without an exit file."""
        ...

    def never_ran(self, key: str, fence: int, reason: str) -> None:
        """Nothing of the attempt ever ran, and nothing of it ever will: that is certain."""
        ...


class Executor(Protocol):
    """Runs attempts somewhere. State never lives behind it."""

    def start(self, events: ExecutorEvents) -> None:
        """Begin to serve; reports go to `events`."""
        ...

    def submit(self, task: Task) -> None:
        """Run the attempt. Returns at once; a repeated key is ignored."""
        ...

    def adopt(self, task: Task, *, given_at: datetime | None = None) -> None:
        """Watch an attempt that an earlier server may have started.

        Exactly one of started+finished, finished, lost or never_ran is reported; it is never run
        anew. `given_at` is when the attempt was given to this executor, and None once a process of
        it was seen: then its traces may be gone, and never_ran is not reported.
        """
        ...

    def cancel(self, key: str, *, grace_s: float = 5.0) -> None:
        """End the whole process group: ask, wait `grace_s`, kill. Unknown keys are fine."""
        ...

    def list_keys(self) -> frozenset[str]:
        """The attempts that it has taken up and not reported the end of yet."""
        ...

    def capabilities(self) -> Capabilities:
        """What this executor offers now."""
        ...

    def stop(self) -> None:
        """Stop serving; running attempts go on and can be adopted."""
        ...


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """A source to compile: its files (path below the source's folder -> content) and the levels.

    `levels` lists the variable levels above the files' own, lowest first, as (name, variables).
    """

    kind: str
    project: str
    branch: str
    commit: str
    tree: str
    path: str
    variation: str
    files: Mapping[str, bytes]
    levels: Sequence[tuple[str, Mapping[str, Any]]]
    system: Mapping[str, Any]
    only_steps: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file of a source as a variation renders it outside a run; `path` is below the source.

    `text` is None where it cannot be shown; `fault` may then say why. `is_document`: the text is
    a JSON object.
    """

    path: str
    text: str | None
    is_document: bool = False
    fault: str = ""


class Compiler(Protocol):
    """Turns a source into a plan in a warm, limited child: core never parses what users wrote."""

    def compile(self, request: CompileRequest) -> CompiledSource:
        """The plan.

        Raises:
            Refused: the source has faults; `issues` names file, place and cure of each.
            Unavailable: the child was killed at its limit (time or memory).
        """
        ...

    def render(self, text: str, variables: Mapping[str, Any]) -> str:
        """Render one template in the child (same limits, same errors)."""
        ...

    def check(self, request: CompileRequest) -> Sequence[Any]:
        """All issues (`core.errors.Issue`) of a source, without making a plan of it."""
        ...

    def list_variations(self, request: CompileRequest) -> Sequence[str]:
        """The variations that the source has; none if its list cannot be read."""
        ...

    def show(self, request: CompileRequest) -> Sequence[ShownFile]:
        """Every file of the source, A to Z, as the variation renders it outside a run.

        Raises:
            Refused, Unavailable: as `compile`.
        """
        ...

    def show_file(self, request: CompileRequest, path: str) -> ShownFile:
        """One of the source's files; what is wrong with it is its `fault`.

        Raises:
            Refused: the variation or its variables cannot be read, or a limit was passed.
            Unavailable: as `compile`.
        """
        ...


class RunWriter(Protocol):
    """The ledger's one writer, seen from a request: send a message, await its commit."""

    def send(self, message: Any) -> "Future[Any]":
        """Queue a message of `core.runs.messages`; the future resolves after its commit.

        The future raises the message's GalleyError, or Unavailable/NoSpace if nothing was kept.
        """
        ...

    def call(self, message: Any, *, timeout_s: float = 30.0) -> Any:
        """`send`, and wait for the reply."""
        ...


class RunFeed(Protocol):
    """Tells listeners in this process that something about a run changed."""

    def subscribe(self, run_id: int | None, listener: Callable[[int], None]) -> Callable[[], None]:
        """Call `listener(run_id)` after each commit that touched it; returns the unsubscriber."""
        ...
