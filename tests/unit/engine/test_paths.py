"""Files that steps put where others look for them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.engine.console import MemoryConsole

from galley.engine.connectors import paths
from galley.engine.connectors.base import Place


@pytest.fixture(autouse=True)
def _as_the_program() -> Iterator[None]:
    """Galley and its steps run with this umask."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("attempt", "work", "exports"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "exports")
    (tmp_path / "attempt" / "made").write_text("new")
    return Place(
        folder=tmp_path / "attempt",
        work=tmp_path / "work",
        console=MemoryConsole(),
        roots=(tmp_path / "link",),
    )


def put(place: Place, target: Path, *, append: bool = False) -> int:
    """Put a file there; its mode."""
    paths.put(place, place.folder / "made", target, append=append)
    return target.stat().st_mode & 0o7777


def test_others_may_read_what_is_new_in_the_installations_areas(place: Place) -> None:
    area = place.roots[0].resolve()
    assert put(place, area / "a" / "b" / "orders.csv") == 0o644
    assert {(area / name).stat().st_mode & 0o777 for name in ("a", "a/b")} == {0o755}
    assert area.stat().st_mode & 0o777 == 0o700  # it was there


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_a_replaced_file_keeps_its_permissions(place: Place, mode: int, append: bool) -> None:
    target = place.roots[0] / "orders.csv"
    target.write_text("old ")
    target.chmod(mode)
    assert put(place, target, append=append) == mode
    assert target.read_text() == ("old new" if append else "new")


def test_the_runs_folder_is_for_galleys_user_alone(place: Place) -> None:
    assert put(place, place.work / "a" / "orders.csv") == 0o600
    assert (place.work / "a").stat().st_mode & 0o777 == 0o700


def test_a_file_system_without_permissions_takes_files(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    put(place, place.roots[0] / "orders.csv")
    assert (place.roots[0] / "orders.csv").read_text() == "new"
