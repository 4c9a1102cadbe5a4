"""Bare git repositories, one per project.

Objects are written first, under their hash and durably; a branch moves last, by compare-and-set
under a lock that the operating system drops when its holder dies. Readers see ordinary files and
folders only: symbolic links and submodules are as good as absent.
"""

import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from galley.kit.files import TEMPORARY, discard, rename_or_discard
from galley.kit.paths import fault_of_path
from galley.storage.gitcache import FileCache
from galley.storage.githistory import PastCommit, author_line
from galley.storage.gitmerge import (
    Clash,
    Difference,
    Found,
    TriedMerge,
    UnrelatedCommits,
    blob_hash,
    difference,
    first_parent,
    is_commit,
    merge_texts,
    tried_merge,
    versions,
    write_revert,
)
from galley.storage.gitprogram import GitFailed, run_git
from galley.storage.gitrefs import (
    BranchExists,
    BranchMoved,
    NotInRepository,
    RepositoryBusy,
    RepositoryMissing,
)
from galley.storage.gitrepository import Repository
from galley.storage.gittree import Entry, PathClash

__all__ = [
    "BranchExists",
    "BranchMoved",
    "Clash",
    "Difference",
    "Entry",
    "Found",
    "GitFailed",
    "GitStore",
    "NotInRepository",
    "PastCommit",
    "PathClash",
    "Repository",
    "RepositoryBusy",
    "RepositoryMissing",
    "TriedMerge",
    "UnrelatedCommits",
    "author_line",
    "blob_hash",
    "difference",
    "first_parent",
    "is_commit",
    "merge_texts",
    "tried_merge",
    "versions",
    "write_revert",
]


_STALE_S = 600.0
_LITTER = ("objects/*/tmp_obj_*", "refs/**/*.lock", "packed-refs.lock")


class GitStore:
    """All repositories below `root`: project `group/name` lies in `root/group/name.git`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known = FileCache()

    def create(self, project: str, default_branch: str = "master") -> "Repository":
        """Make an empty repository, whole or not at all; one that is there is left alone."""
        folder = self._folder(project)
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = folder.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
            head = f"--initial-branch={default_branch}"
            run_git(None, "init", "--quiet", "--bare", "--template=", head, str(temporary))
            rename_or_discard(temporary, folder)
        return Repository(folder, self._known)

    def exists(self, project: str) -> bool:
        """Whether the project has a repository."""
        return self._folder(project).is_dir()

    def projects(self) -> list[str]:
        """Every project that has a repository, A to Z."""
        found = self.root.glob("*/*.git") if self.root.is_dir() else ()
        names = (path.relative_to(self.root).as_posix().removesuffix(".git") for path in found)
        return sorted(name for name in names if not fault_of_path(name))

    def repository(self, project: str) -> "Repository":
        """The project's repository.

        Raises:
            RepositoryMissing: there is none.
        """
        if not self.exists(project):
            raise RepositoryMissing(f"project {project} has no repository")
        return Repository(self._folder(project), self._known)

    def sweep(self) -> int:
        """Remove what a killed process left half done; gives the number of things removed.

        Other servers and their git programs may be writing: only what is some minutes old counts
        as left over, and a repository that somebody has locked is left to a later sweep.
        """
        gone = _discard_stale(self.root.glob(f"*/{TEMPORARY}*"))
        return gone + sum(self._sweep(project) for project in self.projects())

    def _sweep(self, project: str) -> int:
        repository = self.repository(project)
        try:
            with repository.locked_at_once():
                return sum(_discard_stale(repository.folder.glob(litter)) for litter in _LITTER)
        except RepositoryBusy:
            return 0

    def _folder(self, project: str) -> Path:
        if fault := fault_of_path(project):
            raise NotInRepository(f"the project name {fault}")
        return self.root / f"{project}.git"


def _discard_stale(paths: Iterable[Path]) -> int:
    before = time.time() - _STALE_S
    stale = [path for path in paths if _changed_at(path) < before]
    for path in stale:
        discard(path)
    return len(stale)


def _changed_at(path: Path) -> float:
    """When it was changed last, in seconds since 1970; now, if it has just gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
