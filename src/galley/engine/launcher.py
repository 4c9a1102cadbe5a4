"""Carries out what the writer decided: hands attempts to executors with all that they need.

What is quick happens in the writer's thread; looking up secrets and the history of checks and
checking out a source tree happen in a small pool, and failures there come back as the attempt's
end, or as a start that never was while the database is away. To watch a process that runs already
takes none of these.
"""

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from galley.core.errors import GalleyError, Unavailable
from galley.core.recipes.references import find_references
from galley.core.runs import messages as msg
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.runs.logs import log_path
from galley.core.runs.plan import StepPlan
from galley.core.runs.ports import Executor, RunWriter
from galley.core.runs.states import AttemptState
from galley.core.runs.task import Outcome, Task, storable
from galley.core.secrets.errors import VaultUnreachable
from galley.core.secrets.sealing import KeyMissing, SealBroken
from galley.engine.executors.local import claims
from galley.engine.folders import Folders
from galley.engine.publishing import Publisher
from galley.engine.runfacts import run_variables
from galley.kit.files import delete_folder
from galley.storage.blobs import BlobStore
from galley.storage.db import is_disk_failing, is_disk_full
from galley.storage.git import GitStore, RepositoryMissing

log = structlog.get_logger("galley.launcher")

_WAITING = "noop"

SecretLookup = Callable[[LiveRun, frozenset[str]], dict[str, str]]
HistoryLookup = Callable[[LiveRun, str], dict[str, list[Any]]]


