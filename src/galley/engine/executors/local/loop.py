"""A small event loop of one thread: descriptors, timers, and notes from other threads."""

import heapq
import itertools
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from galley.kit.clock import Clock

log = structlog.get_logger("galley.executor")

Act = Callable[[], None]


class HasDescriptor(Protocol):
    """Something with a file descriptor."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


class Loop:
    """Runs acts one after another in the thread that calls `serve`. Only `note` is for others.

    An act that raises is logged, and the loop goes on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._notes: deque[Act] = deque()
        self._noted = threading.Event()
        self._timers: list[tuple[float, int, Act]] = []
        self._numbers = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self.watch(self._wake, self._on_wake)

    @property
    def stopping(self) -> bool:
        """Whether the loop is about to end."""
        return self._stopping

    def note(self, act: Act) -> None:
        """Have the act done in the loop's thread, soon, in order. May be called from anywhere."""
        self._notes.append(act)
        if not self._noted.is_set():
            self._noted.set()
            os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Make `serve` return after the present act."""
        self._stopping = True

    def watch(self, what: int | HasDescriptor, act: Act) -> None:
        """Do the act whenever the descriptor can be read."""
        self._selector.register(what, selectors.EVENT_READ, act)

    def unwatch(self, what: int | HasDescriptor) -> None:
        """Watch the descriptor no more (before it is closed)."""
        self._selector.unregister(what)

    def after(self, seconds: float, act: Act) -> None:
        """Do the act once, so many seconds from now."""
        when = self._clock.monotonic() + seconds
        heapq.heappush(self._timers, (when, next(self._numbers), act))

    def serve(self) -> None:
        """Work until `stop`."""
        while not self._stopping:
            for key, _ in self._selector.select(self._until_timer_s()):
                if key.fd in self._selector.get_map():
                    _do(key.data)
            while self._timers and self._timers[0][0] <= self._clock.monotonic():
                _do(heapq.heappop(self._timers)[2])

    def close(self) -> None:
        """Let go of everything; the loop cannot serve again."""
        self._selector.close()
        self._timers.clear()
        os.close(self._wake)

    def _until_timer_s(self) -> float | None:
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - self._clock.monotonic())

    def _on_wake(self) -> None:
        os.eventfd_read(self._wake)
        self._noted.clear()
        while self._notes:
            _do(self._notes.popleft())


def _do(act: Act) -> None:
    try:
        act()
    except Exception:
        log.exception("act_failed")
