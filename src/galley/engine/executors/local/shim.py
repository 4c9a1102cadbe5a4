"""The process of one attempt: claims it, runs the step, leaves the exit file.

It outlives the server: it writes to files only, and minds no terminal and no closed pipe.
"""

import gc
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from galley.core.errors import ErrorKind, GalleyError
from galley.core.runs.task import Outcome, Task, storable
from galley.engine.executors.local import claims, messages, processes
from galley.engine.executors.local import limits as limiting
from galley.engine.executors.local.console import ShimConsole
from galley.engine.executors.local.limits import LimitWatch
from galley.engine.executors.local.logfile import ERROR, WARNING, ConsoleStream, LogFile
from galley.engine.executors.local.masking import Masker
from galley.engine.executors.local.messages import Stop, TemplateSettings
from galley.kit.failpoints import failpoint

if TYPE_CHECKING:
    from galley.engine.executors.local.programs import Programs

RunStep = Callable[[Task, ShimConsole], Any]

_OWN_GRACE_S = 5.0
_GRACE_SHARE = 0.8
_READ_BYTES = 1 << 20
_HOPELESS = frozenset({ErrorKind.INVALID, ErrorKind.REFUSED, ErrorKind.NOT_BUILT})
_decode_task = msgspec.msgpack.Decoder(Task).decode


class Stopped(BaseException):
    """The attempt was told to stop: not an Exception, so that no step's code catches it."""

    def __init__(self, stop: Stop | None) -> None:
        super().__init__(stop)
        self.stop = stop


@dataclass(frozen=True, slots=True)
class Warm:
    """What a template prepared for its shims; `baseline_bytes` is its address space."""

    settings: TemplateSettings
    run_step: RunStep
    baseline_bytes: int


def encode_task(task: Task) -> bytes:
    """The form in which a task travels to its shim."""
    return msgspec.msgpack.encode(task)


