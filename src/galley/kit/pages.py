"""One page of a list, and the wish for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which slice of a list is wanted: at most `limit` rows after the first `offset`."""

    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A slice of a list, the count of all its rows, and the wish that it answers."""

    items: Sequence[T]
    total: int
    request: PageRequest
