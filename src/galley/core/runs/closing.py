"""Deleting a kitchen: its row and branch go, what runs in it stops, and its schedules end.

The kitchen's row goes first, in the caller's transaction: from then on the ledger accepts nothing
into it. After the commit the ledger is told to stop what was accepted before. Should the server die
in between, `stop_homeless` finds what was left and does it later.
"""

import logging
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.projects import operations as projects
from galley.core.projects.models import Kitchen
from galley.core.runs import messages as msg
from galley.core.runs import models
from galley.core.runs.desk import Desk
from galley.kit.failpoints import failpoint
from galley.storage.db import after_commit

_log = logging.getLogger(__name__)


def delete_kitchen(desk: Desk, session: Session, caller: Caller, name: str) -> None:
    """Delete a kitchen and stop what runs in it; orders and runs stay readable.

    Raises:
        KitchenNotFound, Forbidden, RootKitchenStays: see `projects.delete_kitchen`.
    """
    kitchen_id = projects.delete_kitchen(session, caller, desk.repositories, name, desk.clock)
    reason = f"The kitchen {name} was deleted by {caller.login or 'the system'}."
    after_commit(session, lambda: _stop_all(desk, kitchen_id, reason))


def stop_homeless(desk: Desk) -> Sequence[int]:
    """Have the ledger stop what is alive of kitchens that are gone; the ids of these kitchens.

    Nobody waits for it: what is still there when this is done again is told again.
    """
    orders, runs = models.orders.c, models.runs.c
    there = sa.select(Kitchen.id)
    of_orders = sa.select(orders.kitchen_id).where(
        models.ORDER_IS_OPEN, orders.kitchen_id.not_in(there)
    )
    of_runs = sa.select(runs.kitchen_id).where(models.RUN_IS_LIVE, runs.kitchen_id.not_in(there))
    with desk.database.reading() as session:
        gone = session.scalars(sa.union(of_orders, of_runs)).all()
    for kitchen_id in gone:
        desk.writer.send(msg.CloseKitchen(kitchen_id, "The kitchen was deleted."))
    return gone


def _stop_all(desk: Desk, kitchen_id: int, reason: str) -> None:
    """Tell the ledger. The kitchen is gone either way, so a fault is no reason to say it is not."""
    failpoint("runs.kitchen_deleted")
    try:
        desk.writer.call(msg.CloseKitchen(kitchen_id, reason))
    except Exception as error:  # noqa: BLE001 - also what the leading server has met
        _log.warning("what runs in the deleted kitchen is stopped later: %s", error)
