"""The data folder of a server or worker: nobody else's, and one process's at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from galley.core.errors import Invalid, Unavailable
from galley.engine.folders import SHARED

if TYPE_CHECKING:
    from galley.settings import Settings

LOCK_NAME = "server.lock"

_MARKS = frozenset({"galley.db", LOCK_NAME, "worker.id", "executor"})
_EARLY = frozenset({"galley.toml", "secret.key", "lost+found", "environments", "nohup.out"})
_EARLY_ENDINGS = (".log", ".env")
_SHOWN = 3


def prepare(settings: "Settings") -> None:
    """Make the data folder. One that is there is Galley's, or holds only what may come before.

    Raises:
        Invalid: it holds other things and no Galley: its name may be mistyped.
    """
    data = settings.data
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = {path.name for path in data.iterdir() if not path.name.startswith(".")}
    early = _EARLY | {*SHARED, "blobs"} | _named(settings)
    others = sorted(name for name in there - early if not name.endswith(_EARLY_ENDINGS))
    if others and not there & _MARKS:
        raise Invalid(
            f"{data} is not empty ({', '.join(others[:_SHOWN])}) and holds no Galley; give an"
            " empty or a new folder with --data."
        )


def _named(settings: "Settings") -> set[str]:
    """What lies in the data folder, or leads from it, because a setting names it."""
    data = settings.data.absolute()
    names: set[str] = set()
    for path in filter(None, (settings.tls_cert, settings.tls_key, *settings.roots)):
        for file, folder in ((path.absolute(), data), (path.resolve(), data.resolve())):
            if file.is_relative_to(folder):
                names.update(file.relative_to(folder).parts[:1])
    return names


@contextmanager
def locked(data: Path, *, on_postgres: bool = False) -> Iterator[None]:
    """Keep a second server from this data folder; the other commands may work beside it.

    Raises:
        Unavailable: a server is at work there.
    """
    cure = (
        "Each server on one Postgres has a data folder of its own: give another one with"
        " --data; docs/how-to/serve.md says what they share."
        if on_postgres
        else "Stop it first (kill {other}), or give another folder with --data."
    )
    with _held(
        data / LOCK_NAME,
        f"A server (process {{other}}) works with the folder {data} already. {cure}",
    ):
        yield


@contextmanager
def locked_worker(data: Path, name: str) -> Iterator[None]:
    """Keep a second worker of this name from this data folder: it would end the first one's steps.

    Raises:
        Unavailable: one is at work there.
    """
    folder = data / "executor" / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = (
        f"A worker (process {{other}}) works as {name} with the folder {data} already. Give this"
        " one another --name, or stop that one first (kill {other})."
    )
    with _held(folder / "worker.lock", text):
        yield


@contextmanager
def _held(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock that the system drops if we die. `refusal` names the `{other}` who has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            raise Unavailable(refusal.replace("{other}", other)) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
