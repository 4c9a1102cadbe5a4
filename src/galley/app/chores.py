"""The chores of a server that come round again."""

from collections.abc import Callable
from datetime import timedelta

import structlog

from galley.core.events import audit, idempotency
from galley.core.identity import operations as identity
from galley.core.runs import closing, retention
from galley.core.runs.desk import Desk
from galley.engine.housekeeper import Chore
from galley.wire.services import Services

log = structlog.get_logger("galley.app")

_USES_S = 1.0
_FIRST_S = 300.0
_MINUTE_S = 60.0
_HOUR_S = 3_600.0
_DAY_S = 86_400.0
_ANSWERED = timedelta(days=1)
_UNUSED = timedelta(days=1)
_SENT = timedelta(days=30)


def make_chores(services: Services) -> list[Chore]:
    """Write down uses, forget what has ended, finish deletions, keep the audit's books."""
    database, clock = services.database, services.clock

    def flush_uses() -> None:
        if services.uses is not None:
            services.uses.flush(database)

    def forget() -> None:
        now = clock.now()
        with database.writing() as session:
            idempotency.purge(session, now=now)
            identity.purge_ended(session, now=now)
            identity.purge_web_sessions(session, now=now)

    def forget_runs() -> None:
        now = clock.now()
        retention.purge_inbox(database, now - _ANSWERED)
        retention.purge_plans(database, now - _UNUSED)
        retention.purge_outbox(database, now - _SENT)
        keep_days = services.settings.keep_days
        if keep_days is not None:
            retention.purge_fires(database, now - timedelta(days=keep_days))

    def keep_books() -> None:
        now = clock.now()
        with database.writing() as session:
            audit.purge(session, before=now - audit.RETENTION)
            log.info("audit_anchor", anchor=str(audit.anchor(session, at=now)))

    def tidy() -> None:
        for project in services.repositories.projects():
            services.repositories.repository(project).tidy()

    return [
        Chore("uses", _USES_S, flush_uses, at_end=True),
        Chore("forget", _HOUR_S, forget),
        Chore("forget_runs", _HOUR_S, forget_runs, after_s=_FIRST_S),
        Chore("kitchens", _MINUTE_S, stop_homeless(services.desk)),
        Chore("audit", _DAY_S, keep_books),
        Chore("repositories", _DAY_S, tidy, after_s=_HOUR_S),
    ]


def stop_homeless(desk: Desk) -> Callable[[], None]:
    """The chore that stops what is left of deleted kitchens; it tells of each kitchen once."""
    told: set[int] = set()

    def stop() -> None:
        for kitchen_id in closing.stop_homeless(desk):
            if kitchen_id not in told:
                log.warning("stopping_what_is_left_of_a_kitchen", kitchen_id=kitchen_id)
                told.add(kitchen_id)

    return stop
