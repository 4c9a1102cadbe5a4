"""Names of files that users choose: one rule, wherever such a name enters."""

import unicodedata
from collections.abc import Iterable

SEGMENT_BYTES = 255
PATH_BYTES = 1024
PATH_DEPTH = 20
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"}
)
_FORBIDDEN = frozenset("/\\:")


def fault_of_segment(name: str) -> str | None:  # noqa: PLR0911 - one answer per rule
    """Why `name` cannot name a file or folder, as the end of a sentence; None if it can."""
    if not name:
        return "is empty"
    if name in {".", ".."}:
        return "is . or .., which would leave its folder"
    if unicodedata.normalize("NFC", name) != name:
        return "is not in Unicode normal form C; type the name anew"
    if any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} for char in name):
        return "contains a control or invisible character"
    if found := sorted(_FORBIDDEN.intersection(name)):
        return f"contains {found[0]}"
    if name[-1] in ". ":
        return "ends with a dot or a space"
    if name.casefold() == ".git" or name.casefold().startswith("git~"):
        return "is reserved for git"
    if name.split(".", 1)[0].rstrip().casefold() in _RESERVED:
        return "is reserved on Windows"
    if len(name.encode()) > SEGMENT_BYTES:
        return f"is longer than {SEGMENT_BYTES} bytes"
    return None


def fault_of_path(path: str) -> str | None:
    """Why `path` (segments joined by /) cannot name a file; None if it can."""
    if not path:
        return "is empty"
    if len(path.encode(errors="surrogatepass")) > PATH_BYTES:
        return f"is longer than {PATH_BYTES} bytes"
    segments = path.split("/")
    if len(segments) > PATH_DEPTH:
        return f"is deeper than {PATH_DEPTH} folders"
    for segment in segments:
        if fault := fault_of_segment(segment):
            return f"has a part that {fault}" if len(segments) > 1 else fault
    return None


def find_twins(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two paths that some file systems cannot tell apart (letter case), or None.

    Also a file whose name is another path's folder counts, in any letter case.
    """
    seen: dict[str, str] = {}
    files: dict[str, str] = {}
    for path in sorted(paths):
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            part = "/".join(parts[:depth])
            key = part.casefold()
            if seen.setdefault(key, part) != part:
                return seen[key], part
            if depth < len(parts) and key in files:
                return files[key], path
        files[path.casefold()] = path
    return None
