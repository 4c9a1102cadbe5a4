"""A stand-in that speaks HashiCorp Vault's HTTP API: KV stores of version 1 and 2, on loopback.

Source: HashiCorp's API documentation, secret/kv/kv-v1 and kv-v2, read November 2026. A vault
forbids what its token's policy does not name, whether it is there or not.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hvs.test-token-0123456789"


@dataclass
class VaultServer:
    """What the vault holds, and how it misbehaves.

    `stores` maps a mount to its version; `secrets` a whole path to its versions, oldest first (None
    where one was deleted); `forbidden` are whole paths, with everything below, that no token sees,
    `forbidden_alone` such paths whose secret it does not see, though it does what is below.
    """

    url: str = ""
    token: str = TOKEN
    stores: dict[str, int] = field(default_factory=lambda: {"secret": 2, "old": 1})
    secrets: dict[str, list[dict[str, Any] | None]] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    forbidden_alone: set[str] = field(default_factory=set)
    mood: str = "well"
    has_subkeys: bool = True
    knows_mounts: bool = True
    seen: list[tuple[str, str]] = field(default_factory=list)
    waiting: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    before_write: Any = None

    def put(self, path: str, **data: Any) -> None:
        """Store a secret at a whole path."""
        self.secrets.setdefault(path, []).append(data)

    def newest(self, path: str) -> dict[str, Any] | None:
        """What is at a whole path now."""
        versions = self.secrets.get(path)
        return versions[-1] if versions else None


class _Handler(BaseHTTPRequestHandler):
    vault: VaultServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, document: Any = None, **headers: str) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _serve(self) -> None:
        vault = self.vault
        parts = urlsplit(self.path)
        path = unquote(parts.path).removeprefix("/v1/").strip("/")
        wants_list = parse_qs(parts.query).get("list") == ["true"]
        length = int(self.headers.get("Content-Length", "0"))
        body = json.loads(self.rfile.read(length) or b"{}")
        vault.seen.append(("LIST" if wants_list else self.command, path))
        if self._is_unwell():
            return
        if self.headers.get("X-Vault-Token") != vault.token:
            self._answer(403, {"errors": ["permission denied"]})
        elif path == "auth/token/lookup-self":
            self._answer(200, {"data": {"display_name": "test"}})
        elif path.startswith("sys/internal/ui/mounts"):
            self._mounts(path.removeprefix("sys/internal/ui/mounts").strip("/"))
        else:
            with vault.lock:
                self._store(path, body, wants_list=wants_list)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the library asks for these

    def _is_unwell(self) -> bool:
        mood = self.vault.mood
        if mood == "slow":
            self.vault.waiting.wait(60)
            self.close_connection = True
        elif mood == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"data": {"da')
            self.close_connection = True
        elif mood == "sealed":
            self._answer(503, {"errors": ["Vault is sealed"]})
        elif mood == "redirects":
            self._answer(307, None, Location="http://127.0.0.1:1/v1/elsewhere")
        elif mood == "another":
            self._answer(200, ["not", "a", "vault"])
        elif mood == "huge":
            self._answer(200, {"data": "x" * (9 * 1024 * 1024)})
        return mood != "well"

    def _mounts(self, path: str) -> None:
        vault = self.vault
        if not vault.knows_mounts:
            self._answer(404, {"errors": []})
            return
        told = {
            f"{mount}/": {"type": "kv", "options": {"version": str(version)}}
            for mount, version in vault.stores.items()
        }
        if not path:
            told |= {"cubbyhole/": {"type": "cubbyhole", "options": None}}
            self._answer(200, {"data": {"secret": told}})
            return
        mount = next((m for m in vault.stores if f"{path}/".startswith(f"{m}/")), None)
        if path == "transit":
            self._answer(200, {"data": {"path": "transit/", "type": "transit", "options": None}})
        elif mount is None:
            self._answer(403, {"errors": ["preflight capability check returned 403"]})
        else:
            self._answer(200, {"data": {"path": f"{mount}/", **told[f"{mount}/"]}})

    def _store(self, path: str, body: Any, *, wants_list: bool) -> None:
        vault = self.vault
        mount = next((m for m in vault.stores if f"{path}/".startswith(f"{m}/")), None)
        if mount is None:
            self._answer(404, {"errors": ["no handler for route"]})
            return
        rest, kind = path.removeprefix(mount).strip("/"), ""
        if vault.stores[mount] == 2:
            kind, _, rest = rest.partition("/")
        whole = f"{mount}/{rest}".strip("/")
        is_alone = whole in vault.forbidden_alone and not wants_list
        if is_alone or any(f"{whole}/".startswith(f"{one}/") for one in vault.forbidden):
            self._answer(403, {"errors": ["permission denied"]})
        elif wants_list:
            self._list(whole)
        elif self.command == "GET":
            self._read(whole, kind)
        else:
            self._change(whole, kind, body)

    def _list(self, folder: str) -> None:
        below = {
            path.removeprefix(f"{folder}/")
            for path in self.vault.secrets
            if path.startswith(f"{folder}/")
        }
        keys = sorted({one.partition("/")[0] + ("/" if "/" in one else "") for one in below})
        self._answer(200 if keys else 404, {"data": {"keys": keys}} if keys else {"errors": []})

    def _read(self, path: str, kind: str) -> None:
        versions = self.vault.secrets.get(path)
        data = self.vault.newest(path)
        if kind == "":
            self._answer(*((404, {"errors": []}) if data is None else (200, {"data": data})))
        elif kind not in {"data", "subkeys"} or (kind == "subkeys" and not self.vault.has_subkeys):
            self._answer(404, {"errors": ["unsupported path"]})
        elif not versions:
            self._answer(404, {"errors": []})
        else:
            about = {"version": len(versions)}
            shown = {"data": data} if kind == "data" else {"subkeys": dict.fromkeys(data or {})}
            self._answer(404 if data is None else 200, {"data": {**shown, "metadata": about}})

    def _change(self, path: str, kind: str, body: Any) -> None:
        vault = self.vault
        if vault.before_write is not None:
            vault.before_write()
        versions = vault.secrets.setdefault(path, [])
        if self.command == "DELETE":
            if kind == "data":
                versions.append(None)
            else:
                del vault.secrets[path]
            self._answer(204)
        elif kind == "data":
            cas = body.get("options", {}).get("cas")
            if cas is not None and cas != len(versions):
                self._answer(400, {"errors": ["check-and-set parameter did not match"]})
                return
            versions.append(body["data"])
            self._answer(200, {"data": {"version": len(versions)}})
        else:
            vault.secrets[path] = [body]
            self._answer(204)


@contextmanager
def vault_server() -> Iterator[VaultServer]:
    """A running vault."""
    vault = VaultServer()
    handler = type("Handler", (_Handler,), {"vault": vault})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        vault.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield vault
        finally:
            vault.waiting.set()
            server.shutdown()
            thread.join(60)
