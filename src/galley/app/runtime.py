"""A running Galley: what starts in which order, and how it lets go."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from galley.core.errors import GalleyError
from galley.core.runs.ports import Executor
from galley.engine.housekeeper import Housekeeper
from galley.engine.launcher import Launcher
from galley.engine.writer import Writer
from galley.settings import Settings
from galley.wire.metrics import Metrics
from galley.wire.services import Services

log = structlog.get_logger("galley.app")


class Leading:
    """The threads of whoever leads: scheduler, mailer and sweeper. Made anew for each reign."""

    def __init__(self, make: Callable[[], list[Any]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._threads: list[Any] = []

    def change(self, leads: bool) -> None:
        """Start them, or stop them in their own time (whoever loses the lead must not wait)."""
        with self._lock:
            old, self._threads = self._threads, []
            if leads:
                self._threads = self._make()
                for thread in self._threads:
                    thread.start()
        for thread in old:
            if threading.current_thread() is threading.main_thread():
                thread.stop()
            else:
                threading.Thread(target=thread.stop, daemon=True).start()

    def nudge(self, kind: type[Any]) -> None:
        """Wake the thread of this kind, if it is here."""
        for thread in self._threads:
            if isinstance(thread, kind):
                thread.nudge()


@dataclass(slots=True)
class Runtime:
    """One running Galley: `start` it, serve `app`, `stop` it.

    `app` is the whole ASGI application; `services` is what its surfaces work with;
    `warmers` run once beside the start; `closers` are called at the end, the last one first.
    """

    settings: Settings
    services: Services
    metrics: Metrics
    writer: Any
    executors: Mapping[str, Executor]
    launcher: Launcher
    housekeeper: Housekeeper
    leading: Leading
    worker: Any = None
    app: Any = None
    is_draining: bool = False
    warmers: list[Callable[[], None]] = field(default_factory=list)
    closers: list[Callable[[], None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin to work: executors first, so that the writer's adoptions find them.

        Raises:
            Unavailable: the database does not answer.
        """
        for executor in self.executors.values():
            executor.start(self.launcher)
        if isinstance(self.writer, Writer):
            self.writer.start(self.launcher)
            self.leading.change(True)
        else:
            self.worker.start()
            self.writer.start(self.launcher)
        self.housekeeper.start()
        threading.Thread(target=self._warm, name="galley-warmer", daemon=True).start()

    def _warm(self) -> None:
        """Do beforehand what the first request would wait for; if it fails, that one will tell."""
        for warm in self.warmers:
            try:
                warm()
            except GalleyError as error:
                log.warning("not_warm", reason=error.message)

    def drain(self) -> None:
        """No new work from here on: streams end, readiness says no."""
        self.is_draining = True
        self.services.streams.close()

    def stop(self) -> None:
        """Commit what was accepted and let go; the processes of running steps go on."""
        self.drain()
        self.leading.change(False)
        if self.worker is not None:
            self.worker.stop()
        self.writer.stop()
        for executor in self.executors.values():
            executor.stop()
        self.launcher.close()
        self.housekeeper.stop()
        for close in reversed(self.closers):
            close()
