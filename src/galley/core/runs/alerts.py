"""Alerts of a run: one outbox row per event and destination, in the transaction of the event."""

from galley.core.runs import models
from galley.core.runs.live import LiveRun
from galley.core.runs.turn import Turn

EVENTS = ("start", "warning", "over_duration", "success", "failure")


def raise_alert(turn: Turn, run: LiveRun, event: str) -> None:
    """Queue the event's messages once per run; who listens was decided with the order."""
    if event in run.alerted:
        return
    run.alerted.add(event)
    for destination in dict.fromkeys(run.alerts.get(event, ())):
        turn.has_mail = True
        turn.changes.insert(
            models.outbox,
            {
                "id": turn.ids.take("outbox"),
                "kind": "webhook" if destination.startswith(("http://", "https://")) else "mail",
                "subject_key": f"{run.uid}:{event}:{destination}",
                "body": {
                    "to": destination,
                    "event": event,
                    "run_uid": run.uid,
                    "order_uid": run.order_uid,
                    "kitchen": run.kitchen,
                    "source": run.plan.source.path,
                    "variation": run.plan.source.variation,
                    "state": run.state,
                    "reason": run.failure or run.reason,
                    "warnings": run.warnings,
                    "at": turn.now.isoformat(),
                },
                "state": "waiting",
                "tries": 0,
                "next_at": turn.now,
                "last_error": "",
                "created_at": turn.now,
            },
        )
