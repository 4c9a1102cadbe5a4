"""Git trees that were read, kept in memory: a hash names its content for ever."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

Files = Mapping[str, tuple[str, bytes]]
"""Path below the tree -> git hash and content."""

_MAX_BYTES = 64 * 1024 * 1024
_LARGEST_SHARE = 4
_ENTRY_BYTES = 200
_MOST_TOPS = 256


class FileCache:
    """The trees that were read last, `max_bytes` of files in all; safe in several threads.

    A tree that would take more than a quarter of that is read anew each time.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._trees: OrderedDict[bytes, tuple[Files, int]] = OrderedDict()
        self._tops: OrderedDict[tuple[str, str], Mapping[str, bytes]] = OrderedDict()
        self._bytes = 0

    def top(
        self, repository: str, commit: str, read: Callable[[], Mapping[str, bytes]]
    ) -> Mapping[str, bytes]:
        """A commit's top folders: name -> hash; `read` fetches them when they are not known."""
        key = (repository, commit)
        with self._lock:
            known = self._tops.get(key)
            if known is not None:
                self._tops.move_to_end(key)
                return known
        found = read()
        with self._lock:
            self._tops[key] = found
            while len(self._tops) > _MOST_TOPS:
                self._tops.popitem(last=False)
        return found

    def files(self, tree: bytes, read: Callable[[], Files]) -> Files:
        """The tree's files; `read` fetches them when they are not known. Not to be changed."""
        with self._lock:
            known = self._trees.get(tree)
            if known is not None:
                self._trees.move_to_end(tree)
                return known[0]
        found = read()
        size = sum(len(path) + len(content) + _ENTRY_BYTES for path, (_, content) in found.items())
        if size <= self._max_bytes // _LARGEST_SHARE:
            self._keep(tree, found, size)
        return found

    def _keep(self, tree: bytes, files: Files, size: int) -> None:
        with self._lock:
            if tree in self._trees:
                return
            self._trees[tree] = files, size
            self._bytes += size
            while self._bytes > self._max_bytes:
                _, (_, dropped) = self._trees.popitem(last=False)
                self._bytes -= dropped
