"""On start: ends what an earlier process of this worker left running and does not hold any more."""

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from galley.core.runs import models
from galley.core.runs.states import ATTEMPT_LIVE
from galley.engine.executors.local import LocalExecutor
from galley.engine.folders import Folders
from galley.storage.db import Database

log = structlog.get_logger("galley.worker")


def end_strays(database: Database, worker: str, executor: LocalExecutor, folders: Folders) -> None:
    """End the steps whose attempts were lost or deleted while no process of this worker lived."""

    def held() -> list[str]:
        a = models.attempts.c
        query = sa.select(a.run_id, a.id).where(a.worker == worker, a.state.in_(ATTEMPT_LIVE))
        with database.reading() as session:
            return [str(folders.attempt(run_id, key)) for run_id, key in session.execute(query)]

    try:
        executor.end_strays(held)
    except (SQLAlchemyError, OSError) as error:
        log.warning("strays_not_ended", error=str(error))
