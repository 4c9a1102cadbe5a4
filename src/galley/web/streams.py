"""Live pages: server-sent events for the list of runs and for one run with its log.

Events: `hello` (the server's time), `change` (ask for the page's parts again), `log` (lines as
HTML, escaped by the templates), `end` (nothing more will come). Each carries an id, which the
browser hands back as `Last-Event-ID` after a lost connection: nothing is missing, nothing twice.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from galley.core.errors import NotFound
from galley.core.runs import reading
from galley.core.runs.ports import RunFeed
from galley.core.runs.states import RUN_FINAL
from galley.core.runs.views import RunDetail
from galley.web import tail
from galley.web.pages.runs import log_choice, run_key
from galley.web.rendering import render
from galley.web.visit import Visit

LOOK_S = 0.5
"""How often a growing log is looked at while somebody watches it."""
RECHECK_S = 1.0
"""How soon a watcher who may no longer watch is cut off."""
HEARTBEAT_S = 15.0
_EVENTS_AT_ONCE = 500
_REST = 3
"""A stream rests this many times as long as its last look took: large runs starve nobody."""
_EVENT_ID = re.compile(r"(\d{1,18});([\d:,]*)")

Recheck = Callable[[], bool]
"""Whether the watcher's session still stands; asked in a worker thread."""


def sse(event: str, data: str, event_id: str) -> bytes:
    """One event on the wire."""
    lines = data.replace("\r", "").split("\n")
    body = "".join(f"data: {line}\n" for line in lines)
    return f"event: {event}\nid: {event_id}\n{body}\n".encode()


async def watch_runs(visit: Visit, recheck: Recheck) -> AsyncGenerator[bytes]:
    """The list's stream: `change` whenever any run changed, at most one a second."""
    with _wakened_by(visit.services.feed, None) as bell:
        yield sse("hello", visit.now.isoformat(), "0;")
        yield sse("change", "", "0;")  # whatever happened before this connection
        quiet_s = 0.0
        while await run_in_threadpool(recheck):
            rung = await bell.wait(RECHECK_S)
            quiet_s = 0.0 if rung else quiet_s + RECHECK_S
            if rung:
                yield sse("change", "", "0;")
                await asyncio.sleep(RECHECK_S)
            elif quiet_s >= HEARTBEAT_S:
                quiet_s = 0.0
                yield b": still here\n\n"


async def watch_run(visit: Visit, recheck: Recheck) -> AsyncGenerator[bytes]:
    """A run's stream, from where the browser's page or its last event stands, until it ends."""
    watcher = await run_in_threadpool(_RunWatcher.start, visit)
    since_check_s = quiet_s = 0.0
    with _wakened_by(visit.services.feed, watcher.detail.run.id) as bell:
        yield sse("hello", visit.now.isoformat(), watcher.event_id)
        while True:
            began = asyncio.get_running_loop().time()
            news = await run_in_threadpool(watcher.look)
            took_s = asyncio.get_running_loop().time() - began
            for event, data in news:
                yield sse(event, data, watcher.event_id)
            if news and news[-1][0] == "end":
                return
            await asyncio.sleep(took_s * _REST)
            rung = await bell.wait(LOOK_S)
            since_check_s += LOOK_S
            quiet_s = 0.0 if news else quiet_s + LOOK_S
            if quiet_s >= HEARTBEAT_S:
                quiet_s = 0.0
                yield b": still here\n\n"
            if rung or since_check_s >= RECHECK_S:
                since_check_s = 0.0
                if not await run_in_threadpool(recheck):
                    return


@dataclass(slots=True)
class _RunWatcher:
    """What one stream has told its browser so far."""

    visit: Visit
    detail: RunDetail
    step: str
    level: str
    last_event: int
    offsets: dict[int, int]

    @classmethod
    def start(cls, visit: Visit) -> "_RunWatcher":
        """From the browser's last event, else from what its page already shows.

        Raises:
            NotFound: no such run for this caller.
        """
        step, level = log_choice(visit.query)
        known = _EVENT_ID.fullmatch(visit.request.headers.get("last-event-id", ""))
        cursor = known[2] if known else visit.query.get("after", "")
        with visit.services.database.reading() as session:
            detail = reading.run_detail(session, visit.caller, run_key(visit))
        last_event = int(known[1]) if known else 0
        return cls(visit, detail, step, level, last_event, tail.parse_cursor(cursor))

    @property
    def event_id(self) -> str:
        """Where this stream stands: the last run event told, and the log's cursor."""
        return f"{self.last_event};{tail.Tail((), self.offsets, is_cut=False).cursor}"

    def look(self) -> list[tuple[str, str]]:
        """What is new: log lines first, then that something changed, then the end."""
        news: list[tuple[str, str]] = []
        try:
            has_changed = self._has_changed()
        except NotFound:  # deleted while it was watched
            return [("end", "")]
        files = tail.log_files(self.visit.services.logs, self.detail, self.step or None)
        found = tail.following(files, self.offsets, tail.LEVELS[self.level])
        has_moved = found.offsets != self.offsets
        self.offsets = dict(found.offsets)
        if found.lines:
            text = render(self.visit.environment, "log_lines.html", entries=found.lines)
            news.append(("log", text))
        if has_changed:
            news.append(("change", ""))
        if self.detail.run.state in RUN_FINAL and not has_moved and not has_changed:
            news.append(("end", ""))
        return news

    def _has_changed(self) -> bool:
        """Read on in the run's history; if there is more of it, read the run anew."""
        database, caller, run_id = (
            self.visit.services.database,
            self.visit.caller,
            self.detail.run.id,
        )
        with database.reading() as session:
            events = reading.events_since(session, caller, run_id, self.last_event, _EVENTS_AT_ONCE)
            if not events:
                return False
            self.last_event = events[-1].id
            self.detail = reading.run_detail(session, caller, run_id)
        return True


@dataclass(slots=True)
class _Bell:
    """Rung from any thread; waited for in the event loop."""

    loop: asyncio.AbstractEventLoop
    event: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self, _run_id: int) -> None:
        """Wake whoever waits. Never blocks the thread that rings."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.event.set)

    async def wait(self, at_most_s: float) -> bool:
        """Wait for a ring; False if none came in time."""
        try:
            async with asyncio.timeout(at_most_s):
                await self.event.wait()
        except TimeoutError:
            return False
        self.event.clear()
        return True


@contextmanager
def _wakened_by(feed: RunFeed, run_id: int | None) -> Iterator[_Bell]:
    bell = _Bell(asyncio.get_running_loop())
    stop = feed.subscribe(run_id, bell.ring)
    try:
        yield bell
    finally:
        stop()
