"""Bare git repositories, one per project.

Objects are written first, under their hash and durably; a branch moves last, by compare-and-set
under a lock that the operating system drops when its holder dies. Readers see ordinary files and
folders only: symbolic links and submodules are as good as absent.
"""

import secrets
import time
from pathlib import Path

from galley.kit.files import TEMPORARY, discard, rename_or_discard
from galley.kit.paths import fault_of_path
from galley.storage.gitcache import FileCache
from galley.storage.githistory import PastCommit, author_line
from galley.storage.gitprogram import GitFailed, run_git
from galley.storage.gitrefs import BranchExists, BranchMoved, NotInRepository, RepositoryBusy
from galley.storage.gitrepository import Repository
from galley.storage.gittree import Entry, PathClash

__all__ = [
    "BranchExists",
    "BranchMoved",
    "Entry",
    "GitFailed",
    "GitStore",
    "NotInRepository",
    "PastCommit",
    "PathClash",
    "Repository",
    "RepositoryBusy",
    "author_line",
]


_STALE_S = 600.0


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
            NotInRepository: there is none.
        """
        if not self.exists(project):
            raise NotInRepository(f"project {project} has no repository")
        return Repository(self._folder(project), self._known)

    def sweep(self) -> int:
        """Remove what a killed process left half done; gives the number of things removed.

        Other servers may be writing: a repository is swept under its lock, and one that is being
        made counts as left over only after some minutes.
        """
        before = time.time() - _STALE_S
        litter = [path for path in self.root.glob(f"*/{TEMPORARY}*") if _changed_at(path) < before]
        for path in litter:
            discard(path)
        return len(litter) + sum(self._sweep(project) for project in self.projects())

    def _sweep(self, project: str) -> int:
        repository = self.repository(project)
        with repository.locked():
            litter = [
                *repository.folder.glob("objects/*/tmp_obj_*"),
                *repository.folder.glob("refs/**/*.lock"),
                *repository.folder.glob("packed-refs.lock"),
            ]
            for path in litter:
                discard(path)
        return len(litter)

    def _folder(self, project: str) -> Path:
        if fault := fault_of_path(project):
            raise NotInRepository(f"the project name {fault}")
        return self.root / f"{project}.git"


def _changed_at(path: Path) -> float:
    """When it was changed last, in seconds since 1970; now, if it has just gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
