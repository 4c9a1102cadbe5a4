"""One call, one transaction, and at most one effect for each idempotency key.

A handler takes `SessionDep` and never commits: the transaction commits after the handler has
returned and before the answer leaves, with the row that remembers the answer under the call's
`Idempotency-Key` in it. A handler that sends a message to the ledger takes `WriteDep` instead:
the ledger's writer puts the row into its own transaction. See `routes` for what calls both.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import Depends
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from galley.core.caller import Caller
from galley.core.errors import Conflict
from galley.core.events import idempotency
from galley.core.runs import messages as msg
from galley.core.runs.desk import Desk
from galley.core.runs.ports import RunWriter
from galley.kit.failpoints import failpoint
from galley.wire.call import Call, call_of
from galley.wire.later import Later
from galley.wire.services import Services, ServicesDep

KEY_HEADER = "idempotency-key"
REPLAYED_HEADER = "Idempotent-Replayed"
_FIRST_ERROR_STATUS = 400
_READING = frozenset({"GET", "HEAD"})


class Replayed(Exception):
    """The call's key was used before; `answer` is what the first call was answered."""

    def __init__(self, stored: idempotency.StoredAnswer) -> None:
        super().__init__("replayed")
        self.answer = Response(
            stored.answer,
            status_code=stored.status,
            media_type=stored.media_type,
            headers={REPLAYED_HEADER: "true"},
        )


@contextmanager
def claimed(call: Call, services: Services, key: str | None) -> Iterator[None]:
    """Hold the call's idempotency key (if it has one and none is held) while the block lasts.

    Raises:
        Replayed: the key was used before, with the same request.
        KeyReused: with another request. StillRunning: the first request has not ended.
    """
    if key is None or not call.is_write or call.key is not None:
        yield
        return
    caller = call.caller or Caller(judge=services.judge, address=call.address)
    scope = idempotency.Scope(
        principal=idempotency.principal_of(caller),
        method=call.method,
        route=call.route,
        key=idempotency.checked_key(key),
    )
    with services.keys.hold(scope):
        _replay(call, services, scope)
        call.key = scope
        try:
            yield
        except Conflict:
            _replay(call, services, scope)  # what is in the way may be the same call elsewhere
            raise


def _replay(call: Call, services: Services, scope: idempotency.Scope) -> None:
    """Give the answer that is stored under the key, if there is one.

    Raises:
        Replayed: there is. KeyReused: it was another request's.
    """
    with services.database.reading() as session:
        stored = idempotency.replay(session, scope, call.body_sha256, sealer=services.sealer)
    if stored is not None:
        raise Replayed(stored)


@contextmanager
def open_session(request: Request, services: Services) -> Iterator[Session]:
    """The call's session: one that reads for GET and HEAD, else the call's one transaction."""
    call = call_of(request)
    if not call.is_write:
        with shared_snapshot(call, services) as session:
            yield session
        return
    key = request.headers.get(KEY_HEADER)
    with (
        claimed(call, services, key),
        _decided_by_key(call),
        services.database.writing() as session,
    ):
        yield session
        _conclude(session, call, services)


@contextmanager
def shared_snapshot(call: Call, services: Services) -> Iterator[Session]:
    """A session that reads; the call's own, where it is open already.

    Who calls is found out in the session that a reading handler then gets, if it asks for one: to
    open a session costs as much as two or three queries.
    """
    if call.snapshot is not None:
        yield call.snapshot
        return
    with services.database.reading() as session:
        call.snapshot = session
        try:
            yield session
        finally:
            call.snapshot = None


@contextmanager
def _decided_by_key(call: Call) -> Iterator[None]:
    """Of two calls with one key, on two servers at once, the database lets one through."""
    try:
        yield
    except IntegrityError as error:
        if call.key is not None and idempotency.TABLE in str(error):
            raise idempotency.StillRunning(call.key.key) from error
        raise


async def _session_later(request: Request, services: ServicesDep) -> Later:
    call_of(request).reads_on = request.method in _READING
    return Later(partial(open_session, request, services))


async def _snapshot_later(services: ServicesDep) -> Later:
    return Later(services.database.reading)


SessionDep = Annotated[Session, Depends(_session_later)]
"""The call's own transaction (see `open_session`). Take the caller before it."""

SnapshotDep = Annotated[Session, Depends(_snapshot_later)]
"""A session that only reads, whatever the method; see `Database.reading`."""


@dataclass(frozen=True, slots=True)
class Made:
    """The names that a message to the ledger gives what it will make, known before it is sent."""

    order_uid: str | None
    run_uid: str | None


