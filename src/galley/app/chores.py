"""The chores of a server that come round again."""

import structlog

from galley.core.events import audit, idempotency
from galley.core.identity import operations as identity
from galley.engine.housekeeper import Chore
from galley.wire.services import Services

log = structlog.get_logger("galley.app")

_USES_S = 1.0
_HOUR_S = 3_600.0
_DAY_S = 86_400.0


def make_chores(services: Services) -> list[Chore]:
    """Write down uses, forget what has ended, keep the audit's books."""
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
        Chore("audit", _DAY_S, keep_books),
        Chore("repositories", _DAY_S, tidy, after_s=_HOUR_S),
    ]
