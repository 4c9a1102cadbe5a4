"""Wildcards over paths of other systems: what `**`, `*`, `?` and `[ab]` mean there."""

import re

_WILD = re.compile(r"[*?\[]")
_PARTS = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])")
_WORDS = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}


class Wildcard:
    """A pattern: `**/` stands for any folders or none, `*` and `?` stay within one.

    `prefix` is what every match begins with, `folder` the part of it that is whole folders;
    `is_deep` says that matches may lie in folders below that one.
    """

    def __init__(self, pattern: str) -> None:
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


def _set(part: str) -> str:
    """One of these characters (`[ab]`), none of these (`[!ab]`), or the text as it is."""
    if not part.startswith("[") or not part.endswith("]"):
        return re.escape(part)
    inner = part[1:-1].replace("\\", r"\\").replace("^", r"\^").replace("[", r"\[")
    return f"[^{inner[1:]}/]" if inner.startswith("!") else f"[{inner}]"
