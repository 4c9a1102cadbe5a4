"""The server's end of a template: starts the process, sends tasks, reads reports."""

import os
import socket
import subprocess
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from galley.engine.executors.local.messages import REPORT, REQUEST, TemplateSettings

_END_S = 5.0
_TEXT_BYTES = 4096
_KEPT = frozenset(
    {
        "GALLEY_FAILPOINTS",
        "GALLEY_FAILPOINTS_AT",
        "GALLEY_TEST_CLOCK",
        "GALLEY_OUTBOUND_ALLOW",
        "GALLEY_STEP_NETWORK",
        "GALLEY_CONTAINER_ENGINE",
        "GALLEY_ENVIRONMENTS_MAX_MB",
    }
)
_SECRET_WORDS = ("SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "PRIVATE_KEY")
_SECRET_STARTS = ("GALLEY_", "AWS_", "PG")


@dataclass(frozen=True, slots=True)
class Report:
    """What a template tells: its kind, the request it is about, a number, and a text."""

    kind: bytes
    serial: int
    value: int
    text: str


def surroundings(environ: Mapping[str, str], import_paths: Sequence[str] = ()) -> dict[str, str]:
    """The environment of a template: the server's, without anything that could be a secret."""
    clean = {
        name: value
        for name, value in environ.items()
        if name in _KEPT
        or not (
            name.startswith(_SECRET_STARTS) or any(word in name.upper() for word in _SECRET_WORDS)
        )
    }
    if import_paths:
        paths = [*import_paths, *filter(None, [clean.get("PYTHONPATH")])]
        clean["PYTHONPATH"] = os.pathsep.join(paths)
    return clean


class TemplateLink:
    """One template process and the socket to it. Not thread-safe: one thread owns it.

    What the process prints goes to `complaints`, a file that each start truncates.
    """

    def __init__(
        self, settings: TemplateSettings, complaints: Path, import_paths: Sequence[str] = ()
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        command = [sys.executable, "-m", "galley.engine.executors.local.template"]
        command += [str(theirs.fileno()), msgspec.json.encode(settings).decode()]
        with theirs, complaints.open("wb") as printed:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=printed,
                start_new_session=True,
                env=surroundings(os.environ, import_paths),
            )
        self._socket = ours
        self.ready = False

    @property
    def pid(self) -> int:
        """The template's process."""
        return self._process.pid

    def fileno(self) -> int:
        """The socket, for a selector."""
        return self._socket.fileno()

    def send_empty(self, serial: int, generation: int, places: bytes) -> bool:
        """Hand an empty step over, as `send` does a task."""
        return self._pass_on(REQUEST.pack(serial, generation) + places)

    def send(self, serial: int, generation: int, task: bytes) -> bool:
        """Hand a task over; False if the template takes no more just now (or is gone).

        Raises:
            OSError: this process or the kernel lacks what it takes (descriptors, memory).
        """
        handle = os.memfd_create("task", os.MFD_CLOEXEC)
        try:
            rest = memoryview(task)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.lseek(handle, 0, os.SEEK_SET)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [handle]))]
            return self._pass_on(REQUEST.pack(serial, generation), rights)
        finally:
            os.close(handle)

    def _pass_on(
        self, request: bytes, rights: Sequence[tuple[int, int, "array[int]"]] = ()
    ) -> bool:
        try:
            self._socket.sendmsg([request], rights)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive(self) -> Report | None:
        """The next report; None once the template has gone.

        Raises:
            BlockingIOError: nothing more to read just now.
        """
        try:
            data = self._socket.recv(REPORT.size + _TEXT_BYTES)
        except ConnectionResetError:  # it left a request unread; its last reports still wait
            data = self._socket.recv(REPORT.size + _TEXT_BYTES)
        if not data:
            return None
        kind, serial, value = REPORT.unpack_from(data)
        return Report(kind, serial, value, data[REPORT.size :].decode("utf-8", "replace"))

    def close(self) -> None:
        """Let the template end, and see that it has."""
        self._socket.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def last_complaint(path: Path) -> str:
    """The last line that a template printed before it ended."""
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no reason known"
    return lines[-1] if lines else "it ended without a word"
