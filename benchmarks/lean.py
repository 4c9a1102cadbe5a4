"""What Galley takes at rest, and how soon it is there.

Run: python benchmarks/lean.py. Each figure is printed against its bar; the exit status says whether
all were met.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import psutil
from machine import describe
from runs import GRAPHS, burst, repeat
from served import GALLEY, Served, serving, write_recipe

REST_S = 20.0
STARTS = 5
BARS = {
    "main process, resident": (120, "MB"),
    "main process at rest": (0.5, "% of a core"),
    "all processes at rest": (0.5, "% of a core"),
    "all processes, proportional": (200, "MB"),
    "galley --help": (250, "ms"),
    "ready on a new folder": (2, "s"),
    "ready on a used folder": (2, "s"),
}


def at_rest(server: Served) -> dict[str, float]:
    """Memory and processor time of a server that nobody asks anything."""
    time.sleep(5)
    main = psutil.Process(server.process.pid)
    own, whole, began = sum(main.cpu_times()[:2]), server.cpu_s(), time.perf_counter()
    time.sleep(REST_S)
    passed = time.perf_counter() - began
    tree = server.tree()
    return {
        "main process, resident": main.memory_info().rss / 1e6,
        "main process at rest": (sum(main.cpu_times()[:2]) - own) / passed * 100,
        "all processes at rest": (server.cpu_s() - whole) / passed * 100,
        "all processes, proportional": sum(it.memory_full_info().pss for it in tree) / 1e6,
    }


def help_ms() -> float:
    """From the start of `galley --help` to its end, milliseconds, the median of ten."""
    return statistics.median(_timed(lambda: _run(GALLEY, "--help")) for _ in range(10)) * 1e3


def ready_s(data: Path) -> float:
    """From the start of `galley serve` on the folder to its first answer."""
    with serving(data) as server:
        return server.ready_s


def main() -> bool:
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory(prefix="galley-bench-") as folder:
        new = [ready_s(Path(folder, f"new{number}")) for number in range(STARTS)]
        data = Path(folder, "data")
        with serving(data) as server:
            write_recipe(server.client(), GRAPHS)
            repeat(server, "fan", 2, look_s=0.01)
            burst(server)
        used = [ready_s(data) for _ in range(STARTS)]
        with serving(data) as server:
            found = at_rest(server)
    found["galley --help"] = help_ms()
    found["ready on a new folder"] = statistics.median(new)
    found["ready on a used folder"] = statistics.median(used)
    good = True
    for name, (bar, unit) in BARS.items():
        good &= found[name] <= bar
        verdict = "" if found[name] <= bar else "  too much"
        print(f"{name:28} {found[name]:8.2f} {unit:12} bar {bar:g}{verdict}", flush=True)
    return good


def _run(*argv: str) -> None:
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)


def _timed(do: Callable[[], None]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
