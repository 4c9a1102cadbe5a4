"""Files and folders that appear, and go, whole or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from galley.kit.failpoints import failpoint

TEMPORARY = ".tmp-"
"""How names of folders begin that are not finished; a sweep may remove them."""
DOOMED = ".gone-"
"""How names of folders begin that are being deleted; a sweep goes on with them."""


def fsync_folder(folder: Path) -> None:
    """Make the folder's names durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(
    path: Path, content: bytes, *, mode: int = 0o600, durable: bool = True
) -> None:
    """Put `content` at `path` by a temporary name and a rename; with `durable`, fsync both.

    Raises:
        OSError: the disk refused; then `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        failpoint("files.written")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    failpoint("files.named")
    if durable:
        fsync_folder(path.parent)


def discard(path: Path) -> None:
    """Remove a file or a whole folder; one that is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def delete_folder(folder: Path) -> None:
    """Delete a folder, under another name first, so that it never looks whole but is not.

    What a crash leaves over has a name that begins with DOOMED; deleting that goes on with it.

    Raises:
        OSError: some of it could not be deleted; the rest is gone.
    """
    doomed = folder
    if not folder.name.startswith(DOOMED):
        doomed = folder.with_name(f"{DOOMED}{folder.name}-{os.urandom(4).hex()}")
        try:
            folder.rename(doomed)
        except FileNotFoundError:
            return
        failpoint("files.doomed")
    faults: list[OSError] = []

    def note(_act: Callable[..., Any], _path: str, fault: Any) -> None:
        if not isinstance(fault[1], FileNotFoundError):
            faults.append(fault[1])

    shutil.rmtree(doomed, onerror=note)
    if faults:
        raise faults[0]


def rename_or_discard(temporary: Path, final: Path) -> None:
    """Give a finished folder its name, durably; if another was first, its folder stays.

    Raises:
        OSError: the rename failed and there is no such folder.
    """
    try:
        temporary.rename(final)
    except OSError:
        discard(temporary)
        if not final.is_dir():
            raise
    fsync_folder(final.parent)
