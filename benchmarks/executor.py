"""Processor time and wall time per trivial step through the local executor, children included.

Run: python benchmarks/executor.py [steps] [slots]. Steps are handed over in one go and do nothing;
what is measured is the whole way: task, fork, claim, log, exit file, report.
"""

import importlib.util
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from galley.core.runs.task import Outcome, Task
from galley.engine.executors.local import LocalExecutor


def run_step(task: Task, console: Any) -> Outcome:
    console.info(f"step {task.step_key} does nothing")
    return Outcome(state="succeeded")


class Counter:
    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.done = threading.Event()
        self.faults: list[tuple[str, str]] = []
        self.count = 0

    def started(self, key: str, _fence: int, _handle: Any) -> None:
        assert key

    def finished(self, key: str, _fence: int, outcome: Outcome) -> None:
        if outcome.state != "succeeded":
            self.faults.append((key, outcome.reason))
        self._tick()

    def lost(self, key: str, _fence: int, reason: str) -> None:
        self.faults.append((key, reason))
        self._tick()

    def _tick(self) -> None:
        self.count += 1
        if self.count == self.wanted:
            self.done.set()


def make_task(folder: str, number: int) -> Task:
    base = Path(folder, "attempts", str(number))
    base.mkdir(parents=True)
    return Task(
        key=str(number), run_id=1, step_id=number, attempt_id=number, number=1, fence=1,
        run_uid="r", order_uid="o", step_key=f"step-{number}", kind="noop",
        body={"text": "x" * 200}, text={}, variables={f"v{n}": n for n in range(30)},
        folder=str(base), work=str(Path(folder, "work")),
        log=str(Path(folder, "logs", f"{number}.log")),
    )  # fmt: skip


def spent_s() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def measure(folder: str, steps: int, slots: int, preload: list[str]) -> tuple[float, float, float]:
    module = Path(__file__)
    executor = LocalExecutor(
        Path(folder, "executor"),
        slots=slots,
        run_step=f"{module.stem}:run_step",
        import_paths=[str(module.parent)],
        preload=preload,
    )
    warmup = Counter(1)
    tasks = [make_task(folder, number) for number in range(steps + 1)]
    executor.start(warmup)
    executor.submit(tasks[0])
    assert warmup.done.wait(60)
    executor.stop()
    counter = Counter(steps + 1)
    executor.start(counter)
    executor.submit(make_task(folder, steps + 1))  # waits for the template
    while counter.count == 0:
        time.sleep(0.01)
    template = executor._supervisors[0]._link.pid  # noqa: SLF001
    server, below, began = spent_s(), template_s(template), time.perf_counter()
    for task in tasks[1:]:
        executor.submit(task)
    assert counter.done.wait(300)
    wall = time.perf_counter() - began
    server, below = spent_s() - server, template_s(template) - below
    executor.stop()
    assert not counter.faults, counter.faults[:3]
    return server, below, wall


def template_s(pid: int) -> float:
    """The template's processor time and that of the shims it has buried."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    slots = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    preload = ["duckdb"] if importlib.util.find_spec("duckdb") else []
    for preloaded in ([], preload):
        folder = tempfile.mkdtemp(prefix="galley-bench-")
        try:
            server, below, wall = measure(folder, steps, slots, preloaded)
        finally:
            shutil.rmtree(folder)
        name = "+".join(preloaded) or "nothing"
        print(
            f"{steps} steps, {slots} slots, template with {name}: "
            f"{(server + below) / steps * 1e3:.2f} ms CPU a step ({server / steps * 1e3:.2f} in "
            f"the server), wall {wall:.2f} s "
            f"({steps / wall:.0f} steps/s)"
        )


if __name__ == "__main__":
    main()
