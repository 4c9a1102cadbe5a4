"""Compiles sources in a warm child process, so that the server never parses what users wrote.

`python -m galley.engine.compiling FD` is exec'd once, stays single-threaded and forks for every
request; the fork has limits on processor time and memory, and its parent a deadline. Frames on a
socket are a length of 4 bytes (big-endian) and msgpack.
"""

import dataclasses
import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from galley.core.errors import GalleyError, Issue, Refused, Unavailable
from galley.core.recipes.documents import MAX_BYTES
from galley.core.runs.plan import CompiledSource
from galley.core.runs.ports import CompileRequest, ShownFile
from galley.engine.compilechild import CompileAnswer, CompileOrder, Limit, limit_of, serve
from galley.kit.destinations import ALLOW_VARIABLE

log = structlog.get_logger("galley.compiler")

_HEADER = struct.Struct(">I")
_MAX_FRAME = 512 * 1024 * 1024
_NAME_BYTES = 4096
_CACHED_PLANS = 512
_START_S = 30.0
_TRIES = 2
_AT_ONCE = max(2, os.cpu_count() or 1)
_QUEUE_S = 30.0
_STARVED = 0.25
_TICKS = os.sysconf("SC_CLK_TCK")
_USER_TIME, _SYSTEM_TIME = 11, 12


