"""What the ledger costs by itself: orders through the writer, steps that finish at once.

    python benchmarks/ledger.py [sqlite:////path/galley.db | postgresql://...]

Prints runs and steps a second and CPU milliseconds a step, the writer's commits included.
"""

import pkgutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import galley.core
from galley.core.runs import messages as msg
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.runs.plan import Need, Plan, Source, StepPlan
from galley.core.runs.task import Outcome
from galley.engine.writer import Writer
from galley.kit.clock import SystemClock
from galley.kit.ids import new_uid
from galley.storage.db import Database, metadata

SOURCE = Source(kind="recipe", project="main/recipes", path="bench", variation="v")


class FinishAtOnce:
    """Stands for an executor without processes."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(2)

    def start(self, _run: LiveRun, step: LiveStep) -> None:
        done = msg.Finished(step.attempt.id, step.attempt.fence, Outcome(state="succeeded"))
        self._pool.submit(self._writer.send, done)

    def adopt(self, _run: LiveRun, _step: LiveStep) -> None: ...

    def kill(self, _attempt_id: int, _worker: str | None) -> None: ...

    def remove(self, _run_id: int) -> None: ...

    def mail(self) -> None: ...

    def reschedule(self) -> None: ...


def chain(count: int) -> Plan:
    steps = (
        StepPlan(f"s{i}", "noop", needs=(Need(f"s{i - 1}"),) if i else ()) for i in range(count)
    )
    return Plan(source=SOURCE, steps=tuple(steps))


def order(plan: Plan) -> msg.SubmitOrder:
    row = msg.NewOrder(new_uid(), 1, "recipe", "bench", "v", "api", "master")
    return msg.SubmitOrder(row, msg.NewRun(new_uid(), plan))


def measure(writer: Writer, label: str, runs: int, steps: int) -> None:
    ended, done = set(), threading.Event()

    def look(run_id: int) -> None:
        if writer.ledger.find(run_id) is None:
            ended.add(run_id)
            if len(ended) == runs:
                done.set()

    stop = writer.subscribe(None, look)
    plan = chain(steps)
    wall, cpu = time.perf_counter(), time.process_time()
    for answer in [writer.send(order(plan)) for _ in range(runs)]:
        answer.result(60)
    done.wait(600)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    stop()
    total = runs * steps
    print(
        f"{label:<16} {wall * 1000:9.0f} ms  {runs / wall:7.0f} runs/s  {total / wall:7.0f} steps/s"
        f"  {cpu / total * 1000:6.3f} CPU ms/step"
    )


def main() -> None:
    for module in pkgutil.walk_packages(galley.core.__path__, "galley.core."):
        if module.name.endswith(".models"):
            import_module(module.name)
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/galley.db"
        database = Database(url)
        with database.connection() as connection:
            metadata.create_all(connection)
        writer = Writer(database, SystemClock())
        writer.ledger.dispatcher.set_worker("local", 16)
        writer.start(FinishAtOnce(writer))
        for label, runs, steps in (
            ("warm-up", 20, 5),
            ("one step", 1, 1),
            ("200 x 5", 200, 5),
            ("chain of 100", 1, 100),
            ("chain of 10,000", 1, 10_000),
        ):
            measure(writer, label, runs, steps)
        writer.stop()
        database.close()


if __name__ == "__main__":
    main()
