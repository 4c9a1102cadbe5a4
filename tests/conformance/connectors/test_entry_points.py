"""Systems and step kinds of other packages are found by their entry points."""

import sys
from importlib import import_module, metadata
from types import ModuleType

import pytest
from tests.unit.engine.console import MemoryConsole

from galley.core.recipes.formats import settings
from galley.core.recipes.spec import EndpointSpec, KeySpec, StepSpec
from galley.core.runs.task import Task
from galley.engine.connectors import BUILT_IN
from galley.engine.connectors.base import Batch, ConnectorCapabilities, Result
from galley.engine.nodes import run_spec


@pytest.mark.parametrize("system", BUILT_IN)
def test_recipes_may_say_what_the_connector_understands(system):
    module, _, name = BUILT_IN[system].partition(":")
    understood = getattr(import_module(module), name).capabilities.options
    assert understood == settings.OPTIONS.get(system, frozenset())


class Abacus:
    """A connector of another package."""

    capabilities = ConnectorCapabilities(runs=frozenset({"scalar"}))

    def __init__(self, place):
        self.place = place

    def run(self, config, key):
        return Result(value=config["base"] + key.value)


def double(step):
    """A step kind of another package."""
    step.export("doubled", step.variables["n"] * 2)


@pytest.fixture
def installed(monkeypatch):
    module = ModuleType("some_package")
    module.Abacus, module.double = Abacus, double
    monkeypatch.setitem(sys.modules, "some_package", module)
    known = [
        metadata.EntryPoint("abacus", "some_package:Abacus", "galley.connectors"),
        metadata.EntryPoint("double", "some_package:double", "galley.step_kinds"),
    ]

    def find(*, group, name):
        return [entry for entry in known if (entry.group, entry.name) == (group, name)]

    monkeypatch.setattr(metadata, "entry_points", find)


@pytest.fixture
def task(tmp_path):
    return Task(
        key="1", run_id=1, step_id=1, attempt_id=1, number=1, fence=1, run_uid="R", order_uid="O",
        step_key="s", kind="action", body={}, text={}, variables={"n": 4},
        folder=str(tmp_path / "a"), work=str(tmp_path / "w"), log=str(tmp_path / "log"),
    )  # fmt: skip


def test_a_connector_of_another_package_works(installed, task):
    key = KeySpec("k", "scalar", value=2, exports={"result": "sum"})
    action = EndpointSpec("a", "abacus", {"base": 40}, (key,))
    outcome = run_spec(task, StepSpec("action", actions=(action,)), MemoryConsole())
    assert (outcome.state, outcome.exports) == ("succeeded", {"sum": 42})


def test_a_step_kind_of_another_package_works(installed, task):
    outcome = run_spec(task, StepSpec("double"), MemoryConsole())
    assert (outcome.state, outcome.exports) == ("succeeded", {"doubled": 8})


def test_a_fault_inside_another_package_is_an_outcome(installed, task):
    console = MemoryConsole()
    outcome = run_spec(task, StepSpec("double"), console)
    assert outcome.state == "succeeded"
    action = EndpointSpec("a", "abacus", {}, (KeySpec("k", "scalar", value=2),))
    outcome = run_spec(task, StepSpec("action", actions=(action,)), console)
    assert outcome.state == "failed"
    assert "KeyError: 'base'" in outcome.reason
    assert "Traceback" in console.text


def test_a_batch_tells_whether_it_is_a_table(tmp_path):
    assert Batch(tmp_path, "csv").is_table
    assert not Batch(tmp_path, "binary").is_table