class ChildCompiler:
    """Implements `ports.Compiler`; safe to call from many threads. `close` it at the end.

    `cpu_s` is what the templates of a small source may take, `deadline_s` how long anybody waits;
    both grow with the number of files. `memory_mb` is what a compilation may take beside the
    child's own size.
    """

    def __init__(
        self, *, cpu_s: float = 2.0, deadline_s: float = 5.0, memory_mb: int = 256
    ) -> None:
        self._limit = Limit(cpu_s, deadline_s, memory_mb)
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._plans: OrderedDict[str, CompiledSource] = OrderedDict()
        self._is_closed = False

    def start(self) -> None:
        """Start the child now, so that the first request finds it warm."""
        with self._lock:
            self._ensure_child()

    def close(self) -> None:
        """End the child; running requests are refused."""
        with self._lock:
            self._is_closed = True
            self._drop_child()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def compile(self, request: CompileRequest) -> CompiledSource:
        """The plan; see `ports.Compiler`."""
        request = _trimmed(request)
        key = _cache_key(request)
        with self._lock:
            known = self._plans.get(key)
            if known is not None:
                self._plans.move_to_end(key)
                return _with_source(known, request)
        answer = self._ask(CompileOrder("compile", request=request), len(request.files))
        if answer.compiled is None:
            raise Refused(answer.message, issues=_issues(answer))
        if answer.is_lasting:
            with self._lock:
                self._plans[key] = answer.compiled
                while len(self._plans) > _CACHED_PLANS:
                    self._plans.popitem(last=False)
        return answer.compiled

    def render(self, text: str, variables: Mapping[str, Any]) -> str:
        """One template, rendered; see `ports.Compiler`."""
        order = CompileOrder("render", text=text, variables=dict(variables))
        answer = self._ask(order, 1)
        if answer.text is None:
            raise Refused(answer.message, issues=_issues(answer))
        return answer.text

    def check(self, request: CompileRequest) -> Sequence[Issue]:
        """All issues of a variation, or of all of them; see `ports.Compiler`.

        Each variation is checked by itself, with a compilation's limits.
        """
        request = _trimmed(request)
        names: Sequence[str] = (request.variation,)
        if not request.variation:
            try:
                names = self.list_variations(request)
            except Refused as refused:
                return refused.issues or (Issue("", refused.message),)
        issues: dict[Issue, None] = {}
        for name in names or ("",):
            wanted = dataclasses.replace(request, variation=name)
            issues.update(dict.fromkeys(self._check_one(wanted)))
        return list(issues)

    def list_variations(self, request: CompileRequest) -> Sequence[str]:
        """See `ports.Compiler`."""
        order = CompileOrder("names", request=_trimmed(request))
        return self._ask(order, len(request.files)).names

    def show(self, request: CompileRequest) -> Sequence[ShownFile]:
        """Every file as a variation renders it; see `ports.Compiler`."""
        order = CompileOrder("show", request=_trimmed(request))
        answer = self._ask(order, len(request.files))
        if answer.files is None:
            raise Refused(answer.message, issues=_issues(answer))
        return answer.files

    def show_file(self, request: CompileRequest, path: str) -> ShownFile:
        """One file as a variation renders it; see `ports.Compiler`."""
        order = CompileOrder("show", request=_trimmed(request), path=path)
        try:
            answer = self._ask(order, len(request.files))
        except Refused as passed:  # a limit
            refused = passed
        else:
            if answer.text is not None:
                return ShownFile(path, answer.text)
            refused = Refused(answer.message, issues=_issues(answer))
        own = next((issue for issue in refused.issues if issue.file == path), None)
        if own is None:
            raise refused
        return ShownFile(path, None, fault=f"{path}: {own.description}")

    def _check_one(self, request: CompileRequest) -> Sequence[Issue]:
        try:
            answer = self._ask(CompileOrder("check", request=request), len(request.files))
        except Refused as refused:
            return refused.issues or (Issue("", refused.message),)
        if answer.message and not answer.issues:
            return (Issue("", answer.message),)
        return _issues(answer)

    def _ask(self, order: CompileOrder, files: int) -> CompileAnswer:
        limit = limit_of(self._limit, files)
        frame = _encoded(msgspec.structs.replace(order, limit=limit))
        if not self._room.acquire(timeout=_QUEUE_S):
            raise Unavailable("Too many recipes are being compiled; try again.", retry_after_s=2)
        try:
            return self._ask_again(frame, limit)
        finally:
            self._room.release()

    def _ask_again(self, frame: bytes, limit: Limit) -> CompileAnswer:
        for tries_left in reversed(range(_TRIES)):
            try:
                return self._ask_once(frame, limit)
            except _ForkGone:
                log.warning("compilation_killed", tries_left=tries_left)
                if not tries_left:
                    raise Unavailable(
                        "The process that compiles the recipe was killed or crashed, twice;"
                        " try again.",
                        retry_after_s=5,
                    ) from None
            except _ChildGone as gone:
                with self._lock:
                    if self._process is gone.process:
                        self._drop_child()
                if not tries_left:
                    raise Unavailable(
                        "The compiler is being restarted; try again.", retry_after_s=1
                    ) from gone
        raise AssertionError

    def _ask_once(self, frame: bytes, limit: Limit) -> CompileAnswer:
        ours, theirs = socket.socketpair()
        progress = os.memfd_create("galley-compiling")
        try:
            os.ftruncate(progress, _NAME_BYTES)
            process = self._hand_over(theirs, progress)
            theirs.close()
            began = time.monotonic()
            deadline = began + limit.deadline_s
            with _Watch(ours, deadline, process) as watch:
                watch.send(frame)
                answer = watch.answer()
                passed_s = time.monotonic() - began
                if answer is None and passed_s < min(limit.cpu_s, limit.deadline_s):
                    raise _ForkGone
                is_starved = answer is None and watch.used_s() < limit.cpu_s * _STARVED
            if is_starved:
                raise Unavailable("The machine is too busy to compile; try again.", retry_after_s=5)
            if answer is None:
                raise _too_slow(os.pread(progress, _NAME_BYTES, 0), limit)
            return msgspec.msgpack.decode(answer, type=CompileAnswer)
        finally:
            ours.close()
            theirs.close()
            os.close(progress)

    def _hand_over(self, theirs: socket.socket, progress: int) -> "subprocess.Popen[bytes]":
        """Give the child its end of a new connection; it forks for it."""
        with self._lock:
            process, control = self._ensure_child()
            try:
                socket.send_fds(control, [b"."], [theirs.fileno(), progress])
            except OSError as error:
                raise _ChildGone(process) from error
            return process

    def _ensure_child(self) -> "tuple[subprocess.Popen[bytes], socket.socket]":
        if self._is_closed:
            raise Unavailable("The server is stopping.", retry_after_s=5)
        if self._process is not None and self._control is not None:
            if self._process.poll() is None:
                return self._process, self._control
            self._drop_child()
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )
        ours.settimeout(_START_S)
        try:
            is_ready = ours.recv(1) == b"."
        except OSError:
            is_ready = False
        if not is_ready:
            ours.close()
            process.kill()
            process.wait()
            log.error("compiler_does_not_start", pid=process.pid, status=process.returncode)
            raise Unavailable("The compiler does not start; see the server's log.", retry_after_s=5)
        ours.settimeout(None)
        self._process, self._control = process, ours
        return process, ours

    def _drop_child(self) -> None:
        process, control = self._process, self._control
        self._process = self._control = None
        if control is not None:
            control.close()
        if process is not None:
            process.kill()
            process.wait()


