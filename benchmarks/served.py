"""A `galley serve` with the shipped settings, for benchmarks to call, and what all of it spends."""

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

GALLEY = str(Path(sys.executable).with_name("galley"))
USER, PASSWORD = "bench@example.org", "bench-password-42-long"
CHECKING = {
    "tests": {
        "is_one": {
            "action": "stop-on-error",
            "test-variable": "one",
            "type": "test-contents-as-integer",
            "test-logic": {"test-compare": "equal-to", "test-metric": 1},
        }
    }
}
_READY = re.compile(r"Galley is ready at http://([0-9.]+):(\d+)")


class Served:
    """A running server: one keep-alive connection for each `Client`, processor time of all."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", host: str, port: int, auth: str, ready_s: float
    ) -> None:
        """`ready_s`: how long it took from the start of its process to its first answer."""
        self.process = process
        self.host, self.port, self.auth, self.ready_s = host, port, auth, ready_s

    def client(self) -> "Client":
        """A caller of its own, for one thread."""
        return Client(self)

    def tree(self) -> list[psutil.Process]:
        """The server and every process below it, templates and steps included."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def cpu_s(self) -> float:
        """Processor seconds of all its processes so far, those that have ended included."""
        spent = 0.0
        for process in self.tree():
            try:
                spent += sum(process.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
        return spent


class Client:
    """Calls the server over one connection."""

    def __init__(self, served: Served) -> None:
        self._connection = http.client.HTTPConnection(served.host, served.port, timeout=60)
        self.headers = {"Authorization": served.auth, "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a call that must be answered 200."""
        content = None if body is None else json.dumps(body)
        return json.loads(self.read(method, path, content))

    def read(self, method: str, path: str, content: str | None = None, *, good: int = 200) -> bytes:
        """The bytes of an answer that must have the status `good`."""
        self._connection.request(method, path, body=content, headers=self.headers)
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status == good, f"{method} {path}: {answer.status} {text[:500]!r}"
        return text

    def sign_in(self) -> None:
        """Be a browser from now on: pages know a session by its cookie, not by a token."""
        host = self._connection.host
        origin = f"http://{host}:{self._connection.port}"
        form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
        body = urlencode({"email": USER, "password": PASSWORD})
        self._connection.request("POST", "/sign-in", body=body, headers=form)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 303, answer.status
        self.headers = {"Cookie": (answer.getheader("Set-Cookie") or "").partition(";")[0]}

    def order(self, variation: str) -> str:
        """Order a variation of the recipe `bench`; the order's id."""
        path = f"/v2/order/create/master/bench/{variation}"
        return str(self.call("PUT", path, {"schedule": "now"})["order_id"])

    def finish(self, order: str, *, look_s: float = 0.002) -> None:
        """Wait until the order's run has succeeded."""
        path = f"/v2/order/servings/master/{order}"
        while True:
            found = self.call("GET", path)["servings"]
            status = found[0]["status"] if found else ""
            if status == "COMPLETED_SERVING":
                return
            assert status in {"", "PLANNED_SERVING", "ACTIVE_SERVING"}, found[0]
            time.sleep(look_s)


def write_recipe(client: Client, graphs: dict[str, list[list[str]]]) -> None:
    """Make the recipe `bench` with one variation for each graph.

    Its steps do nothing, but for those whose names begin with `c`, which check something.
    """
    client.call("POST", "/v2/recipe/create/master/bench", {"templatename": "qs1"})
    tree = client.call("GET", "/v2/recipe/tree/master/bench")["recipes"]["bench"]
    files: dict[str, Any] = {
        f"{folder}/{entry['filename']}".removeprefix("bench/"): {}
        for folder, entries in tree.items()
        for entry in entries
    }
    variations = {
        "variation-list": {name: {"description": "", "graph-setting": name} for name in graphs},
        "graph-setting-list": graphs,
        "schedule-setting-list": {},
        "override-setting-list": {},
        "conditions-list": {},
        "ingredient-definition-list": [],
    }
    steps = {step for edges in graphs.values() for edge in edges for step in edge}
    texts: dict[str, Any] = {
        "description.json": {"description": "steps that do nothing"},
        "variables.json": {"variable-list": {"one": 1}},
        "variations.json": variations,
    }
    for step in steps:
        texts[f"{step}/description.json"] = {"type": "DKNode_NoOp", "description": step}
        texts[f"{step}/notebook.json"] = CHECKING if step.startswith("c") else {}
    files |= {
        path: {"contents": json.dumps(content), "isNew": True} for path, content in texts.items()
    }
    client.call("POST", "/v2/recipe/update/master/bench", {"message": "bench", "files": files})


@contextmanager
def served(database_url: str | None = None) -> Iterator[Served]:
    """Start a server on a fresh folder, with one administrator, and stop it at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="galley-bench-") as folder,
        serving(Path(folder, "data"), database_url) as server,
    ):
        yield server


@contextmanager
def serving(data: Path, database_url: str | None = None) -> Iterator[Served]:
    """Start a server on this folder, which keeps the administrator that it got first."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GALLEY_")}
    env |= {"GALLEY_DATABASE_URL": database_url} if database_url else {}
    said = data.parent / f"{data.name}.said"
    began = time.perf_counter()
    with said.open("w") as output:
        process = subprocess.Popen(
            [GALLEY, "serve", "--data", str(data), "--port", "0"],
            stdout=output, stderr=subprocess.STDOUT, env=env,
        )  # fmt: skip
    try:
        host, port = _address(process, said)
        _await_answer(host, port)
        ready_s = time.perf_counter() - began
        yield Served(process, host, port, _credentials(env, data), ready_s)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _credentials(env: dict[str, str], data: Path) -> str:
    """The administrator's token, made and kept beside the folder where it is new."""
    kept = data.parent / f"{data.name}.token"
    if not kept.exists():
        _galley(env, data, "user", "add", USER, "--password-stdin", "--admin")
        pair = _galley(env, data, "token", "add", "--user", USER, "--kind", "datakitchen")
        kept.write_text(pair.strip())
    return "Basic " + base64.b64encode(kept.read_bytes()).decode()


def _await_answer(host: str, port: int) -> None:
    """Until the server answers that it is ready."""
    while True:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.002)


def _address(process: "subprocess.Popen[bytes]", said: Path) -> tuple[str, int]:
    while process.poll() is None:
        if found := _READY.search(said.read_text()):
            return found[1], int(found[2])
        time.sleep(0.005)
    raise SystemExit(f"The server did not start:\n{said.read_text()}")


def _galley(env: dict[str, str], data: Path, *argv: str) -> str:
    done = subprocess.run(
        [GALLEY, *argv, "--data", str(data)],
        input=PASSWORD, stdout=subprocess.PIPE, text=True, env=env, check=True,
    )  # fmt: skip
    return done.stdout
