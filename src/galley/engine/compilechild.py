"""The compiler's child: waits for connections, forks for each, compiles under limits."""

import ctypes
import gc
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import msgspec

import galley
from galley.core.errors import GalleyError, Issue
from galley.core.recipes import compile as compiling
from galley.core.recipes import showing, templating
from galley.core.recipes.faults import SourceFault
from galley.core.recipes.templates import TEMPLATES
from galley.core.runs.plan import CompiledSource
from galley.core.runs.ports import CompileRequest, ShownFile
from galley.engine import landlock

_HEADER = struct.Struct(">I")
_DIE_WITH_PARENT = 1
_FILES_PER_SECOND = 1000
_NAME_BYTES = 4096
_FDS = 2


class Limit(msgspec.Struct, frozen=True):
    """What a compilation may take: processor seconds, seconds in all, MB beside the child's own."""

    cpu_s: float = 2.0
    deadline_s: float = 5.0
    memory_mb: int = 256


class CompileOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the child is asked: an act on a request, or to `render` a text.

    The acts are `compile`, `check`, `names`, `show`, and `show` of the one file named `path`.
    """

    act: str
    request: CompileRequest | None = None
    path: str = ""
    text: str = ""
    variables: dict[str, Any] = {}
    limit: Limit = Limit()


class CompileAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the child answers. `issues` are (file, description, severity), `names` variations."""

    compiled: CompiledSource | None = None
    text: str | None = None
    message: str = ""
    issues: tuple[tuple[str, str, str], ...] = ()
    is_lasting: bool = True
    names: tuple[str, ...] = ()
    files: tuple[ShownFile, ...] | None = None


def limit_of(limit: Limit, files: int) -> Limit:
    """The limit for a source of so many files: large ones get more time and memory."""
    more = files / _FILES_PER_SECOND
    if more < 1:
        return limit
    return Limit(
        cpu_s=limit.cpu_s + more,
        deadline_s=limit.deadline_s + 2.5 * more,
        memory_mb=limit.memory_mb + files // 50,
    )


