"""How many rows a list has, without counting a large ledger from its start at each look.

Rows that cannot change their answer any more are counted once and remembered, by process: the ids
of orders and runs only grow, so a later look counts what came since. Deleting anything raises a
mark in `models.counters`, and what was remembered under another mark is forgotten.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.runs import models

DELETIONS = "deletion"
_FEW = 1_000
_REMEMBERED = 500
_MARK = sa.select(models.counters.c.next_id).where(models.counters.c.name == DELETIONS)

_lock = threading.Lock()
_known: WeakKeyDictionary[Any, dict[str, "_Count"]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class _Count:
    """How many rows up to the id `last` there were when `mark` rows had been deleted."""

    mark: int
    last: int
    count: int


def count_rows(
    session: Session, rows: Any, key: Any, where: Sequence[Any], *, settled: Any = None
) -> int:
    """How many of `rows` (a table or a join) fulfil the conditions; few are simply counted.

    `key` is the id that only grows. `settled` is a query for the last id up to which no row will
    change its answer: by default the newest id there is. None that it finds means no such row.
    """
    some = sa.select(key).select_from(rows).where(*where).limit(_FEW + 1)
    few = session.scalar(sa.select(sa.func.count()).select_from(some.subquery())) or 0
    if few <= _FEW:
        return few
    counts = sa.select(sa.func.count()).select_from(rows).where(*where)
    known, name = _remembered(session), _name(session, counts)
    mark = session.scalar(_MARK) or 0  # before the count: a later deletion is then told by the mark
    before = known.get(name)
    if before is None or before.mark != mark:
        before = _Count(mark, 0, 0)
    upto: Any = sa.select(sa.func.max(key)) if settled is None else settled
    last = session.scalar(upto) or 0
    if last > before.last:
        new = session.scalar(counts.where(key > before.last, key <= last)) or 0
        before = _Count(mark, last, before.count + new)
        with _lock:
            if len(known) >= _REMEMBERED:
                known.clear()
            known[name] = before
    return before.count + (session.scalar(counts.where(key > before.last)) or 0)


def _remembered(session: Session) -> dict[str, _Count]:
    """What is remembered of the session's database."""
    with _lock:
        return _known.setdefault(session.get_bind().engine.pool, {})


def _name(session: Session, query: Any) -> str:
    """The query with its values."""
    compiled = query.compile(session.get_bind(), compile_kwargs={"render_postcompile": True})
    return f"{compiled} {sorted(compiled.params.items())!r}"
