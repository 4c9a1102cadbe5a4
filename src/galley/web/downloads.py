"""Files on their way to a browser: always as an attachment, in byte ranges, never rendered here."""

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from galley.web.present import plain_text
from galley.web.security import FILE_POLICY
from galley.wire.streaming import StreamedAnswer, read_in_threads

_CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}", re.ASCII)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f"\\/;%]')


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of bytes: how many, and how to open what they stand in at its beginning."""

    size_bytes: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class _Span:
    """The bytes from `start` up to and without `end`."""

    start: int
    end: int


def file_part(path: Path) -> Part:
    """A file as long as it is now, so that one still being written is sent up to here."""
    return Part(path.stat().st_size, lambda: path.open("rb"))


def download(request: Request, parts: Sequence[Part], name: str, media_type: str) -> Response:
    """All parts one after another as one file, or the single range of them that is asked for.

    An answer of 416 names the size; several ranges at once are answered with the whole.
    """
    size = sum(part.size_bytes for part in parts)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(name),
        "Content-Security-Policy": FILE_POLICY,
        "Content-Type": media_type if _MEDIA_TYPE.fullmatch(media_type) else _ANY,
        "X-Content-Type-Options": "nosniff",
    }
    if headers["Content-Type"] == "text/plain":
        headers["Content-Type"] = "text/plain; charset=utf-8"
    span = _wanted_span(request.headers.get("range"), size)
    if span is None:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    is_part = span.end - span.start < size
    headers["Content-Length"] = str(span.end - span.start)
    if is_part:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{size}"
    status = 206 if is_part else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    chunks = read_in_threads(_read(parts, span))
    return StreamedAnswer(chunks, status_code=status, headers=headers)


def disposition(name: str) -> str:
    """A Content-Disposition that saves under this name: plain for old clients, exact for new."""
    name = plain_text(name).rsplit("/", 1)[-1] or "file"
    plain = _UNSAFE.sub("_", name).encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


_ANY = "application/octet-stream"


def _wanted_span(text: str | None, size: int) -> _Span | None:
    """The span that a Range header means: all without one, None where nothing can be given."""
    match = _RANGE.fullmatch(text.replace(" ", "")) if text else None
    if match is None or not (match[1] or match[2]):
        return _Span(0, size)
    if not match[1]:
        return _Span(max(0, size - int(match[2])), size) if int(match[2]) and size else None
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    return _Span(start, end) if start < end else None


def _read(parts: Sequence[Part], span: _Span) -> Generator[bytes]:
    begin = 0
    for part in parts:
        end = begin + part.size_bytes
        if begin < span.end and end > span.start:
            offset = max(span.start - begin, 0)
            yield from _read_part(part, offset, min(span.end, end) - begin - offset)
        begin = end


def _read_part(part: Part, offset: int, count: int) -> Generator[bytes]:
    with part.open() as file:
        file.seek(offset)
        while count > 0:
            chunk = file.read(min(_CHUNK, count))
            if not chunk:
                return  # shorter than it was: the connection ends short, and the client sees it
            count -= len(chunk)
            yield chunk
