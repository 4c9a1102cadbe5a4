"""Small chores of a server that come round again: one thread, each chore at its own pace."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from galley.engine.trouble import note_trouble
from galley.kit.clock import Clock

log = structlog.get_logger("galley.housekeeper")


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do every so often. An error is logged, and the chore comes round again.

    `after_s` is when it is done first, counted from the start. `at_end`: do it once more when the
    server stops, because something may wait for it.
    """

    name: str
    every_s: float
    do: Callable[[], object]
    at_end: bool = False
    after_s: float = 0.0


class Housekeeper:
    """Does the chores, each for the first time after its own delay."""

    def __init__(self, chores: Sequence[Chore], clock: Clock) -> None:
        self._chores = tuple(chores)
        self._clock = clock
        start = clock.monotonic()
        self._due = {chore.name: start + chore.after_s for chore in self._chores}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="galley-housekeeper", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End after the chore under way, and do a last time what should not wait."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        for chore in self._chores:
            if chore.at_end:
                self._attempt(chore)

    def do_due(self) -> float:
        """Do every chore that is due; the seconds until the next one is."""
        for chore in self._chores:
            if self._due[chore.name] <= self._clock.monotonic():
                self._attempt(chore)
                self._due[chore.name] = self._clock.monotonic() + chore.every_s
        return max(0.0, min(self._due.values()) - self._clock.monotonic())

    def _serve(self) -> None:
        while not self._stop.wait(self.do_due()):
            pass

    def _attempt(self, chore: Chore) -> None:
        try:
            chore.do()
        except Exception as error:  # noqa: BLE001 - the others must be done
            note_trouble(log, "chore_failed", error, chore=chore.name)
