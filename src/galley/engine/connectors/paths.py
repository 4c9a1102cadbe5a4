"""Files of recipes: found and made only where a step may, links resolved.

A path is checked on the open file itself, by what the kernel says it is, so that a link that
changes between the look and the opening gains nothing.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from galley.engine.connectors.base import Place
from galley.engine.faults import StepError
from galley.kit.failpoints import failpoint


def readable(place: Place) -> tuple[Path, ...]:
    """The folders that a step may read, real paths: the run's, the source's, the installation's."""
    folders = (place.work, place.tree, place.folder, *place.roots)
    return tuple(folder.resolve() for folder in folders if folder is not None)


def writable(place: Place) -> tuple[Path, ...]:
    """The folders that a step may write, real paths; the source's files are never written."""
    return tuple(folder.resolve() for folder in (place.work, place.folder, *place.roots))


def base_folder(place: Place, folder: str | None) -> Path | None:
    """The folder that a configuration names, absolute; relative ones lie in the run's folder."""
    if not folder:
        return None
    path = Path(_clean(folder))
    return path if path.is_absolute() else place.work / path


def find(place: Place, path: str, folder: str | None = None, *, setting: str = "`path`") -> Path:
    """The existing file that a path means.

    A relative one is looked for in `folder`; without that in the run's folder, among the
    source's files and in the installation's areas, in this order. `setting` is where the user
    wrote it, for the refusal.

    Raises:
        StepError: there is no such file, or it lies outside what a step may read.
    """
    wanted = Path(_clean(path))
    base = base_folder(place, folder)
    if wanted.is_absolute():
        candidates = [wanted]
    elif base is not None:
        candidates = [base / wanted]
    else:
        areas = [place.work, *([place.tree] if place.tree else []), *place.roots]
        candidates = [area / wanted for area in areas]
    for candidate in candidates:
        _inside(candidate, readable(place), path, "read")
        if candidate.exists():
            return candidate
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise StepError(f"The file {path} was not found (looked for {looked}). Check {setting}.")


def destination(place: Place, path: str, folder: str | None = None) -> Path:
    """Where a new file goes: below `folder`, or below the run's folder.

    Raises:
        StepError: the place lies outside what a step may write.
    """
    wanted = Path(_clean(path))
    base = base_folder(place, folder) or place.work
    target = wanted if wanted.is_absolute() else base / wanted
    _inside(target, writable(place), path, "write")
    return target


def _clean(path: str) -> str:
    if not path or "\0" in path:
        raise StepError("The file's path is empty or holds a NUL; give `path` a file's name.")
    if ".." in Path(path).parts:
        raise StepError(f"The path {path} may not hold `..`; name the file below its folder.")
    return path


def _inside(path: Path, areas: tuple[Path, ...], shown: str, act: str) -> None:
    real = path.resolve()
    if not any(real.is_relative_to(area) for area in areas):
        allowed = ", ".join(str(area) for area in areas)
        raise StepError(
            f"The path {shown} lies outside the folders that a step may {act} ({allowed})."
            " Move the file there, or ask an administrator to add its folder."
        )


def opened(place: Place, path: Path) -> AbstractContextManager[BinaryIO]:
    """Open an ordinary file that a step may read; see `opened_in`."""
    return opened_in(readable(place), path)


@contextmanager
def opened_in(areas: tuple[Path, ...], path: Path) -> Iterator[BinaryIO]:
    """Open an ordinary file for reading and make sure that it really lies in one of the areas.

    Raises:
        StepError: it is gone, not an ordinary file, not readable, or outside.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise StepError(f"The file {path} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise StepError(f"{path} is not an ordinary file; name a file.")
    with os.fdopen(handle, "rb") as file:
        real = Path(f"/proc/self/fd/{file.fileno()}").readlink()
        _inside(real, areas, str(path), "read")
        yield file


def fetch(place: Place, path: Path, into: Path) -> None:
    """Copy a user's file to `into`, a new file of the attempt's own."""
    with opened(place, path) as source, into.open("xb") as target:
        shutil.copyfileobj(source, target, 1024 * 1024)


def put(place: Place, source: Path, target: Path, *, append: bool = False) -> None:
    """Copy a finished file to a user's place: whole or not at all, durable.

    With `append` the content is added to what is there, still in one step. In the installation's
    areas others may read what is new, and a file that is replaced keeps its permissions.

    Raises:
        StepError: the place cannot be written.
    """
    try:
        _make_folder(place, target.parent)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            real = Path(f"/proc/self/fd/{folder}").readlink()
            _inside(real, writable(place), str(target), "write")
            if target.is_dir():
                raise StepError(f"{target} is a folder; name a file.")
            _replace(place, folder, source, target, append=append)
        finally:
            os.close(folder)
    except OSError as error:
        raise StepError(
            f"The file {target} cannot be written: {error.strerror}.", retryable=True
        ) from error


def _make_folder(place: Place, folder: Path) -> None:
    """Make a folder and those above it; in the installation's areas others may enter them."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if _is_shared(place, handle):
                _permit(handle, 0o755)
        finally:
            os.close(handle)


def _is_shared(place: Place, folder: int) -> bool:
    """Whether an open folder lies in the installation's areas, where files are for others too."""
    real = Path(f"/proc/self/fd/{folder}").readlink()
    return any(real.is_relative_to(root.resolve()) for root in place.roots)


def _permit(handle: int, mode: int) -> None:
    """Give an open file its permissions; some file systems have none, and refuse."""
    if stat.S_IMODE(os.fstat(handle).st_mode) != mode:
        with contextlib.suppress(PermissionError):
            os.fchmod(handle, mode)


def _mode(folder: int, name: str) -> int:
    """The permissions of a file that is to be replaced, or those of a new one."""
    try:
        present = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return 0o644
    return present.st_mode & 0o777 if stat.S_ISREG(present.st_mode) else 0o644


def _replace(place: Place, folder: int, source: Path, target: Path, *, append: bool) -> None:
    temporary = f".{target.name}.{os.getpid()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            if append and target.exists():
                with opened(place, target) as present:
                    shutil.copyfileobj(present, file, 1024 * 1024)
            with source.open("rb") as content:
                shutil.copyfileobj(content, file, 1024 * 1024)
            file.flush()
            if _is_shared(place, folder):
                _permit(file.fileno(), _mode(folder, target.name))
            os.fsync(file.fileno())
        failpoint("connector.file_written")
        os.replace(temporary, target.name, src_dir_fd=folder, dst_dir_fd=folder)
        failpoint("connector.file_named")
        os.fsync(folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