def arm_signals() -> None:
    """Install the handlers of all shims, once, in the template (its own SIGTERM is blocked).

    They are handlers even where nothing is to be done, so that programs start with the defaults.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _ignore)
    signal.signal(signal.SIGTERM, _on_sigterm)
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.signal(signal.SIGXCPU, _on_cpu_limit)


def main(handle: int, generation: int, warm: Warm) -> int:
    """Run the attempt whose task is in the memory file `handle`; returns the exit status.

    Every page of memory that a shim touches is copied from the template, and that is most of what
    a small step costs: this path is kept short on purpose.
    """
    os.setsid()
    failpoint("shim.forked")
    task = _decode_task(_read_all(handle))
    mark = processes.mark_of(os.getpid())
    try:
        if mark is None or not claims.claim(task.folder, generation, mark):
            return messages.NOT_OURS
        failpoint("shim.claimed")
        attempt = _Shim(task, warm)
        _make_folder(task.work)
    except OSError:
        return messages.COULD_NOT_BEGIN
    return attempt.run()


def rehearse(warm: Warm, folder: str, times: int, what: dict[str, Any] | None = None) -> None:
    """Go the whole way of a shim in the template, some times, with a step that does nothing.

    `what` gives the fields of a task that the real function is to run; without it only what is
    around it is rehearsed.

    The interpreter then has specialised its code and filled its caches where all shims share
    them, and each shim copies about a tenth fewer pages.
    """
    if what is None:
        warm = Warm(warm.settings, _say_nothing, warm.baseline_bytes)
    for number in range(times):
        place = f"{folder}/{number}"
        fields: dict[str, Any] = {"kind": "", "body": {}, **(what or {})}
        task = Task(
            key="",
            run_id=0,
            step_id=0,
            attempt_id=0,
            number=1,
            fence=0,
            run_uid="",
            order_uid="",
            step_key="",
            text={},
            variables={"a": 1, "b": "c"},
            **fields,
            folder=place,
            work=place,
            log=f"{place}/log",
        )
        task = _decode_task(encode_task(task))
        mark = processes.mark_of(os.getpid())
        if mark is not None and claims.claim(place, 0, mark):
            _Shim(task, warm).rehearse()


def _say_nothing(_task: Task, console: ShimConsole) -> Outcome:
    console.info("a rehearsal")
    return Outcome(state="succeeded")


class _Shim:
    """One attempt from its claim to its exit file."""

    def __init__(self, task: Task, warm: Warm) -> None:
        self._task = task
        self._warm = warm
        self._began = time.monotonic()
        self._masker = Masker(task.secrets.values())
        self._watch = LimitWatch(task.limits.above(warm.settings.limits))
        self._log = LogFile(task.log, self._masker, warm.settings.log_limit_bytes)
        self._made_programs: Programs | None = None
        self._console = ShimConsole(self._log, self._programs)
        self._ending = False

    def run(self) -> int:
        """Run the step and leave the exit file."""
        try:
            self._prepare()
            failpoint("shim.prepared")
            outcome = self._body()
            self._ending = True  # inside: a signal before this line still finds the handler below
        except Stopped as stopped:
            if stopped.stop is None:
                return self._die_of_sigterm()
            outcome = self._stopped(stopped.stop)
        outcome = self._finish(outcome)
        failpoint("shim.before_exit_file")
        try:
            messages.write_outcome(self._task.folder, outcome)
        except OSError as error:
            self._log.say(ERROR, f"The step's result could not be written: {error}")
            return messages.FAILED_TO_REPORT
        failpoint("shim.after_exit_file")
        return 0

    def rehearse(self) -> None:
        """Do what `run` does, but for what changes the process."""
        self._ending = True
        messages.write_outcome(self._task.folder, self._finish(self._body()))
        self._log.close()

    def _programs(self) -> "Programs":
        """The attempt's programs. Their module is loaded in templates whose steps run some."""
        if self._made_programs is None:
            from galley.engine.executors.local.programs import Programs

            is_walled = self._warm.settings.sandbox
            self._made_programs = Programs(self._task, self._log, self._watch, sandboxed=is_walled)
        return self._made_programs

    def _prepare(self) -> None:
        """Take signals from now on, and keep to the limits."""
        global _current  # noqa: PLW0603 (a process has one attempt; its signal handlers find it)
        _current = self
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        if self._task.timeout_s is not None:
            signal.setitimer(signal.ITIMER_REAL, max(self._task.timeout_s, 0.001))
        limits = self._watch.limits
        if limits is not self._warm.settings.limits or limits.cpu_s is not None:
            limiting.apply_to_shim(limits, self._warm.baseline_bytes)
        sys.stdout = sys.stderr = ConsoleStream(self._log)
        gc.enable()
        if self._masker.too_short:
            self._log.say(
                WARNING, "A secret of fewer than 4 characters cannot be masked in this log."
            )

    def _body(self) -> Outcome:
        """Run the step; whatever it raises becomes a failure with a reason."""
        try:
            outcome = self._warm.run_step(self._task, self._console)
        except MemoryError:
            self._watch.note(limiting.MEMORY)
            return self._failed("the step ran out of memory")
        except GalleyError as error:
            retryable = bool(getattr(error, "retryable", error.kind not in _HOPELESS))
            self._log.say(ERROR, error.message)
            return self._failed(error.message, retryable=retryable)
        except SystemExit as error:
            return self._failed(f"the step's code called exit({error.code!r})")
        except Exception as error:  # noqa: BLE001 (the boundary to the step's code: all is told)
            if limiting.memory_words_in(str(error)):
                self._watch.note(limiting.MEMORY)
            self._log.say(ERROR, traceback.format_exc())
            return self._failed(f"{type(error).__name__}: {error}")
        if not isinstance(outcome, Outcome):
            return self._failed(f"the step's code returned {type(outcome).__name__}, no outcome")
        return outcome

    @staticmethod
    def _failed(reason: str, *, retryable: bool = True) -> Outcome:
        return Outcome(state="failed", reason=reason, retryable=retryable)

    def _stopped(self, stop: Stop) -> Outcome:
        """End the programs, and say why."""
        self._programs().end_all(stop.grace_s * _GRACE_SHARE)
        self._console.clean_up()
        outcome = messages.stopped_outcome(stop, self._task.timeout_s)
        self._log.say(ERROR, f"The step {outcome.reason}.")
        return outcome

    def _finish(self, outcome: Outcome) -> Outcome:
        """End what is left over; complete the outcome with usage and limits, without secrets."""
        if self._task.timeout_s is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        left = self._programs().kill_all() if _has_children() else 0
        if self._made_programs is not None:
            self._made_programs.leave_group()
        if left:
            self._log.say(WARNING, f"{left} process(es) that the step left running were ended.")
        if isinstance(sys.stdout, ConsoleStream):
            with suppress(OSError):
                sys.stdout.finish()
        reason = outcome.reason
        if outcome.state == "failed":
            if limiting.memory_words_in(reason):
                self._watch.note(limiting.MEMORY)
            reason = self._watch.explain(reason)
        usage = {**usage_since(self._began), **outcome.usage}
        outcome = msgspec.structs.replace(outcome, reason=reason, usage=usage)
        return _without_secrets(storable(outcome), self._masker)

    def _die_of_sigterm(self) -> int:
        """Somebody outside Galley ended us: leave no result, so that the attempt counts as lost."""
        self._log.say(ERROR, "The step's process got SIGTERM from outside Galley.")
        self._programs().end_all(_OWN_GRACE_S * _GRACE_SHARE)
        self._console.clean_up()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        return 128 + signal.SIGTERM

    def on_sigterm(self) -> None:
        """Stop for the reason that the server left, or for none of Galley's."""
        self._stop(messages.read_stop(self._task.folder))

    def on_alarm(self) -> None:
        """The step's time is over."""
        self._stop(Stop(why=messages.TIMED_OUT, grace_s=_OWN_GRACE_S))

    def on_cpu_limit(self) -> None:
        """The step's processor time is used up."""
        self._watch.note(limiting.CPU)
        if not self._ending:
            raise RuntimeError("the step used up its processor time")

    def _stop(self, stop: Stop | None) -> None:
        """Leave whatever the step is doing, once."""
        if not self._ending:
            self._ending = True
            raise Stopped(stop)


