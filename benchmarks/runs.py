"""Runs over Galley's HTTP API, each step in a process of its own; and the same work by its peers.

Run: python benchmarks/runs.py [sqlite] [postgres] [--peers "prefect dbos celery dagster"] [--json].
Four kinds of work: an order of one step from its request to its end; a chain of 100 steps; a fan
of 100; 200 orders of 5 steps at once. Times are medians; processor time is that of the server and
all its processes. A peer that is slow does less of it: what was done is printed beside its figures.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import peering
from bars import Figures, judge, judge_peers
from machine import describe, postgres, postgres_version
from served import Served, served, write_recipe

LENGTH, ORDERS, STEPS, CLIENTS = 100, 200, 5, 8
GRAPHS = {
    "one": [["s0"]],
    "chain": [[f"s{n}", f"s{n + 1}"] for n in range(LENGTH - 1)],
    "fan": [[f"s{n}"] for n in range(LENGTH)],
    "five": [[f"s{n}", f"s{n + 1}"] for n in range(STEPS - 1)],
    "checks": [[f"c{n}", f"c{n + 1}"] for n in range(STEPS - 1)],
}
SLOWER = ("one step", "chain of 100", "fan of 100")


def repeat(server: Served, variation: str, times: int, look_s: float) -> dict[str, float]:
    """Order a variation some times, one after the other; look for its end every `look_s`.

    Whoever looks takes time from the server that works, and sees the end half of `look_s` late.
    """
    client = server.client()
    client.finish(client.order(variation), look_s=look_s)
    spent, walls = server.cpu_s(), []
    for _ in range(times):
        began = time.perf_counter()
        client.finish(client.order(variation), look_s=look_s)
        walls.append(time.perf_counter() - began)
    spent = (server.cpu_s() - spent) / times
    return {"median_ms": statistics.median(walls) * 1e3, "cpu_ms": spent * 1e3, "repeats": times}


def burst(server: Served, orders: int = ORDERS, variation: str = "five") -> dict[str, float]:
    """Orders of 5 steps, from 8 connections, until the last has ended."""

    def work(share: int) -> None:
        client = server.client()
        placed = [client.order(variation) for _ in range(share)]
        for order in placed:
            client.finish(order, look_s=0.1)

    threads = [threading.Thread(target=work, args=(orders // CLIENTS,)) for _ in range(CLIENTS)]
    spent, began = server.cpu_s(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    cpu = server.cpu_s() - spent
    return {
        "runs_s": orders / wall,
        "steps_s": orders * STEPS / wall,
        "cpu_ms_a_step": cpu / (orders * STEPS) * 1e3,
        "runs": orders,
    }


def measure(server: Served) -> Figures:
    """All four kinds of work; of three bursts the middle one.

    A second kind of burst has steps that check a variable: such a step's process gets a copy of
    its template's memory, where one that has nothing to do shares it (docs/adr/0005).
    """
    write_recipe(server.client(), GRAPHS)
    work: dict[str, Callable[[], dict[str, float]]] = {
        "one step": lambda: repeat(server, "one", 30, look_s=0.0005),
        "chain of 100": lambda: repeat(server, "chain", 5, look_s=0.01),
        "fan of 100": lambda: repeat(server, "fan", 5, look_s=0.01),
    }
    found = {name: do() for name, do in work.items()}
    for name, variation in (("burst", "five"), ("burst of checks", "checks")):
        bursts = [burst(server, variation=variation) for _ in range(3)]
        found[name] = sorted(bursts, key=lambda one: one["runs_s"])[1]
    return found


def show(name: str, figures: Figures) -> None:
    """A line for each kind of work."""
    for work, values in figures.items():
        told = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
        print(f"{name:18} {work:14} {told}", flush=True)


def compare(galley: dict[str, Figures], peers: dict[str, Figures]) -> None:
    """How many times faster Galley was in this very run, and how much less it spent."""
    columns = [(base, peer) for base in galley for peer in peers if _belong(base, peer)]
    if not columns:
        return
    print("\nTimes that Galley was faster (processor time: times that it spent less)")
    for base, peer in columns:
        ours, theirs = galley[base], peers[peer]
        ratios = [f"{work} {_ratio(ours, theirs, work)}" for work in (*SLOWER, "burst")]
        if "burst, queued" in theirs:
            queued = ours["burst"]["runs_s"] / theirs["burst, queued"]["runs_s"]
            ratios.append(f"burst, queued {queued:.3g}x")
        print(f"{base:18} against {peer:18} {'  '.join(ratios)}", flush=True)


def _belong(base: str, peer: str) -> bool:
    """What runs on Postgres is compared with what does; the rest with Galley on SQLite."""
    return ("Postgres" in base) == ("Postgres" in peer)


def _ratio(ours: Figures, theirs: Figures, work: str) -> str:
    mine, other = ours[work], theirs[work]
    if work == "burst":
        faster, key = mine["runs_s"] / other["runs_s"], "cpu_ms_a_step"
    else:
        faster, key = other["median_ms"] / mine["median_ms"], "cpu_ms"
    return f"{faster:.3g}x ({other[key] / mine[key]:.3g}x)"


def main(databases: list[str], peers: list[str]) -> dict[str, Any]:
    """Measure Galley on these databases, then the peers, all on the same machine in one go."""
    print(describe(), flush=True)
    ours: dict[str, Figures] = {}
    theirs: dict[str, Figures] = {}
    if "sqlite" in databases:
        with served() as server:
            ours["Galley on SQLite"] = measure(server)
            show("Galley on SQLite", ours["Galley on SQLite"])
    if "postgres" in databases:
        with postgres() as address, served(address) as server:
            print(postgres_version(address))
            ours["Galley on Postgres"] = measure(server)
            show("Galley on Postgres", ours["Galley on Postgres"])
    for peer in peers:
        with postgres() as address:
            wanted = address if "postgres" in databases else None
            for found in peering.measure(peer, wanted):
                print(f"{found.peer}: version {found.version}")
                theirs[found.peer] = found.figures
                show(found.peer, found.figures)
    compare(ours, theirs)
    print("\nAgainst the bars, which are for a quiet machine of two cores")
    for name, figures in ours.items():
        for line in (*judge(name, figures), *judge_peers(name, figures, theirs)):
            print(f"{name:18} {line}", flush=True)
    return ours | theirs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("databases", nargs="*", choices=["sqlite", "postgres", []])
    parser.add_argument("--peers", default=" ".join(peering.PEERS), help="names, or nothing")
    parser.add_argument("--json", action="store_true", help="the figures once more, as JSON")
    given = parser.parse_args()
    results = main(given.databases or ["sqlite", "postgres"], given.peers.split())
    if given.json:
        print(json.dumps(results))
