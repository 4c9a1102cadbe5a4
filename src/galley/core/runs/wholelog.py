"""A run's log from its beginning, in order of time, and as a file to take away.

However much a run wrote, a reader gets at most so many bytes of it: where there are more, each
attempt's log gives its end, and short ones are whole. Logs are read in blocks, and no file is held
open, so a run of thousands of steps costs no more than what is read of it.
"""

import heapq
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

from galley.core.runs.logs import log_path, parse_line
from galley.core.runs.views import AttemptView, LogLine, RunDetail

EXPORT_BYTES = 64 * 1024 * 1024
_BLOCK = 16 * 1024
_MAX_LINE = 65_536
_IN_MEMORY = 1024 * 1024
_LEVEL_AT = 28  # behind the stamp of 27 characters and a blank
_EARLY = timedelta(seconds=5)
_OLD = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Part:
    """What is read of one attempt's log: from `start` (at a line's beginning or within one) on."""

    step_key: str
    attempt: AttemptView
    path: Path
    start: int
    end: int


def parts_of(
    logs: Path, detail: RunDetail, limit_bytes: int, *, node: str | None = None
) -> list[Part]:
    """The parts of a run's logs, of one step's if it is named, that are read within the limit."""
    found: list[tuple[str, AttemptView, Path, int]] = []
    for step in detail.steps:
        if node is not None and step.key != node:
            continue
        for attempt in step.attempts:
            if attempt.started_at is None or attempt.reused_from is not None:
                continue
            path = log_path(logs, detail.run.id, attempt.id)
            size = _size(path)
            if size:
                found.append((step.key, attempt, path, size))
    share = _share([size for *_, size in found], limit_bytes)
    return [
        Part(key, attempt, path, max(0, size - share), size) for key, attempt, path, size in found
    ]


def oldest_first(parts: Sequence[Part], levels: frozenset[str] | None = None) -> Iterator[LogLine]:
    """All lines in order of time, those of these levels (letters of `logs.LEVELS`) if any are told.

    An attempt's log is opened when the lines have come to its beginning: clocks of several machines
    that differ by more than a few seconds may put its first lines behind others.
    """
    waiting = sorted(parts, key=lambda part: (_began(part.attempt), part.attempt.id), reverse=True)
    heads: list[tuple[str, int, bytes, Part, Iterator[bytes]]] = []

    def push(part: Part, lines: Iterator[bytes]) -> None:
        for raw in lines:
            if _is_wanted(raw, levels):
                stamp = raw[:_LEVEL_AT].decode("ascii", "replace")
                heapq.heappush(heads, (stamp, part.attempt.id, raw, part, lines))
                return

    while waiting or heads:
        while waiting and (not heads or _began(waiting[-1].attempt) <= heads[0][0]):
            part = waiting.pop()
            push(part, _lines(part))
        if heads:
            _, _, raw, part, lines = heapq.heappop(heads)
            line = parse_line(raw, part.step_key, part.attempt.id)
            if line is not None:
                yield line
            push(part, lines)


def left_out(parts: Sequence[Part]) -> int:
    """How many bytes of the logs are not read."""
    return sum(part.start for part in parts)


def zipped(
    parts: Sequence[Part], name: str, head: Sequence[str], write: Callable[[LogLine], str]
) -> IO[bytes]:
    """A zip archive with one text file: the head's lines, and one for each of the log's.

    Small ones stay in memory; the others are a nameless file that is gone once it is closed. It is
    at its beginning.
    """
    archive: IO[bytes] = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - the caller's
    try:
        entry = zipfile.ZipInfo(name, _OLD)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with (
            zipfile.ZipFile(archive, "w", compresslevel=1) as made,
            made.open(entry, "w", force_zip64=True) as file,
        ):
            for text in head:
                file.write(f"{text}\n".encode())
            for line in oldest_first(parts):
                file.write(f"{write(line)}\n".encode("utf-8", "replace"))
        archive.seek(0)
    except BaseException:
        archive.close()
        raise
    return archive


def _share(sizes: Sequence[int], limit: int) -> int:
    """The most that each may take so that all together stay within the limit."""
    left = limit
    for number, size in enumerate(sorted(sizes)):
        each = left // (len(sizes) - number)
        if size > each:
            return each
        left -= size
    return limit


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _began(attempt: AttemptView) -> str:
    """When the attempt's log may begin, as logs write it: its start is heard of a little later."""
    began = (attempt.started_at or attempt.created_at) - _EARLY
    return f"{began.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def _is_wanted(raw: bytes, levels: frozenset[str] | None) -> bool:
    return levels is None or chr(raw[_LEVEL_AT]) in levels if len(raw) > _LEVEL_AT else False


def _lines(part: Part) -> Iterator[bytes]:
    """The part's whole lines without their newlines, each cut after 64 KiB.

    A first line whose beginning is not in the part is left out, and a last one without its end.
    """
    at, rest, is_cut = part.start, b"", part.start > 0
    while at < part.end:
        block = _read(part.path, at, min(_BLOCK, part.end - at))
        if not block:
            return  # the log was deleted meanwhile
        at += len(block)
        *whole, tail = block.split(b"\n")
        if not whole:
            rest = (rest + tail)[:_MAX_LINE]
            continue
        whole[0] = rest + whole[0]
        for raw in whole[1:] if is_cut else whole:
            yield raw[:_MAX_LINE]
        is_cut = False
        rest = tail


def _read(path: Path, at: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(size)
    except OSError:
        return b""
