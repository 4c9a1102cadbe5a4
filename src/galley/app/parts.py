"""Parts that a server and a worker beside it share."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galley.app.store import Store
from galley.core.runs.history import read_history
from galley.core.runs.live import LiveRun, LiveStep
from galley.core.runs.plan import Limits
from galley.core.runs.states import AttemptState
from galley.core.vaults.desk import Vaults
from galley.core.vaults.operations import resolve_for_run
from galley.engine.executors.local import claims, processes
from galley.engine.network import STEP_NETWORK_VARIABLE
from galley.kit.clock import Clock
from galley.kit.destinations import ALLOW_VARIABLE
from galley.kit.files import write_atomically
from galley.kit.ids import new_uid
from galley.settings import Settings

if TYPE_CHECKING:
    from galley.engine.executors.local import LocalExecutor


def vaults_of(store: Store) -> Vaults:
    """What operations on vaults work with; where calls may go is read from the environment now."""
    from galley.engine.vaults import HashiCorpVaults

    return Vaults(store.database, store.sealer, HashiCorpVaults(), store.clock)


def secrets_of(store: Store, run: LiveRun, references: frozenset[str]) -> dict[str, str]:
    """What a run's steps may know: from its kitchen's vault, then from the account's."""
    return resolve_for_run(vaults_of(store), run.kitchen_id, references)


def history_of(store: Store, run: LiveRun, step_key: str) -> dict[str, list[Any]]:
    """What the step's checks found in earlier runs."""
    with store.database.reading() as session:
        return read_history(session, run, step_key)


def claims_of(store: Store) -> Callable[[LiveRun, LiveStep], bool]:
    """Whether a process of this machine may have taken an attempt up: its folder has a claim.

    One that was seen, or that was given before the machine started, may have lost its claim.
    """

    def is_claimed(run: LiveRun, step: LiveStep) -> bool:
        attempt, given_at = step.attempt, step.attempt.started_at
        if attempt.state is AttemptState.RUNNING or given_at is None:
            return True
        if given_at < processes.booted_at():
            return True
        return claims.is_there(str(store.folders.attempt(run.id, attempt.id)))

    return is_claimed


def make_executor(settings: Settings, folder: Path, name: str, clock: Clock) -> "LocalExecutor":
    """The executor of this machine, with the settings' slots and limits."""
    from galley.engine.executors.local import LocalExecutor, Quick
    from galley.engine.nodes import quick

    return LocalExecutor(
        folder,
        slots=settings.slots or 2 * (os.cpu_count() or 1),
        quick=Quick(f"{quick.__name__}:run_step", quick.takes, quick.is_empty),
        clock=clock,
        name=name,
        limits=step_limits(settings),
    )


def step_limits(settings: Settings) -> Limits:
    """What a step may use that does not say it itself."""
    return Limits(**settings.step_limits.model_dump(exclude={"timeout_s"}))


def tell_steps(settings: Settings) -> None:
    """Set what the processes of steps inherit, wherever the settings have it from."""
    if settings.outbound_allow:
        os.environ[ALLOW_VARIABLE] = ",".join(settings.outbound_allow)
    os.environ[STEP_NETWORK_VARIABLE] = settings.step_network


def worker_name(settings: Settings) -> str:
    """This data folder's name among the servers of a cluster: made once, kept for ever."""
    host = socket.gethostname().partition(".")[0][:40]
    return kept(settings.data / "worker.id", f"{host}-{new_uid().lower()}")


def kept(path: Path, fresh: str) -> str:
    """The text of a small file, which is made with `fresh` where there is none."""
    if not path.exists():
        write_atomically(path, f"{fresh}\n".encode())
    return path.read_text().strip()
