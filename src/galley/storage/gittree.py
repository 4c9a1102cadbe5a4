"""Git objects without a repository around them: read trees, edit trees, write objects durably."""

import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dulwich.object_store import BaseObjectStore
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree

from galley.kit.failpoints import failpoint
from galley.kit.files import fsync_folder
from galley.kit.paths import PATH_DEPTH, fault_of_segment

_FILE = 0o100644
_LOOSE_MODE = 0o444
_TRIES = 5


class PathClash(ValueError):
    """A change wants a file where a folder is, or a folder where a file is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder: path below the folder asked for, git hash, size in bytes (folder: 0)."""

    path: str
    sha: str
    size: int
    is_folder: bool


def is_plain(name: bytes, mode: int) -> bool:
    """Whether a tree's entry is an ordinary file or folder with a safe name.

    Symbolic links (mode 120000), submodules (160000), `.gitmodules` and names that no API would
    let in are as good as absent to every reader.
    """
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or name == b".gitmodules":
        return False
    try:
        return fault_of_segment(name.decode()) is None
    except UnicodeDecodeError:
        return False


def load_tree(objects: BaseObjectStore, tree: bytes) -> Tree:
    """The tree of that hash.

    Raises:
        KeyError: there is no such tree.
    """
    found = objects[ObjectID(tree)]
    if not isinstance(found, Tree):
        raise KeyError(tree)
    return found


def plain_items(objects: BaseObjectStore, tree: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Name, mode and hash of a tree's ordinary entries, in git's order."""
    for item in load_tree(objects, tree).items():
        if is_plain(item.path, item.mode):
            yield item.path, item.mode, item.sha


def find(objects: BaseObjectStore, tree: bytes, path: str) -> tuple[int, bytes] | None:
    """Mode and hash of what lies at `path` below the tree; the tree itself for an empty path."""
    mode, sha = stat.S_IFDIR, tree
    for segment in filter(None, path.encode(errors="replace").split(b"/")):
        if not stat.S_ISDIR(mode):
            return None
        here = {name: (kind, at) for name, kind, at in plain_items(objects, sha)}
        if segment not in here:
            return None
        mode, sha = here[segment]
    return mode, sha


def walk(objects: BaseObjectStore, tree: bytes, prefix: str = "") -> Iterator[tuple[Entry, bytes]]:
    """Every ordinary file (with its content) and folder below the tree, folders first.

    What lies deeper than a path may be is not shown.
    """
    if prefix.count("/") >= PATH_DEPTH:
        return
    for name, mode, sha in plain_items(objects, tree):
        path = f"{prefix}{name.decode()}"
        if stat.S_ISDIR(mode):
            yield Entry(path, sha.decode(), 0, is_folder=True), b""
            yield from walk(objects, sha, f"{path}/")
        else:
            _, content = objects.get_raw(ObjectID(sha))
            yield Entry(path, sha.decode(), len(content), is_folder=False), content


class TreeEditor:
    """Applies changes to a tree and keeps the new objects until they are written."""

    def __init__(self, objects: BaseObjectStore) -> None:
        self._objects = objects
        self.new: dict[bytes, ShaFile] = {}

    def keep(self, made: ShaFile) -> bytes:
        """Remember an object to write; gives its hash."""
        self.new[made.id] = made
        return made.id

    def apply(self, tree: bytes | None, changes: Mapping[str, bytes | None]) -> bytes:
        """The hash of the tree after the changes: path -> content, None removes file or folder.

        Raises:
            PathClash: a file would have to be a folder at the same time.
        """
        found = self._edit(tree, {path.encode(): what for path, what in changes.items()}, b"")
        return found if found is not None else self.keep(Tree())

    def _edit(
        self, tree: bytes | None, changes: Mapping[bytes, bytes | None], place: bytes
    ) -> bytes | None:
        edited = Tree()
        if tree is not None:
            for item in load_tree(self._objects, tree).items():
                edited.add(item.path, item.mode, item.sha)
        below: dict[bytes, dict[bytes, bytes | None]] = {}
        for path, content in changes.items():
            name, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(name, {})[rest] = content
            else:
                self._put(edited, name, content, place)
        for name, inner in below.items():
            self._descend(edited, name, inner, place)
        return self.keep(edited) if len(edited) else None

    def _put(self, tree: Tree, name: bytes, content: bytes | None, place: bytes) -> None:
        mode = tree[name][0] if name in tree else None
        if content is None:
            if mode is not None:
                del tree[name]
            return
        if mode is not None and stat.S_ISDIR(mode):
            raise PathClash((place + name).decode())
        kept = mode if mode is not None and stat.S_ISREG(mode) else _FILE
        tree[name] = (kept, ObjectID(self.keep(Blob.from_string(content))))

    def _descend(
        self, tree: Tree, name: bytes, changes: Mapping[bytes, bytes | None], place: bytes
    ) -> None:
        mode, sha = tree[name] if name in tree else (None, None)  # noqa: SIM401 - not a dict
        if mode is not None and not stat.S_ISDIR(mode):
            if all(content is None for content in changes.values()):
                return
            raise PathClash((place + name).decode())
        inner = self._edit(sha, changes, place + name + b"/")
        if inner is not None:
            tree[name] = (stat.S_IFDIR, ObjectID(inner))
        elif mode is not None:
            del tree[name]


def write_new(folder: Path, made: Iterable[ShaFile]) -> None:
    """Write objects into `objects/`, each whole and durable. No branch knows them yet."""
    for new in made:
        write_loose(folder, new)
    failpoint("git.objects_written")


def write_loose(folder: Path, made: ShaFile) -> None:
    """Write one object into `objects/`, whole and durable; one that is there is left alone."""
    name = made.id.decode()
    path = folder / name[:2] / name[2:]
    for _ in range(_TRIES):
        if path.exists():
            return
        with suppress(FileNotFoundError):  # git packed what was in the folder, and removed it
            _write_whole(path, made)
            return
    _write_whole(path, made)


def _write_whole(path: Path, made: ShaFile) -> None:
    if not path.parent.exists():
        path.parent.mkdir(exist_ok=True)
        fsync_folder(path.parent.parent)
    temporary = path.parent / f"tmp_obj_{secrets.token_hex(8)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _LOOSE_MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(made.as_legacy_object())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def make_commit(
    tree: bytes, parents: Sequence[str], message: str, author: str, at: datetime
) -> Commit:
    """A commit of the tree; its author made it at `at`, as UTC."""
    made = Commit()
    made.tree = ObjectID(tree)
    made.parents = [ObjectID(parent.encode()) for parent in parents]
    made.author = made.committer = author.encode()
    made.author_time = made.commit_time = int(at.timestamp())
    made.author_timezone = made.commit_timezone = 0
    made.encoding = b"UTF-8"
    made.message = message.replace("\0", "").encode(errors="replace").rstrip(b"\n") + b"\n"
    return made


def write_files(objects: BaseObjectStore, tree_id: str, folder: Path) -> None:
    """Write a tree's ordinary files, read-only and durably, into a new folder."""
    for entry, content in walk(objects, tree_id.encode()):
        path = folder / entry.path
        if entry.is_folder:
            path.mkdir()
            continue
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
