"""Messages from servers that do not lead, and from workers: rows that the leader takes in order.

The row is the sender's commit; the leader writes its reply in the transaction that applies the
message, so that a message takes effect exactly once however often either side dies.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from galley.core import errors
from galley.core.errors import GalleyError, Issue, Unavailable
from galley.core.runs import messages as msg
from galley.core.runs import models
from galley.core.runs.task import Outcome
from galley.kit.ids import new_uid

CHANNEL = "galley_inbox"
REPLIES = "galley_reply"
TOUCHED = "galley_touched"
_decoder = msgspec.msgpack.Decoder(msg.Message)
_ERRORS: dict[str, type[GalleyError]] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, GalleyError)
}

_ANSWER = sa.text(
    "update inbox set reply = told.reply, done_at = :now"
    " from unnest(cast(:uids as text[]), cast(:replies as text[])) as told (uid, reply)"
    " where inbox.uid = told.uid and inbox.done_at is null"
).bindparams(sa.bindparam("now", type_=models.inbox.c.done_at.type))
_NOTIFY = sa.text("select pg_notify(:channel, :runs)")
_WAKE = sa.text("select pg_notify(:channel, uid) from unnest(cast(:uids as text[])) as uid")
_IDS_AT_ONCE = 300  # a notice holds 8,000 bytes


@dataclass(frozen=True, slots=True)
class InboxMessage:
    """One row of the inbox, decoded; `fault` says why it cannot be.

    Then `message` is None, or the plain end of the attempt whose end the row tells.
    """

    uid: str
    message: Any
    fault: GalleyError | None = None


class NotAppliedError(Exception):
    """The leader met a bug in applying a message, which changed nothing; its log says more."""


def put(connection: Connection, message: Any, now: datetime) -> str:
    """Leave a message for the leader; wakes it after the commit. The row's uid."""
    uid = new_uid()
    row = {
        "uid": uid,
        "kind": type(message).__name__,
        "body": base64.b64encode(msgspec.msgpack.encode(message)).decode(),
        "created_at": now,
    }
    connection.execute(models.inbox.insert(), row)
    connection.exec_driver_sql(f"notify {CHANNEL}")
    return uid


def take(connection: Connection, limit: int) -> list[InboxMessage]:
    """The oldest messages that nobody has answered yet."""
    box = models.inbox
    query = (
        sa.select(box.c.uid, box.c.kind, box.c.body)
        .where(box.c.done_at.is_(None))
        .order_by(box.c.created_at, box.c.uid)
        .limit(limit)
    )
    return [_decoded(row.uid, row.kind, row.body) for row in connection.execute(query)]


def _decoded(uid: str, kind: str, body: str) -> InboxMessage:
    """Whatever a row holds, the others must pass: servers of another version write here, too."""
    try:
        return InboxMessage(uid, _decoder.decode(base64.b64decode(body, validate=True)))
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        fault = Unavailable(
            f"The leading server does not understand the message ({error}). It may be of another"
            " version than this one: bring all servers and workers to the same."
        )
        return InboxMessage(uid, _plain_end(kind, body, fault.message), fault)


class _End(msgspec.Struct):
    """What is needed of an attempt's end, whatever else another version writes there."""

    attempt_id: int
    fence: int


def _plain_end(kind: str, body: str, reason: str) -> msg.Finished | msg.Lost | None:
    """That the attempt ended, if at least that can be read: its executor tells it only once."""
    if kind not in {msg.Finished.__name__, msg.Lost.__name__}:
        return None
    try:
        end = msgspec.msgpack.decode(base64.b64decode(body), type=_End)
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError):
        return None
    if kind == msg.Lost.__name__:
        return msg.Lost(end.attempt_id, end.fence, reason)
    return msg.Finished(end.attempt_id, end.fence, Outcome(state="failed", reason=reason))


def answer(connection: Connection, replies: Sequence[tuple[str, Any]], now: datetime) -> bool:
    """Write the replies of messages that this transaction applies, and wake their senders.

    False if one of them was answered before: then the transaction must not stand, or its message
    would take effect twice.
    """
    uids = [uid for uid, _ in replies]
    values = {"uids": uids, "replies": [_encode(reply).decode() for _, reply in replies]}
    told = connection.execute(_ANSWER, values | {"now": now}).rowcount
    connection.execute(_WAKE, {"channel": REPLIES, "uids": uids})
    return told == len(replies)


def announce(connection: Connection, run_ids: Iterable[int]) -> None:
    """Tell the other servers which runs this transaction changes."""
    ids = [str(run_id) for run_id in run_ids]
    for start in range(0, len(ids), _IDS_AT_ONCE):
        runs = ",".join(ids[start : start + _IDS_AT_ONCE])
        connection.execute(_NOTIFY, {"channel": TOUCHED, "runs": runs})


def read_reply(connection: Connection, uid: str) -> tuple[bool, Any]:
    """Whether the message was answered, and the reply or the exception to raise."""
    box = models.inbox
    row = connection.execute(sa.select(box.c.reply, box.c.done_at).where(box.c.uid == uid)).first()
    if row is None:
        return True, Unavailable("The answer came, but too long ago to be there still.")
    if row.done_at is None:
        return False, None
    return True, _decode(row.reply)


def _encode(reply: Any) -> bytes:
    if isinstance(reply, GalleyError):
        told = {
            "error": next(k.__name__ for k in type(reply).__mro__ if k.__name__ in _ERRORS),
            "message": reply.message,
            "issues": [[i.file, i.description, i.severity] for i in reply.issues],
            "retry_after_s": reply.retry_after_s,
        }
        return msgspec.json.encode(told)
    if isinstance(reply, Exception):
        return msgspec.json.encode({"bug": type(reply).__name__})
    if isinstance(reply, msg.Submitted):
        return msgspec.json.encode({"submitted": msgspec.to_builtins(reply)})
    return msgspec.json.encode({"value": reply})


def _decode(text: str) -> Any:
    told = msgspec.json.decode(text)
    if "error" in told:
        kind = _ERRORS.get(told["error"], GalleyError)
        issues = [Issue(*issue) for issue in told["issues"]]
        return kind(told["message"], issues=issues, retry_after_s=told["retry_after_s"])
    if "bug" in told:
        return NotAppliedError(f"the leading server met a {told['bug']}; see its log")
    if "submitted" in told:
        return msgspec.convert(told["submitted"], msg.Submitted)
    return told["value"]
