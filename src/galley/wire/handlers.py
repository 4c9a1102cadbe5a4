"""The threads in which calls are handled: a change between the loop and them is most of a call.

A job goes through a queue that needs no lock of Python's, and its result comes back by one call
into the loop; that costs a quarter of what a general pool's futures and limiters do.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any


class Handlers:
    """Runs jobs in at most `most` threads, which are started as they are needed; others wait."""

    def __init__(self, most: int = 40) -> None:
        self._most = most
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self._free = 0  # threads that wait for a job, less the jobs that wait for a thread

    def run(self, act: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Do it in a thread, in the context of the one who asks; the future of what comes of it.

        Who stops waiting for the future does not stop the act.

        Raises:
            RuntimeError: there is no thread, and none can be started.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            if self._free <= 0 and self._count < self._most:
                self._start_one()
            self._free -= 1
        self._jobs.put((loop, future, copy_context(), act))
        return future

    def _start_one(self) -> None:
        """One more thread; where the system has none to give, those that there are must do."""
        try:
            threading.Thread(target=self._work, name="galley-handler", daemon=True).start()
        except RuntimeError:
            if not self._count:
                raise
            return
        self._count += 1
        self._free += 1

    def _work(self) -> None:
        while True:
            loop, future, context, act = self._jobs.get()
            result: Any = None
            error: BaseException | None = None
            try:
                result = context.run(act)
            except StopIteration as raised:  # no future takes this one
                error = RuntimeError("a handler raised StopIteration")
                error.__cause__ = raised
            except BaseException as raised:  # noqa: BLE001 - it belongs to the one who asked
                error = raised
            with self._lock:
                self._free += 1
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(_settle, future, result, error)
            del future, context, act, result, error


_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Context, Callable[[], Any]]


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
