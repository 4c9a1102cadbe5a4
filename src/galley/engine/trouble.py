"""How the threads in the background log what went wrong."""

from typing import Any

from sqlalchemy.exc import TimeoutError as NoConnectionFree

from galley.core.errors import GalleyError
from galley.storage.db import is_connection_lost

_MOST_CHARACTERS = 300


def note_trouble(log: Any, event: str, error: Exception, **facts: Any) -> None:
    """Log an outage (database, disk) or a refusal of ours in a line; a bug with its traceback."""
    if _explains_itself(error):
        said = str(error).strip().splitlines() or [type(error).__name__]
        log.warning(event, error=said[0][:_MOST_CHARACTERS], **facts)
    else:
        log.error(event, exc_info=error, **facts)


def _explains_itself(error: Exception) -> bool:
    known = (NoConnectionFree, OSError, GalleyError)
    return is_connection_lost(error) or isinstance(error, known)
