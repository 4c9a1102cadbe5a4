"""The known word that somebody may have meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` with the nearest of the known words, or nothing if none is near."""
    spelt = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold()[:100], spelt, n=1, cutoff=0.65)
    return f" (did you mean {spelt[found[0]]!r}?)" if found else ""
