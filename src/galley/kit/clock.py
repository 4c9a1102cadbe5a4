"""The one source of time, so that tests and the simulator can bring their own."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading

_LOOK_S = 0.05


class Clock(Protocol):
    """Wall time for what is stored and shown, monotonic time for leases and deadlines."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps; only differences mean anything."""
        ...

    def wait(self, event: "threading.Event", seconds: float) -> bool:
        """Wait until the event is set, or so much time has passed; whether it is set."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""
        return time.monotonic()

    def wait(self, event: "threading.Event", seconds: float) -> bool:
        """Wait until the event is set, or so much time has passed."""
        return event.wait(seconds)


class FileClock(SystemClock):
    """The system clock moved by the number of seconds that a file holds, for tests of servers.

    Several servers may share the file. Leases are not concerned: their time is the database's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> datetime:
        """The present moment plus the file's offset; no file means no offset."""
        try:
            offset_s = float(self._path.read_text() or 0)
        except FileNotFoundError:
            offset_s = 0.0
        return super().now() + timedelta(seconds=offset_s)

    def wait(self, event: "threading.Event", seconds: float) -> bool:
        """Wait by this clock: who sleeps until a moment wakes up when the file is set past it."""
        until = self.now() + timedelta(seconds=seconds)
        while not event.wait(_LOOK_S):
            if self.now() >= until:
                return False
        return True


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        """The moment the test has reached."""
        return self._now

    def monotonic(self) -> float:
        """Seconds the test has advanced so far."""
        return self._monotonic

    def wait(self, event: "threading.Event", seconds: float) -> bool:
        """Wait until the event is set, or so long by the machine's clock: this one stands still."""
        return event.wait(seconds)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


def clock_from_environment() -> Clock:
    """The system clock, or the shifted one when GALLEY_TEST_CLOCK names a file."""
    path = os.environ.get("GALLEY_TEST_CLOCK")
    return FileClock(Path(path)) if path else SystemClock()
