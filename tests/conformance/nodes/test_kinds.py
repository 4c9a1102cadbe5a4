"""One suite over every step kind: in the executor's own process, with the installed walls."""

import threading
from pathlib import Path

import duckdb
import pytest

from galley.core.runs.task import Task
from galley.engine.executors.local import LocalExecutor
from galley.engine.nodes import BUILT_IN

GUARD_S = 300.0
NOTEBOOK = '{"tests": {"rows": {"action": "%s", "test-variable": "rows", "type": "test-contents-as-integer", "test-logic": {"test-compare": "greater-than", "test-metric": %d}}}%s}'  # noqa: E501
SOURCE = '{"type": "DKDataSource_DuckDB", "config": {"database": "shop.db"}, "keys": {"k": {"query-type": "execute_scalar", "sql": "%s", "set-runtime-vars": {"result": "rows"}}}}'  # noqa: E501
FILE = '{"type": "DKDataSource_File", "keys": {"orders.csv": {"set-runtime-vars": {"row_count": "rows"}}}}'  # noqa: E501
SINK = '{"type": "DKDataSink_File", "keys": {"copy.jsonl": {}}}'
MAPPING = ', "mappings": {"m": {"source-name": "s", "source-key": "orders.csv", "sink-name": "t", "sink-key": "copy.jsonl"}}'  # noqa: E501
CONFIG = '{"keys": {"one": {"script": "%s", "export": ["rows"]}}}'


def texts(kind, *, action="stop-on-error", metric=0, broken=False):
    """A recipe's files for a step of the kind whose variable `rows` is 3."""
    more = MAPPING if kind == "transfer" else ""
    files = {"notebook.json": NOTEBOOK % (action, metric, more)}
    if kind == "action":
        files["actions/a.json"] = SOURCE % ("SELECT nope" if broken else "SELECT 3")
    elif kind == "transfer":
        files["data_sources/s.json"] = FILE.replace("orders.csv", "gone.csv") if broken else FILE
        if broken:
            files["notebook.json"] = files["notebook.json"].replace("orders.csv", "gone.csv")
        files["data_sinks/t.json"] = SINK
    elif kind == "script":
        files["docker-share/config.json"] = CONFIG % ("bad.py" if broken else "good.py")
    elif broken:
        files["notebook.json"] = '{"sleep": "soon"}'
    return files


class Listener:
    def __init__(self):
        self.done = threading.Event()
        self.outcome = None

    def started(self, *_args):
        """Not asked for."""

    def finished(self, _key, _fence, outcome):
        self.outcome = outcome
        self.done.set()

    def lost(self, _key, _fence, reason):
        self.outcome = reason
        self.done.set()

    never_ran = lost


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A running executor; gives a function that runs a step's text to its end."""
    root = tmp_path_factory.mktemp("world")
    share = root / "tree/step1/docker-share"
    share.mkdir(parents=True)
    (share / "good.py").write_text("rows = 3\nprint('counted')\n")
    (share / "bad.py").write_text("raise ValueError('bad luck')\n")
    (root / "work").mkdir()
    (root / "work/orders.csv").write_text("a\n1\n2\n")
    duckdb.connect(str(root / "work/shop.db")).close()
    listeners = {}

    class Events:
        def started(self, key, *more):
            listeners[key].started(key, *more)

        def finished(self, key, *more):
            listeners[key].finished(key, *more)

        def lost(self, key, *more):
            listeners[key].lost(key, *more)

        never_ran = lost

    executor = LocalExecutor(root / "executor", slots=2)
    executor.start(Events())

    def run(kind, files, **more):
        number = len(listeners) + 1
        key = str(number)
        listener = listeners[key] = Listener()
        executor.submit(
            Task(
                key=key, run_id=1, step_id=number, attempt_id=number, number=1, fence=1,
                run_uid="RUN", order_uid="ORDER", step_key="step1", kind=kind, body={}, text=files,
                variables={"rows": 3} if kind == "noop" else {}, folder=str(root / "at" / key),
                work=str(root / "work"), log=str(root / f"log/{key}.log"), tree=str(root / "tree"),
                environments=str(root / "environments"), **more,
            )
        )  # fmt: skip
        assert listener.done.wait(GUARD_S)
        return listener.outcome, Path(root, "log", f"{key}.log").read_text()

    yield run
    executor.stop()


@pytest.mark.parametrize("kind", sorted(BUILT_IN))
def test_a_step_does_its_work_and_passes_its_gate(world, kind):
    outcome, log = world(kind, texts(kind))
    assert outcome.state == "succeeded", (outcome, log)
    assert [(c.name, c.status, c.text) for c in outcome.checks] == [
        ("rows", "passed", "3 greater-than 0")
    ]
    assert outcome.exports == ({} if kind == "noop" else {"rows": 3})
    assert "Check rows passed" in log


@pytest.mark.parametrize("kind", sorted(BUILT_IN))
def test_a_failed_gate_stops_the_step_for_good(world, kind):
    outcome, log = world(kind, texts(kind, metric=99))
    assert (outcome.state, outcome.retryable) == ("failed", False)
    assert "The check rows of step step1" in outcome.reason
    assert "3 greater-than 99" in outcome.reason
    assert outcome.reason in log


@pytest.mark.parametrize("kind", sorted(BUILT_IN))
@pytest.mark.parametrize(("action", "status"), [("warning", "warning"), ("log", "logged")])
def test_a_gate_may_only_warn_or_log(world, kind, action, status):
    outcome, _ = world(kind, texts(kind, action=action, metric=99))
    assert outcome.state == "succeeded", outcome.reason
    assert [c.status for c in outcome.checks] == [status]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("action", "Action a: key k: DuckDB (shop.db) refused"),
        ("noop", "notebook.json"),
        ("script", "The script docker-share/bad.py failed: ValueError: bad luck"),
        ("transfer", "Source s: key gone.csv: The file gone.csv was not found"),
    ],
)
def test_a_fault_is_one_clear_reason(world, kind, words):
    outcome, log = world(kind, texts(kind, broken=True))
    assert outcome.state == "failed"
    assert words in outcome.reason
    assert outcome.reason in log


@pytest.mark.parametrize("kind", sorted(BUILT_IN))
def test_faulty_text_names_file_and_cure(world, kind):
    outcome, _ = world(kind, {**texts(kind), "notebook.json": '{"tests": [1}'})
    assert (outcome.state, outcome.retryable) == ("failed", False)
    assert "notebook.json" in outcome.reason
