"""Wildcards over paths of other systems: what `**`, `*`, `?` and `[ab]` mean there."""

import re
from collections.abc import Iterable

from galley.engine.faults import StepError

_MAX_FOUND = 10_000
_MAX_SEEN = 1_000_000
_WILD = re.compile(r"[*?\[]")
_PARTS = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])")
_WORDS = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}


class Wildcard:
    """A pattern: `**/` stands for any folders or none, `*` and `?` stay within one.

    `prefix` is what every match begins with, `folder` the part of it that is whole folders;
    `is_deep` says that matches may lie in folders below that one.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        wild = _WILD.search(pattern)
        self.prefix = pattern if wild is None else pattern[: wild.start()]
        self.folder = self.prefix.rpartition("/")[0]
        self.is_deep = "/" in pattern[len(self.folder) :].lstrip("/") or "**" in pattern
        parts = _PARTS.split(pattern)
        text = "".join(_WORDS.get(part) or _set(part) for part in parts)
        self._compiled = re.compile(text, re.DOTALL)

    def matches(self, path: str) -> bool:
        """Whether the pattern means this path."""
        return self._compiled.fullmatch(path) is not None

    def chosen(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths that the pattern means, sorted.

        Raises:
            StepError: there are too many, or too many to look at.
        """
        found: list[str] = []
        for seen, path in enumerate(paths):
            if seen >= _MAX_SEEN:
                raise StepError(
                    f"The wildcard {self._pattern} looks at more than {_MAX_SEEN} files; begin it"
                    " with more of a path."
                )
            if self.matches(path):
                found.append(path)
            if len(found) > _MAX_FOUND:
                raise StepError(
                    f"The wildcard {self._pattern} matches more than {_MAX_FOUND} files."
                )
        return sorted(found)


def _set(part: str) -> str:
    """One of these characters (`[ab]`), none of these (`[!ab]`), or the text as it is."""
    if not part.startswith("[") or not part.endswith("]"):
        return re.escape(part)
    inner = part[1:-1].replace("\\", r"\\").replace("^", r"\^").replace("[", r"\[")
    return f"[^{inner[1:]}/]" if inner.startswith("!") else f"[{inner}]"
