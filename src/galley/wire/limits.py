"""How often one caller may call: token buckets in this process's memory."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable

from galley.core.errors import TooMany

_MOST_BUCKETS = 50_000


class RateLimiter:
    """One bucket for each name: `burst` tokens at most, refilled by `per_minute`.

    The least recently used buckets are forgotten beyond 50,000 names; a forgotten name starts
    full again. Safe to call from any thread.
    """

    def __init__(self, per_minute: int, burst: int, monotonic: Callable[[], float]) -> None:
        self._rate = per_minute / 60
        self._burst = float(burst)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> None:
        """Spend one token of this name.

        Raises:
            TooMany: none is left; `retry_after_s` says when one will be.
        """
        now = self._monotonic()
        with self._lock:
            left = self._left(name, now)
            if left < 1:
                wait_s = (1 - left) / self._rate
                raise TooMany(
                    "Too many requests in a short time; wait and try again.",
                    retry_after_s=max(1, math.ceil(wait_s)),
                )
            self._keep(name, left - 1, now)

    def give_back(self, name: str) -> None:
        """Return a token that turned out not to be due."""
        now = self._monotonic()
        with self._lock:
            self._keep(name, self._left(name, now) + 1, now)

    def _left(self, name: str, now: float) -> float:
        left, at = self._buckets.get(name, (self._burst, now))
        return min(self._burst, left + (now - at) * self._rate)

    def _keep(self, name: str, left: float, now: float) -> None:
        self._buckets[name] = (min(left, self._burst), now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)


class KnownCredentials:
    """Digests of credentials that were good a short while ago.

    Until a credential has proved good, its requests count as its address's, so that guessing is
    slow; afterwards they count as its owner's.
    """

    def __init__(
        self, monotonic: Callable[[], float], *, keep_s: float = 600, most: int = 20_000
    ) -> None:
        self._monotonic = monotonic
        self._keep_s = keep_s
        self._most = most
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def has(self, digest: str) -> bool:
        """Whether it was good within the last ten minutes."""
        with self._lock:
            return self._until.get(digest, 0.0) > self._monotonic()

    def add(self, digest: str) -> None:
        """It has just proved good."""
        with self._lock:
            self._until[digest] = self._monotonic() + self._keep_s
            self._until.move_to_end(digest)
            if len(self._until) > self._most:
                self._until.popitem(last=False)

    def forget(self, digest: str) -> None:
        """It has just been refused."""
        with self._lock:
            self._until.pop(digest, None)
