"""Files that appear, and go, whole or not at all, whenever the process is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from galley.kit.files import DOOMED, delete_folder

WRITE = """
import sys
from pathlib import Path
from galley.kit.files import write_atomically
write_atomically(Path(sys.argv[1]), b"new")
"""
DELETE = """
import sys
from pathlib import Path
from galley.kit.files import delete_folder
delete_folder(Path(sys.argv[1]))
"""


def killed(program: str, path: Path, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=os.environ | {"GALLEY_FAILPOINTS": f"{point}=kill"},
        check=False,
    )
    assert done.returncode == 137


@pytest.mark.parametrize(("point", "content"), [("files.written", b"old"), ("files.named", b"new")])
def test_a_kill_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, point: str, content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    killed(WRITE, path, point)
    assert path.read_bytes() == content


def test_a_kill_leaves_no_folder_that_looks_whole(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "file").touch()
    killed(DELETE, folder, "files.doomed")
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(f"{DOOMED}7-")
    delete_folder(left)
    assert list(tmp_path.iterdir()) == []
    delete_folder(left)


def test_what_cannot_be_deleted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "stubborn").touch()
    (folder / "other").touch()
    unlink = os.unlink

    def refuse(path: str, **more: int) -> None:
        if "stubborn" in str(path):
            raise PermissionError(13, "Permission denied", path)
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="Permission denied"):
        delete_folder(folder)
    (left,) = tmp_path.iterdir()
    assert [path.name for path in left.iterdir()] == ["stubborn"]
