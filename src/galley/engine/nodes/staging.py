"""Files that a step leaves for publishing: named, checked, and with their SHA-256."""

import contextlib
import hashlib
import mimetypes
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from galley.core.runs.task import Staged
from galley.engine.connectors import paths
from galley.engine.faults import StepError
from galley.engine.folders import OUT
from galley.engine.nodes.base import Step
from galley.kit.failpoints import failpoint
from galley.kit.files import fsync_folder

MAX_FILES = 10_000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEFAULT_TYPE = "application/octet-stream"
_TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown",
    ".csv": "text/csv",
}


def stage(step: Step) -> None:
    """Collect everything below `out`, and the artifacts that the step names.

    Raises:
        StepError: a named artifact is not there, or there are too many files.
    """
    for pattern in step.spec.artifacts:
        _collect(step, pattern)
    if not os.path.lexists(f"{step.task.folder}/{OUT}"):
        return
    found = sorted(_files(Path(step.task.folder, OUT)))
    if len(found) > MAX_FILES:
        raise StepError(f"The step leaves {len(found)} files; {MAX_FILES} is the limit.")
    for path in found:
        step.staged.append(_staged(step.out, path))
    if found:
        failpoint("step.staged")
        step.console.info(f"{len(found)} files to publish")


def _collect(step: Step, pattern: str) -> None:
    """Copy the files that an artifact's name or pattern means into `out`."""
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise StepError(f"The artifact {pattern} must be a path below the step's folder.")
    bases = [base for base in (step.place.work, step.artifact_base) if base is not None]
    hits = 0
    for base in bases:
        for path in sorted(base.glob(pattern)):
            if not path.resolve().is_relative_to(base.resolve()) or not path.is_file():
                continue
            with paths.opened_in((base.resolve(),), path) as source:
                _put(step.out, path.relative_to(base), source)
            hits += 1
    if not hits:
        raise StepError(
            f"The artifact {pattern} is not there. The step must write it into its own or the"
            " run's folder."
        )


def _put(out: Path, name: Path, source: BinaryIO) -> None:
    """Write a new file below `out`, through none of the links that a program may have left there.

    Raises:
        StepError: a link or a folder is in the way.
    """
    try:
        folder = _open_folder(out, name.parent.parts)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name.name, dir_fd=folder)
            handle = os.open(name.name, _NEW_FILE, 0o644, dir_fd=folder)
            with os.fdopen(handle, "wb") as target:
                shutil.copyfileobj(source, target, 1024 * 1024)
        finally:
            os.close(folder)
    except OSError as error:
        raise StepError(
            f"The artifact {name} cannot be put into the folder for what is published:"
            f" {error.strerror}. The step's programs must not put links or folders of such names"
            " there."
        ) from error


def _open_folder(out: Path, parts: tuple[str, ...]) -> int:
    """A handle of a folder below `out`; it and those above it are made, or are no links."""
    handle = os.open(out, _FOLDER)
    for part in parts:
        above = handle
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=above)
            handle = os.open(part, _FOLDER, dir_fd=above)
        finally:
            os.close(above)
    return handle


def _files(folder: Path) -> Iterator[Path]:
    """All ordinary files below a folder; links are not followed and not published."""
    for path in folder.rglob("*"):
        if stat.S_ISREG(path.lstat().st_mode):
            yield path


def _staged(out: Path, path: Path) -> Staged:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    fsync_folder(path.parent)
    media = _TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]
    return Staged(
        name=path.relative_to(out).as_posix(),
        path=str(path),
        sha256=digest,
        size_bytes=path.stat().st_size,
        media_type=media or _DEFAULT_TYPE,
    )
