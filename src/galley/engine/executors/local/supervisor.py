"""Watches over attempts in one thread: the template, the shims, their deadlines."""

import itertools
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from galley.core.runs.ports import ExecutorEvents
from galley.core.runs.task import Outcome, Task
from galley.engine.executors.local import claims, empty, ending, messages, processes, shim
from galley.engine.executors.local.attempt import Attempt, Phase, abandon
from galley.engine.executors.local.diskwatch import DiskWatch
from galley.engine.executors.local.keeper import TemplateKeeper
from galley.engine.executors.local.link import Report, TemplateLink
from galley.engine.executors.local.loop import Loop
from galley.engine.executors.local.messages import Stop, TemplateSettings
from galley.kit.clock import Clock
from galley.kit.failpoints import failpoint

log = structlog.get_logger("galley.executor")

_GRACE_S, _DISK_GRACE_S = 5.0, 1.0
_TIMEOUT_SLACK_S = 2.0
_PROC_POLL_S = 0.25
_RETRY_S, _AFTER_FAULT_S = 0.05, 0.5
_GIVE_UP_AFTER = 3
_MOST_LOOKS, _LOOK_S = 20, 0.25
_REMEMBERED = 4096


class Supervisor:
    """Owns all attempts of one local executor.

    `note` and `finish` may be called from anywhere; everything else belongs to the one thread
    that runs `serve`, and is brought into it by `note`. Without `watches_disk` no attempt counts as
    writing: what others write into the same run's folder would be laid at its door. `is_empty`
    tells which steps have nothing to do but to leave their files.
    """

    def __init__(
        self,
        settings: TemplateSettings,
        *,
        events: ExecutorEvents,
        slots: int,
        complaints: Path,
        clock: Clock,
        import_paths: Sequence[str] = (),
        watches_disk: bool = True,
        is_empty: Callable[[Task], bool] = lambda _task: False,
    ) -> None:
        self._settings = settings
        self._events = events
        self._slots = slots
        self._loop = Loop(clock)
        make = partial(TemplateLink, settings, complaints, tuple(import_paths))
        self._template = TemplateKeeper(self._loop, make, complaints, self)
        watch = DiskWatch(settings.limits, self._on_over_disk)
        self._disk = watch if watches_disk else None
        self._is_empty = is_empty
        self._attempts: dict[str, Attempt] = {}
        self._by_serial: dict[int, Attempt] = {}
        self._waiting: deque[Attempt] = deque()
        self._busy = 0
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._serials = itertools.count(1)

    @property
    def trouble(self) -> str | None:
        """Why the template does not start, while that is so; may be read from any thread."""
        return self._template.trouble

    def list_keys(self) -> frozenset[str]:
        """The attempts that are here; may be asked from any thread."""
        return frozenset(self._attempts)  # one step of the interpreter: no other thread comes in

    def note(self, act: Callable[[], None]) -> None:
        """Have the act done in the serving thread, soon, in order."""
        self._loop.note(act)

    def finish(self) -> None:
        """Make `serve` return."""
        self._loop.note(self._loop.stop)

    def serve(self) -> None:
        """Start the template and work until `finish`."""
        try:
            self._template.start()
            self._loop.serve()
        finally:
            self._let_go()

    # --- acts, in the serving thread

    def submit(self, task: Task) -> None:
        """Queue the attempt, unless its key is known."""
        if task.key in self._attempts or task.key in self._recent:
            return
        is_empty = self._is_empty(task)
        payload = empty.places_of(task) if is_empty else shim.encode_task(task)
        attempt = Attempt.of(task, payload, is_empty=is_empty)
        self._attempts[task.key] = attempt
        self._waiting.append(attempt)
        self._hand_out()

    def adopt(self, task: Task, given_at: datetime | None) -> None:
        """Find out what became of the attempt, and watch it if it lives."""
        if task.key in self._attempts:
            return
        attempt = Attempt.of(task, None)
        attempt.claim_is_durable = given_at is not None and given_at > processes.booted_at()
        self._attempts[task.key] = attempt
        self._mind(attempt, self._look_for)

    def cancel(self, key: str, grace_s: float) -> None:
        """Stop the attempt, wherever it stands."""
        self._end(key, Stop(why=messages.CANCELED, grace_s=grace_s))

    # --- handing out

    def _hand_out(self) -> None:
        """Send waiting attempts to the template while there are slots."""
        while self._waiting and self._busy < self._slots and self._template.link is not None:
            attempt = self._waiting[0]
            if attempt.phase is not Phase.WAITING:
                self._waiting.popleft()
                continue
            attempt.serial = next(self._serials)
            self._occupy(attempt, Phase.SENT)  # first: the watch notes what is there before it runs
            pause_s = _send(attempt, self._template.link)
            if pause_s is not None:
                self._release(attempt)
                attempt.phase = Phase.WAITING
                self._loop.after(pause_s, self._hand_out)
                return
            failpoint("executor.sent")
            self._waiting.popleft()
            self._by_serial[attempt.serial] = attempt

    def _occupy(self, attempt: Attempt, phase: Phase) -> None:
        if not attempt.holds_slot:
            attempt.holds_slot = True
            self._busy += 1
            if self._disk is not None:
                self._disk.began(attempt)
        attempt.phase = phase

    def _began(self, attempt: Attempt, pid: int) -> None:
        attempt.payload = None
        attempt.pid = pid
        self._occupy(attempt, Phase.RUNNING)
        self._events.started(attempt.key, attempt.fence, {"pid": pid})
        self._arm_timeout(attempt, 0.0)
        if attempt.stop is not None:
            self._ask(attempt, attempt.stop)

    def _refused(self, attempt: Attempt, why: str) -> None:
        """The template did not fork: certainly nothing runs."""
        log.warning("fork_refused", attempt=attempt.key, why=why)
        attempt.refusals += 1
        if attempt.refusals >= _GIVE_UP_AFTER:
            why = f"no process could be started for the step: {why}"
            self._report_lost(attempt, why, never_ran=True)
            return
        self._requeue(attempt)
        if "thread" in why:
            self._template.replace()
        else:
            self._loop.after(_AFTER_FAULT_S * attempt.refusals, self._hand_out)

    def _requeue(self, attempt: Attempt) -> None:
        """Nothing runs: hand the attempt out again, unless it was told to stop meanwhile."""
        self._by_serial.pop(attempt.serial, None)
        self._release(attempt)
        attempt.phase = Phase.WAITING
        if attempt.stop is not None:
            self._end_waiting(attempt, attempt.stop)
        else:
            self._waiting.appendleft(attempt)

    # --- told by the keeper of the template

    def on_started(self) -> None:
        """There is a template: hand out what waits."""
        self._hand_out()

    def on_report(self, report: Report) -> None:
        """Take in what the template told about an attempt."""
        attempt = self._by_serial.get(report.serial)
        if attempt is None:
            return
        if report.kind == messages.STARTED:
            self._mind(attempt, self._began, report.value)
        elif report.kind == messages.EXITED:
            self._mind(attempt, self._conclude, report.value)
        elif report.kind == messages.REFUSED:
            self._mind(attempt, self._refused, report.text)

    def on_gone(self) -> None:
        """The template's shims go on and are watched by their pids; what had none comes again."""
        for attempt in list(self._by_serial.values()):
            self._by_serial.pop(attempt.serial, None)
            runs = attempt.phase is Phase.RUNNING
            self._mind(attempt, self._look_for if runs else self._send_again)

    def on_failing(self, why: str) -> None:
        """No template starts: whoever waits is not kept waiting."""
        for attempt in list(self._waiting):
            if abandon(attempt):
                reason = f"the local executor cannot start: {why}"
                self._report_lost(attempt, reason, never_ran=True)
            else:
                self._take_up(attempt)
        self._waiting.clear()

    def _send_again(self, attempt: Attempt) -> None:
        """The request was in the old template's hands: see that no fork of it can win, repeat."""
        if abandon(attempt):
            attempt.generation += 1
            self._requeue(attempt)
        else:
            self._take_up(attempt)

    def _mind(self, attempt: Attempt, act: Callable[..., None], *arguments: object) -> None:
        """Do what is to be done about the attempt; should that fail, look for it in a while.

        Without it a fault (no descriptor left, say) in between would leave an attempt that nobody
        ends or watches.
        """
        try:
            act(attempt, *arguments)
        except Exception:
            log.exception("act_failed", attempt=attempt.key)
            self._loop.after(_AFTER_FAULT_S, lambda: self._mind(attempt, self._look_for))

    # --- watching what the template does not watch

    def _take_up(self, attempt: Attempt) -> None:
        """Some process has claimed the attempt already: see how it stands."""
        attempt.payload = None
        self._mind(attempt, self._look_for)

    def _look_for(self, attempt: Attempt) -> None:
        """Watch the process that claimed the attempt, take its exit file, or give it up."""
        if attempt.phase is Phase.DONE or attempt.watched is not None:
            return
        try:
            claim = claims.settle(attempt.folder)
        except OSError as error:
            self._look_again(attempt, error)
            return
        if claim is None and attempt.stop is not None:
            self._report_stopped(attempt, attempt.stop)
        elif claim is None:
            self._report_lost(attempt, "the step's process was never started", never_ran=True)
        elif processes.alive(claim.mark):
            self._watch(attempt, claim.mark)
        else:
            self._conclude(attempt, None)

    def _look_again(self, attempt: Attempt, error: OSError) -> None:
        """A shared disk may be away for a moment: what may live is not given up for that."""
        attempt.looks += 1
        if attempt.looks > _MOST_LOOKS:
            self._report_lost(attempt, f"the attempt's folder cannot be read: {error}")
        else:
            self._loop.after(_LOOK_S, lambda: self._mind(attempt, self._look_for))

    def _watch(self, attempt: Attempt, mark: processes.Mark) -> None:
        """Report the attempt as started (once), and wait for its process to end."""
        age_s = processes.age_s(mark)
        known = attempt.phase is Phase.RUNNING
        attempt.pid = mark.pid
        self._occupy(attempt, Phase.RUNNING)
        if not known:
            self._events.started(attempt.key, attempt.fence, {"pid": mark.pid, "adopted": True})
            self._arm_timeout(attempt, age_s)
            if attempt.stop is not None:
                self._ask(attempt, attempt.stop)
        attempt.watched = self._open_watch(attempt)
        if attempt.watched is None:
            self._poll_later(attempt, mark)
        elif not processes.alive(mark):  # it ended meanwhile; its pid may be another's by now
            self._conclude(attempt, None)

    def _open_watch(self, attempt: Attempt) -> int | None:
        """Have the attempt concluded when its process ends; None where it must be polled."""
        handle = processes.open_pidfd(attempt.pid)
        if handle is None:
            return None
        try:
            self._loop.watch(handle, lambda: self._mind(attempt, self._conclude, None))
        except OSError:
            os.close(handle)
            return None
        return handle

    def _poll_later(self, attempt: Attempt, mark: processes.Mark) -> None:
        self._loop.after(_PROC_POLL_S, lambda: self._mind(attempt, self._poll_process, mark))

    def _poll_process(self, attempt: Attempt, mark: processes.Mark) -> None:
        """Where there are no process descriptors: look now and then."""
        if attempt.phase is not Phase.RUNNING:
            return
        if processes.alive(mark):
            self._poll_later(attempt, mark)
        else:
            self._conclude(attempt, None)

    # --- stopping

    def _arm_timeout(self, attempt: Attempt, age_s: float) -> None:
        """The shim ends itself at its timeout; a shim that cannot is ended from here."""
        if attempt.timeout_s is not None:
            left_s = max(0.0, attempt.timeout_s - age_s) + _TIMEOUT_SLACK_S
            stop = Stop(why=messages.TIMED_OUT, grace_s=_GRACE_S)
            self._loop.after(left_s, lambda: self._stop(attempt, stop))

    def _on_over_disk(self, key: str, text: str) -> None:
        """The watch's thread tells that an attempt has written more than it may."""
        stop = Stop(why=messages.OVER_DISK, grace_s=_DISK_GRACE_S, text=text)
        self.note(lambda: self._end(key, stop))

    def _end(self, key: str, stop: Stop) -> None:
        attempt = self._attempts.get(key)
        if attempt is not None:
            self._stop(attempt, stop)

    def _stop(self, attempt: Attempt, stop: Stop) -> None:
        if attempt.phase is Phase.DONE or attempt.stop is not None:
            return
        attempt.stop = stop
        if attempt.phase is Phase.RUNNING:
            self._ask(attempt, stop)
        elif attempt.phase is Phase.WAITING and attempt.payload is not None:
            self._end_waiting(attempt, stop)
        # else it is on its way or being looked for: who finds out how it stands sees to the stop

    def _end_waiting(self, attempt: Attempt, stop: Stop) -> None:
        """End an attempt that is in nobody's hands."""
        if abandon(attempt):
            self._report_stopped(attempt, stop)
        else:
            self._take_up(attempt)

    def _ask(self, attempt: Attempt, stop: Stop) -> None:
        """SIGTERM to the shim; what is left after the grace is killed."""
        self._loop.after(stop.grace_s, lambda: self._kill(attempt))
        try:
            ending.ask(attempt, stop)
        except OSError as error:
            log.warning("stop_not_sent", attempt=attempt.key, error=str(error))

    def _kill(self, attempt: Attempt) -> None:
        if attempt.phase is not Phase.RUNNING:
            return
        try:
            ending.kill(attempt)
        except OSError as error:
            log.warning("kill_not_sent", attempt=attempt.key, error=str(error))
            self._loop.after(_AFTER_FAULT_S, lambda: self._kill(attempt))

    # --- the end of an attempt

    def _conclude(self, attempt: Attempt, status: int | None) -> None:
        """The attempt's process has ended (`status` as from waitpid, if known): say how."""
        if attempt.phase is Phase.DONE:
            return
        self._unwatch(attempt)
        if status is not None and ending.exit_code(status) == messages.NOT_OURS:
            self._by_serial.pop(attempt.serial, None)
            self._look_for(attempt)
            return
        outcome = messages.read_outcome(attempt.folder)
        if outcome is None:
            ending.sweep(attempt)
            stop = attempt.stop or messages.read_stop(attempt.folder)
            if stop is not None:
                outcome = messages.stopped_outcome(stop, attempt.timeout_s)
        if outcome is not None:
            self._report_finished(attempt, outcome)
        else:
            never_ran = ending.was_never_claimed(attempt)
            self._report_lost(attempt, ending.reason(status), never_ran=never_ran)

    def _unwatch(self, attempt: Attempt) -> None:
        if attempt.watched is not None:
            self._loop.unwatch(attempt.watched)
            os.close(attempt.watched)
            attempt.watched = None
            ending.reap(attempt.pid)

    def _report_stopped(self, attempt: Attempt, stop: Stop) -> None:
        self._report_finished(attempt, messages.stopped_outcome(stop, attempt.timeout_s))

    def _report_finished(self, attempt: Attempt, outcome: Outcome) -> None:
        self._forget(attempt)
        self._events.finished(attempt.key, attempt.fence, outcome)
        self._hand_out()

    def _report_lost(self, attempt: Attempt, reason: str, *, never_ran: bool = False) -> None:
        """It left no result. `never_ran`: nobody claimed it, and nobody can any more."""
        self._forget(attempt)
        ending.write_last_line(attempt, reason, self._settings.log_limit_bytes)
        is_certain = never_ran and attempt.claim_is_durable
        tell = self._events.never_ran if is_certain else self._events.lost
        tell(attempt.key, attempt.fence, reason)
        self._hand_out()

    def _forget(self, attempt: Attempt) -> None:
        self._release(attempt)
        attempt.phase = Phase.DONE
        attempt.payload = None
        self._attempts.pop(attempt.key, None)
        self._by_serial.pop(attempt.serial, None)
        self._recent[attempt.key] = None
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def _release(self, attempt: Attempt) -> None:
        if attempt.holds_slot:
            attempt.holds_slot = False
            self._busy -= 1
            if self._disk is not None:
                self._disk.ended(attempt.key)

    def _let_go(self) -> None:
        """Leave everything as it is: attempts go on, the template ends."""
        for attempt in self._attempts.values():
            self._unwatch(attempt)
        self._template.close()
        self._attempts.clear()
        self._by_serial.clear()
        self._waiting.clear()
        if self._disk is not None:
            self._disk.close()
        self._loop.close()


def _send(attempt: Attempt, link: TemplateLink) -> float | None:
    """Give the attempt to the template; after how many seconds to try again if that fails."""
    send = link.send_empty if attempt.is_empty else link.send
    try:
        is_sent = send(attempt.serial, attempt.generation, attempt.payload or b"")
    except OSError as error:
        log.warning("task_not_sent", attempt=attempt.key, error=str(error))
        return _AFTER_FAULT_S
    return None if is_sent else _RETRY_S
