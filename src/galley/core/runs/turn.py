"""One turn of the writer: the moment, the rows to write, and the acts that follow the commit."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from galley.core.runs import models
from galley.core.runs.changes import Changes
from galley.core.runs.live import LiveRun, LiveStep


class Ids:
    """The next free id of each table, in the one writer's memory; see `models.counters`."""

    def __init__(self, start: dict[str, int]) -> None:
        self._next = dict(start)

    def take(self, name: str) -> int:
        """A number of this table's that was never used before."""
        taken = self._next.get(name, 1)
        self._next[name] = taken + 1
        return taken

    def state(self) -> dict[str, int]:
        """The next free number of every table."""
        return dict(self._next)


@dataclass(slots=True)
class Turn:
    """What one batch of messages brings about.

    After the commit `starts` go to executors, `adoptions` are looked for there, `kills` (attempt
    ids) are cancelled, files of `removed` runs deleted, and listeners of `touched` runs told;
    `finished` counts the runs that ended, by state; `ready` and `ended` are for the dispatcher,
    `kitchens` were seen to be there, `plans` (digest -> id) are stored and stay.
    """

    now: datetime
    ids: Ids
    changes: Changes = field(default_factory=Changes)
    ready: list[tuple[LiveRun, LiveStep]] = field(default_factory=list)
    ended: list[LiveRun] = field(default_factory=list)
    starts: list[tuple[LiveRun, LiveStep]] = field(default_factory=list)
    adoptions: list[tuple[LiveRun, LiveStep]] = field(default_factory=list)
    kills: list[tuple[int, str | None]] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    kitchens: set[int] = field(default_factory=set)
    plans: dict[str, int] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)
    finished: Counter[str] = field(default_factory=Counter)
    has_mail: bool = False
    has_schedules: bool = False

    def tell(self, run: LiveRun, kind: str, **body: Any) -> None:
        """Add an event to the run's history."""
        self.touched.add(run.id)
        self.changes.insert(
            models.events,
            {
                "id": self.ids.take("run_event"),
                "run_id": run.id,
                "order_id": run.order_id,
                "kind": kind,
                "body": body,
                "at": self.now,
            },
        )
