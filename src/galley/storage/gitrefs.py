"""Branches and other references of a bare repository, moved by compare-and-set under a lock."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from dulwich.file import FileLocked
from dulwich.objects import ZERO_SHA, ObjectID
from dulwich.refs import DiskRefsContainer, Ref, check_ref_format

from galley.kit.files import fsync_folder

_HEADS = "refs/heads/"
_KEPT = "refs/galley/kept/"
_DOOMED = "refs/galley/doomed/"
_STALE_LOCK_S = 5.0
_LOCK_PAUSE_S = 0.02
T = TypeVar("T")


class NotInRepository(KeyError):
    """There is no such project, branch, commit or file; the text says which."""

    def __str__(self) -> str:
        """The text, without the quotes that a KeyError puts around it."""
        return str(self.args[0])


class RepositoryMissing(NotInRepository):
    """The project has no repository here: a shared folder is not mounted, or it is lost."""


class BranchExists(Exception):
    """There is already a branch of that name."""


class BranchMoved(Exception):
    """The branch is no longer where the caller believed it to be; read again and retry."""


class RepositoryBusy(Exception):
    """Another writer holds the repository or the branch at this moment; wait outside and retry."""


class References:
    """The references of the repository in `folder`. Names are branch names unless said."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refs = DiskRefsContainer(os.fsencode(folder))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other writer waiting; the system lets go of the lock if we die."""
        with (self._folder / "galley.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def locked_within(self, timeout_s: float) -> Iterator[None]:
        """As `locked`, for those who hold what others need (a transaction): it does not wait long.

        Raises:
            RepositoryBusy: another writer has the lock.
        """
        deadline = time.monotonic() + timeout_s
        with (self._folder / "galley.lock").open("a") as file:
            while not _flock(file):
                if time.monotonic() >= deadline:
                    raise RepositoryBusy(f"{self._folder.name} is locked")
                time.sleep(_LOCK_PAUSE_S)
            yield

    @contextmanager
    def queued(self) -> Iterator[None]:
        """One after the other of those who prepare long changes; nobody else waits for them."""
        with (self._folder / "galley.queue").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def wait_until_free(self, branch: str, timeout_s: float) -> bool:
        """Wait until nobody holds the repository or the branch; False if that took too long."""
        deadline = time.monotonic() + timeout_s
        while not self._is_free(branch):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOCK_PAUSE_S)
        return True

    def _is_free(self, branch: str) -> bool:
        lock = self._folder / f"{_HEADS}{branch}.lock"
        _remove_if_stale(lock)
        try:
            with self.locked_within(0):
                return not lock.exists()
        except RepositoryBusy:
            return False

    def all(self) -> dict[str, str]:
        """Every full reference name (branches, tags, kept commits) -> hash."""
        found = self._refs.as_dict()
        return {name.decode(): sha.decode() for name, sha in found.items() if name != b"HEAD"}

    def branches(self) -> dict[str, str]:
        """Branch -> hash of its newest commit, A to Z."""
        return self._under(_HEADS)

    def kept(self) -> dict[str, str]:
        """Hidden name -> commit."""
        return self._under(_KEPT)

    def tip(self, branch: str) -> str | None:
        """The hash of the branch's newest commit, None if there is no such branch."""
        return self._read(_HEADS + branch)

    def move(self, branch: str, old: str | None, new: str) -> bool:
        """Point a branch from `old` (None: it must not exist) to `new`; False if it was elsewhere.

        The caller holds `locked()`.

        Raises:
            ValueError: git allows no branch of that name.
        """
        return self._move(_HEADS + branch, old, new)

    def move_at_once(self, branch: str, old: str, new: str) -> bool:
        """As `move`, for a branch that is there, without waiting for git programs.

        Raises:
            RepositoryBusy: a git program holds the branch.
        """
        ref = Ref((_HEADS + branch).encode())
        try:
            moved = self._refs.set_if_equals(ref, ObjectID(old.encode()), ObjectID(new.encode()))
        except FileLocked as error:
            raise RepositoryBusy(f"branch {branch} is locked") from error
        fsync_folder((self._folder / _HEADS / branch).parent)
        return moved

    def remove(self, branch: str, old: str) -> None:
        """Remove a branch that is at `old`. The caller holds `locked()`."""
        self._remove(_HEADS + branch, old)

    def keep(self, name: str, sha: str) -> None:
        """Hold a commit under a hidden name. The caller holds `locked()`."""
        self._move(_KEPT + name, self._read(_KEPT + name), sha)

    def doomed(self, branch: str) -> bool:
        """Whether the branch is marked to go."""
        return self._read(_DOOMED + branch) is not None

    def mark(self, branch: str, sha: str) -> None:
        """Mark a branch to go. The caller holds `locked()`."""
        self._move(_DOOMED + branch, self._read(_DOOMED + branch), sha)

    def unmark(self, branch: str) -> None:
        """Take the mark away again. The caller holds `locked()`."""
        sha = self._read(_DOOMED + branch)
        if sha is not None:
            self._remove(_DOOMED + branch, sha)

    def _remove(self, name: str, old: str) -> None:
        ref = Ref(name.encode())
        self._patiently(lambda: self._refs.remove_if_equals(ref, ObjectID(old.encode())))
        folder = (self._folder / name).parent
        fsync_folder(folder if folder.exists() else self._folder / "refs")

    def _under(self, prefix: str) -> dict[str, str]:
        found = self._refs.as_dict(Ref(prefix.rstrip("/").encode()))
        return {name.decode(): sha.decode() for name, sha in sorted(found.items())}

    def _read(self, name: str) -> str | None:
        ref = Ref(name.encode(errors="replace"))
        if not check_ref_format(ref):
            return None
        sha = self._refs.read_ref(ref)
        return sha.decode() if sha else None

    def _move(self, name: str, old: str | None, new: str) -> bool:
        ref = Ref(name.encode())
        if not check_ref_format(ref):
            raise ValueError(f"{name!r} cannot name a branch")
        before = ObjectID(old.encode()) if old else ZERO_SHA
        after = ObjectID(new.encode())
        moved = self._patiently(lambda: self._refs.set_if_equals(ref, before, after))
        fsync_folder((self._folder / name).parent)
        return moved

    def _patiently(self, act: Callable[[], T]) -> T:
        """Wait for a git program that holds a reference; a lock left by a killed one is removed."""
        while True:
            try:
                return act()
            except FileLocked as error:
                _remove_if_stale(Path(os.fsdecode(error.lockfilename)))
                time.sleep(_LOCK_PAUSE_S)


def _flock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_if_stale(lock: Path) -> None:
    """Remove the lock of a git program that was killed."""
    try:
        if time.time() - lock.stat().st_mtime > _STALE_LOCK_S:
            lock.unlink(missing_ok=True)
    except FileNotFoundError:
        return
