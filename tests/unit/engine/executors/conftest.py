import sys
import threading
from pathlib import Path

import pytest

from galley.core.runs.plan import Limits
from galley.core.runs.task import Task
from galley.engine import sandbox
from galley.engine.executors.local import LocalExecutor

GUARD_S = 60.0
HERE = str(Path(__file__).parent)


class Recorder:
    """Listens to an executor; `wait` blocks until an attempt's last word."""

    def __init__(self):
        self.events = []
        self._changed = threading.Condition()

    def started(self, key, fence, handle):
        self._add("started", key, fence, handle)

    def finished(self, key, fence, outcome):
        self._add("finished", key, fence, outcome)

    def lost(self, key, fence, reason):
        self._add("lost", key, fence, reason)

    def _add(self, *event):
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def of(self, key):
        return [event for event in self.events if event[1] == key]

    def kinds(self, key):
        return [event[0] for event in self.of(key)]

    def until(self, kinds, key):
        """The first event of the attempt of one of these kinds."""

        def found():
            return next((e for e in self.of(key) if e[0] in kinds), None)

        with self._changed:
            assert self._changed.wait_for(found, GUARD_S), f"{key}: only {self.of(key)}"
            return found()

    def wait(self, key):
        kind, _, _, what = self.until(("finished", "lost"), key)
        return kind, what

    def outcome(self, key):
        kind, what = self.wait(key)
        assert kind == "finished", what
        return what


class Bench:
    """An executor over a folder, and tasks for it."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.options = {"slots": 4, "run_step": "steps:run_step", "import_paths": [HERE], **options}
        self.recorder = Recorder()
        self.executor = self.make()

    def make(self, **options):
        return LocalExecutor(self.folder / "executor", **{**self.options, **options})

    def start(self):
        self.executor.start(self.recorder)
        return self

    def task(self, key, kind, **options):
        body = options.pop("body", {})
        return Task(
            key=key,
            run_id=1,
            step_id=1,
            attempt_id=1,
            number=1,
            fence=options.pop("fence", 7),
            run_uid="run",
            order_uid="order",
            step_key=key,
            kind=kind,
            body=body,
            text={},
            variables={},
            folder=str(self.folder / "attempts" / key),
            work=str(self.folder / "work"),
            log=str(self.folder / "logs" / f"{key}.log"),
            **options,
        )

    def run(self, kind, key="one", **options):
        """Run one step; its outcome."""
        self.executor.submit(self.task(key, kind, **options))
        return self.recorder.outcome(key)

    def log(self, key="one"):
        return (self.folder / "logs" / f"{key}.log").read_text()

    def file(self, key, name):
        return self.folder / "attempts" / key / name


@pytest.fixture
def bench(tmp_path):
    """A serving executor without bubblewrap."""
    made = Bench(tmp_path, sandboxed=False).start()
    yield made
    made.executor.stop()


@pytest.fixture(params=["sandboxed", "bare"])
def walled(request, tmp_path):
    """A serving executor, with bubblewrap and without it."""
    if request.param == "sandboxed" and not sandbox.available():
        pytest.skip(f"no bubblewrap here: {sandbox.unavailable_because()}")
    made = Bench(tmp_path, sandboxed=request.param == "sandboxed").start()
    made.sandboxed = request.param == "sandboxed"
    yield made
    made.executor.stop()


@pytest.fixture
def make_bench(tmp_path):
    """Makes executors that are stopped at the end."""
    made = []

    def make(**options):
        made.append(Bench(tmp_path / str(len(made)), **{"sandboxed": False, **options}))
        return made[-1]

    yield make
    for bench in made:
        bench.executor.stop()


def tight(**limits):
    """Limits for one task."""
    return Limits(**limits)


PYTHON = sys.executable
