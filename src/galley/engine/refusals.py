"""What is told to the sender of a message that the ledger cannot take, and whose fault it is."""

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from galley.core.errors import Conflict, Invalid
from galley.storage.db import is_taken

_MAX_TEXT = 300


def is_of_the_message(error: Exception) -> bool:
    """Whether the message itself is at fault, so that others may pass; else it is the database."""
    if isinstance(error, IntegrityError | DataError):
        return True
    if isinstance(error, SQLAlchemyError):  # a value that could not even be sent
        return isinstance(error, StatementError) and not isinstance(error, DBAPIError)
    return not isinstance(error, OSError)


def refusal_of(error: Exception) -> Exception:
    """What the sender is told of a failure that `is_of_the_message`; a bug stays what it is."""
    if isinstance(error, IntegrityError) and is_taken(error):
        told: Exception = Conflict("Somebody else made the same change first; read it and retry.")
    elif isinstance(error, StatementError):
        lines = str(error.orig).strip().splitlines() or ["it does not say why"]
        told = Invalid(
            f"The database cannot keep what was sent: {lines[0][:_MAX_TEXT]}."
            " Send it again only with that mended."
        )
    else:
        return error
    told.__cause__ = error
    return told
