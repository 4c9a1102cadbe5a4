import itertools
import threading
from pathlib import Path

import pytest

from galley.core.runs.task import Task
from galley.engine import sandbox
from galley.engine.executors.local import LocalExecutor, cgroup, processes

GUARD_S = 240.0
NUMBERS = itertools.count()
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

    def never_ran(self, key, fence, reason):
        self._add("never_ran", key, fence, reason)

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
        kind, _, _, what = self.until(("finished", "lost", "never_ran"), key)
        return kind, what

    def left(self):
        """The attempts that a failed test left behind."""
        ended = {event[1] for event in self.events if event[0] != "started"}
        return [event for event in self.events if event[0] == "started" and event[1] not in ended]

    def outcome(self, key):
        kind, what = self.wait(key)
        assert kind == "finished", what
        return what


class View:
    """What a shared executor says about one test's attempts, whose keys it prefixes."""

    def __init__(self, recorder, prefix):
        self._recorder = recorder
        self._prefix = prefix

    def of(self, key):
        return self._recorder.of(self._prefix + key)

    def kinds(self, key):
        return self._recorder.kinds(self._prefix + key)

    def until(self, kinds, key):
        return self._recorder.until(kinds, self._prefix + key)

    def wait(self, key):
        return self._recorder.wait(self._prefix + key)

    def outcome(self, key):
        return self._recorder.outcome(self._prefix + key)


class Shared:
    """An executor that many tests use one after another."""

    def __init__(self, folder, **options):
        self.recorder = Recorder()
        self.executor = LocalExecutor(
            folder, slots=4, run_step="steps:run_step", import_paths=[HERE], **options
        )
        self.executor.start(self.recorder)


class Bench:
    """An executor over a folder, and tasks for it."""

    def __init__(self, folder, *, shared=None, **options):
        self.folder = folder
        self.options = {"slots": 4, "run_step": "steps:run_step", "import_paths": [HERE], **options}
        self.prefix = f"{next(NUMBERS)}-" if shared else ""
        self.recorder = View(shared.recorder, self.prefix) if shared else Recorder()
        self.executor = shared.executor if shared else self.make()

    def make(self, **options):
        return LocalExecutor(self.folder / "executor", **{**self.options, **options})

    def start(self):
        self.executor.start(self.recorder)
        return self

    def task(self, key, kind, **options):
        body = options.pop("body", {})
        return Task(
            key=self.prefix + key,
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

    def cancel(self, key, **options):
        self.executor.cancel(self.prefix + key, **options)

    def run(self, kind, key="one", **options):
        """Run one step; its outcome."""
        self.executor.submit(self.task(key, kind, **options))
        return self.recorder.outcome(key)

    def log(self, key="one"):
        return (self.folder / "logs" / f"{key}.log").read_text()

    def file(self, key, name):
        return self.folder / "attempts" / key / name


def end(bench):
    """Stop an executor; its attempts would go on, so those that are left are killed."""
    bench.executor.stop()
    for _, _, _, handle in bench.recorder.left():
        mark = processes.mark_of(handle["pid"])
        if mark is not None:
            cgroup.kill_shim(mark)
            cgroup.remove(mark)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Serving executors for the whole session: with bubblewrap (True) and without it."""
    made = {}

    def get(sandboxed):
        if sandboxed not in made:
            made[sandboxed] = Shared(tmp_path_factory.mktemp("executor"), sandboxed=sandboxed)
        return made[sandboxed]

    yield get
    for one in made.values():
        end(one)


@pytest.fixture
def bench(tmp_path, shared):
    """A serving executor without bubblewrap, shared with other tests."""
    return Bench(tmp_path, shared=shared(False))


@pytest.fixture(params=["sandboxed", "bare"])
def walled(request, tmp_path, shared):
    """A serving executor, with bubblewrap and without it."""
    sandboxed = request.param == "sandboxed"
    if sandboxed and not sandbox.available():
        pytest.skip(f"no bubblewrap here: {sandbox.unavailable_because()}")
    made = Bench(tmp_path, shared=shared(sandboxed))
    made.sandboxed = sandboxed
    return made


@pytest.fixture
def own_bench(make_bench):
    """A serving executor without bubblewrap, for this test alone."""
    return make_bench().start()


@pytest.fixture
def make_bench(tmp_path):
    """Makes executors that are stopped at the end."""
    made = []

    def make(**options):
        made.append(Bench(tmp_path / str(len(made)), **{"sandboxed": False, **options}))
        return made[-1]

    yield make
    for bench in made:
        end(bench)