class Launcher:
    """Implements the writer's `Acts` and the executors' `ExecutorEvents`.

    `executors` are named as the ledger's workers are; `secrets` resolves references for a run;
    `history` tells what a step's checks found in earlier runs; `is_remote` knows the workers of
    other processes.
    """

    def __init__(
        self,
        *,
        writer: RunWriter,
        executors: Mapping[str, Executor],
        folders: Folders,
        repositories: GitStore,
        blobs: BlobStore,
        secrets: SecretLookup,
        history: HistoryLookup,
        roots: tuple[str, ...] = (),
        timeout_s: float | None = None,
        mail: Callable[[], None] = lambda: None,
        reschedule: Callable[[], None] = lambda: None,
        is_remote: Callable[[str], bool] = lambda _worker: False,
    ) -> None:
        self._writer = writer
        self._executors = executors
        self._folders = folders
        self._repositories = repositories
        self._secrets = secrets
        self._history = history
        self._roots = (str(folders.files), *roots)
        self._timeout_s = timeout_s
        self._mail = mail
        self._reschedule = reschedule
        self._is_remote = is_remote
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="galley-launcher")
        self._publisher = Publisher(blobs, self._report)
        self._lock = threading.Lock()
        self._preparing: set[str] = set()
        self._killed: set[str] = set()

    def close(self) -> None:
        """Let what is under way end."""
        self._pool.shutdown(wait=True, cancel_futures=False)
        self._publisher.close()

    def start(self, run: LiveRun, step: LiveStep) -> None:
        """Hand the attempt over; see `writer.Acts`."""
        if self._is_elsewhere(step):
            return
        task = self._task(run, step)
        # What steps exported is data: it may not name secrets.
        written = (run.plan.variables, task.body, task.text)
        references = frozenset(find_references(written))
        is_checked_out = task.tree is None or _is_fresh(task.tree)
        if references or step.plan.keeps_history or not is_checked_out:
            with self._lock:
                self._preparing.add(task.key)
            self._pool.submit(self._prepare, run, step, task, references)
        else:
            self._submit(step, task)

    def adopt(self, run: LiveRun, step: LiveStep) -> None:
        """Look for the attempt; see `writer.Acts`."""
        if self._is_elsewhere(step):
            return
        attempt, task = step.attempt, self._task(run, step)
        _is_fresh(task.tree)  # what runs reads it still
        executor = self._executors.get(attempt.worker or "")
        if executor is None:
            self.lost(task.key, task.fence, f"The worker {attempt.worker} is gone.")
            return
        was_seen = attempt.state is AttemptState.RUNNING
        executor.adopt(task, given_at=None if was_seen else attempt.started_at)

    def kill(self, attempt_id: int, worker: str | None) -> None:
        """End the attempt on its worker; see `writer.Acts`."""
        key = str(attempt_id)
        with self._lock:
            if key in self._preparing:
                self._killed.add(key)
                return
        executor = self._executors.get(worker or "")
        if executor is not None:
            executor.cancel(key)

    def remove(self, run_id: int) -> None:
        """Delete the run's logs and control files; see `writer.Acts`.

        The shared folder may belong to a chain of resumed runs: the sweeper looks after it.
        """
        folders = self._folders
        self._pool.submit(
            _remove_folders,
            [base / str(run_id) for base in (folders.logs, folders.attempts)],
        )

    def mail(self) -> None:
        """Wake the sender of alerts; see `writer.Acts`."""
        self._mail()

    def reschedule(self) -> None:
        """Wake the scheduler; see `writer.Acts`."""
        self._reschedule()

    def started(self, key: str, fence: int, handle: Mapping[str, Any]) -> None:
        """See `ports.ExecutorEvents`."""
        self._writer.send(msg.Started(int(key), fence, dict(handle)))

    def finished(self, key: str, fence: int, outcome: Outcome) -> None:
        """See `ports.ExecutorEvents`; staged files are stored before the ledger hears of them."""
        outcome = storable(outcome)
        if outcome.staged:
            self._publisher.publish(key, fence, outcome)
        else:
            self._report(key, fence, outcome)

    def _report(self, key: str, fence: int, outcome: Outcome) -> None:
        self._writer.send(msg.Finished(int(key), fence, outcome))

    def lost(self, key: str, fence: int, reason: str) -> None:
        """See `ports.ExecutorEvents`."""
        self._writer.send(msg.Lost(int(key), fence, reason))

    def never_ran(self, key: str, fence: int, reason: str) -> None:
        """See `ports.ExecutorEvents`."""
        self._writer.send(msg.Lost(int(key), fence, reason, never_ran=True))

    def _is_elsewhere(self, step: LiveStep) -> bool:
        """Whether the step's worker is another process, which looks for its work itself."""
        return self._is_remote(step.attempt.worker or "")

    def _prepare(
        self, run: LiveRun, step: LiveStep, task: Task, references: frozenset[str]
    ) -> None:
        """Check out the tree, resolve secrets, read checks' history, off the writer's thread."""
        try:
            source = run.plan.source
            if task.tree is not None:
                repository = self._repositories.repository(source.project)
                repository.check_out(source.tree, Path(task.tree))
            secrets = self._secrets(run, references) if references else {}
            history = self._history(run, step.key) if step.plan.keeps_history else {}
            task = msgspec.structs.replace(task, secrets=secrets, history=history)
            self._submit(step, task)
        except Exception as error:  # noqa: BLE001 - whatever it is, the attempt comes to its end
            if _is_taken(task):
                self.adopt(run, step)
            else:
                self._explain(step, task, error)
        finally:
            self._was_killed(task.key)

    def _explain(self, step: LiveStep, task: Task, error: Exception) -> None:
        """The attempt could not be prepared: it has failed, or it never was."""
        reason = f"The step's files could not be prepared: {error}"
        if isinstance(error, KeyMissing | SealBroken):  # time mends neither
            self._refuse(task, error.message, retryable=False)
        elif isinstance(error, VaultUnreachable):  # the step's own retries wait for it
            self._refuse(task, error.message)
        elif isinstance(error, SQLAlchemyError | Unavailable):
            log.warning("launch_put_off", attempt=task.key, error=str(error))
            reason = "What the step needs could not be read: the database did not answer."
            self.never_ran(task.key, task.fence, reason)
        elif isinstance(error, RepositoryMissing):
            reason = f"A shared folder of the worker {step.attempt.worker} is not there: {error}"
            self.never_ran(task.key, task.fence, reason)
        elif isinstance(error, GalleyError):
            self._refuse(task, error.message, retryable=False)
        elif is_disk_full(error) or is_disk_failing(error):  # it waits for better days
            self.never_ran(task.key, task.fence, reason)
        elif isinstance(error, OSError):
            self._refuse(task, reason)
        else:
            log.error("launch_failed", attempt=task.key, exc_info=error)
            self._refuse(task, "The server could not prepare the step; see its log.")

    def _submit(self, step: LiveStep, task: Task) -> None:
        executor = self._executors.get(step.attempt.worker or "")
        if self._was_killed(task.key):
            self.finished(task.key, task.fence, Outcome(state="canceled", reason="never started"))
        elif executor is None:
            self.never_ran(task.key, task.fence, f"The worker {step.attempt.worker} is gone.")
        else:
            executor.submit(task)

    def _was_killed(self, key: str) -> bool:
        """The attempt is prepared: whether it was to be killed meanwhile (asked once)."""
        with self._lock:
            self._preparing.discard(key)
            was_killed = key in self._killed
            self._killed.discard(key)
        return was_killed

    def _refuse(self, task: Task, reason: str, *, retryable: bool = True) -> None:
        outcome = Outcome(state="failed", reason=reason, retryable=retryable)
        self._writer.send(msg.Finished(int(task.key), task.fence, outcome))

    def _task(self, run: LiveRun, step: LiveStep) -> Task:
        source, attempt, planned = run.plan.source, step.attempt, step.plan
        folders = self._folders
        work = str(folders.run_work(run.work_id))
        facts = run_variables(run, step, work)
        return Task(
            key=str(attempt.id),
            run_id=run.id,
            step_id=step.id,
            attempt_id=attempt.id,
            number=attempt.number,
            fence=attempt.fence,
            run_uid=run.uid,
            order_uid=run.order_uid,
            step_key=step.key,
            kind=planned.kind,
            body=planned.body,
            text=planned.text,
            variables={**run.plan.variables, **run.exports, **facts},
            folder=str(folders.attempt(run.id, attempt.id)),
            work=work,
            log=str(log_path(folders.logs, run.id, attempt.id)),
            tree=str(folders.tree(source.tree)) if source.tree else None,
            roots=self._roots,
            environments=str(folders.environments),
            environment=planned.environment,
            limits=planned.limits.above(run.plan.limits),
            timeout_s=self._timeout_of(planned),
            tags=planned.tags,
        )

    def _timeout_of(self, planned: StepPlan) -> float | None:
        """The step's own, else the installation's; a NoOp waits as long as its `sleep` says."""
        if planned.timeout_s is not None or planned.kind == _WAITING:
            return planned.timeout_s
        return self._timeout_s


def _is_taken(task: Task) -> bool:
    """Whether a process of an earlier server has taken up the attempt; if not, none ever will."""
    try:
        return not claims.abandon(task.folder, 0)
    except OSError:  # then a process cannot claim it either
        return False


def _is_fresh(tree: str | None) -> bool:
    """Whether the checked-out tree is there; then it is marked as used just now."""
    try:
        os.utime(tree or "")
    except OSError:
        return False
    return True


def _remove_folders(folders: list[Path]) -> None:
    """Delete a removed run's folders; the sweeper goes on with what is left of them."""
    for folder in folders:
        try:
            delete_folder(folder)
        except OSError as error:
            log.warning("not_deleted", folder=str(folder), error=str(error))
