"""All surfaces of one server behind one edge, and what watchers may ask of it."""

import importlib
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from galley.app.runtime import Runtime
from galley.core.runs import models
from galley.core.runs.states import RUN_FINAL, RunState
from galley.engine.executors.local import LocalExecutor
from galley.engine.writer import Writer
from galley.wire.edge import Edge
from galley.wire.errors import plain_response, render_plain
from galley.wire.health import PATHS, make_health_app
from galley.wire.limits import KnownCredentials, RateLimiter
from galley.wire.proxies import TrustedProxies
from galley.wire.services import Services
from galley.wire.surfaces import Surface, Surfaces

DIALECTS = {"datakitchen": "/v2"}
"""The dialects that are built, and the first segment of their paths."""


def make_application(runtime: Runtime) -> Any:
    """All surfaces behind one edge."""
    settings, services, clock = runtime.settings, runtime.services, runtime.services.clock
    health = make_health_app(
        _checks(runtime), runtime.metrics, metrics_token=settings.metrics_token
    )
    surfaces = Surfaces(
        [
            Surface("health", PATHS, health, render_plain, plain_response),
            *(_dialect(name, services) for name in DIALECTS),
            _pages(services),
        ]
    )
    _watch(runtime)
    limits = settings.limits
    return Edge(
        surfaces,
        limits=limits,
        shapes=surfaces,
        known=services.limiter,
        anonymous=RateLimiter(limits.anonymous_per_minute, limits.anonymous_burst, clock.monotonic),
        credentials=KnownCredentials(clock.monotonic),
        metrics=runtime.metrics,
        proxies=TrustedProxies(settings.trusted_proxies),
        monotonic=clock.monotonic,
    )


def _dialect(name: str, services: Services) -> Surface:
    app = importlib.import_module(f"galley.dialects.{name}.app")
    errors = importlib.import_module(f"galley.dialects.{name}.errors")
    return Surface(name, (DIALECTS[name],), app.make_app(services), errors.render, errors.response)


def _pages(services: Services) -> Surface:
    from galley.web.app import make_app

    return Surface("web", ("/",), make_app(services), render_plain, plain_response)


def _checks(runtime: Runtime) -> dict[str, Callable[[], str | None]]:
    database, writer = runtime.services.database, runtime.writer

    def check_database() -> str | None:
        with database.reading() as session:
            session.execute(sa.text("select 1"))
        return None

    def check_writer() -> str | None:
        if not isinstance(writer, Writer):
            trouble: str | None = writer.trouble()
            return trouble
        return None if writer.is_healthy else "the run ledger cannot commit"

    def check_serving() -> str | None:
        return "the server is shutting down" if runtime.is_draining else None

    def check_steps() -> str | None:
        executors = [it for it in runtime.executors.values() if isinstance(it, LocalExecutor)]
        return next(filter(None, (executor.trouble for executor in executors)), None)

    def check_folder() -> str | None:
        there = runtime.services.repositories.root.is_dir()
        return None if there else "the folder of the recipes is gone; is its disk mounted?"

    return {
        "serving": check_serving,
        "folder": check_folder,
        "database": check_database,
        "writer": check_writer,
        "steps": check_steps,
    }


def _watch(runtime: Runtime) -> None:
    """The numbers that are read when somebody looks."""
    metrics, database, writer = runtime.metrics, runtime.services.database, runtime.writer
    own = writer if isinstance(writer, Writer) else writer.writer
    runs = models.runs.c

    def runs_live() -> dict[str, float]:
        query = sa.select(runs.state, sa.func.count()).where(models.RUN_IS_LIVE)
        with database.reading() as session:
            found = {state: float(n) for state, n in session.execute(query.group_by(runs.state))}
        return {RunState.QUEUED: 0.0, RunState.RUNNING: 0.0, **found}

    def runs_finished() -> dict[str, float]:
        return {state: float(own.finished[state]) for state in sorted(RUN_FINAL)}

    def attempts_live() -> float:
        query = sa.select(sa.func.count()).where(models.ATTEMPT_IS_LIVE)
        with database.reading() as session:
            return float(session.scalar(query) or 0)

    metrics.watch_many("galley_runs_live", "Runs that wait or run now.", "state", runs_live)
    metrics.watch_totals(
        "galley_runs_finished", "Runs that ended while this process led.", "state", runs_finished
    )
    metrics.watch("galley_attempts_live", "Attempts that run now.", attempts_live)
    metrics.watch("galley_writer_queue", "Messages that wait for the ledger.", own.queue_length)
    metrics.watch("galley_streams_open", "Open event streams.", runtime.services.streams.count)