def serve(control: int) -> NoReturn:
    """Fork for every connection that comes by the control socket, until that is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _warm_up()
    wall = landlock.ReadOnly(_pythons_own())
    gc.collect()
    gc.freeze()
    gone = suppress(BrokenPipeError, ConnectionResetError)  # as a server that was killed leaves us
    with gone, socket.socket(fileno=control) as link:
        _answer_all(link, wall)
    sys.exit(0)


def _answer_all(link: socket.socket, wall: landlock.ReadOnly) -> None:
    """Say that this process is ready, and fork for every request until the server goes."""
    link.send(b".")
    while True:
        message, fds, _, _ = socket.recv_fds(link, 1, _FDS)
        if not message:
            return
        if len(fds) == _FDS:
            _fork(link, fds[0], fds[1], wall)
        for fd in fds:
            os.close(fd)


def _warm_up() -> None:
    """Compile every template of recipes once, so that forks find all modules and tables loaded."""
    for make in TEMPLATES.values():
        sample = CompileRequest(
            kind="recipe",
            project="",
            branch="",
            commit="",
            tree="",
            path="sample",
            variation="variation1",
            files=make("sample", ""),
            levels=(),
            system={},
        )
        compiled = compiling.compile_source(sample).compiled
        files = showing.show_recipe(sample)
        msgspec.msgpack.encode(CompileAnswer(compiled=compiled, files=files))


def _pythons_own() -> list[str]:
    """Where modules and the tables of time zones lie: all that is read here.

    Not all of `sys.path`: that may begin with the folder in which the server was started.
    """
    own = os.path.dirname(galley.__file__)  # noqa: PTH120
    return ["/usr", "/lib", "/lib64", "/etc/localtime", sys.prefix, sys.base_prefix, own]


def _fork(control: socket.socket, connection: int, progress: int, wall: landlock.ReadOnly) -> None:
    if os.fork() == 0:
        code = 1
        try:
            control.close()
            _answer_one(socket.socket(fileno=os.dup(connection)), progress, wall)
            code = 0
        finally:
            os._exit(code)


def _answer_one(link: socket.socket, progress: int, wall: landlock.ReadOnly) -> None:
    _die_with_parent()
    link.sendall(_HEADER.pack(os.getpid()))
    order = msgspec.msgpack.decode(_receive(link), type=CompileOrder)
    watch = _Progress(progress)
    _set_limits(order.limit, watch)
    wall.put_up()
    templating.watch_files(watch.tell)
    try:
        answer = _carry_out(order)
        frame = msgspec.msgpack.encode(answer)
    except _OutOfTime:
        frame = msgspec.msgpack.encode(_stopped(watch, f"{order.limit.cpu_s:g} s"))
    except MemoryError:
        frame = b""
    except Exception as error:  # noqa: BLE001 - whoever waits must hear that it failed
        traceback.print_exc()
        text = f"Galley itself failed to compile this ({type(error).__name__}); see its log."
        frame = msgspec.msgpack.encode(CompileAnswer(message=text))
    if not frame:
        frame = msgspec.msgpack.encode(_stopped(watch, f"{order.limit.memory_mb} MB"))
    signal.setitimer(signal.ITIMER_PROF, 0)
    link.sendall(_HEADER.pack(len(frame)) + frame)


def _carry_out(order: CompileOrder) -> CompileAnswer:
    try:
        return _act(order)
    except SourceFault as fault:
        return CompileAnswer(
            message=f"{fault.file}: {fault.text}", issues=((fault.file, fault.text, "error"),)
        )
    except GalleyError as error:
        return CompileAnswer(message=error.message, issues=_plain(error.issues))
    except RecursionError:
        return CompileAnswer(message="The recipe is nested too deeply. Flatten it.")


def _act(order: CompileOrder) -> CompileAnswer:
    if order.act == "render":
        return CompileAnswer(text=templating.render_text(order.text, order.variables))
    if order.request is None:
        return CompileAnswer(message="Nothing was asked.")
    if order.act == "names":
        return CompileAnswer(names=tuple(compiling.variation_names(order.request)))
    if order.act == "check":
        return CompileAnswer(issues=_plain(compiling.check_recipe(order.request)))
    if order.act == "show":
        return _show(order.request, order.path)
    return _compile(order.request)


def _compile(request: CompileRequest) -> CompileAnswer:
    found = compiling.compile_source(request)
    if found.compiled is None:
        refused = compiling.refused(request, found.issues)
        return CompileAnswer(message=refused.message, issues=_plain(found.issues))
    return CompileAnswer(compiled=found.compiled, is_lasting=found.is_lasting)


def _show(request: CompileRequest, path: str) -> CompileAnswer:
    if path:
        return CompileAnswer(text=showing.show_file(request, path))
    return CompileAnswer(files=showing.show_recipe(request))


def _plain(issues: Any) -> tuple[tuple[str, str, str], ...]:
    found: list[Issue] = list(issues)
    return tuple((issue.file, issue.description, issue.severity) for issue in found)


class _OutOfTime(BaseException):
    """Raised by a signal; no handler of ordinary faults may swallow it."""


class _Progress:
    """Tells the parent by shared memory which file is being rendered."""

    def __init__(self, memory: int) -> None:
        self._memory = mmap.mmap(memory, _NAME_BYTES)
        self.file = ""

    def tell(self, file: str) -> None:
        """Note the file; must stay quick."""
        self.file = file
        name = file.encode(errors="replace")[: _NAME_BYTES - 1]
        self._memory[: len(name) + 1] = name + b"\0"


def _stopped(watch: _Progress, what: str) -> CompileAnswer:
    if not watch.file:
        return CompileAnswer(message=f"The recipe took more than {what} to compile. Shorten it.")
    text = f"the template of {watch.file} took more than {what} to render."
    cure = " Look for a loop without end, or make it smaller."
    return CompileAnswer(
        message=text[0].upper() + text[1:] + cure, issues=((watch.file, text + cure, "error"),)
    )


def _set_limits(limit: Limit, watch: _Progress) -> None:
    """Processor time first by a signal that Python sees, then by one that nothing survives."""

    def stop(_: int, __: object) -> None:
        raise _OutOfTime

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit.cpu_s)
    hard = int(limit.cpu_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
    size = _own_bytes() + limit.memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    watch.tell("")
    watch.file = ""


def _own_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - no need of pathlib here
        return int(file.read().split()[0]) * resource.getpagesize()


def _receive(link: socket.socket) -> bytes:
    size = _HEADER.unpack(_exactly(link, _HEADER.size))[0]
    return bytes(_exactly(link, size))


def _exactly(link: socket.socket, size: int) -> bytearray:
    found = bytearray()
    while len(found) < size:
        part = link.recv(min(1 << 20, size - len(found)))
        if not part:
            os._exit(0)
        found += part
    return found


def _die_with_parent() -> None:
    with suppress(OSError):
        ctypes.CDLL(None, use_errno=True).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
