"""References as keys of secrets in a HashiCorp Vault.

`vault://path/item` is the key `item` of the secret at prefix/path, else the key `value` of the
secret at prefix/path/item. All calls go through the guarded client, bounded in time and size.
"""

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from galley.core.secrets.errors import VaultRefused, VaultUnreachable
from galley.core.secrets.operations import MAX_PATH_LENGTH, MAX_VALUE_BYTES
from galley.core.secrets.ports import VaultPlace
from galley.engine.outbound import OutboundClient
from galley.engine.vaults.visit import Stored, Visit

VALUE = "value"
VISIT_S = 20.0
LISTING_S = 45.0
MAX_SECRETS = 1_000
MAX_PATHS = 10_000
MAX_DEPTH = 16
_AT_ONCE = 8
_TRIES = 5
_NAME = re.compile(r"[A-Za-z0-9_.\-]+\Z")


class HashiCorpVaults:
    """Implements `core.secrets.ports.ExternalVaults`. Safe to share between threads.

    Of everything but reading for steps, at most eight are under way at once.
    """

    def __init__(self, client: OutboundClient | None = None) -> None:
        self._client = client or OutboundClient()
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def read(self, place: VaultPlace, paths: Iterable[str]) -> dict[str, str]:
        """See `ExternalVaults.read`."""
        visit = self._visit(place)
        found = {}
        for path in sorted(set(paths)):
            holder = _holder(visit, place, path)
            if holder is not None:
                at, key, stored = holder
                found[path] = _text(stored.data[key], f"{place.name} has at {at}")
        return found

    def list_paths(self, place: VaultPlace, below: str = "") -> list[str]:
        """See `ExternalVaults.list_paths`; what no reference can name is left out."""
        with self._room(place):
            visit = self._visit(place, LISTING_S)
            walk = _Walk(visit, place)
            start = _joined(place.prefix, below)
            if start:
                walk.go(start, below)
            else:
                for mount in visit.stores():
                    walk.go(mount.path, mount.path)
            parent, _, item = below.rpartition("/")
            if item and item in visit.keys(_joined(place.prefix, parent)):
                walk.found.add(below)
            return sorted(walk.found)

    def write(self, place: VaultPlace, path: str, value: str) -> None:
        """See `ExternalVaults.write`; other keys of the same secret stay as they are."""
        with self._room(place):
            visit = self._visit(place)
            for _ in range(_TRIES):
                at, key, stored = _holder(visit, place, path) or _new(visit, place, path)
                if visit.put(at, {**stored.data, key: value}, stored.version):
                    return
            raise _contended(place, path)

    def delete(self, place: VaultPlace, path: str) -> bool:
        """See `ExternalVaults.delete`; a secret goes with its last key."""
        with self._room(place):
            visit = self._visit(place)
            for _ in range(_TRIES):
                holder = _holder(visit, place, path)
                if holder is None:
                    return False
                at, key, stored = holder
                left = {name: value for name, value in stored.data.items() if name != key}
                if not left:
                    visit.remove(at)
                    return True
                if visit.put(at, left, stored.version):
                    return True
            raise _contended(place, path)

    def _visit(self, place: VaultPlace, within_s: float = VISIT_S) -> Visit:
        return Visit(self._client, place, within_s=within_s)

    @contextmanager
    def _room(self, place: VaultPlace) -> Iterator[None]:
        """A slow vault must not hold up all calls of the server."""
        if not self._free.acquire(blocking=False):
            raise VaultUnreachable(
                f"Too many calls of external vaults are under way for another of {place.name}; try"
                " again.",
                retry_after_s=5,
            )
        try:
            yield
        finally:
            self._free.release()


class _Walk:
    """Goes through all secrets below a place and collects what references could name."""

    def __init__(self, visit: Visit, place: VaultPlace) -> None:
        self._visit = visit
        self._place = place
        self._seen = 0
        self.found: set[str] = set()

    def go(self, start: str, shown: str) -> None:
        """Walk from the whole path `start`, which references know as `shown`."""
        if "/" in start:
            self._take(start, shown)
        names = self._visit.children(start)
        if names is None:
            raise VaultRefused(
                f"{self._place.name[:1].upper()}{self._place.name[1:]} ({self._place.url}) does"
                f" not let its token list {start}; correct the token's policy."
            )
        waiting = [(start, shown, names)]
        while waiting:
            folder, known_as, below = waiting.pop()
            for name in below:
                bare = name.removesuffix("/")
                if not _NAME.match(bare) or not bare.strip("."):
                    continue
                path, reference = f"{folder}/{bare}", _joined(known_as, bare)
                if not name.endswith("/"):
                    self._take(path, reference)
                elif path.count("/") - start.count("/") <= MAX_DEPTH:
                    waiting.append((path, reference, self._visit.children(path) or []))

    def _take(self, path: str, reference: str) -> None:
        self._seen += 1
        keys = [key for key in self._visit.keys(path) if _NAME.match(key) and key.strip(".")]
        references = {reference} if keys == [VALUE] else {_joined(reference, key) for key in keys}
        self.found |= {one for one in references if one and len(one) <= MAX_PATH_LENGTH}
        if self._seen > MAX_SECRETS or len(self.found) > MAX_PATHS:
            raise VaultRefused(
                f"{self._place.name[:1].upper()}{self._place.name[1:]} ({self._place.url}) holds"
                f" more than {MAX_SECRETS} secrets here; ask for those below a narrower path."
            )


def _holder(visit: Visit, place: VaultPlace, path: str) -> tuple[str, str, Stored] | None:
    """The secret that has the reference's value, and under which key.

    Raises:
        VaultRefused: there is none that may be read, and one that may not be.
    """
    parent, _, item = path.rpartition("/")
    refusal: VaultRefused | None = None
    for at, key in ((_joined(place.prefix, parent), item), (_joined(place.prefix, path), VALUE)):
        try:
            stored = visit.secret(at)
        except VaultRefused as error:
            if at != place.prefix:  # policies allow what is below a prefix, rarely itself
                refusal = refusal or error
            continue
        if stored is not None and key in stored.data:
            return at, key, stored
    if refusal is not None:
        raise refusal
    return None


def _new(visit: Visit, place: VaultPlace, path: str) -> tuple[str, str, Stored]:
    """Where a reference that has no value yet gets it."""
    parent, _, item = path.rpartition("/")
    at, key = _joined(place.prefix, parent), item
    if not parent:
        at, key = _joined(place.prefix, path), VALUE
    return at, key, visit.secret(at) or Stored({})


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _text(value: Any, where: str) -> str:
    """A value as steps get it: a text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text.encode("utf-8", "surrogatepass")) > MAX_VALUE_BYTES:
        raise VaultRefused(
            f"What {where} has more than {MAX_VALUE_BYTES} bytes, the most of a secret."
        )
    return text


def _contended(place: VaultPlace, path: str) -> VaultRefused:
    return VaultRefused(
        f"{place.name[:1].upper()}{place.name[1:]} ({place.url}) did not take {path}: others kept"
        " changing it, or it refuses such a value. Send it again."
    )
