"""Takes secrets out of what a step prints, however the bytes are cut into reads."""

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = b"[masked]"
SHORTEST = 4
_SHORTEST_FRAGMENT = 6


def _base64_forms(value: bytes) -> Iterable[bytes]:
    """How the value shows inside any Base64 text: alone, or at each of three alignments."""
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        yield encode(value).rstrip(b"=")
        for before in range(3):
            first = -(-before * 4 // 3) if before else 0
            last = (before + len(value)) * 8 // 6
            fragment = encode(b"\0" * before + value)[first:last]
            if len(fragment) >= _SHORTEST_FRAGMENT:
                yield fragment


def _forms(value: str) -> Iterable[bytes]:
    """Every way in which a secret may be spelled in an output."""
    yield value.encode()
    yield from _base64_forms(value.encode())
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield quoted.encode()
        yield quoted.lower().encode() if "%" in quoted else quoted.encode()
    yield json.dumps(value)[1:-1].encode()
    yield json.dumps(value, ensure_ascii=False)[1:-1].encode()
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        yield from (line.encode() for line in lines)


class Masker:
    """Knows all spellings of some secrets: literal, Base64, URL-encoded, JSON, line by line.

    A secret shorter than `SHORTEST` characters cannot be masked without spoiling every text that
    holds such letters; `too_short` counts those.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {value for value in secrets if value}
        self.too_short = sum(len(value) < SHORTEST for value in values)
        forms = {form for value in values if len(value) >= SHORTEST for form in _forms(value)}
        self.patterns = tuple(sorted(form for form in forms if len(form) >= SHORTEST))
        self._first = frozenset(pattern[0] for pattern in self.patterns)
        self._longest = max(map(len, self.patterns), default=0)

    def mask(self, data: bytes) -> bytes:
        """The bytes without any secret."""
        return _replace(data, self.find(data)) if self.patterns else data

    def mask_text(self, text: str) -> str:
        """The text without any secret."""
        if not self.patterns:
            return text
        return self.mask(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")

    def stream(self) -> "MaskedStream":
        """A fresh stream whose chunks may cut secrets anywhere."""
        return MaskedStream(self)

    def find(self, data: bytes, *, covered: int = 0) -> list[tuple[int, int]]:
        """Where secrets stand: (start, end), in order, overlapping ones joined.

        The first `covered` bytes are known to belong to one.
        """
        spans: list[tuple[int, int]] = [(0, covered)] if covered else []
        for pattern in self.patterns:
            at = data.find(pattern)
            while at >= 0:
                spans.append((at, at + len(pattern)))
                at = data.find(pattern, at + 1)
        spans.sort()
        joined: list[tuple[int, int]] = []
        for start, end in spans:
            if joined and start < joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return joined

    def open_from(self, data: bytes) -> int:
        """Where a secret may have begun that later bytes complete; the length if none has."""
        begin = max(0, len(data) - self._longest + 1)
        for at in range(begin, len(data)):
            if data[at] in self._first:
                rest = data[at:]
                if any(p.startswith(rest) and len(p) > len(rest) for p in self.patterns):
                    return at
        return len(data)


class MaskedStream:
    """Masks one output, chunk by chunk; holds back only what may be the start of a secret."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = b""
        self._covered = 0  # so many first bytes of what is held belong to a secret shown as masked

    def feed(self, chunk: bytes) -> bytes:
        """What can be shown now, masked."""
        if not self._masker.patterns:
            return chunk
        data = self._held + chunk
        return self._show(data, self._masker.open_from(data))

    def flush(self) -> bytes:
        """What was still held back, masked: the output has ended."""
        return self._show(self._held, len(self._held))

    def _show(self, data: bytes, cut: int) -> bytes:
        """The bytes before `cut`, masked; those after it are held back."""
        spans = self._masker.find(data, covered=self._covered)
        shown = _replace(data, [s for s in spans if s[0] < cut], upto=cut)
        if self._covered and shown.startswith(MASK):
            shown = shown[len(MASK) :]
        self._covered = next((end - cut for start, end in spans if start < cut < end), 0)
        self._held = data[cut:]
        return shown


def _replace(data: bytes, spans: list[tuple[int, int]], *, upto: int | None = None) -> bytes:
    """The first `upto` bytes with each span (in order, apart from one another) masked."""
    length = len(data) if upto is None else upto
    if not spans:
        return data[:length]
    parts: list[bytes] = []
    last = 0
    for start, end in spans:
        parts += (data[last:start], MASK)
        last = min(end, length)
    parts.append(data[last:length])
    return b"".join(parts)
