"""What one step costs the ledger, in runs of 100 and of 10,000 steps: no process, no HTTP.

The database is in memory where there is such a place: what counts here is processor time, and the
disk's flushes would take most of the wall's.
"""

import statistics
import tempfile
import threading
import time
from pathlib import Path

from ledger import SOURCE, FinishAtOnce, chain, order

from galley.core.runs.plan import Plan, StepPlan
from galley.engine.writer import Writer
from galley.kit.clock import SystemClock
from galley.storage.db import Database, metadata

SHORT, LONG = 100, 10_000
TURNS = 3
_MEMORY = "/dev/shm"  # noqa: S108 - a folder of its own is made there


def step_cost(shape: str) -> tuple[float, float]:
    """Processor milliseconds a step of a short and of a long run; `shape` is chain or fan.

    As many steps of the short kind are run, in one run after the other; the two take turns.
    """
    costs: dict[int, list[float]] = {SHORT: [], LONG: []}
    memory = _MEMORY if Path(_MEMORY).is_dir() else None
    with tempfile.TemporaryDirectory(prefix="galley-bench-", dir=memory) as folder:
        database = Database(f"sqlite:///{Path(folder, 'galley.db')}")
        with database.connection() as connection:
            metadata.create_all(connection)
        writer = Writer(database, SystemClock())
        writer.ledger.dispatcher.set_worker("local", 16)
        writer.start(FinishAtOnce(writer))
        _spend(writer, _plan(shape, SHORT), 5)
        for _ in range(TURNS):
            for steps, found in costs.items():
                found.append(_spend(writer, _plan(shape, steps), LONG // steps))
        writer.stop()
        database.close()
    return statistics.median(costs[SHORT]), statistics.median(costs[LONG])


def _plan(shape: str, count: int) -> Plan:
    if shape == "chain":
        return chain(count)
    return Plan(source=SOURCE, steps=tuple(StepPlan(f"s{i}", "noop") for i in range(count)))


def _spend(writer: Writer, plan: Plan, runs: int) -> float:
    """Processor milliseconds a step of so many runs, one after the other."""
    spent = time.process_time()
    for _ in range(runs):
        _run(writer, plan)
    return (time.process_time() - spent) / (runs * len(plan.steps)) * 1e3


def _run(writer: Writer, plan: Plan) -> None:
    """Order one run and wait until it has ended."""
    ended = threading.Event()
    stop = writer.subscribe(None, lambda run: writer.ledger.find(run) is None and ended.set())
    writer.send(order(plan)).result(60)
    assert ended.wait(600)
    stop()
