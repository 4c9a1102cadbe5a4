"""One HTTP call as all surfaces see it: its id, where it comes from, who makes it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from galley.core.caller import Caller
from galley.core.events.idempotency import Scope as KeyScope
from galley.kit.ids import new_uid

WRITING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_STATE = "call"


@dataclass(slots=True)
class Call:
    """What is known of a call while it is under way.

    `address` is the client's, behind trusted proxies too. `answer` is the finished response, which
    the transaction needs to remember it under the call's idempotency key. `who` finds out who is
    calling; it may raise. `snapshot` is the session in which it was found out, while the handler
    reads on in that; `reads_on` says that it will.
    """

    request_id: str = field(default_factory=new_uid)
    address: str | None = None
    method: str = "GET"
    route: str = ""
    caller: Caller | None = None
    key: KeyScope | None = None
    body_sha256: str = ""
    is_remembered: bool = False
    is_bug_logged: bool = False
    answer: Response | None = None
    on_identified: Callable[[Caller], None] | None = None
    who: Callable[[], Caller] | None = None
    reads_on: bool = False
    snapshot: Session | None = None

    def identify(self, caller: Caller) -> None:
        """A dialect's `auth.py` tells who is calling, before any session is opened.

        Raises:
            TooMany: this caller calls too often.
            RuntimeError: the call's idempotency key was looked up already, under another name.
        """
        if self.key is not None:
            raise RuntimeError("authenticate the caller before opening a session or a write")
        self.caller = caller
        if self.on_identified is not None:
            self.on_identified(caller)

    @property
    def is_write(self) -> bool:
        """Whether the method may change something."""
        return self.method in WRITING_METHODS


def call_of(connection: HTTPConnection | Scope) -> Call:
    """The call that a request belongs to; made on the spot where no edge has made one."""
    scope = connection.scope if isinstance(connection, HTTPConnection) else connection
    state = scope.setdefault("state", {})
    call: Call | None = state.get(_STATE)
    if call is None:
        client = scope.get("client")
        call = Call(address=client[0] if client else None, method=scope.get("method", "GET"))
        state[_STATE] = call
    return call


def attach(scope: Scope, call: Call) -> None:
    """Make it the call of this request."""
    scope.setdefault("state", {})[_STATE] = call