def usage_since(began: float) -> dict[str, float]:
    """Seconds of processor and wall time, and MB of memory at the peak, programs included."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "max_rss_mb": round(max(own.ru_maxrss, below.ru_maxrss) / 1024, 1),
        "user_s": round(own.ru_utime + below.ru_utime, 4),
        "system_s": round(own.ru_stime + below.ru_stime, 4),
        "wall_s": round(time.monotonic() - began, 4),
    }


_current: _Shim | None = None


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing."""


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    if _current is not None:
        _current.on_sigterm()


def _on_alarm(_number: int, _frame: FrameType | None) -> None:
    if _current is not None:
        _current.on_alarm()


def _on_cpu_limit(_number: int, _frame: FrameType | None) -> None:
    if _current is not None:
        _current.on_cpu_limit()


def _read_all(handle: int) -> bytes:
    """The whole content of a memory file, which is closed then."""
    parts = []
    while part := os.read(handle, _READ_BYTES):
        parts.append(part)
    os.close(handle)
    return b"".join(parts)


def _make_folder(path: str) -> None:
    if not os.path.isdir(path):  # noqa: PTH112 (mostly it is there)
        Path(path).mkdir(mode=0o700, exist_ok=True)


def _has_children() -> bool:
    """Whether anything was left running or unreaped below this process."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _without_secrets(outcome: Outcome, masker: Masker) -> Outcome:
    """The outcome with every text masked: it goes to the ledger, which keeps no secret."""
    if not masker.patterns or not masker.find(msgspec.json.encode(outcome)):
        return outcome
    return msgspec.convert(_masked(msgspec.to_builtins(outcome), masker), Outcome)


def _masked(value: Any, masker: Masker) -> Any:
    if isinstance(value, str):
        return masker.mask_text(value)
    if isinstance(value, dict):
        return {key: _masked(item, masker) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item, masker) for item in value]
    return value
