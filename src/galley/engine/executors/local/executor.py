"""The local executor as the server sees it: submits, adopts, cancels, and reports what became."""

import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec

from galley.core.errors import Unavailable
from galley.core.runs.plan import Limits
from galley.core.runs.ports import Capabilities, ExecutorEvents
from galley.core.runs.task import Task
from galley.engine import sandbox
from galley.engine.executors.local import strays
from galley.engine.executors.local.messages import TemplateSettings
from galley.engine.executors.local.supervisor import Supervisor
from galley.engine.room import measure
from galley.kit.clock import Clock, SystemClock

LOG_LIMIT_BYTES = 100_000_000
DEFAULT_LIMITS = Limits(memory_mb=2048, disk_mb=10_240, processes=512)
_STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Quick:
    """Tasks that a small template of their own serves: its `run_step`, and which ones it takes.

    They write no files but their log, and so are not watched for that. Of these, `is_empty` tells
    which have nothing to do.
    """

    run_step: str
    takes: Callable[[Task], bool]
    is_empty: Callable[[Task], bool] = lambda _task: False


class LocalExecutor:
    """Runs each attempt in a process of its own on this machine; implements `ports.Executor`.

    `folder` holds the executor's own files; `run_step` is the `module:function` that runs a task
    on a console; `preload` names modules, beside PRELOAD of that module, that are imported once
    for all; `quick` is a second template for some tasks; `sandboxed` None means bubblewrap where it
    works. A thread for each template does the work: every call here only leaves a note.
    """

    def __init__(
        self,
        folder: Path,
        *,
        slots: int,
        run_step: str = "galley.engine.nodes:run_step",
        quick: Quick | None = None,
        clock: Clock | None = None,
        name: str = "local",
        tags: frozenset[str] = frozenset({"local"}),
        preload: Sequence[str] = (),
        limits: Limits = DEFAULT_LIMITS,
        log_limit_bytes: int = LOG_LIMIT_BYTES,
        sandboxed: bool | None = None,
        import_paths: Sequence[str] = (),
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = str(folder)
        self._made_at = time.monotonic()
        walled = sandbox.available() if sandboxed is None else sandboxed
        self._capabilities = Capabilities(
            name=name,
            slots=slots,
            tags=tags,
            isolation=sandbox.isolation(sandboxed=walled),
            host=socket.gethostname(),
        )
        settings = TemplateSettings(
            folder=str(folder),
            run_step=run_step,
            preload=tuple(preload),
            sandbox=walled,
            log_limit_bytes=log_limit_bytes,
            limits=limits,
        )
        make = partial(
            Supervisor, slots=slots, clock=clock or SystemClock(), import_paths=import_paths
        )
        self._makers = [partial(make, settings, complaints=folder / "template.log")]
        self._takes: Callable[[Task], bool] = lambda _task: False
        if quick is not None:
            small = msgspec.structs.replace(settings, run_step=quick.run_step, preload=())
            complaints = folder / "template-quick.log"
            makes_small = partial(make, small, complaints=complaints, watches_disk=False)
            self._makers.append(partial(makes_small, is_empty=quick.is_empty))
            self._takes = quick.takes
        self._supervisors: list[Supervisor] = []
        self._threads: list[threading.Thread] = []

    def start(self, events: ExecutorEvents) -> None:
        """Begin to serve; reports go to `events`, from one thread.

        Raises:
            Unavailable: it serves already.
        """
        if self._supervisors:
            raise Unavailable("The local executor serves already.")
        self._supervisors = [make(events=events) for make in self._makers]
        self._threads = [
            threading.Thread(target=it.serve, name="galley-local-executor", daemon=True)
            for it in self._supervisors
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task) -> None:
        """Run the attempt; a key that is known is ignored.

        While the executor does not serve, nothing happens: the attempt can be adopted later.
        """
        if (supervisor := self._supervisor_of(task)) is not None:
            supervisor.note(lambda: supervisor.submit(task))

    def adopt(self, task: Task, *, given_at: datetime | None = None) -> None:
        """Watch an attempt that an earlier server may have started; it is never run anew."""
        if (supervisor := self._supervisor_of(task)) is not None:
            supervisor.note(lambda: supervisor.adopt(task, given_at))

    def cancel(self, key: str, *, grace_s: float = 5.0) -> None:
        """End the attempt's processes: ask, wait `grace_s`, kill. Unknown keys are fine."""
        for supervisor in self._supervisors:
            supervisor.note(partial(supervisor.cancel, key, grace_s))

    def list_keys(self) -> frozenset[str]:
        """The attempts that it has taken up and not reported the end of yet."""
        return frozenset().union(*(it.list_keys() for it in self._supervisors))

    def capabilities(self) -> Capabilities:
        """What this executor offers, and what is free on its machine now."""
        memory_mb, disk_mb = measure(Path(self._folder))
        return dataclasses.replace(self._capabilities, memory_mb=memory_mb, disk_mb=disk_mb)

    def end_strays(self, held: Callable[[], Collection[str]]) -> int:
        """End what an earlier executor of this folder started, but for the attempts that `held`.

        `held` gives their folders. Returns how many were ended, once they are.
        """
        return strays.end_strays(self._folder, time.monotonic() - self._made_at, held)

    @property
    def trouble(self) -> str | None:
        """What keeps attempts from starting here; None while nothing does."""
        threads = self._threads
        if not threads or not all(thread.is_alive() for thread in threads):
            return "the local executor does not serve"
        return next(filter(None, (it.trouble for it in self._supervisors)), None)

    def stop(self) -> None:
        """Stop serving; running attempts go on and can be adopted."""
        supervisors, self._supervisors = self._supervisors, []
        threads, self._threads = self._threads, []
        for supervisor in supervisors:
            supervisor.finish()
        for thread in threads:
            thread.join(_STOP_S)

    def _supervisor_of(self, task: Task) -> Supervisor | None:
        """Who serves the task, always the same one; None while nobody does."""
        if not self._supervisors:
            return None
        return self._supervisors[-1 if self._takes(task) else 0]
