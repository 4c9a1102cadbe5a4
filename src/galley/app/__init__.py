"""The composition root: settings in, one running Galley out."""

from collections.abc import Callable
from typing import Any

import structlog

from galley.app.addresses import address_of
from galley.app.application import make_application
from galley.app.beginning import begin
from galley.app.chores import make_chores
from galley.app.parts import (
    claims_of,
    history_of,
    make_executor,
    secrets_of,
    tell_steps,
    vaults_of,
    worker_name,
)
from galley.app.runtime import Leading, Runtime
from galley.app.signing import webhook_keys
from galley.app.store import Store, open_store
from galley.core.identity import operations as identity
from galley.core.identity.actions import ACTIONS
from galley.core.identity.policy import JUDGE
from galley.core.projects.operations import seed_account
from galley.core.runs.desk import Desk
from galley.core.runs.ports import Capabilities, Executor
from galley.engine.housekeeper import Housekeeper
from galley.engine.launcher import Launcher
from galley.engine.mailer import Mailer, MailServer
from galley.engine.outbound import OutboundClient
from galley.engine.scheduler import Scheduler
from galley.engine.strays import end_strays
from galley.engine.sweeper import Sweeper
from galley.engine.writer import Writer
from galley.kit.clock import Clock
from galley.settings import Settings
from galley.storage.db import platform_note
from galley.wire.handlers import Handlers
from galley.wire.limits import RateLimiter
from galley.wire.metrics import Metrics
from galley.wire.services import Account, Services
from galley.wire.streams import StreamLimits

__all__ = ["Runtime", "Store", "build", "open_store"]

log = structlog.get_logger("galley.app")


def build(settings: Settings, *, clock: Clock | None = None) -> Runtime:
    """Join all the parts; nothing runs before `Runtime.start`."""
    tell_steps(settings)
    if (note := platform_note()) is not None and settings.database_url is None:
        log.warning("database_risk", note=note)
    for root in settings.missing_roots:
        log.warning("root_missing", folder=str(root), cure="make it, or correct GALLEY_ROOTS")
    store = begin(settings, clock)
    store.repositories.sweep()
    seed_account(store.database, store.repositories, store.clock, settings.kitchens_project)
    runtime = _assemble(settings, store)
    runtime.app = make_application(runtime)
    return runtime


def _assemble(settings: Settings, store: Store) -> Runtime:
    from galley.engine.compiling import ChildCompiler

    compiler = ChildCompiler()
    name = "local" if store.database.is_sqlite else worker_name(settings)
    folder = settings.data.absolute() / "executor"
    executor = make_executor(settings, folder, name, store.clock)
    executors: dict[str, Executor] = {name: executor}
    leading = Leading(lambda: _threads_of_leader(runtime, store))
    writer: Any
    if store.database.is_sqlite:
        writer = Writer(store.database, store.clock)
        offer = executor.capabilities()
        writer.ledger.dispatcher.set_worker(name, offer.slots, offer.tags)
    else:
        from galley.engine.cluster import Cluster

        writer = Cluster(store.database, store.clock, name, on_lead=leading.change)
    launcher = Launcher(
        writer=writer,
        executors=executors,
        folders=store.folders,
        repositories=store.repositories,
        blobs=store.blobs,
        secrets=lambda run, wanted: secrets_of(store, run, wanted),
        history=lambda run, step_key: history_of(store, run, step_key),
        roots=tuple(str(root) for root in settings.roots),
        timeout_s=settings.step_limits.timeout_s or None,
        mail=lambda: leading.nudge(Mailer),
        reschedule=lambda: leading.nudge(Scheduler),
        is_remote=lambda worker: not store.database.is_sqlite and worker not in executors,
    )
    worker = None if store.database.is_sqlite else _worker(store, name, executor, launcher, writer)
    own_worker = executor.capabilities if store.database.is_sqlite else None
    services = _services(settings, store, writer, compiler, own_worker)
    runtime = Runtime(
        settings=settings,
        services=services,
        metrics=Metrics(),
        writer=writer,
        executors=executors,
        launcher=launcher,
        housekeeper=Housekeeper(make_chores(services), store.clock),
        leading=leading,
        worker=worker,
    )
    runtime.warmers.append(lambda: end_strays(store.database, name, executor, store.folders))
    runtime.warmers.append(compiler.start)
    runtime.closers += [store.database.close, compiler.close]
    return runtime


def _services(
    settings: Settings,
    store: Store,
    writer: Any,
    compiler: Any,
    own_worker: Callable[[], Capabilities] | None,
) -> Services:
    limits = settings.limits
    return Services(
        settings=settings,
        database=store.database,
        clock=store.clock,
        judge=JUDGE,
        sealer=store.sealer,
        vaults=vaults_of(store),
        desk=Desk(
            store.database,
            writer,
            compiler,
            store.repositories,
            store.clock,
            sends_mail=settings.smtp_host is not None,
        ),
        feed=writer,
        repositories=store.repositories,
        blobs=store.blobs,
        logs=store.folders.logs,
        limiter=RateLimiter(
            limits.requests_per_minute, limits.request_burst, store.clock.monotonic
        ),
        actions=ACTIONS,
        account=Account(**settings.account.model_dump()),
        streams=StreamLimits(limits.streams_per_user, limits.streams),
        uses=identity.UseLog(store.clock),
        handlers=Handlers(limits.handlers),
        own_worker=own_worker,
    )


def _worker(store: Store, name: str, executor: Executor, launcher: Launcher, cluster: Any) -> Any:
    from galley.engine.worker import WorkerLoop

    loop = WorkerLoop(
        store.database,
        name,
        executor,
        launcher,
        is_claimed=claims_of(store),
        is_served_directly=lambda: cluster.leads,
    )
    cluster.on_work(loop.nudge)
    return loop


def _threads_of_leader(runtime: Runtime, store: Store) -> list[Any]:
    settings = runtime.settings
    client = OutboundClient()
    mail_server = None
    if settings.smtp_host is not None:
        mail_server = MailServer(
            host=settings.smtp_host,
            port=settings.smtp_port,
            sender=settings.smtp_sender,
            user=settings.smtp_user,
            password=settings.smtp_password,
            security=settings.smtp_security,
        )
    mailer = Mailer(
        store.database,
        store.clock,
        mail_server=mail_server,
        post=lambda url, body, headers: (
            client.request("POST", url, content=body, headers=headers, deadline_s=10).status
        ),
        sign_keys=webhook_keys(settings, store.sealer),
        external_url=address_of(settings),
    )
    scheduler = Scheduler(runtime.services.desk, identity.system_caller(JUDGE))
    sweeper = Sweeper(
        store.database,
        runtime.writer,
        store.folders,
        store.blobs,
        store.clock,
        keep_days=settings.keep_days,
        keep_work_days=settings.keep_work_days,
    )
    return [mailer, scheduler, sweeper]
