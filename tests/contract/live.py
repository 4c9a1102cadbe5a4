"""A real `galley serve` in a subprocess: on a free loopback port, with a data folder of its own."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx2

from galley.core.identity import operations as identity
from galley.kit.clock import SystemClock
from galley.storage.db import Database

GALLEY = str(Path(sys.executable).with_name("galley"))
READY = re.compile(r"Galley is ready at (https?://\S+)")
PATIENCE_S = 240
"""How long to wait for what must come: a machine that is ten times slower may be right, too."""
START_S = PATIENCE_S
STOP_S = 120
PASSWORD = "correct-horse-7-battery"
NO_RATES = {
    f"GALLEY_LIMITS__{name}": "1000000"
    for name in ("REQUESTS_PER_MINUTE", "REQUEST_BURST", "ANONYMOUS_PER_MINUTE", "ANONYMOUS_BURST")
}
"""For tests that call faster than any client; that the rates hold is tested elsewhere."""


def until(look: Callable[[], Any], *, seconds: float = PATIENCE_S, what: str = "it") -> Any:
    """Look again and again until there is something to see; what was seen.

    Less than the usual patience is for what is promised within a time.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come in {seconds} s")
        time.sleep(0.03)


@dataclass
class Answer:
    """What came back of one call."""

    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


class Api:
    """Calls one server as one user; a body given as an object is sent as JSON."""

    _open: ClassVar[list["Api"]] = []

    def __init__(
        self, base: str, token: str | None = None, *, verify: Any = True, **headers: str
    ) -> None:
        self.base = base
        self.token = token
        auth = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx2.Client(
            base_url=base,
            headers={**auth, **headers},
            timeout=PATIENCE_S,
            trust_env=False,
            verify=verify,
        )
        self._open.append(self)

    def call(self, method: str, path: str, body: Any = None, **extra: Any) -> Answer:
        """One call; `content`, `headers` and `params` go through as they are."""
        if body is not None:
            extra["content"] = json.dumps(body)
            extra["headers"] = {"Content-Type": "application/json", **extra.get("headers", {})}
        got = self._client.request(method, path, **extra)
        return Answer(got.status_code, got.headers, got.text)

    def good(self, method: str, path: str, body: Any = None, **extra: Any) -> Any:
        """A call that must be answered 200; its JSON."""
        got = self.call(method, path, body, **extra)
        assert got.status == 200, f"{method} {path}: {got.status} {got.text[:2000]}"
        return got.json

    def close(self) -> None:
        """Let go of its connections."""
        self._client.close()
        with suppress(ValueError):  # closed by `close_all` meanwhile
            self._open.remove(self)

    @classmethod
    def close_all(cls, base: str) -> None:
        """Let go of all connections to a server."""
        for api in [api for api in cls._open if api.base == base]:
            api.close()


@dataclass
class Live:
    """A running server."""

    base: str
    data: Path
    process: subprocess.Popen[str]
    environment: dict[str, str]
    lines: list[str] = field(default_factory=list)

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run the `galley` program beside the server, on the same data; its output."""
        done = subprocess.run(
            [GALLEY, *argv, "--data", str(self.data)],
            input=stdin, capture_output=True, text=True, env=self.environment, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"galley {' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def add_user(self, email: str, *, admin: bool = False, password: str = PASSWORD) -> str:
        """Create a user; its e-mail address."""
        role = ["--admin"] if admin else []
        self.run("user", "add", email, "--password-stdin", *role, stdin=password)
        return email

    def add_members(self, *emails: str, password: str = PASSWORD) -> None:
        """Create plain users without a process for each."""
        database = Database(f"sqlite:///{self.data / 'galley.db'}")
        with database.writing() as session:
            for email in emails:
                identity.create_user(session, email=email, password=password, clock=SystemClock())
        database.close()

    def add_token(self, email: str, kind: str, *extra: str) -> str:
        """Make a token of a kind; the text that is shown once."""
        return self.run("token", "add", "--user", email, "--kind", kind, *extra)

    def log_in(self, email: str, password: str = PASSWORD) -> Api:
        """A caller with a fresh session token."""
        with httpx2.Client(base_url=self.base, trust_env=False, timeout=PATIENCE_S) as client:
            got = client.post("/v2/login", data={"username": email, "password": password})
        assert got.status_code == 200, got.text
        return Api(self.base, got.text)

    def pair(self, email: str, *extra: str) -> Api:
        """A caller with an API-token pair, by HTTP Basic."""
        text = self.add_token(email, "datakitchen", *extra)
        return Api(self.base, Authorization="Basic " + base64.b64encode(text.encode()).decode())


@contextmanager
def serve(data: Path, *options: str, **environment: str) -> Iterator[Live]:
    """Start a server, wait for its line, and stop it at the end; its log must show no bug."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GALLEY_")}
    env |= {"GALLEY_DATA": str(data), **environment}
    process = subprocess.Popen(
        [GALLEY, "serve", "--data", str(data), "--host", "127.0.0.1", "--port", "0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
        start_new_session=True,
    )  # fmt: skip
    live = Live("", data, process, env)
    is_ready = threading.Event()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            live.lines.append(line)
            if match := READY.search(line):
                live.base = match[1].rstrip("/")
                is_ready.set()
        is_ready.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        is_ready.wait(START_S)
        assert live.base, f"galley serve did not get ready:\n{''.join(live.lines[-80:])}"
        yield live
    finally:
        Api.close_all(live.base)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_S)
        listener.join(STOP_S)
        if process.stdout is not None:
            process.stdout.close()
    first = next((n for n, line in enumerate(live.lines) if "Traceback" in line), None)
    if first is not None:
        raise AssertionError(f"the server's log shows a bug:\n{''.join(live.lines[first:][:60])}")
