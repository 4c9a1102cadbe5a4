"""The log of an attempt: one line per line, with its time and level, masked and of bounded size."""

import io
import os
import re
from _thread import RLock  # what `threading` offers under this name, without its hooks at a fork
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter

from galley.engine.executors.local.masking import Masker

DEBUG, INFO, WARNING, ERROR, OUTPUT = "D", "I", "W", "E", "O"
LEVEL_MARK = b"\x02"
"""A program's line that begins with it and a level's letter is of that level (see
`engine.nodes.runner`)."""
_LEVELLED = re.compile(LEVEL_MARK + rb"([DIWE]) ")
_LONGEST_LINE = 16 * 1024
_ESCAPE_SEQUENCE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
)
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


def _stamp() -> str:
    """Now, as the log writes it: ISO 8601, UTC, microseconds, `Z`."""
    return datetime.now(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def _visible(line: bytes) -> bytes:
    """The line without colour codes, its other control characters spelled out."""
    if not _CONTROL.search(line):
        return line
    line = _ESCAPE_SEQUENCE.sub(b"", line)
    return _CONTROL.sub(lambda found: b"\\x%02x" % found[0][0], line)


class LogFile:
    """Appends whole lines `<time> <level> <text>` to a file until its size limit, then one last.

    Each call is one write, so lines of several writers never mix. Full disks and the like raise
    OSError to the caller.
    """

    def __init__(self, path: str, masker: Masker, limit_bytes: int) -> None:
        self._masker = masker
        self._limit_bytes = limit_bytes
        self._lock = RLock()
        self._handle = opened(path)
        self._size = os.fstat(self._handle).st_size
        self._full = self._size > limit_bytes

    @property
    def full(self) -> bool:
        """Whether the limit is reached: what follows is dropped."""
        return self._full

    def write(self, level: str, text: str) -> None:
        """Add the text, line by line, without secrets."""
        if not self._full:
            data = text.encode("utf-8", "surrogateescape")
            self.write_lines(level, self._masker.mask(data).splitlines() or [b""])

    def say(self, level: str, text: str) -> None:
        """As `write`, for what is said about an end: what the disk does not take is left out."""
        with suppress(OSError):
            self.write(level, text)

    def write_lines(self, level: str, lines: Iterable[bytes]) -> None:
        """Add lines that are masked already."""
        head = f"{_stamp()} {level} ".encode()
        data = b"".join(
            [b"%b%b\n" % (head, _visible(part)) for line in lines for part in _pieces(line)]
        )
        with self._lock:
            if self._full:
                return
            room = self._limit_bytes - self._size
            if len(data) > room:
                data = data[: data.rfind(b"\n", 0, max(room, 0)) + 1] + self._last_line()
                self._full = True
            self._size += len(data)
            _write_all(self._handle, data)

    def _last_line(self) -> bytes:
        size_mb = self._limit_bytes / 1_000_000
        text = f"The log has reached its limit of {size_mb:g} MB: what follows is not kept."
        return f"{_stamp()} {WARNING} {text}\n".encode()

    def program_output(self) -> "ProgramOutput":
        """A sink for the output of one program."""
        return ProgramOutput(self, self._masker)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)


class ProgramOutput:
    """Turns a program's bytes into lines of the log; `tail` keeps the last few for diagnosis."""

    _TAIL_BYTES = 8192

    def __init__(self, log: LogFile, masker: Masker) -> None:
        self._log = log
        self._stream = masker.stream()
        self._partial = b""
        self._cut: str | None = None
        self.tail = b""

    def feed(self, chunk: bytes) -> None:
        """Take what the program wrote; after the log's limit it is dropped."""
        self.tail = (self.tail + chunk)[-self._TAIL_BYTES :]
        if not self._log.full:
            self._emit(self._stream.feed(chunk))

    def close(self) -> None:
        """The program has ended: write what is left."""
        if not self._log.full:
            self._emit(self._stream.flush())
            if self._partial:
                self._write([self._partial.rstrip(b"\r")])
        self._partial = b""

    def _emit(self, data: bytes) -> None:
        *lines, self._partial = _LINE_END.split(self._partial + data)
        self._write(lines)
        if len(self._partial) > _LONGEST_LINE:
            level, part = self._levelled(self._partial)
            self._log.write_lines(level, [part])
            self._cut, self._partial = level, b""

    def _write(self, lines: list[bytes]) -> None:
        """Write whole lines, those of one level that follow each other at once."""
        for level, some in groupby(map(self._levelled, lines), key=itemgetter(0)):
            self._log.write_lines(level, [text for _, text in some])

    def _levelled(self, line: bytes) -> tuple[str, bytes]:
        """The level that the line is of, and the line; the rest of a cut line is of its level."""
        found = _LEVELLED.match(line)
        cut, self._cut = self._cut, None
        if found is None:
            return cut or OUTPUT, line
        return found[1].decode(), line[found.end() :]


class ConsoleStream(io.TextIOBase):
    """Stands for `sys.stdout` in a step's process: what our own code prints goes to the log."""

    def __init__(self, log: LogFile) -> None:
        self._log = log
        self._partial = ""

    def writable(self) -> bool:
        """It is there to be written to."""
        return True

    def write(self, text: str) -> int:
        """Take text; whole lines go to the log."""
        *lines, self._partial = (self._partial + text).split("\n")
        if lines:
            self._log.write(OUTPUT, "\n".join(lines))
        return len(text)

    def finish(self) -> None:
        """Write the last line, if it has no end."""
        if self._partial:
            self._log.write(OUTPUT, self._partial)
            self._partial = ""


def _pieces(line: bytes) -> Iterable[bytes]:
    """The line, or its parts if it is longer than a line of the log may be."""
    if len(line) <= _LONGEST_LINE:
        return (line,)
    return (line[at : at + _LONGEST_LINE] for at in range(0, len(line), _LONGEST_LINE))


def opened(path: str) -> int:
    """A handle of the log, to append to; its folder is made if it is not there.

    Raises:
        OSError: it cannot be made, or the folder above that is not there (its disk is away).
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(path.rpartition("/")[0], 0o700)  # noqa: PTH102 (as in `claims`)
        return os.open(path, flags, 0o600)


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
