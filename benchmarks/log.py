"""The end of a 1 GB log over Galley's HTTP API, for short lines and for usual ones.

Run: python benchmarks/log.py [megabytes]. Two ways of reading it: the last 64 KB as they are
(`GET /runs/{run}/log` with a byte range), and a run's details with its newest lines as JSON (`POST
/v2/order/details`, 5,000 lines). Milliseconds of one keep-alive connection, on SQLite.
"""

import http.client
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).parent))

import psutil
from served import USER, Served, served, write_recipe

TIMES = 200
BLOCK_LINES = 20_000
TEXTS = {
    "short lines": "x",
    "usual lines": "of about a hundred bytes, as programs print" + "." * 26,
}
_PASSWORD = "bench-password-42-long"


def write_log(path: Path, text: str, megabytes: int) -> None:
    """Fill the file with lines of this text, a microsecond apart within each block."""
    began = datetime.now(UTC)
    stamps = (began + timedelta(microseconds=number) for number in range(BLOCK_LINES))
    block = "".join(f"{at.isoformat(timespec='microseconds')[:26]}Z I {text}\n" for at in stamps)
    with path.open("w") as file:
        for _ in range(megabytes * 1_000_000 // len(block) + 1):
            file.write(block)


def log_file(server: Served) -> Path:
    """The one log of the server's data folder."""
    words = psutil.Process(server.process.pid).cmdline()
    (found,) = Path(words[words.index("--data") + 1], "logs").glob("*/*.log")
    return found


def sign_in(server: Served) -> str:
    """The Cookie header of a browser that has signed in."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    form = urlencode({"email": USER, "password": _PASSWORD})
    origin = f"http://{server.host}:{server.port}"
    headers = {"Origin": origin, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/sign-in", body=form, headers=headers)
    answer = connection.getresponse()
    assert answer.status == 303, answer.read()
    return str(answer.headers["Set-Cookie"]).partition(";")[0]


def measure(server: Served, ask: Callable[[], int]) -> str:
    """Median and 99th percentile of many calls, the processor time and the bytes of each."""
    size = ask()
    walls = []
    spent = server.cpu_s()
    for _ in range(TIMES):
        began = time.perf_counter()
        ask()
        walls.append((time.perf_counter() - began) * 1e3)
    spent = (server.cpu_s() - spent) / TIMES * 1e3
    p99 = statistics.quantiles(walls, n=100)[98]
    told = (
        f"median {statistics.median(walls):5.1f} ms  p99 {p99:5.1f} ms  processor {spent:4.1f} ms"
    )
    return f"{told}  {size:>9,} bytes"


def main(megabytes: int) -> None:
    """Run one order, then put logs of this size in the place of its step's own."""
    with served() as server:
        client = server.client()
        write_recipe(client, {"one": [["s0"]]})
        client.finish(client.order("one"))
        cookie = sign_in(server)
        connection = http.client.HTTPConnection(server.host, server.port, timeout=60)

        def ask(method: str, path: str, body: str | None, headers: dict[str, str]) -> int:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            size = len(answer.read())
            assert answer.status in {200, 206}, (path, answer.status)
            return size

        known = {"Authorization": server.auth, "Content-Type": "application/json"}
        run = client.call("POST", "/v2/order/details/master", {})["servings"][0]["hid"]
        last = {"Cookie": cookie, "Range": "bytes=-65536"}
        wanted = json.dumps({"serving_hid": run, "logs": True})
        ways: dict[str, Callable[[], int]] = {
            "last 64 KB": lambda: ask("GET", f"/runs/{run}/log", None, last),
            "newest 5,000 lines": lambda: ask("POST", "/v2/order/details/master", wanted, known),
            "no log": lambda: ask("POST", "/v2/order/details/master", "{}", known),
        }
        for kind, text in TEXTS.items():
            write_log(log_file(server), text, megabytes)
            for way, do in ways.items():
                print(f"{megabytes} MB of {kind:12}  {way:20} {measure(server, do)}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
