"""DBOS: a library that keeps each step in SQLite or Postgres; steps are calls in one process.

Run with the address of an empty database. SQLite is put into write-ahead mode, which DBOS itself
does not do and is faster by it; queues are looked at 20 times a second, not once. Of the burst both
ways are measured: through a queue, and started all together.
"""

import asyncio
import sqlite3
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from dbos import DBOS, DBOSConfig
from measuring import LENGTH, STEPS, Meter, scratch

LOOK_S = 0.01


@DBOS.step()
def node(number: int) -> int:
    return number


@DBOS.step()
async def async_node(number: int) -> int:
    return number


@DBOS.workflow()
def chain(count: int) -> int:
    for number in range(count):
        node(number)
    return count


@DBOS.workflow()
async def fan(count: int) -> int:
    return len(await asyncio.gather(*(async_node(number) for number in range(count))))


def run_chain(count: int) -> None:
    DBOS.start_workflow(chain, count).get_result(polling_interval_sec=LOOK_S)


def run_fan() -> None:
    async def one() -> None:
        handle = await DBOS.start_workflow_async(fan, LENGTH)
        await handle.get_result(polling_interval_sec=LOOK_S)

    asyncio.run(one())


def burst(runs: int) -> None:
    for handle in [DBOS.start_workflow(chain, STEPS) for _ in range(runs)]:
        handle.get_result(polling_interval_sec=LOOK_S)


def queued_burst(runs: int) -> None:
    for handle in [DBOS.enqueue_workflow("runs", chain, STEPS) for _ in range(runs)]:
        handle.get_result(polling_interval_sec=LOOK_S)


def main(address: str, name: str) -> None:
    if address.startswith("sqlite"):
        with sqlite3.connect(address.removeprefix("sqlite:///")) as connection:
            connection.execute("pragma journal_mode=wal")
    DBOS(
        config=DBOSConfig(
            name="bench", system_database_url=address, log_level="ERROR",
            application_version="v1", executor_id="e1",
            notification_listener_polling_interval_sec=0.02,
        )
    )  # fmt: skip
    DBOS.launch()
    DBOS.register_queue("runs", polling_interval_sec=0.05, worker_concurrency=20)
    meter = Meter(name, version("dbos"), is_library=True)
    meter.repeat("one step", lambda: run_chain(1), 30)
    meter.repeat("chain of 100", lambda: run_chain(LENGTH), 5)
    meter.repeat("fan of 100", run_fan, 5)
    meter.burst("burst, queued", queued_burst, 200)
    meter.burst("burst", burst, 200)
    meter.report()
    DBOS.destroy()


if __name__ == "__main__":
    with scratch("dbos") as folder:
        given = sys.argv[1:]
        main(given[0] if given else f"sqlite:///{folder}/dbos.sqlite", *given[1:] or ["dbos"])
