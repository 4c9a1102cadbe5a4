"""Structured logs: one JSON object a line on standard error, without credentials."""

import logging
import sys
import threading
from contextlib import suppress
from typing import Any, TextIO

import structlog

from galley.storage.db import is_disk_failing, is_disk_full
from galley.wire.redaction import redact_event

log = structlog.get_logger("galley")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Forgiving:
    """A text stream for logs: what a full disk or a closed pipe does not take, is left out.

    Whoever logs an error must not end of another one, least of all the ledger's only thread.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if that can be done."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that can be done; else the stream tries again with the next line."""
        with suppress(OSError):
            self._stream.flush()


def configure_logging(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Send all logs to standard error as JSON: ours, libraries', what nobody catches in threads."""
    out: Any = _Forgiving(stream or sys.stderr)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact_event,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(default=str)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),  # a line is one piece
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_name_logger, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO if level == "debug" else logging.WARNING)
    for name, least in (("uvicorn.error", logging.WARNING), ("uvicorn.access", logging.CRITICAL)):
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = True
        library.setLevel(least)

    sys.unraisablehook = lambda found: _log_unheard(found.exc_value, repr(found.object))
    threading.excepthook = lambda found: _log_unheard(found.exc_value, repr(found.thread))


def _log_unheard(error: BaseException | None, where: str) -> None:
    """What went wrong where nobody can be told: in the end of an object, or of a thread.

    A disk that is full or failing is no bug: whoever wrote there has heard of it already.
    """
    told = {"error": f"{type(error).__name__}: {error}", "where": where[:200]}
    if isinstance(error, OSError) and (is_disk_full(error) or is_disk_failing(error)):
        log.warning("unheard", **told)
    elif not isinstance(error, SystemExit):  # a thread may end so
        log.error("unheard", exc_info=error, **told)


def _name_logger(_logger: Any, _method: str, event: Any) -> Any:
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event
