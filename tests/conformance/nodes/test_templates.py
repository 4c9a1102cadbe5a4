"""A new recipe from each template, compiled as an order would, runs to its end."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from galley.core.recipes.compile import compile_recipe
from galley.core.recipes.templates import TEMPLATES
from galley.core.runs.ports import CompileRequest
from galley.core.runs.task import Outcome, Task
from galley.engine.executors.local import LocalExecutor

GUARD_S = 300.0


class Events:
    """Keeps the outcome of each attempt."""

    def __init__(self):
        self.outcomes: dict[str, Outcome | str] = {}
        self.changed = threading.Condition()

    def started(self, *_args):
        """Not asked for."""

    def finished(self, key, _fence, outcome):
        self.lost(key, _fence, outcome)

    def lost(self, key, _fence, reason):
        with self.changed:
            self.outcomes[key] = reason
            self.changed.notify_all()

    never_ran = lost

    def wait_for(self, key):
        with self.changed:
            assert self.changed.wait_for(lambda: key in self.outcomes, GUARD_S)
        return self.outcomes[key]


def plan_from(name, tree: Path):
    """The template's files on disk, and their plan."""
    files = TEMPLATES[name]("rec", "a new recipe")
    for path, content in files.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    request = CompileRequest(
        kind="recipe", project="main/recipes", branch="dev", commit="c", tree="t", path="rec",
        variation="variation1", files=files, levels=(),
        system={"kitchen": "dev", "now": datetime(2026, 11, 23, tzinfo=UTC)},
    )  # fmt: skip
    return compile_recipe(request).plan


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_new_recipe_runs(name, tmp_path):
    plan = plan_from(name, tmp_path / "tree")
    (tmp_path / "work").mkdir()
    events = Events()
    executor = LocalExecutor(tmp_path / "executor", slots=1)
    executor.start(events)
    exports = {}
    staged = {}
    try:
        for number, step in enumerate(plan.steps, 1):
            key = str(number)
            executor.submit(
                Task(
                    key=key, run_id=1, step_id=number, attempt_id=number, number=1, fence=1,
                    run_uid="RUN", order_uid="ORDER", step_key=step.key, kind=step.kind,
                    body=step.body, text=step.text, variables={**plan.variables, **exports},
                    folder=str(tmp_path / "attempts" / key), work=str(tmp_path / "work"),
                    log=str(tmp_path / "logs" / f"{key}.log"), tree=str(tmp_path / "tree"),
                    environment=step.environment, limits=step.limits,
                )
            )  # fmt: skip
            outcome = events.wait_for(key)
            assert isinstance(outcome, Outcome), outcome
            assert outcome.state == "succeeded", outcome.reason
            assert all(check.status in {"passed", "logged"} for check in outcome.checks)
            exports.update(outcome.exports)
            staged.update({file.name: Path(file.path) for file in outcome.staged})
    finally:
        executor.stop()
    if name == "qs2":
        assert exports == {"order_lines": 6}
        rows = duckdb.sql(f"SELECT count(*), sum(amount) FROM '{staged['orders.parquet']}'")
        assert rows.fetchone() == (5, pytest.approx(568.6))
    elif name == "qs3":
        assert exports == {"total": 29, "mean": 7.25}
    else:
        assert not exports
