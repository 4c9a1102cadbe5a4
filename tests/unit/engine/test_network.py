"""Programs have the network only where their step asks for it and the installation gives it."""

from pathlib import Path

import pytest
from tests.unit.engine.console import MemoryConsole

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import connector
from galley.engine.connectors.base import Place
from galley.engine.executors.local.link import surroundings
from galley.engine.faults import StepError
from galley.engine.network import network_of


def test_nobody_gets_it_who_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALLEY_STEP_NETWORK", "declared")
    assert not network_of(False)


@pytest.mark.parametrize("value", [None, "none", "", "anything"])
def test_who_asks_is_refused_where_it_is_not_given(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("GALLEY_STEP_NETWORK", raising=False)
    if value is not None:
        monkeypatch.setenv("GALLEY_STEP_NETWORK", value)
    with pytest.raises(StepError, match="GALLEY_STEP_NETWORK=declared"):
        network_of(True)


def test_who_asks_gets_it_where_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALLEY_STEP_NETWORK", "declared")
    assert network_of(True)


def test_a_template_is_told() -> None:
    assert surroundings({"GALLEY_STEP_NETWORK": "declared"}) == {"GALLEY_STEP_NETWORK": "declared"}


def test_a_shell_command_that_asks_is_refused_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GALLEY_STEP_NETWORK", raising=False)
    console = MemoryConsole()
    place = Place(folder=tmp_path / "a", work=tmp_path / "w", console=console)
    place.folder.mkdir()
    place.work.mkdir()
    key = KeySpec("k", "program", command=("true",))
    with pytest.raises(StepError, match="GALLEY_STEP_NETWORK"):
        connector("shell", place).run({"network": True}, key)
    assert console.programs == []
    connector("shell", place).run({}, key)
    assert [program["network"] for program in console.programs] == [False]
