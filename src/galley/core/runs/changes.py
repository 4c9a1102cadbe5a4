"""The rows that one batch of the writer inserts and updates, gathered for few statements."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table

from galley.core.events import audit
from galley.core.runs import models
from galley.storage import rows
from galley.storage.db import metadata

_ORDERED = (
    models.plans,
    models.orders,
    models.runs,
    models.steps,
    models.attempts,
    models.checks,
    models.artifacts,
    models.events,
    models.schedules,
    models.schedule_fires,
    models.outbox,
)


class Changes:
    """Inserts and updates by primary key, merged: a row inserted and changed is written once."""

    def __init__(self) -> None:
        self._inserts: dict[str, dict[Any, dict[str, Any]]] = defaultdict(dict)
        self._updates: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        self._companions: list[tuple[str, dict[str, Any]]] = []

    def insert(self, table: Table, row: dict[str, Any]) -> None:
        """Write a new row; its key is `id`, or the whole row where there is none."""
        rows = self._inserts[table.name]
        rows[row.get("id", len(rows))] = row

    def update(self, table: Table, key: int, values: Mapping[str, Any]) -> None:
        """Change columns of the row `key`."""
        pending = self._inserts[table.name].get(key)
        if pending is not None:
            pending.update(values)
        else:
            self._updates[table.name].setdefault(key, {}).update(values)

    def accompany(self, companions: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Write these rows with the rest: audit entries are chained, others go in as they are."""
        self._companions.extend(companions)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (any(self._inserts.values()) or any(self._updates.values()) or self._companions)

    def flush(self, connection: Connection) -> None:
        """Write everything gathered so far, parents before children, and start afresh."""
        inserts = [(t, new.values()) for t in _ORDERED if (new := self._inserts.pop(t.name, None))]
        updates = [(t, found) for t in _ORDERED if (found := self._updates.pop(t.name, None))]
        companions, self._companions = self._companions, []
        others = [(metadata.tables[name], [row]) for name, row in companions if name != "audit"]
        entries = [row for name, row in companions if name == "audit"]
        links, head = audit.chained(connection, entries) if entries else ((), ())
        rows.write(connection, [*inserts, *others, *links], [*updates, *head])
