"""The local executor as the server sees it: submits, adopts, cancels, and reports what became."""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from galley.core.errors import Unavailable
from galley.core.runs.plan import Limits
from galley.core.runs.ports import Capabilities, ExecutorEvents
from galley.core.runs.task import Task
from galley.engine import sandbox
from galley.engine.executors.local import strays
from galley.engine.executors.local.messages import TemplateSettings
from galley.engine.executors.local.supervisor import Supervisor
from galley.kit.clock import Clock, SystemClock

LOG_LIMIT_BYTES = 100_000_000
DEFAULT_LIMITS = Limits(memory_mb=2048, disk_mb=10_240, processes=512)
_STOP_S = 30.0


class LocalExecutor:
    """Runs each attempt in a process of its own on this machine; implements `ports.Executor`.

    `folder` holds the executor's own files; `run_step` is the `module:function` that runs a task
    on a console; `preload` names modules, beside PRELOAD of that module, that are imported once
    for all; `sandboxed` None means
    bubblewrap where it works. All work happens in one thread: every call here only leaves a note.
    """

    def __init__(
        self,
        folder: Path,
        *,
        slots: int,
        run_step: str = "galley.engine.nodes:run_step",
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
            name=name, slots=slots, tags=tags, isolation=sandbox.isolation(sandboxed=walled)
        )
        settings = TemplateSettings(
            folder=str(folder),
            run_step=run_step,
            preload=tuple(preload),
            sandbox=walled,
            log_limit_bytes=log_limit_bytes,
            limits=limits,
        )
        self._make = partial(
            Supervisor,
            settings,
            slots=slots,
            complaints=folder / "template.log",
            clock=clock or SystemClock(),
            import_paths=import_paths,
        )
        self._supervisor: Supervisor | None = None
        self._thread: threading.Thread | None = None

    def start(self, events: ExecutorEvents) -> None:
        """Begin to serve; reports go to `events`, from one thread.

        Raises:
            Unavailable: it serves already.
        """
        if self._supervisor is not None:
            raise Unavailable("The local executor serves already.")
        self._supervisor = self._make(events)
        self._thread = threading.Thread(
            target=self._supervisor.serve, name="galley-local-executor", daemon=True
        )
        self._thread.start()

    def submit(self, task: Task) -> None:
        """Run the attempt; a key that is known is ignored.

        While the executor does not serve, nothing happens: the attempt can be adopted later.
        """
        if (supervisor := self._supervisor) is not None:
            supervisor.note(lambda: supervisor.submit(task))

    def adopt(self, task: Task, *, given_at: datetime | None = None) -> None:
        """Watch an attempt that an earlier server may have started; it is never run anew."""
        if (supervisor := self._supervisor) is not None:
            supervisor.note(lambda: supervisor.adopt(task, given_at))

    def cancel(self, key: str, *, grace_s: float = 5.0) -> None:
        """End the attempt's processes: ask, wait `grace_s`, kill. Unknown keys are fine."""
        if (supervisor := self._supervisor) is not None:
            supervisor.note(lambda: supervisor.cancel(key, grace_s))

    def list_keys(self) -> frozenset[str]:
        """The attempts that it has taken up and not reported the end of yet."""
        supervisor = self._supervisor
        return frozenset() if supervisor is None else supervisor.list_keys()

    def capabilities(self) -> Capabilities:
        """What this executor offers."""
        return self._capabilities

    def end_strays(self, held: Callable[[], Collection[str]]) -> int:
        """End what an earlier executor of this folder started, but for the attempts that `held`.

        `held` gives their folders. Returns how many were ended, once they are.
        """
        return strays.end_strays(self._folder, time.monotonic() - self._made_at, held)

    @property
    def trouble(self) -> str | None:
        """What keeps attempts from starting here; None while nothing does."""
        supervisor, thread = self._supervisor, self._thread
        if supervisor is None or thread is None or not thread.is_alive():
            return "the local executor does not serve"
        return supervisor.trouble

    def stop(self) -> None:
        """Stop serving; running attempts go on and can be adopted."""
        supervisor, self._supervisor = self._supervisor, None
        thread, self._thread = self._thread, None
        if supervisor is not None and thread is not None:
            supervisor.finish()
            thread.join(_STOP_S)
