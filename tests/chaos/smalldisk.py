"""A disk of a few megabytes that a test can fill to the last byte."""

import errno
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted tmpfs. While it is `full`, whatever others let go of there is taken at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no room while the block lasts."""
        over = threading.Event()
        self._fill()

        def keep_full() -> None:
            while not over.wait(0.01):
                self._fill()

        thread = threading.Thread(target=keep_full)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._ballast.unlink()

    def _fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                with suppress(_NoRoom):
                    while True:
                        _write(file, size)


class _NoRoom(Exception):
    pass


def _write(file, size: int) -> None:
    try:
        file.write(bytes(size))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _NoRoom from error


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[SmallDisk]:
    """Mount a disk of that size on the folder; the test is skipped where that is not allowed."""
    folder.mkdir(exist_ok=True)
    options = f"size={size_mb}m,mode=700"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "galley-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"a disk of its own cannot be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
