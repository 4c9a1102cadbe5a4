"""Dagster: its web server, its daemon with a queue of four runs at a time, SQLite.

Each run is a process, its steps are calls in it: a process for each step is slower by far.
"""

import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from importlib.metadata import version

from measuring import Meter, answers, await_true, free_port, program, scratch, service

BURST = 10
INSTANCE = """\
telemetry: {enabled: false}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {max_concurrent_runs: 4, dequeue_interval_seconds: 1}
"""
LAUNCH = """mutation($job: String!) { launchRun(executionParams: {selector: {jobName: $job,
  repositoryName: "__repository__", repositoryLocationName: "dagster_jobs.py"},
  mode: "default", runConfigData: {}})
  { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
STATUS = "query($run: ID!) { runOrError(runId: $run) { __typename ... on Run { status } } }"
DAEMONS = """{ instance { daemonHealth {
  daemonStatus(daemonType: "QUEUED_RUN_COORDINATOR") { healthy } } } }"""


class Web:
    """Dagster's GraphQL API."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, query: str, **values: str) -> Any:
        body = json.dumps({"query": query, "variables": values}).encode()
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.address}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found = json.load(answer)
        assert "errors" not in found, found
        return found["data"]

    def launch(self, name: str) -> str:
        made = self.ask(LAUNCH, job=name)["launchRun"]
        assert made["__typename"] == "LaunchRunSuccess", made
        return str(made["run"]["runId"])

    def finish(self, run: str) -> None:
        while True:
            status = self.ask(STATUS, run=run)["runOrError"]["status"]
            if status == "SUCCESS":
                return
            assert status not in {"FAILURE", "CANCELED"}, status
            time.sleep(0.1)

    def run(self, name: str) -> None:
        self.finish(self.launch(name))

    def burst(self, runs: int) -> None:
        for run in [self.launch("five") for _ in range(runs)]:
            self.finish(run)

    def has_daemon(self) -> bool:
        health = self.ask(DAEMONS)["instance"]["daemonHealth"]["daemonStatus"]
        return bool(health["healthy"])


def main() -> None:
    here = Path(__file__).parent
    with scratch("dagster") as folder:
        (folder / "dagster.yaml").write_text(INSTANCE)
        os.environ |= {"DAGSTER_HOME": str(folder), "DO_NOT_TRACK": "1"}
        os.chdir(here)
        port = free_port()
        web = Web(port)
        jobs = ("-f", "dagster_jobs.py")
        server = (program("dagster-webserver"), "-h", "127.0.0.1", "-p", str(port), *jobs)
        daemon = (program("dagster-daemon"), "run", *jobs)
        with service(*server, said=folder / "web.log"):
            await_true("Dagster's web server", lambda: answers(f"{web.address}/server_info"))
            with service(*daemon, said=folder / "daemon.log"):
                await_true("Dagster's daemon", web.has_daemon)
                meter = Meter("dagster", version("dagster"))
                meter.repeat("one step", lambda: web.run("one"), 5)
                meter.repeat("chain of 100", lambda: web.run("chain"), 1)
                meter.repeat("fan of 100", lambda: web.run("fan"), 1)
                meter.burst("burst", web.burst, BURST)
                meter.report()


if __name__ == "__main__":
    main()
