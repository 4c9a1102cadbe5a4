"""One bare repository: dulwich for objects, the git program where it is slow."""

import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from dulwich.object_store import DiskObjectStore
from dulwich.objects import Blob, Commit, ObjectID

from galley.kit.failpoints import failpoint
from galley.kit.files import TEMPORARY, discard, rename_or_discard
from galley.kit.paths import fault_of_path
from galley.storage.gitcache import FileCache, Files
from galley.storage.githistory import PastCommit, read_history
from galley.storage.gitprogram import GitFailed, run_git
from galley.storage.gitrefs import (
    BranchExists,
    BranchMoved,
    NotInRepository,
    References,
    RepositoryBusy,
)
from galley.storage.gittree import (
    Entry,
    TreeEditor,
    find,
    make_commit,
    plain_items,
    walk,
    write_files,
    write_new,
)

_PATIENCE_S = 1.0
_COMMIT_S = 20.0


class Repository:
    """One bare repository. Safe to use from several threads and processes at once."""

    def __init__(self, folder: Path, known: FileCache | None = None) -> None:
        self.folder = folder
        self._known = known or FileCache()
        self._refs = References(folder)

    # Branches

    def branches(self) -> dict[str, str]:
        """Branch name -> hash of its newest commit, A to Z."""
        return self._refs.branches()

    def tip(self, branch: str) -> str | None:
        """The hash of the branch's newest commit, None if there is no such branch."""
        return self._refs.tip(branch)

    def doom_branch(self, name: str, *, keep_as: str) -> None:
        """Announce that a branch will go (`bury_branch`), and keep its commits readable for ever.

        Until then it stays as it is; if it never goes, the mark does no harm.

        Raises:
            RepositoryBusy: another writer has held the repository for a second.
        """
        with self._refs.locked_within(_PATIENCE_S):
            tip = self.tip(name)
            if tip is not None:
                self._refs.keep(keep_as, tip)
                self._refs.mark(name, tip)

    def bury_branch(self, name: str, *, keep_as: str) -> None:
        """Remove a doomed branch, unless somebody opened it anew since. Safe to repeat."""
        with self.locked():
            tip = self.tip(name)
            if self._refs.doomed(name) and tip is not None:
                self._refs.keep(keep_as, tip)
                self._refs.remove(name, tip)
            self._refs.unmark(name)

    def open_branch(self, name: str, at: str, *, parent: str) -> None:
        """Begin a branch at a commit of the branch `parent`, over what a killed call left there.

        Such litter is a doomed branch, or one that holds no commit which `parent` has not.

        Raises:
            BranchExists: there is a branch with commits of its own.
            NotInRepository: there is no such commit.
            RepositoryBusy: another writer has held the repository for a second.
        """
        with self.objects() as objects:
            self._load(objects, at)
        with self._refs.locked_within(_PATIENCE_S):
            tip = self.tip(name)
            if tip and not self._refs.doomed(name) and not self.contains(parent, tip):
                raise BranchExists(f"there is already a branch {name}")
            self._refs.move(name, tip, at)
            self._refs.unmark(name)

    def kept(self) -> dict[str, str]:
        """Hidden name -> commit of a branch that went."""
        return self._refs.kept()

    def contains(self, branch: str, sha: str) -> bool:
        """Whether the branch's history holds the commit."""
        tip = self.tip(branch)
        if tip is None:
            return False
        try:
            run_git(self.folder, "merge-base", "--is-ancestor", sha, tip)
        except GitFailed:
            return False
        return True

    # Reading

    def tree_id(self, commit: str, folder: str = "") -> str | None:
        """The hash of the folder's tree in that commit, None if it has no such folder."""
        if _is_top(folder):
            top = self._top(commit).get(folder)
            return None if top is None else top.decode()
        with self.objects() as objects:
            found = find(objects, self._load(objects, commit).tree, folder)
        return found[1].decode() if found and stat.S_ISDIR(found[0]) else None

    def entries(self, commit: str, folder: str = "") -> list[Entry]:
        """All files and folders below `folder`, paths relative to it, sorted by path.

        Raises:
            NotInRepository: no such commit or folder.
        """
        with self.objects() as objects:
            found = [entry for entry, _ in walk(objects, self._tree(objects, commit, folder))]
        return sorted(found, key=_by_path)

    def folders(self, commit: str) -> list[str]:
        """The names of the top folders, A to Z."""
        return sorted(self._top(commit))

    def read(self, commit: str, path: str) -> bytes:
        """A file's content.

        Raises:
            NotInRepository: no such commit or file.
        """
        with self.objects() as objects:
            found = find(objects, self._load(objects, commit).tree, path)
            if found is None or not stat.S_ISREG(found[0]):
                raise NotInRepository(f"there is no file {path} at commit {commit}")
            return _blob(objects, found[1])

    def read_files(self, commit: str, folder: str = "") -> Files:
        """Git hash and content of every file below `folder`, by its path relative to it.

        Raises:
            NotInRepository: no such commit or folder.
        """
        tree = self._top(commit).get(folder) if _is_top(folder) else None
        if tree is None:
            with self.objects() as objects:
                tree = self._tree(objects, commit, folder)
        return self._known.files(tree, lambda: self._files_below(tree))

    def read_folder(self, commit: str, folder: str = "") -> dict[str, bytes]:
        """The content of every file below `folder`, by its path relative to it.

        Raises:
            NotInRepository: no such commit or folder.
        """
        return {path: content for path, (_, content) in self.read_files(commit, folder).items()}

    def history(self, branch: str, path: str | None = None, limit: int = 50) -> list[PastCommit]:
        """The branch's commits, newest first; with `path` those that changed it; at most `limit`.

        Raises:
            NotInRepository: there is no such branch.
        """
        tip = self.tip(branch)
        if tip is None:
            raise NotInRepository(f"there is no branch {branch}")
        return read_history(self.folder, tip, path, limit)

    # Writing

    def start(self, branch: str, *, message: str, author: str, at: datetime) -> str:
        """Give a repository its first, empty commit; a branch that is there is left alone."""
        with self.locked(), self.objects() as objects:
            tip = self.tip(branch)
            if tip is not None:
                return tip
            editor = TreeEditor(objects)
            made = self._write(editor, make_commit(editor.apply(None, {}), [], message, author, at))
            self._refs.move(branch, None, made)
            return made

    def commit(
        self,
        branch: str,
        changes: Mapping[str, bytes | None],
        *,
        message: str,
        author: str,
        at: datetime,
    ) -> str:
        """Commit changes (path -> content, None removes) to the branch; gives the new tip's hash.

        Changes that change nothing make no commit.

        Raises:
            NotInRepository: there is no such branch.
            PathClash: a change wants a file where a folder is, or the other way round.
            ValueError: a path that cannot be.
            RepositoryBusy: others kept changing the branch.
        """
        until = time.monotonic() + _COMMIT_S
        with self.queued():
            while time.monotonic() < until:
                tip = self.tip(branch)
                if tip is None:
                    raise NotInRepository(f"there is no branch {branch}")
                made = self.prepare(tip, changes, message=message, author=author, at=at)
                try:
                    if made != tip:
                        self.advance(branch, tip, made)
                except BranchMoved:
                    continue
                except RepositoryBusy:
                    self.wait_until_free(branch, until - time.monotonic())
                    continue
                return made
        raise RepositoryBusy(f"branch {branch} never rests")

    def prepare(
        self,
        tip: str,
        changes: Mapping[str, bytes | None],
        *,
        message: str,
        author: str,
        at: datetime,
    ) -> str:
        """Write a commit of changes on top of `tip`; its hash, or `tip` if nothing changes.

        No branch moves and no lock is taken: until `advance` nobody sees it.

        Raises:
            NotInRepository, PathClash, ValueError: as `commit`.
        """
        for path in changes:
            if fault := fault_of_path(path):
                raise ValueError(f"{path!r} {fault}")
        with self.objects() as objects:
            editor = TreeEditor(objects)
            before = self._load(objects, tip).tree
            tree = editor.apply(before, changes)
            if tree == before:
                return tip
            return self._write(editor, make_commit(tree, [tip], message, author, at))

    def advance(self, branch: str, tip: str, made: str) -> None:
        """Move the branch from `tip` to a prepared commit. It never waits.

        So it may stand inside a transaction, as its last act.

        Raises:
            BranchMoved: the branch is not at `tip`.
            RepositoryBusy: another writer is at work; `wait_until_free`, then try again.
        """
        with self._refs.locked_within(0):
            if not self._refs.move_at_once(branch, tip, made):
                raise BranchMoved(f"branch {branch} is no longer at {tip}")
            failpoint("git.branch_moved")

    def take_back(self, branch: str, made: str, tip: str) -> None:
        """Move the branch from a commit back to `tip`, unless it is elsewhere by now.

        Raises:
            RepositoryBusy: another writer has held the repository for a second.
        """
        if self.tip(branch) == made:
            with self._refs.locked_within(_PATIENCE_S):
                self._refs.move(branch, made, tip)

    def wait_until_free(self, branch: str, timeout_s: float) -> bool:
        """Wait for whoever keeps `advance` from its work; False if that took too long."""
        return self._refs.wait_until_free(branch, timeout_s)

    @contextmanager
    def queued(self) -> Iterator[None]:
        """Wait for the others who prepare commits here; see `prepare`. Take it before any lock."""
        with self._refs.queued():
            yield

    def check_out(self, tree_id: str, into: Path) -> None:
        """Put a tree's files into the folder `into`, read-only, whole or not at all.

        A folder that is there already is taken as done: the same tree always has the same files.

        Raises:
            NotInRepository: there is no such tree.
        """
        if into.is_dir():
            return
        into.parent.mkdir(parents=True, exist_ok=True)
        temporary = into.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        temporary.mkdir()
        try:
            with self.objects() as objects:
                write_files(objects, tree_id, temporary)
        except BaseException:
            discard(temporary)
            raise
        failpoint("git.checked_out")
        rename_or_discard(temporary, into)

    def fsck(self, *, timeout_s: float = 600.0) -> None:
        """Check every object and link.

        Raises:
            GitFailed: something is damaged or missing; the text says what.
        """
        run_git(
            self.folder, "fsck", "--strict", "--no-dangling", "--no-progress", timeout_s=timeout_s
        )

    def tidy(self, *, timeout_s: float = 3600.0) -> None:
        """Pack loose objects and references, so that reading stays fast. Loses nothing.

        Readers and writers may go on meanwhile. Once a day is enough.
        """
        run_git(self.folder, "gc", "--quiet", "--no-prune", timeout_s=timeout_s)

    # Beneath

    @contextmanager
    def objects(self) -> Iterator[DiskObjectStore]:
        """The object store, opened for a moment, without any configuration from outside.

        Raises:
            NotInRepository: what was asked for is not in it.
        """
        store = DiskObjectStore(self.folder / "objects")
        try:
            yield store
        except NotInRepository:
            raise
        except KeyError as error:
            raise NotInRepository(f"git object {_text(error.args[0])} is not there") from error
        finally:
            store.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other writer of this repository waiting."""
        with self._refs.locked():
            yield

    @contextmanager
    def locked_at_once(self) -> Iterator[None]:
        """As `locked`, without waiting for a writer that is at work.

        Raises:
            RepositoryBusy: there is one.
        """
        with self._refs.locked_within(0):
            yield

    def references(self) -> dict[str, str]:
        """Every full reference name (branches, tags, kept commits) -> hash."""
        return self._refs.all()

    def _top(self, commit: str) -> Mapping[str, bytes]:
        """The top folders of a commit and their hashes."""

        def read() -> dict[str, bytes]:
            with self.objects() as objects:
                items = plain_items(objects, self._load(objects, commit).tree)
                return {name.decode(): sha for name, mode, sha in items if stat.S_ISDIR(mode)}

        return self._known.top(str(self.folder), commit, read)

    def _files_below(self, tree: bytes) -> Files:
        with self.objects() as objects:
            return {
                entry.path: (entry.sha, content)
                for entry, content in walk(objects, tree)
                if not entry.is_folder
            }

    def _load(self, objects: DiskObjectStore, commit: str) -> Commit:
        found = objects[ObjectID(commit.encode())]
        if not isinstance(found, Commit):
            raise NotInRepository(f"{commit} is not a commit")
        return found

    def _tree(self, objects: DiskObjectStore, commit: str, folder: str) -> bytes:
        found = find(objects, self._load(objects, commit).tree, folder)
        if found is None or not stat.S_ISDIR(found[0]):
            raise NotInRepository(f"there is no folder {folder} at commit {commit}")
        return found[1]

    def _write(self, editor: TreeEditor, made: Commit) -> str:
        sha = editor.keep(made).decode()
        write_new(self.folder / "objects", editor.new.values())
        return sha


def _is_top(folder: str) -> bool:
    return bool(folder) and "/" not in folder


def _blob(objects: DiskObjectStore, sha: bytes) -> bytes:
    found = objects[ObjectID(sha)]
    return found.data if isinstance(found, Blob) else b""


def _by_path(entry: Entry) -> str:
    return entry.path


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
