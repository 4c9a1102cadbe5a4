"""Watches what running attempts put on the disk, so that none takes more than its limit in all.

The kernel bounds each file (see `limits`); nothing bounds their sum, so it is looked at from
outside, now and then. An attempt that ends before the first look costs a few dictionary entries.
"""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from galley.core.runs.plan import Limits
from galley.engine.executors.local.attempt import Attempt
from galley.engine.executors.local.limits import disk_advice

LOOK_S = 2.0
_REST = 20  # times as long as a look took, the watch rests; as long a mark is fresh
_MOST_FILES = 100_000
_MOST_NOTED = 10_000  # an attempt's start waits for it
_JOIN_S = 5.0
_TICK_S = 0.02
_BLOCK_BYTES = 512
_MIB = 1024 * 1024
_UNLIMITED_MB = 1 << 40

log = structlog.get_logger("galley.executor")


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment, in seconds since 1970, and the blocks that files (device, number) had then."""

    since: float
    blocks: dict[tuple[int, int], int]


_NO_MARK = Mark(0.0, {})


@dataclass(slots=True)
class _Folder:
    """A run's folder: the limits of the attempts that work in it, and of all that ever did.

    Attempts that begin while the last mark is fresh share it. `gone_mb` are the limits of those
    that had ended when it was made.
    """

    count: int = 0
    running_mb: int = 0
    begun_mb: int = 0
    mark: Mark = _NO_MARK
    gone_mb: int = 0
    fresh_until: float = 0.0


@dataclass(slots=True)
class _Watched:
    """An attempt; `gone_mb` are the limits of those that had ended when its mark was made."""

    attempt: Attempt
    limit_mb: int
    gone_mb: int
    mark: Mark
    begun: float
    is_over: bool = False


class DiskWatch:
    """Counts what is new in an attempt's own folder, and what grew in its run's meanwhile.

    Attempts that work in one run's folder at the same time are not told apart there: together they
    may add as much as their limits allow together. `over` is told an attempt's key and what to
    say, once, from the watch's thread.
    """

    def __init__(self, default: Limits, over: Callable[[str, str], None]) -> None:
        self._default = default
        self._over = over
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._folders: defaultdict[str, _Folder] = defaultdict(_Folder)
        self._begun = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def began(self, attempt: Attempt) -> None:
        """The attempt is about to start, or was found at work: what is there now is not its own."""
        limit_mb = attempt.limits.above(self._default).disk_mb
        known_mb = _UNLIMITED_MB if limit_mb is None else limit_mb
        with self._lock:
            folder = self._folders[attempt.work]
        if limit_mb is not None:
            _refresh(folder, attempt.work)
        with self._lock:
            folder.count += 1
            folder.running_mb += known_mb
            folder.begun_mb += known_mb
            self._watched[attempt.key] = _Watched(
                attempt, known_mb, folder.gone_mb, folder.mark, time.monotonic()
            )
        if not self._begun.is_set():
            self._begun.set()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, name="galley-disk-watch", daemon=True
            )
            self._thread.start()

    def ended(self, key: str) -> None:
        """The attempt is over, or has not begun after all."""
        with self._lock:
            watched = self._watched.pop(key, None)
            if watched is None:
                return
            folder = self._folders[watched.attempt.work]
            folder.count -= 1
            folder.running_mb -= watched.limit_mb
            if not folder.count:
                del self._folders[watched.attempt.work]

    def close(self) -> None:
        """Look no more."""
        self._closing.set()
        self._begun.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def look(self) -> None:
        """Measure what has been at work for a while, and tell of those that are over."""
        now = time.monotonic()
        groups: defaultdict[str, list[_Watched]] = defaultdict(list)
        with self._lock:
            for watched in self._watched.values():
                is_due = now - watched.begun >= LOOK_S and not watched.is_over
                if is_due and watched.limit_mb < _UNLIMITED_MB:
                    groups[watched.attempt.work].append(watched)
        for work, group in groups.items():
            shared = added_bytes(work, [watched.mark for watched in group])
            for watched, added in zip(group, shared, strict=True):
                moved_in = Mark(0.0, watched.mark.blocks)
                (own,) = added_bytes(watched.attempt.folder, [moved_in])
                self._judge(watched, own, added)

    def _judge(self, watched: _Watched, own: int, added: int) -> None:
        attempt = watched.attempt
        with self._lock:
            if self._watched.get(attempt.key) is not watched or self._closing.is_set():
                return
            together_mb = self._folders[attempt.work].begun_mb - watched.gone_mb
        if own > watched.limit_mb * _MIB or own + added > together_mb * _MIB:
            watched.is_over = True
            wrote = (own + added) / _MIB
            advice = disk_advice()
            self._over(
                attempt.key,
                f"wrote {wrote:.0f} MB to disk, over its limit of {watched.limit_mb} MB: {advice}",
            )

    def _serve(self) -> None:
        rest_s = LOOK_S
        while self._begun.wait() and not self._closing.wait(rest_s):
            began = time.monotonic()
            try:
                self.look()
            except Exception:
                log.exception("disk_watch_failed")
            rest_s = max(LOOK_S, _REST * (time.monotonic() - began))
            with self._lock:
                if not self._watched and not self._closing.is_set():
                    self._begun.clear()


def _refresh(folder: _Folder, path: str) -> None:
    """Make a new mark, unless the last one is fresh."""
    began = time.monotonic()
    if began < folder.fresh_until:
        return
    folder.gone_mb = folder.begun_mb - folder.running_mb
    folder.mark = mark_of(path)
    ended = time.monotonic()
    folder.fresh_until = ended + _REST * (ended - began)


def mark_of(folder: str) -> Mark:
    """What lies below at this moment; of a large folder only a part is noted, in a bounded time.

    File times are those of the kernel's last tick, so what changes next may bear an earlier one.
    """
    since = time.time() - _TICK_S
    blocks = {
        (status.st_dev, status.st_ino): status.st_blocks
        for status in _statuses(folder, _MOST_NOTED)
    }
    return Mark(since, blocks)


def added_bytes(folder: str, marks: Sequence[Mark]) -> list[int]:
    """By how much the files below have grown on the disk since each of these marks.

    A file that was not noted counts whole if anything about it changed since. Of a very large
    folder only a part is looked at.
    """
    found = [0] * len(marks)
    linked: set[tuple[int, int]] = set()
    for status in _statuses(folder, _MOST_FILES):
        this = (status.st_dev, status.st_ino)
        if status.st_nlink > 1:
            if this in linked:
                continue
            linked.add(this)
        for number, mark in enumerate(marks):
            if status.st_ctime >= mark.since:
                grown = status.st_blocks - mark.blocks.get(this, 0)
                found[number] += max(0, grown) * _BLOCK_BYTES
    return found


def _statuses(folder: str, most: int) -> Iterator[os.stat_result]:
    """What the system says about the files below; what goes away meanwhile is left out.

    Of all files and folders only the first `most` are looked at.
    """
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    most -= 1
                    if most < 0:
                        return
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        continue
                    try:
                        yield entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
        except OSError:
            continue
