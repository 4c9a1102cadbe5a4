"""What is measured of a machine."""

import shutil
from pathlib import Path

import psutil

from galley.engine.room import measure

MB = 1024 * 1024


def test_memory_and_disk_are_measured(tmp_path: Path) -> None:
    memory, disk = measure(tmp_path, tmp_path / "none")
    assert 0 < memory <= psutil.virtual_memory().total // MB
    free = shutil.disk_usage(tmp_path).free // MB
    assert abs(disk - free) < max(free // 4, 2000)


def test_a_containers_bound_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{9 * MB}\n")
    (tmp_path / "memory.current").write_text(f"{2 * MB}\n")
    assert measure(tmp_path, tmp_path)[0] == 7
    (tmp_path / "memory.current").write_text(f"{12 * MB}\n")
    assert measure(tmp_path, tmp_path)[0] == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert measure(tmp_path, tmp_path)[0] > 100


def test_a_disk_that_is_gone_has_no_room(tmp_path: Path) -> None:
    assert measure(tmp_path / "gone")[1] == 0
