"""Three-way merges of commits, by git itself, and what differs between commits.

`git merge-tree` (git 2.38 or newer) writes the files and folders that it merges as objects. They go
to a folder beside the repository, which sees the repository's objects too: a merge that is looked
at or refused leaves nothing behind. One that stands is taken over, durably.
"""

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dulwich.object_store import DiskObjectStore
from dulwich.objects import Blob, Commit, ObjectID

from galley.kit.files import TEMPORARY, discard, fsync_folder
from galley.storage.gitprogram import GitFailed, run_git
from galley.storage.gitrefs import NotInRepository
from galley.storage.gitrepository import Repository
from galley.storage.gittree import TreeEditor, make_commit, write_new

Found = tuple[int, str]
"""Mode and blob hash of what a tree has at a path."""

_SHA = re.compile(r"[0-9a-f]{40}\Z")
_NOTHING = "0" * 40
_OWN = 2
_TRIED = ("-c", "core.fsync=none", "-c", "merge.directoryRenames=false")
"""What is tried may be lost with the machine; and only files that were renamed are followed."""


class UnrelatedCommits(Exception):
    """Two commits that have no history in common."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two trees.

    `files`: path -> before and after, None where it is not there. `renames`: old path -> new path,
    as git recognises them (half of the text alike); both paths are in `files` too.
    """

    files: dict[str, tuple[Found | None, Found | None]] = field(default_factory=dict)
    renames: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clash:
    """A path that git could not merge: what base, ours and theirs have there, None: nothing.

    `kinds` are git's words for it, such as `contents` or `modify/delete`.
    """

    base: Found | None
    ours: Found | None
    theirs: Found | None
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class TriedMerge:
    """The merge of `theirs` into `ours`, not kept yet.

    `base` is git's merge base; `tree` what git made of it, with conflict markers where paths clash;
    `result` is what differs between `ours` and that tree.
    """

    repository: Repository
    objects: Path
    base: str
    ours: str
    theirs: str
    tree: str
    clashes: dict[str, Clash]
    by_ours: Difference
    by_theirs: Difference
    result: Difference

    def read(self, hashes: Iterable[str]) -> dict[str, bytes]:
        """Blob hash -> content, all at once.

        Raises:
            NotInRepository: there is no such object.
        """
        return read_blobs(self.repository, hashes, objects=self.objects)

    def sizes(self, hashes: Iterable[str]) -> dict[str, int]:
        """Blob hash -> size in bytes."""
        asked = "".join(f"{sha}\n" for sha in hashes).encode()
        said = self._git("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=asked)
        sized = (line.split(" ") for line in said.decode().splitlines())
        return {sha: int(size) for sha, size in sized}

    def paths(self) -> list[str]:
        """Every file of the merged tree."""
        said = self._git("ls-tree", "-r", "-z", "--name-only", "--full-tree", self.tree)
        return [_path(name) for name in said.split(b"\0") if name]

    def keep(
        self, resolved: Mapping[str, bytes | None], *, message: str, author: str, at: datetime
    ) -> str:
        """Write the merge as a commit with two parents; no branch moves. Gives its hash.

        `resolved` replaces files of the merged tree (None removes one).

        Raises:
            PathClash: a file would have to be a folder at the same time.
        """
        store = DiskObjectStore(self.objects)
        try:
            editor = TreeEditor(store)
            tree = editor.apply(self.tree.encode(), resolved) if resolved else self.tree.encode()
            made = make_commit(tree, [self.ours, self.theirs], message, author, at)
            editor.keep(made)
        finally:
            store.close()
        self._take_over()
        write_new(self.repository.folder / "objects", editor.new.values())
        return made.id.decode()

    def _take_over(self) -> None:
        """Move what git wrote into the repository, each object whole and durable."""
        folders = {}
        for file in self.objects.glob("??/*"):
            place = self.repository.folder / "objects" / file.parent.name / file.name
            if place.exists():
                continue
            with file.open("rb") as written:
                os.fsync(written.fileno())
            place.parent.mkdir(exist_ok=True)
            file.rename(place)
            folders[place.parent] = True
        for folder in folders:
            fsync_folder(folder)
        if folders:
            fsync_folder(self.repository.folder / "objects")

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        return _run(self.repository, self.objects, *arguments, stdin=stdin)


@contextmanager
def tried_merge(repository: Repository, ours: str, theirs: str) -> Iterator[TriedMerge]:
    """Merge the commit `theirs` into the commit `ours`, to look at it or to keep it.

    Raises:
        NotInRepository: one of them is not there.
        UnrelatedCommits: they have no history in common.
        GitFailed: git is older than 2.38, or the repository is damaged.
    """
    objects = repository.folder.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    (objects / "info").mkdir(parents=True)
    try:
        own = (repository.folder / "objects").resolve()
        (objects / "info" / "alternates").write_text(f"{own}\n", encoding="utf-8")
        base = merge_base(repository, ours, theirs)
        if base is None:
            raise UnrelatedCommits(f"{ours} and {theirs}")
        tree, clashes = _merge_tree(repository, objects, ours, theirs)
        yield TriedMerge(
            repository=repository,
            objects=objects,
            base=base,
            ours=ours,
            theirs=theirs,
            tree=tree,
            clashes=clashes,
            by_ours=difference(repository, base, ours),
            by_theirs=difference(repository, base, theirs),
            result=_difference(_run(repository, objects, *_DIFF, ours, tree)),
        )
    finally:
        discard(objects)


def merge_base(repository: Repository, one: str, other: str) -> str | None:
    """The commit from which both went on; None if there is none.

    Raises:
        NotInRepository: one of them is no commit.
    """
    for sha in (one, other):
        if not is_commit(repository, sha):
            raise NotInRepository(f"{sha} is not a commit")
    said = run_git(repository.folder, "merge-base", one, other, statuses=(0, 1))
    return said.decode().strip() or None


def is_commit(repository: Repository, sha: str) -> bool:
    """Whether it is the full hash of a commit of the repository."""
    if not _SHA.match(sha):
        return False
    try:
        with repository.objects() as objects:
            return isinstance(objects[ObjectID(sha.encode())], Commit)
    except NotInRepository:
        return False


def difference(repository: Repository, old: str, new: str) -> Difference:
    """What differs between two commits or trees, renames recognised."""
    if old == new:
        return Difference()
    return _difference(run_git(repository.folder, *_DIFF, old, new))


def read_blobs(
    repository: Repository, hashes: Iterable[str], *, objects: Path | None = None
) -> dict[str, bytes]:
    """Blob hash -> content, by one program for all of them.

    Raises:
        NotInRepository: there is no such blob.
    """
    wanted = sorted(set(hashes))
    if not wanted:
        return {}
    asked = "".join(f"{sha}\n" for sha in wanted).encode()
    said = _run(repository, objects, "cat-file", "--batch", stdin=asked)
    found: dict[str, bytes] = {}
    at = 0
    while at < len(said):
        end = said.index(b"\n", at)
        sha, kind, *size = said[at:end].decode().split(" ")
        if kind != "blob":
            raise NotInRepository(f"git object {sha} is {kind}, not a file")
        length = int(size[0])
        found[sha] = said[end + 1 : end + 1 + length]
        at = end + 1 + length + 1
    return found


def merge_texts(
    repository: Repository, *, base: bytes, ours: bytes, theirs: bytes, labels: tuple[str, str]
) -> bytes:
    """One file merged by `git merge-file`, with conflict markers where both changed it.

    `labels` name ours and theirs at the markers. Nothing is kept.

    Raises:
        ValueError: one of the three is binary.
    """
    if any(is_binary(content) for content in (base, ours, theirs)):
        raise ValueError("binary files are not merged")
    folder = repository.folder.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        for name, content in (("ours", ours), ("base", base), ("theirs", theirs)):
            (folder / name).write_bytes(content)
        named = [word for label in (labels[0], "base", labels[1]) for word in ("-L", label)]
        files = [str(folder / name) for name in ("ours", "base", "theirs")]
        return run_git(
            repository.folder, "merge-file", "-p", "-q", *named, *files, statuses=range(128)
        )
    finally:
        discard(folder)


def blob_hash(content: bytes) -> str:
    """The hash under which git keeps a file of this content."""
    return Blob.from_string(content).id.decode()


def is_binary(content: bytes) -> bool:
    """Whether git takes a content for binary: a NUL in its first 8,000 bytes."""
    return b"\0" in content[:8000]


_DIFF = ("diff-tree", "-r", "-z", "-M", "--raw", "--no-abbrev", "--no-commit-id")


def _run(
    repository: Repository, objects: Path | None, *arguments: str, stdin: bytes = b""
) -> bytes:
    extra = {} if objects is None else {"GIT_OBJECT_DIRECTORY": str(objects)}
    return run_git(repository.folder, *arguments, stdin=stdin, extra=extra)


def _merge_tree(
    repository: Repository, objects: Path, ours: str, theirs: str
) -> tuple[str, dict[str, Clash]]:
    said = run_git(
        repository.folder,
        *_TRIED,
        "merge-tree",
        "--write-tree",
        "-z",
        ours,
        theirs,
        extra={"GIT_OBJECT_DIRECTORY": str(objects)},
        statuses=(0, 1),
    )
    parts = said.split(b"\0")
    tree = parts[0].decode().strip()
    if not _SHA.match(tree):
        raise GitFailed(f"git merge-tree answered {parts[0][:200]!r}")
    end = parts.index(b"", 1)
    stages: dict[str, dict[int, Found]] = {}
    for part in parts[1:end]:
        facts, _, name = part.partition(b"\t")
        mode, sha, stage = facts.decode().split(" ")
        stages.setdefault(_path(name), {})[int(stage)] = (int(mode, 8), sha)
    kinds = _kinds(parts[end + 1 :])
    return tree, {
        path: Clash(at.get(1), at.get(_OWN), at.get(3), frozenset(kinds.get(path, ())))
        for path, at in stages.items()
    }


def _kinds(parts: list[bytes]) -> dict[str, set[str]]:
    """Path -> kinds of conflicts, from messages of `count, paths..., type, text` each."""
    found: dict[str, set[str]] = {}
    at = 0
    while at < len(parts) and parts[at].strip().isdigit():
        count = int(parts[at])
        paths, kind = parts[at + 1 : at + 1 + count], parts[at + 1 + count].decode()
        if kind.startswith("CONFLICT ("):
            for path in paths:
                found.setdefault(_path(path), set()).add(kind[len("CONFLICT (") : -1])
        at += count + 3
    return found


def _difference(said: bytes) -> Difference:
    """Read `git diff-tree -z --raw`: a line of facts, then one path, or two of a rename."""
    made = Difference()
    parts = iter(said.split(b"\0"))
    for facts in parts:
        if not facts.startswith(b":"):
            continue
        old_mode, new_mode, old_sha, new_sha, status = facts[1:].decode().split(" ")
        before, after = _found(old_mode, old_sha), _found(new_mode, new_sha)
        path = _path(next(parts))
        if status.startswith("R"):
            new = _path(next(parts))
            made.renames[path] = new
            made.files[path] = before, None
            made.files[new] = None, after
        else:
            made.files[path] = before, after
    return made


def _found(mode: str, sha: str) -> Found | None:
    return None if sha == _NOTHING else (int(mode, 8), sha)


def _path(name: bytes) -> str:
    """A path as text; bytes that are no UTF-8 stay apart from all that is."""
    return name.decode(errors="surrogateescape")


def first_parent(repository: Repository, commit: str) -> str | None:
    """The commit on which this one was made; of a merge, the one merged into. None at the start.

    Raises:
        NotInRepository: there is no such commit.
    """
    with repository.objects() as objects:
        found = objects[ObjectID(commit.encode())]
        if not isinstance(found, Commit):
            raise NotInRepository(f"{commit} is not a commit")
        return found.parents[0].decode() if found.parents else None


def write_revert(
    repository: Repository, tip: str, *, message: str, author: str, at: datetime
) -> str:
    """Write a commit on top of `tip` with the content of its first parent; no branch moves.

    Raises:
        NotInRepository: there is no such commit, or nothing before it.
    """
    before = first_parent(repository, tip)
    tree = None if before is None else repository.tree_id(before)
    if tree is None:
        raise NotInRepository(f"nothing comes before {tip}")
    made = make_commit(tree.encode(), [tip], message, author, at)
    write_new(repository.folder / "objects", [made])
    return made.id.decode()


def versions(repository: Repository, since: str, tip: str, path: str) -> set[str]:
    """The blobs that the file was in the commits after `since` up to `tip`."""
    fields = ("log", "-z", "--raw", "--no-abbrev", "--no-renames", "--format=")
    said = run_git(repository.folder, *fields, f"{since}..{tip}", "--", path)
    return {
        facts.decode().split(" ")[3]
        for facts in said.replace(b"\n", b"\0").split(b"\0")
        if facts.startswith(b":")
    } - {_NOTHING}
