"""Alerts of a run: one outbox row per event and destination, in the transaction of the event."""

from collections.abc import Mapping
from typing import Any

from galley.core.errors import Invalid
from galley.core.runs import models
from galley.core.runs.live import LiveRun
from galley.core.runs.turn import Turn
from galley.kit.destinations import fault_of_destination, is_web_address

NO_MAIL_SERVER = "this server has no mail server (GALLEY_SMTP_HOST)."
_NAMED = 5
ALERT_KINDS = ("mail", "webhook")
EVENTS = ("start", "warning", "over_duration", "success", "failure")


def check_alerts(alerts: Mapping[str, Any] | None) -> None:
    """Refuse alerts for unknown events, and destinations that nothing can be sent to.

    Raises:
        Invalid: the message names the event, the destination and the reason.
    """
    for event, destinations in (alerts or {}).items():
        if event not in EVENTS:
            known = ", ".join(EVENTS)
            raise Invalid(f"There is no alert '{event}'. Use one of {known}.")
        for destination in destinations:
            if fault := fault_of_destination(destination):
                raise Invalid(f"'{destination[:300]}' {fault} (alert {event}).")


def unsendable(alerts: Mapping[str, list[str]]) -> str:
    """What to tell of a run's alerts on a server that cannot send mail; nothing if none is mail."""
    everybody = dict.fromkeys(who for named in alerts.values() for who in named)
    lost = [who for who in everybody if not is_web_address(who)]
    if not lost:
        return ""
    shown = ", ".join(lost[:_NAMED]) + (f" and {len(lost) - _NAMED} more" * (len(lost) > _NAMED))
    return (
        f"will not reach {shown}: {NO_MAIL_SERVER} Let an administrator set it, or name https"
        " addresses instead."
    )


def subject_key(run_uid: str, event: str, destination: str) -> str:
    """What makes a message the only one of its kind."""
    return f"{run_uid}:{event}:{destination}"


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
                "kind": "webhook" if is_web_address(destination) else "mail",
                "subject_key": subject_key(run.uid, event, destination),
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
