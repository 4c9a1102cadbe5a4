"""A ledger on a real database, driven by hand: what the tests of runs stand on."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from galley.core.errors import GalleyError
from galley.core.runs import messages as msg
from galley.core.runs import models
from galley.core.runs.ledger import Ledger
from galley.core.runs.plan import Need, Plan, Source, StepPlan
from galley.core.runs.task import Outcome
from galley.core.runs.turn import Turn
from galley.kit.clock import ManualClock
from galley.kit.ids import new_uid
from galley.storage.db import Database

SOURCE = Source(kind="recipe", project="main/recipes", path="rec", variation="daily")


def plan(*steps: StepPlan, **more: Any) -> Plan:
    return Plan(source=SOURCE, steps=steps, **more)


def step(key: str, *needs: str | Need, **more: Any) -> StepPlan:
    edges = tuple(need if isinstance(need, Need) else Need(need) for need in needs)
    return StepPlan(key=key, kind="noop", needs=edges, **more)


def chain(count: int, **more: Any) -> Plan:
    return plan(*(step(f"s{i}", *([f"s{i - 1}"] if i else [])) for i in range(count)), **more)


class LedgerBench:
    """Applies messages one batch at a time and remembers which attempts live."""

    def __init__(self, database: Database, clock: ManualClock, *, slots: int = 4) -> None:
        self.database = database
        self.clock = clock
        self.ledger = Ledger()
        self.ledger.dispatcher.set_worker("local", slots)
        self.living: dict[str, list[tuple[int, int]]] = {}
        self.killed: list[int] = []
        self.started: list[str] = []

    def apply(self, *messages: Any) -> list[Any]:
        with self.database.connection() as connection:
            applied = self.ledger.apply(connection, messages, self.clock.now())
        self._act(applied.turn)
        return applied.replies

    def send(self, message: Any) -> Any:
        reply = self.apply(message)[0]
        if isinstance(reply, GalleyError):
            raise reply
        return reply

    def restart(self, *, slots: int = 4) -> list[str]:
        """A new ledger on the same database; the steps whose attempts it wants to adopt."""
        self.ledger = Ledger()
        self.ledger.dispatcher.set_worker("local", slots)
        with self.database.connection() as connection:
            applied = self.ledger.apply(connection, [msg.Tick()], self.clock.now())
        self._act(applied.turn)
        return [live.key for _, live in applied.turn.adoptions]

    def submit(self, wanted: Plan, **more: Any) -> msg.Submitted:
        order_more = {k: more.pop(k) for k in ("priority", "schedule") if k in more}
        order = msg.NewOrder(
            uid=new_uid(),
            project_id=1,
            source_kind="recipe",
            source_path="rec",
            variation="daily",
            origin="api",
            kitchen="master",
            created_by_login="ann@example.org",
            **order_more,
        )
        run = msg.NewRun(uid=new_uid(), plan=wanted, **more)
        submitted: msg.Submitted = self.send(msg.SubmitOrder(order, run))
        return submitted

    def finish(self, key: str, state: str = "succeeded", **more: Any) -> bool:
        """The oldest living attempt of the step reports its end."""
        attempt, fence = self.living[key].pop(0)
        accepted: bool = self.send(msg.Finished(attempt, fence, Outcome(state=state, **more)))
        return accepted

    def lose(self, key: str, reason: str = "gone") -> bool:
        attempt, fence = self.living[key].pop(0)
        accepted: bool = self.send(msg.Lost(attempt, fence, reason))
        return accepted

    def never_run(self, key: str, reason: str = "never started") -> bool:
        attempt, fence = self.living[key].pop(0)
        accepted: bool = self.send(msg.Lost(attempt, fence, reason, never_ran=True))
        return accepted

    def alive(self) -> list[str]:
        return sorted(key for key, attempts in self.living.items() for _ in attempts)

    def run_row(self, run_id: int | None) -> Any:
        return self._row(models.runs, run_id)

    def order_row(self, order_id: int) -> Any:
        return self._row(models.orders, order_id)

    def states(self, run_id: int | None) -> dict[str, str]:
        query = sa.select(models.steps.c.key, models.steps.c.state).where(
            models.steps.c.run_id == run_id
        )
        return {key: state for key, state in self.rows(query)}  # noqa: C416

    def rows(self, query: Any) -> Sequence[Any]:
        with self.database.reading() as session:
            return session.execute(query).all()

    def _row(self, table: sa.Table, key: int | None) -> Any:
        with self.database.reading() as session:
            found = session.execute(sa.select(table).where(table.c.id == key)).mappings().first()
            return dict(found) if found else None

    def _act(self, turn: Turn) -> None:
        for _, live in (*turn.adoptions, *turn.starts):
            entry = (live.attempt.id, live.attempt.fence)
            if entry not in self.living.setdefault(live.key, []):
                self.living[live.key].append(entry)
        self.started.extend(live.key for _, live in turn.starts)
        self.killed.extend(attempt for attempt, _ in turn.kills)


def drain(bench: LedgerBench) -> Iterator[str]:
    """Let everything that lives succeed, step by step, until nothing lives."""
    while alive := bench.alive():
        bench.finish(alive[0])
        yield alive[0]
