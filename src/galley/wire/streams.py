"""How many event streams are open, for whom, and their common end."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from galley.core.errors import TooMany


class StreamLimits:
    """Counts open streams; `close` ends them all, so that a server can stop.

    `per_user` and `total` are the most that may be open at once.
    """

    def __init__(self, per_user: int = 50, total: int = 500) -> None:
        self._per_user = per_user
        self._total = total
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self.is_closed = False

    @contextmanager
    def hold(self, owner: str) -> Iterator[None]:
        """Count one stream of this owner while the block lasts.

        Raises:
            TooMany: the owner, or all together, have too many open.
        """
        with self._lock:
            if self._open[owner] >= self._per_user or self._open.total() >= self._total:
                raise TooMany(
                    f"Too many event streams are open ({self._per_user} for each user,"
                    f" {self._total} in all); close one first.",
                    retry_after_s=10,
                )
            self._open[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[owner] -= 1
                if not self._open[owner]:
                    del self._open[owner]

    def count(self) -> int:
        """How many are open now."""
        with self._lock:
            return self._open.total()

    def close(self) -> None:
        """No stream goes on after its present chunk."""
        self.is_closed = True
