"""`galley worker`: runs steps for servers that share its Postgres."""

import signal
import threading
from pathlib import Path

import click

from galley.cli.common import data_option, load_settings, say
from galley.cli.place import locked_worker, prepare


@click.command()
@data_option
@click.option(
    "--name", help="This worker's name among all; kept, so that it finds its steps again."
)
@click.option("--slots", type=click.IntRange(1), help="Steps that run at once.")
def worker(data: Path, name: str | None, slots: int | None) -> None:
    """Run steps beside servers on the same Postgres (GALLEY_DATABASE_URL) and data folder.

    SIGTERM ends the worker, not its steps: the next worker of the same name adopts them.
    """
    from galley.app.worker import build_worker
    from galley.wire.logging import configure_logging

    settings = load_settings(data=data, slots=slots)
    configure_logging(settings.log_level)
    if settings.database_url is not None:
        prepare(settings)
    made = build_worker(settings, name)
    ended = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda _number, _frame: ended.set())
    with locked_worker(data, made.name):
        made.start()
        slots = made.executor.capabilities().slots
        say(f"Worker {made.name} is ready with {slots} slots")
        ended.wait()
        made.stop()
