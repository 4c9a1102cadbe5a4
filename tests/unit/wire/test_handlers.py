"""The threads of handlers: how many there are, and what becomes of results and of errors."""

import asyncio
import threading
from contextvars import ContextVar
from functools import partial

import pytest

from galley.wire.handlers import Handlers

_mark: ContextVar[str] = ContextVar("mark", default="")


def test_results_and_errors_reach_whoever_asked() -> None:
    async def ask() -> None:
        handlers = Handlers(2)
        assert await handlers.run(lambda: 6 * 7) == 42
        with pytest.raises(KeyError, match="gone"):
            await handlers.run(partial({}.__getitem__, "gone"))

    asyncio.run(ask())


def test_an_exception_that_no_future_takes_reaches_whoever_asked_too() -> None:
    async def ask() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await handlers.run(lambda: next(iter(())))
        assert await handlers.run(lambda: 1) == 1

    handlers = Handlers(1)
    asyncio.run(asyncio.wait_for(ask(), 60))


def test_a_thread_that_outlived_its_loop_works_for_the_next() -> None:
    handlers, gate = Handlers(1), threading.Event()

    async def leave() -> None:
        handlers.run(lambda: gate.wait(30))

    async def ask() -> int:
        return int(await handlers.run(lambda: 7))

    asyncio.run(leave())
    gate.set()
    assert asyncio.run(asyncio.wait_for(ask(), 60)) == 7


def test_where_no_more_threads_can_be_started_those_there_are_do_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers = Handlers(3)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> list[int]:
        assert await handlers.run(lambda: 0) == 0
        monkeypatch.setattr(threading.Thread, "start", refuse)
        return await asyncio.gather(*(handlers.run(lambda n=n: n) for n in range(5)))

    assert asyncio.run(ask()) == [0, 1, 2, 3, 4]


def test_a_job_runs_in_the_context_of_whoever_asked() -> None:
    async def ask(name: str, handlers: Handlers) -> str:
        _mark.set(name)
        return str(await handlers.run(_mark.get))

    async def both() -> list[str]:
        handlers = Handlers(1)
        return await asyncio.gather(ask("ann", handlers), ask("ben", handlers))

    assert asyncio.run(both()) == ["ann", "ben"]


def test_no_more_jobs_than_threads_are_at_work_and_the_others_wait() -> None:
    lock, gate = threading.Lock(), threading.Event()
    at_work, most = 0, 0
    full = threading.Semaphore(0)

    def work() -> int:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        full.release()
        assert gate.wait(30)
        with lock:
            at_work -= 1
        return 1

    async def crowd() -> int:
        handlers = Handlers(3)
        jobs = [handlers.run(work) for _ in range(10)]
        for _ in range(3):
            assert await asyncio.to_thread(full.acquire, timeout=30)
        gate.set()
        return sum(await asyncio.gather(*jobs))

    assert asyncio.run(crowd()) == 10
    assert most == 3


def test_an_idle_thread_is_used_again() -> None:
    async def names() -> set[str | None]:
        handlers = Handlers(5)
        found = set()
        for _ in range(20):
            found.add(await handlers.run(threading.get_ident))
            await asyncio.sleep(0)
        return found

    assert len(asyncio.run(names())) <= 2


def test_who_stops_waiting_leaves_the_job_to_its_end() -> None:
    started, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        assert gate.wait(30)
        ended.set()

    async def leave() -> None:
        handlers = Handlers(1)
        waiting = asyncio.ensure_future(handlers.run(work))
        assert await asyncio.to_thread(started.wait, 30)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        assert await handlers.run(lambda: "next") == "next"

    asyncio.run(leave())
    assert ended.is_set()
