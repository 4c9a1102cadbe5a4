"""Failpoints: off, at the N-th pass, and once in all processes together."""

from pathlib import Path

import pytest

from galley.kit import failpoints
from galley.kit.failpoints import _Armed


def test_nothing_happens_without_the_variable() -> None:
    failpoints.failpoint("a")
    assert failpoints.failpoint is failpoints._nothing


def test_an_error_comes_at_the_nth_pass_and_only_there() -> None:
    armed = _Armed("a=error@2, b=error")
    armed("a")
    with pytest.raises(OSError, match="failpoint a"):
        armed("a")
    armed("a")
    armed("c")


def test_with_a_folder_each_acts_once_in_all_processes_and_only_when_armed(tmp_path: Path) -> None:
    first, second = (_Armed("a=error,b=error", str(tmp_path)) for _ in range(2))
    first("a")
    (tmp_path / "armed").touch()
    with pytest.raises(OSError, match="failpoint a"):
        second("a")
    assert (tmp_path / "a").exists()
    first("a")
    with pytest.raises(OSError, match="failpoint b"):
        first("b")
