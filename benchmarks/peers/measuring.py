"""What the drivers of all peers share: the clock, processor time of a whole tree, the report.

A driver runs in its peer's own environment and so imports nothing but the standard library here.
It starts the peer's services below itself, does the work of `benchmarks/runs.py`, and prints one
line of JSON. Processor time is that of everything below the driver; the driver itself counts where
the peer is a library in it.
"""

import ctypes
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LENGTH, STEPS = 100, 5
_CLK = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36


class Meter:
    """Measures one peer and gathers its figures."""

    def __init__(self, peer: str, version: str, *, is_library: bool = False) -> None:
        """`is_library`: the peer's engine is in this very process."""
        self._is_library = is_library
        self._report: dict[str, object] = {"peer": peer, "version": version}
        self._figures: dict[str, dict[str, float]] = {}

    def repeat(self, name: str, do: Callable[[], object], times: int) -> None:
        """Do it once to warm up and then some times: the median, and processor time of each."""
        do()
        spent, walls = self._cpu_s(), []
        for _ in range(times):
            began = time.perf_counter()
            do()
            walls.append(time.perf_counter() - began)
        self._figures[name] = {
            "median_ms": statistics.median(walls) * 1e3,
            "cpu_ms": (self._cpu_s() - spent) / times * 1e3,
            "repeats": times,
        }
        self._tell(name)

    def burst(self, name: str, do: Callable[[int], object], runs: int) -> None:
        """So many runs of five steps at once, until the last has ended."""
        spent, began = self._cpu_s(), time.perf_counter()
        do(runs)
        wall = time.perf_counter() - began
        cpu = self._cpu_s() - spent
        self._figures[name] = {
            "runs_s": runs / wall,
            "steps_s": runs * STEPS / wall,
            "cpu_ms_a_step": cpu / (runs * STEPS) * 1e3,
            "runs": runs,
        }
        self._tell(name)

    def report(self) -> None:
        """Print what was measured, for `benchmarks/peers/__init__.py` to read."""
        print(json.dumps(self._report | {"figures": self._figures}), flush=True)

    def _tell(self, name: str) -> None:
        print(f"{self._report['peer']}: {name} measured", file=sys.stderr, flush=True)

    def _cpu_s(self) -> float:
        return _tree_cpu_s(os.getpid(), own=self._is_library)


def _tree_cpu_s(top: int, *, own: bool) -> float:
    """Processor seconds of all below `top`, ended ones included, and of itself if `own`."""
    facts = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            fields = text.rpartition(")")[2].split()
            facts[int(entry.name)] = (int(fields[1]), [int(n) for n in fields[11:15]])
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in facts.items():
        children.setdefault(parent, []).append(pid)
    mine = facts[top][1]
    ticks = sum(mine) if own else sum(mine[2:])
    waiting = list(children.get(top, ()))
    while waiting:
        pid = waiting.pop()
        ticks += sum(facts[pid][1])
        waiting.extend(children.get(pid, ()))
    return ticks / _CLK


@contextmanager
def scratch(peer: str) -> Iterator[Path]:
    """A folder for the peer's files, and this process as the keeper of all that is left below."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to end"))  # after its services
    with tempfile.TemporaryDirectory(prefix=f"galley-bench-{peer}-") as folder:
        yield Path(folder)


@contextmanager
def service(*argv: str, said: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """A process in a group of its own; its output goes to a file, shown if it could not stay."""
    with said.open("w") as output:
        process = subprocess.Popen(
            argv, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=os.environ | (env or {}), start_new_session=True,
        )  # fmt: skip
    try:
        yield
    except BaseException:
        print(f"{argv[0]} said:\n{said.read_text()[-4000:]}", file=sys.stderr)
        raise
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the whole group, gently first."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def free_port() -> int:
    """A port of loopback that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_true(what: str, ask: Callable[[], bool], limit_s: float = 120) -> None:
    """Ask until it is so.

    Raises:
        TimeoutError: it was not within the limit.
    """
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            if ask():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{what} did not come within {limit_s:g} s")


def answers(url: str) -> bool:
    """Whether a GET is answered at all."""
    with urllib.request.urlopen(url, timeout=3) as answer:  # noqa: S310 - loopback
        return answer.status < 500


def program(name: str) -> str:
    """A command of this environment."""
    return str(Path(sys.executable).with_name(name))
