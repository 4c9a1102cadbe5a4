"""Files that appear whole or not at all."""

import os
from pathlib import Path


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
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_folder(path.parent)
