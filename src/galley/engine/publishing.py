"""Puts what attempts staged into the blob store, before the ledger hears of their ends."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import structlog

from galley.core.runs.task import Outcome
from galley.kit.failpoints import failpoint
from galley.storage.blobs import BlobDamaged, BlobStore

log = structlog.get_logger("galley.publisher")

PAUSES_S = (0.5, 2.0, 8.0, 20.0)
"""How long to wait before each further try, when the store does not take a file."""


class Publisher:
    """Stores staged files in threads of its own, and hands each outcome to `report` then.

    A store that is away is tried again a few times; then the step has failed, and may be retried.
    A publication that `close` interrupts is not reported: the attempt's exit file stays, and the
    next server takes it up from there.
    """

    def __init__(self, blobs: BlobStore, report: Callable[[str, int, Outcome], None]) -> None:
        self._blobs = blobs
        self._report = report
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="galley-publisher")

    def publish(self, key: str, fence: int, outcome: Outcome) -> None:
        """Store what the attempt staged, soon, and report its end."""
        self._pool.submit(self._publish, key, fence, outcome)

    def close(self) -> None:
        """Let the store's present calls end, and begin no other."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _publish(self, key: str, fence: int, outcome: Outcome) -> None:
        try:
            fault = self._fault(key, outcome)
        except Exception:
            log.exception("publish_failed", attempt=key)
            fault = "Its results could not be stored; see the server's log."
        if fault is None:
            failpoint("publish.stored")
        elif self._closing.is_set():
            return
        else:
            outcome = msgspec.structs.replace(outcome, state="failed", staged=(), reason=fault)
        self._report(key, fence, outcome)

    def _fault(self, key: str, outcome: Outcome) -> str | None:
        """Store everything; why that was not possible, or None."""
        for staged in outcome.staged:
            tries = iter(PAUSES_S)
            while True:
                try:
                    self._blobs.put_file(Path(staged.path), staged.sha256)
                    break
                except (BlobDamaged, FileNotFoundError) as error:
                    return f"The result {staged.name} could not be stored: {error}"
                except OSError as error:
                    log.warning("not_stored", attempt=key, name=staged.name, error=str(error))
                    pause_s = next(tries, None)
                    if pause_s is None or self._closing.wait(pause_s):
                        return f"The result {staged.name} could not be stored: {error}"
        return None
