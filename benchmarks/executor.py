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

from galley.core.runs.task import Outcome, Task
from galley.engine.executors.local import LocalExecutor


def run_step(task, console):
    console.info(f"step {task.step_key} does nothing")
    return Outcome(state="succeeded")


class Counter:
    def __init__(self, wanted):
        self.wanted = wanted
        self.done = threading.Event()
        self.faults = []
        self.count = 0

    def started(self, key, fence, handle):
        pass

    def finished(self, key, fence, outcome):
        if outcome.state != "succeeded":
            self.faults.append((key, outcome.reason))
        self._tick()

    def lost(self, key, fence, reason):
        self.faults.append((key, reason))
        self._tick()

    def _tick(self):
        self.count += 1
        if self.count == self.wanted:
            self.done.set()


def make_task(folder, number):
    base = Path(folder, "attempts", str(number))
    base.mkdir(parents=True)
    return Task(
        key=str(number), run_id=1, step_id=number, attempt_id=number, number=1, fence=1,
        run_uid="r", order_uid="o", step_key=f"step-{number}", kind="noop",
        body={"text": "x" * 200}, text={}, variables={f"v{n}": n for n in range(30)},
        folder=str(base), work=str(Path(folder, "work")), log=str(Path(folder, "logs", f"{number}.log")),
    )  # fmt: skip


def spent_s():
    own = resource.getrusage(resource.RUSAGE_SELF)
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum((own.ru_utime, own.ru_stime, below.ru_utime, below.ru_stime))


def measure(folder, steps, slots, preload):
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
    template = executor._supervisor._link.pid
    before, began = spent_s() + template_s(template), time.perf_counter()
    for task in tasks[1:]:
        executor.submit(task)
    assert counter.done.wait(300)
    wall = time.perf_counter() - began
    used = spent_s() + template_s(template) - before
    executor.stop()
    assert not counter.faults, counter.faults[:3]
    return used, wall


def template_s(pid):
    """The template's processor time and that of the shims it has buried."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    slots = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    preload = ["duckdb"] if importlib.util.find_spec("duckdb") else []
    for preloaded in ([], preload):
        folder = tempfile.mkdtemp(prefix="galley-bench-")
        try:
            used, wall = measure(folder, steps, slots, preloaded)
        finally:
            shutil.rmtree(folder)
        name = "+".join(preloaded) or "nothing"
        print(
            f"{steps} steps, {slots} slots, template with {name}: "
            f"{used / steps * 1e3:.2f} ms CPU a step, wall {wall:.2f} s "
            f"({steps / wall:.0f} steps/s)"
        )


if __name__ == "__main__":
    main()
