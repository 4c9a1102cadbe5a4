"""One visit to a HashiCorp Vault: its calls share a deadline, and what they learn on the way.

Source: HashiCorp's API documentation of the KV engine, versions 1 and 2, and the vault command
line, which asks sys/internal/ui/mounts for a path's mount before it reads (read November 2026).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec

from galley.core.secrets.errors import VaultRefused, VaultUnreachable
from galley.core.secrets.ports import VaultPlace
from galley.engine.outbound import (
    OutboundClient,
    OutboundFailed,
    OutboundRefused,
    OutboundTooLarge,
)

CALL_S = 10.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024
_KINDS = frozenset({"kv", "generic"})
_VERSIONED = "2"
_ABSENT = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
_DOWN = 472
"""From here on, and at 429, Vault says that this node cannot serve now. Source: its sys/health."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A key-value store of the vault: where it is mounted (no slash at its end), its version."""

    path: str
    is_versioned: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """A secret as the vault has it: its keys and values, and which version of it that is.

    `data` is empty and `version` not where the newest version was deleted.
    """

    data: Mapping[str, Any]
    version: int = 0


class Visit:
    """Calls of one vault, all before one deadline. Paths are whole: they begin at a mount."""

    def __init__(self, client: OutboundClient, place: VaultPlace, *, within_s: float) -> None:
        self._client = client
        self._place = place
        self._deadline = time.monotonic() + within_s
        self._mounts: list[Mount] = []
        self._hidden: set[str] = set()
        self._read: dict[str, Stored | None] = {}
        self._is_token_good = False

    def secret(self, path: str) -> Stored | None:
        """The secret at the path, read once; None if there is none.

        Raises:
            VaultRefused: the token may not read it.
            VaultUnreachable: no answer.
        """
        if path not in self._read:
            self._read[path] = self._fetch(path)
        return self._read[path]

    def keys(self, path: str) -> list[str]:
        """The keys of the secret at the path; none where there is none, or it may not be read."""
        at = self._within(path)
        if at is None:
            return []
        mount, rest = at
        if mount.is_versioned:
            status, document = self._call("GET", f"{mount.path}/subkeys/{rest}")
            if status == HTTPStatus.OK:
                return list(_object(_object(document, "data"), "subkeys"))
            if status == HTTPStatus.NOT_FOUND and not document.get("errors"):
                return []  # a server that does not know subkeys says that in its errors
        try:
            found = self.secret(path)
        except VaultRefused:
            return []
        return [] if found is None else list(found.data)

    def children(self, path: str) -> list[str] | None:
        """What stands right below the path, folders with a slash; None if it may not be listed."""
        mount = self.mount_of(path)
        if mount is None:
            return []
        middle = "/metadata" if mount.is_versioned else ""
        folder = f"{mount.path}{middle}{path[len(mount.path) :]}/"
        status, document = self._call("GET", folder, query="?list=true")
        if status == HTTPStatus.FORBIDDEN:
            return None
        if status == HTTPStatus.NOT_FOUND:
            return []
        self._require_ok(status, path)
        names = _object(document, "data").get("keys")
        return [name for name in names or () if isinstance(name, str)]

    def stores(self) -> list[Mount]:
        """All key-value stores that the token may see.

        Raises:
            VaultRefused: it may not see which there are.
        """
        status, document = self._call("GET", "sys/internal/ui/mounts")
        if status in _ABSENT:
            raise VaultRefused(
                f"{self._name} does not tell which stores it has; configure it with a prefix that"
                " begins with one, such as secret."
            )
        self._require_ok(status, "its stores")
        found = _object(_object(document, "data"), "secret")
        self._mounts = [
            _mount(path, facts)
            for path, facts in sorted(found.items())
            if isinstance(facts, dict) and facts.get("type") in _KINDS
        ]
        return self._mounts

    def put(self, path: str, data: Mapping[str, Any], version: int) -> bool:
        """Store the secret, if it still is at this version; whether it was.

        Raises:
            VaultRefused: the token may not, or there is no store at the path.
        """
        mount, rest = self._required(path)
        self._read.pop(path, None)
        if not mount.is_versioned:
            status, _ = self._call("POST", f"{mount.path}/{rest}", body=data)
        else:
            body = {"data": data, "options": {"cas": version}}
            status, _ = self._call("POST", f"{mount.path}/data/{rest}", body=body)
            if status == HTTPStatus.BAD_REQUEST:
                return False
        self._require_ok(status, path)
        return True

    def remove(self, path: str) -> None:
        """Delete the secret (of a versioned store its newest version)."""
        mount, rest = self._required(path)
        self._read.pop(path, None)
        middle = "/data" if mount.is_versioned else ""
        status, _ = self._call("DELETE", f"{mount.path}{middle}/{rest}")
        self._require_ok(status, path)

    def mount_of(self, path: str) -> Mount | None:
        """The store that the path lies in; None if the token is good and sees none there.

        Raises:
            VaultRefused: the token is not good, or what is mounted there is no key-value store.
        """
        known = next((m for m in self._mounts if path == m.path or _below(path, m.path)), None)
        if known is not None or path in self._hidden or not path:
            return known
        status, document = self._call("GET", f"sys/internal/ui/mounts/{path}")
        if status == HTTPStatus.NOT_FOUND:  # a server older than this question has version 1
            mount = Mount(path.partition("/")[0], is_versioned=False)
        elif status == HTTPStatus.FORBIDDEN:
            self._require_good_token()
            self._hidden.add(path)
            return None
        else:
            self._require_ok(status, path)
            facts = _object(document, "data")
            if facts.get("type") not in _KINDS:
                raise VaultRefused(
                    f"{self._name} has no key-value store at {path}; correct the prefix."
                )
            mount = _mount(str(facts.get("path", "")), facts)
            if path != mount.path and not _below(path, mount.path):
                raise self._strange()
        self._mounts.append(mount)
        return mount

    @property
    def _name(self) -> str:
        return f"{self._place.name[:1].upper()}{self._place.name[1:]} ({self._place.url})"

    def _fetch(self, path: str) -> Stored | None:
        at = self._within(path)
        if at is None:
            return None
        mount, rest = at
        middle = "/data" if mount.is_versioned else ""
        status, document = self._call("GET", f"{mount.path}{middle}/{rest}")
        if status != HTTPStatus.NOT_FOUND:
            self._require_ok(status, path)
        data = _object(document, "data")
        if not mount.is_versioned:
            return Stored(data) if status == HTTPStatus.OK else None
        version = _object(data, "metadata").get("version")
        if not isinstance(version, int):
            return None
        return Stored(_object(data, "data"), version)

    def _within(self, path: str) -> tuple[Mount, str] | None:
        """The path's store and what is left of it there; None if it is no place in any."""
        mount = self.mount_of(path)
        if mount is None or not _below(path, mount.path):
            return None
        return mount, path[len(mount.path) + 1 :]

    def _required(self, path: str) -> tuple[Mount, str]:
        found = self._within(path)
        if found is None:
            raise VaultRefused(
                f"{self._name} has no store that its token may see and that {path} could lie in;"
                " correct the prefix, or the token's policy."
            )
        return found

    def _require_good_token(self) -> None:
        """A vault forbids what is not there, too: ask whether it is the token that is not good."""
        if self._is_token_good:
            return
        status, _ = self._call("GET", "auth/token/lookup-self")
        if status != HTTPStatus.OK:
            raise VaultRefused(f"{self._name} does not accept its token; configure a good one.")
        self._is_token_good = True

    def _require_ok(self, status: int, what: str) -> None:
        if status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
            return
        if status == HTTPStatus.FORBIDDEN:
            raise VaultRefused(
                f"{self._name} forbids {what} to its token; correct the token or its policy."
            )
        raise VaultRefused(f"{self._name} answered {status} when asked for {what}.")

    def _strange(self) -> VaultRefused:
        return VaultRefused(
            f"{self._name} answered with something that no HashiCorp Vault says; check its url."
        )

    def _call(
        self, method: str, path: str, *, query: str = "", body: Mapping[str, Any] | None = None
    ) -> tuple[int, Any]:
        """The status and the document (an object) of one call.

        Raises:
            VaultUnreachable: no answer in time, or one that says "not now".
            VaultRefused: the address may not be called, redirects, or is no vault's.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise VaultUnreachable(f"{self._name} took too long.", retry_after_s=30)
        headers = {"X-Vault-Token": self._place.token, "X-Vault-Request": "true"}
        try:
            answer = self._client.request(
                method,
                f"{self._place.url.rstrip('/')}/v1/{quote(path)}{query}",
                headers=headers if body is None else headers | _JSON,
                content=None if body is None else msgspec.json.encode(body),
                deadline_s=min(left, CALL_S),
                max_bytes=MAX_ANSWER_BYTES,
            )
        except OutboundFailed as error:
            raise VaultUnreachable(
                f"{self._name} did not answer: {error.message}", retry_after_s=30
            ) from error
        except (OutboundRefused, OutboundTooLarge) as error:
            raise VaultRefused(f"{self._name} could not be asked: {error.message}") from error
        self._judge(answer.status)
        try:
            document = msgspec.json.decode(answer.body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._strange()
        return answer.status, document

    def _judge(self, status: int) -> None:
        """Stop at answers that say nothing of what was asked for."""
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            raise VaultRefused(
                f"{self._name} redirects elsewhere, which is not followed; configure the address"
                " of the node that answers."
            )
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= _DOWN:
            raise VaultUnreachable(
                f"{self._name} answered {status}: it is sealed, busy or down.", retry_after_s=30
            )


_JSON = {"Content-Type": "application/json"}


def _mount(path: str, facts: Mapping[str, Any]) -> Mount:
    version = _object(facts, "options").get("version")
    return Mount(path.strip("/"), is_versioned=str(version) == _VERSIONED)


def _object(document: Any, key: str) -> dict[str, Any]:
    """The object under the key; an empty one if there is none."""
    found = document.get(key) if isinstance(document, Mapping) else None
    return found if isinstance(found, dict) else {}


def _below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/") and bool(path[len(folder) + 1 :])