class _ChildGone(Exception):
    """The warm child died before it took the request."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        super().__init__("the compiler's process is gone")
        self.process = process


class _ForkGone(Exception):
    """The fork of one request ended without an answer, before its time can have been up."""


class _Watch:
    """One request's connection with its deadline; the fork is killed when it passes."""

    def __init__(
        self, link: socket.socket, deadline: float, process: "subprocess.Popen[bytes]"
    ) -> None:
        self._link = link
        self._deadline = deadline
        self._process = process
        self._fork: int | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        head = self._receive(_HEADER.size)
        if head is None:
            raise _ChildGone(self._process)
        self._pid = _HEADER.unpack(head)[0]
        with suppress(ProcessLookupError):
            self._fork = os.pidfd_open(self._pid)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fork is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fork, signal.SIGKILL)
            os.close(self._fork)

    def send(self, frame: bytes) -> None:
        """Send the order; a fork that dies meanwhile shows when its answer is read."""
        self._link.settimeout(max(0.001, self._deadline - time.monotonic()))
        with suppress(OSError):
            self._link.sendall(_HEADER.pack(len(frame)) + frame)

    def answer(self) -> bytes | None:
        """The answer; None if the fork was killed or ran out of time."""
        head = self._receive(_HEADER.size)
        if head is None:
            return None
        size = _HEADER.unpack(head)[0]
        return self._receive(size) if size <= _MAX_FRAME else None

    def used_s(self) -> float:
        """Processor seconds that the living fork has used; endless if it is gone."""
        try:
            if self._fork is None:
                return float("inf")
            signal.pidfd_send_signal(self._fork, signal.SIGSTOP)
            fields = Path(f"/proc/{self._pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return float("inf")
        return (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / _TICKS

    def _receive(self, size: int) -> bytes | None:
        found = bytearray()
        while len(found) < size:
            self._link.settimeout(max(0.001, self._deadline - time.monotonic()))
            try:
                part = self._link.recv(min(1 << 20, size - len(found)))
            except OSError:
                return None
            if not part:
                return None
            found += part
        return bytes(found)


def _too_slow(progress: bytes, limit: Limit) -> GalleyError:
    file = progress.split(b"\0", 1)[0].decode(errors="replace")
    if not file:
        return Refused(
            f"The recipe took more than {limit.cpu_s:g} s or {limit.memory_mb} MB to compile."
            " Make it smaller."
        )
    text = (
        f"the template of {file} took more than {limit.cpu_s:g} s or {limit.memory_mb} MB."
        " Look for a loop without end, or make it smaller."
    )
    return Refused(f"{text[0].upper()}{text[1:]}", issues=[Issue(file, text)])


def _issues(answer: CompileAnswer) -> tuple[Issue, ...]:
    return tuple(Issue(file, text, severity) for file, text, severity in answer.issues)


def _with_source(known: CompiledSource, request: CompileRequest) -> CompiledSource:
    """The known plan as if compiled from this commit; its tree is the same."""
    source = known.plan.source
    if source.commit == request.commit and source.branch == request.branch:
        return known
    source = msgspec.structs.replace(source, commit=request.commit, branch=request.branch)
    plan = msgspec.structs.replace(known.plan, source=source)
    return msgspec.structs.replace(known, plan=plan)


def _trimmed(request: CompileRequest) -> CompileRequest:
    """The request without the ends of files that are too large to be read as source."""
    if all(len(content) <= MAX_BYTES for content in request.files.values()):
        return request
    files = {path: content[: MAX_BYTES + 1] for path, content in request.files.items()}
    return dataclasses.replace(request, files=files)


def _cache_key(request: CompileRequest) -> str:
    """Names everything that a plan depends on, except the present moment.

    Where there is a tree, its hash stands for the files.
    """
    facts = {name: value for name, value in request.system.items() if name != "now"}
    names = (request.kind, request.project, request.tree, request.path, request.variation)
    digest = hashlib.sha256()
    head = (names, list(request.levels), facts, request.only_steps)
    digest.update(_encoded(head))
    for path in () if request.tree else sorted(request.files):
        content = request.files[path]
        digest.update(f"{len(path)} {path} {len(content)} ".encode(errors="surrogatepass"))
        digest.update(content)
    return digest.hexdigest()


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value, order="deterministic")
    except (OverflowError, TypeError, ValueError, RecursionError) as error:
        raise Refused(
            f"A variable cannot be used: {error}. Give text, numbers of at most 64 bits, lists or"
            " objects."
        ) from error


def _environment() -> dict[str, str]:
    """What the child needs of ours: where Python is, the language, what webhooks may reach."""
    places = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "TMPDIR")
    kept = (*places, "LANG", "LC_ALL", "TZ", ALLOW_VARIABLE)
    return {name: os.environ[name] for name in kept if name in os.environ}


if __name__ == "__main__":
    serve(int(sys.argv[1]))
