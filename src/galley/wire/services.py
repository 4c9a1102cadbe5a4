"""What every surface is given to work with, joined once by `app`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from galley.core.caller import Judge
from galley.core.events.idempotency import RunningKeys
from galley.core.identity.uses import UseLog
from galley.core.runs.desk import Desk
from galley.core.runs.ports import Capabilities, RunFeed
from galley.core.secrets.sealing import Sealer
from galley.core.vaults.desk import Vaults
from galley.kit.clock import Clock
from galley.settings import Settings
from galley.storage.blobs import BlobStore
from galley.storage.db import Database
from galley.storage.git import GitStore
from galley.wire.handlers import Handlers
from galley.wire.limits import RateLimiter
from galley.wire.streams import StreamLimits


@dataclass(frozen=True, slots=True)
class Account:
    """How the installation calls itself: name, short code, organisation, whom users ask."""

    name: str = "Galley"
    code: str = "ga"
    organisation: str = "Galley"
    support_email: str = ""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts that handlers work with. On `app.state.services` of every surface.

    `limiter` counts a known caller's requests; `keys` holds the idempotency keys under way;
    `uses` notes when credentials were last used, and `app` writes it down now and then;
    `streams` counts open event streams and ends them when the server stops; `logs` is the folder
    of run logs; `actions` are all actions that routes may declare; `handlers` are the threads in
    which calls are handled; `own_worker` tells what the one worker offers, where there is but one.
    """

    settings: Settings
    database: Database
    clock: Clock
    judge: Judge
    sealer: Sealer
    vaults: Vaults
    desk: Desk
    feed: RunFeed
    repositories: GitStore
    blobs: BlobStore
    logs: Path
    limiter: RateLimiter
    actions: frozenset[str]
    account: Account = field(default_factory=Account)
    keys: RunningKeys = field(default_factory=RunningKeys)
    streams: StreamLimits = field(default_factory=StreamLimits)
    uses: UseLog | None = None
    handlers: Handlers = field(default_factory=Handlers)
    own_worker: Callable[[], Capabilities] | None = None

    @property
    def writer(self) -> Any:
        """The ledger's writer (`core.runs.ports.RunWriter`)."""
        return self.desk.writer


def services_of(connection: HTTPConnection) -> Services:
    """The services of the application that handles this request."""
    services: Services = connection.app.state.services
    return services


async def _services(connection: HTTPConnection) -> Services:
    return services_of(connection)  # no coroutine's work, but so it needs no thread


ServicesDep = Annotated[Services, Depends(_services)]
"""The services, as a parameter of a handler."""