class Write:
    """How a handler that changes run state keeps the promise of idempotency keys.

    It holds no transaction: pass `companions(answer)` to the operation, or give it `desk(...)`
    where the answer names what is made. Return the very answer that was remembered.
    """

    def __init__(self, call: Call, services: Services) -> None:
        self._call = call
        self._services = services

    def companions(self, answer: Response) -> msg.Companions:
        """The rows that the writer adds to the change, so that a repeat gets this answer."""
        row = _row(self._call, self._services, answer)
        if row is None:
            return ()
        self._call.is_remembered = True
        return (row,)

    def transactions(self, answer: Response) -> "Transactions":
        """Transactions of an operation that opens its own; its writing one keeps the answer."""
        return Transactions(self._call, self._services, answer)

    def desk(self, answer: Callable[[Made], Response]) -> Desk:
        """A desk whose orders and resumptions remember `answer(made)`; see `Made`."""
        desk = self._services.desk
        return replace(desk, writer=_RememberingWriter(desk.writer, self, answer))


class Transactions:
    """Transactions for one call, whose writing ones remember the call's answer."""

    def __init__(self, call: Call, services: Services, answer: Response) -> None:
        self._call = call
        self._services = services
        self._answer = answer

    def answer_with(self, answer: Response) -> None:
        """Remember this answer instead: what it names is known only now, before it is written."""
        self._answer = answer

    def reading(self) -> AbstractContextManager[Session]:
        """See `Database.reading`."""
        return self._services.database.reading()

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """See `Database.writing`; the answer's row stands in the same transaction."""
        row = _row(self._call, self._services, self._answer)
        with _decided_by_key(self._call), self._services.database.writing() as session:
            if row is not None:
                idempotency.store(session, row)
            yield session
        self._call.is_remembered = self._call.is_remembered or row is not None


@contextmanager
def open_write(request: Request, services: Services) -> Iterator[Write]:
    """The call's `Write`; its key is held until the answer is there.

    An answer that no message carried (there was nothing to do) is remembered at the end.
    """
    call = call_of(request)
    with claimed(call, services, request.headers.get(KEY_HEADER)):
        yield Write(call, services)
        remember(call, services, call.answer)


async def _write_later(request: Request, services: ServicesDep) -> Later:
    return Later(partial(open_write, request, services))


WriteDep = Annotated[Write, Depends(_write_later)]
"""For handlers that send a message to the ledger. Take the caller before it."""


def remember(call: Call, services: Services, answer: Any) -> None:
    """Keep the answer of an operation that has committed by itself."""
    if call.is_remembered or not isinstance(answer, Response):
        return
    row = _row(call, services, answer)
    if row is not None:
        failpoint("idempotency.before_store")
        with services.database.writing() as session:
            idempotency.store(session, row)
        call.is_remembered = True


def _conclude(session: Session, call: Call, services: Services) -> None:
    """Before the commit: drop what a refused call did, remember what the others are answered."""
    answer = call.answer
    if answer is not None and answer.status_code >= _FIRST_ERROR_STATUS:
        session.rollback()
        return
    row = None if answer is None else _row(call, services, answer)
    if row is not None:
        session.flush()
        idempotency.store(session, row)


def _row(call: Call, services: Services, answer: Response) -> tuple[str, dict[str, Any]] | None:
    """The row that remembers an answer; None without a key, for refusals and for streams."""
    if call.key is None or call.is_remembered or isinstance(answer, StreamingResponse):
        return None
    if answer.status_code >= _FIRST_ERROR_STATUS:
        return None
    return idempotency.row(
        call.key,
        body_sha256=call.body_sha256,
        status=answer.status_code,
        answer=bytes(answer.body),
        media_type=answer.headers.get("content-type", "application/json"),
        at=services.clock.now(),
        sealer=services.sealer,
    )


class _RememberingWriter:
    """The ledger's writer for one call: its messages carry the row of the answer."""

    def __init__(self, writer: RunWriter, write: Write, answer: Callable[[Made], Response]) -> None:
        self._writer = writer
        self._write = write
        self._answer = answer

    def send(self, message: Any) -> "Future[Any]":
        """See `ports.RunWriter.send`."""
        return self._writer.send(self._complete(message))

    def call(self, message: Any, *, timeout_s: float = 30.0) -> Any:
        """See `ports.RunWriter.call`."""
        return self._writer.call(self._complete(message), timeout_s=timeout_s)

    def _complete(self, message: Any) -> Any:
        run = getattr(message, "run", None)
        order = getattr(message, "order", None)
        made = Made(order.uid if order else None, run.uid if run else None)
        rows = self._write.companions(self._answer(made))
        return msgspec.structs.replace(message, companions=(*message.companions, *rows))
