"""Prefect: its server on SQLite, and served deployments; each run of a flow is a process.

Prefect is imported after its settings are made, for it reads them once.
"""

import asyncio
import os
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from measuring import (
    LENGTH,
    STEPS,
    Meter,
    answers,
    await_true,
    free_port,
    program,
    scratch,
    service,
)

BURST = 20
FLOWS = str(Path(__file__).with_name("prefect_flows.py"))
SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_CLI_PROMPT": "false",
}


def run(name: str, count: int) -> None:
    """One run of the deployment, from the request to its end."""
    from prefect.deployments import run_deployment

    values = {"count": count}
    done = run_deployment(f"{name}/bench", parameters=values, poll_interval=0.1, timeout=600)
    assert done.state.is_completed(), done.state


def burst(runs: int) -> None:
    """Many runs of a chain of five at once."""
    from prefect import get_client

    async def all_of_them() -> None:
        async with get_client() as client:
            deployment = await client.read_deployment_by_name("chain/bench")
            values = {"count": STEPS}
            made = [
                await client.create_flow_run_from_deployment(deployment.id, parameters=values)
                for _ in range(runs)
            ]
            left = {one.id for one in made}
            while left:
                await asyncio.sleep(0.3)
                for one in list(left):
                    state = (await client.read_flow_run(one)).state
                    if state and state.is_final():
                        assert state.is_completed(), state
                        left.discard(one)

    asyncio.run(all_of_them())


def are_deployed() -> bool:
    """Whether the server knows both deployments."""
    from prefect import get_client

    async def count() -> int:
        async with get_client() as client:
            return len(await client.read_deployments())

    return asyncio.run(count()) == 2


def main() -> None:
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    listen = ("--host", "127.0.0.1", "--port", str(port), "--no-ui")
    with scratch("prefect") as folder:
        os.environ |= SETTINGS | {"PREFECT_HOME": str(folder), "PREFECT_API_URL": api}
        with service(program("prefect"), "server", "start", *listen, said=folder / "server.log"):
            await_true("Prefect's server", lambda: answers(f"{api}/health"))
            with service(sys.executable, FLOWS, said=folder / "flows.log"):
                await_true("the deployments", are_deployed)
                meter = Meter("prefect", version("prefect"))
                meter.repeat("one step", lambda: run("chain", 1), 5)
                meter.repeat("chain of 100", lambda: run("chain", LENGTH), 1)
                meter.repeat("fan of 100", lambda: run("fan", LENGTH), 1)
                meter.burst("burst", burst, BURST)
                meter.report()


if __name__ == "__main__":
    main()
