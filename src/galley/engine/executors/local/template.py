"""The warm process that shims are forked from: `python -m galley.engine.executors.local.template`.

It is exec'd, never forked from the threaded server; it has one thread and never sees a task: the
memory file that holds one (with its secrets) passes through it to the shim unread. Empty steps,
which have no secret, are served `beside` it. It ends when the server's socket closes; its shims go
on.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import select
import shutil
import signal
import socket
import sys
import traceback
from array import array
from functools import cached_property
from typing import Any

import msgspec

from galley.engine.executors.local import empty, processes, shim
from galley.engine.executors.local import limits as limiting
from galley.engine.executors.local.beside import Beside
from galley.engine.executors.local.messages import (
    BROKEN,
    EXITED,
    MOST_PLACES_BYTES,
    READY,
    REFUSED,
    REPORT,
    REQUEST,
    STARTED,
    TemplateSettings,
)

_INT_BYTES = array("i").itemsize
_PR_SET_NAME = 15
_REHEARSALS = 20
_MOST_REQUEST_BYTES = REQUEST.size + MOST_PLACES_BYTES
_HANDLE_SPACE = socket.CMSG_SPACE(_INT_BYTES)


def _load(settings: TemplateSettings) -> tuple[shim.RunStep, dict[str, Any] | None]:
    """Import the function that runs steps, and what it needs: its module's PRELOAD as well.

    The second is the module's REHEARSAL: fields of a task for `shim.rehearse`.
    """
    name, _, function = settings.run_step.partition(":")
    module = importlib.import_module(name)
    loaded: shim.RunStep = getattr(module, function)
    for needed in (*settings.preload, *getattr(module, "PRELOAD", ())):
        importlib.import_module(needed)
    duckdb = sys.modules.get("duckdb")
    if duckdb is not None:
        duckdb.default_connection().close()  # its import opens one, which has a thread
    return loaded, getattr(module, "REHEARSAL", None)


class _Template:
    """Makes a process for each request and tells the server how each began and ended."""

    def __init__(self, connection: socket.socket, warm: shim.Warm) -> None:
        self._connection = connection
        self._warm = warm
        self._serials: dict[int, int] = {}
        self._awake, self._wakes = socket.socketpair()
        self._awake.setblocking(False)
        self._wakes.setblocking(False)

    @cached_property
    def _beside(self) -> Beside | None:
        """What makes processes beside this one; None where that cannot be done."""
        if not Beside.possible:
            return None
        try:
            return Beside()
        except (OSError, MemoryError, AttributeError):
            return None

    def serve(self) -> None:
        """Answer requests until the server goes. A shim ends in here: it takes nothing apart."""
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        poll.register(self._awake, select.POLLIN)
        self._report(READY, 0, os.getpid())
        while True:
            ready = {handle for handle, _ in poll.poll()}
            if self._awake.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    self._awake.recv(4096)
                self._reap()
            if self._connection.fileno() in ready:
                request = self._receive()
                if request is None:
                    return
                serial, generation, what = request
                if what is None:
                    self._report(REFUSED, serial, 0, "the task did not arrive (out of memory?)")
                elif isinstance(what, bytes):
                    self._leave_files(serial, generation, what)
                elif self._fork(serial):
                    os._exit(shim.main(what, generation, self._warm))
                else:
                    os.close(what)

    def _receive(self) -> tuple[int, int, int | bytes | None] | None:
        """The next request, with its memory file or an empty step's places; None at the end.

        The third is None where the kernel could not pass the memory file on.
        """
        data, ancillary, _, _ = self._connection.recvmsg(
            _MOST_REQUEST_BYTES, _HANDLE_SPACE, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return None
        serial, generation = REQUEST.unpack_from(data)
        if len(data) > REQUEST.size:
            return serial, generation, data[REQUEST.size :]
        if not ancillary:
            return serial, generation, None
        handles = array("i")
        handles.frombytes(ancillary[0][2][:_INT_BYTES])
        return serial, generation, handles[0]

    def _leave_files(self, serial: int, generation: int, places: bytes) -> None:
        """Have an empty step's process leave its files, beside this one where that can be done.

        One that was in the hands of a template that died may have been what it died of: it is
        forked.
        """
        if generation > 0 or self._beside is None:
            if self._fork(serial):
                os._exit(empty.main(places, generation))
            return
        try:
            pid, status = self._beside.run(lambda: empty.main(places, generation))
        except OSError as error:
            self._report(REFUSED, serial, error.errno or 0, f"fork failed: {error}")
            return
        self._report(STARTED, serial, pid)
        self._report(EXITED, serial, status)

    def _fork(self, serial: int) -> bool:
        """Fork; True in the shim."""
        if processes.thread_count() != 1:
            self._report(REFUSED, serial, 0, "the template has more than one thread")
            return False
        try:
            pid = os.fork()
        except OSError as error:
            self._report(REFUSED, serial, error.errno or 0, f"fork failed: {error}")
            return False
        if pid == 0:
            signal.set_wakeup_fd(-1)
            self._connection.close()
            self._awake.close()
            self._wakes.close()
            return True
        self._serials[pid] = serial
        self._report(STARTED, serial, pid)
        return False

    def _reap(self) -> None:
        """Report the shims that ended."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                serial = self._serials.pop(pid, None)
                if serial is not None:
                    self._report(EXITED, serial, status)

    def _report(self, kind: bytes, serial: int, value: int, text: str = "") -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(REPORT.pack(kind, serial, value) + text.encode()[:4000])


def _prepare(settings: TemplateSettings) -> shim.Warm:
    """Everything that is done once for all shims."""
    run_step, rehearsed = _load(settings)
    if processes.thread_count() != 1:
        raise RuntimeError("a module of the steps starts a thread when it is imported")
    processes.boot_id()
    shim.arm_signals()
    baseline_bytes = processes.virtual_bytes()
    shared = msgspec.structs.replace(settings.limits, cpu_s=None)  # a template lives long
    limiting.apply_to_shim(shared, baseline_bytes)  # inherited by shims without their own limits
    warm = shim.Warm(settings, run_step, baseline_bytes)
    rehearsal = f"{settings.folder}/rehearsal.{os.getpid()}"
    shim.rehearse(warm, rehearsal, _REHEARSALS, rehearsed)
    shutil.rmtree(rehearsal)
    gc.collect()
    gc.freeze()
    return warm


def main(argv: list[str]) -> int:
    """Serve the server at the other end of the socket `argv[1]`; settings are JSON in `argv[2]`."""
    gc.disable()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    connection = socket.socket(fileno=int(argv[1]))
    connection.set_inheritable(False)
    settings = msgspec.json.decode(argv[2], type=TemplateSettings)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"galley-template", 0, 0, 0)
    try:
        warm = _prepare(settings)
    except Exception as error:  # noqa: BLE001 (the server tells people; it needs the whole text)
        text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        connection.send(REPORT.pack(BROKEN, 0, 0) + text.encode()[:4000])
        return 1
    _Template(connection, warm).serve()
    return 0


if __name__ == "__main__":
    code = 70
    try:
        code = main(sys.argv)
    except BaseException:  # noqa: BLE001 (nothing may run the interpreter's own way out)
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)
