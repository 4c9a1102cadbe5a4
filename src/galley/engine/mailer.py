"""Sends what waits in the outbox: alerts by mail and by webhook, at least once each, in order.

A row is written in the transaction of its event, and marked sent only after the receiver took it;
a repeat carries the same id, so that a receiver can tell.
"""

import base64
import hashlib
import hmac
import smtplib
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from random import Random
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from galley.core.errors import GalleyError
from galley.core.runs import models
from galley.core.runs.alerts import NO_MAIL_SERVER
from galley.engine.trouble import note_trouble
from galley.kit.clock import Clock
from galley.kit.failpoints import failpoint
from galley.storage.db import Database

PAUSES_S = (5, 60, 300, 1_800, 3_600, 10_800, 21_600, 43_200)
"""Waits between tries: eight of them over about a day, then the message is dead."""

_BATCH = 20
_LONGEST_NAP_S = 60.0
_AFTER_TROUBLE_S = 5.0
_jitter = Random()  # noqa: S311 - spreads retries, decides nothing
log = structlog.get_logger("galley.mailer")


class Undeliverable(Exception):
    """Another try would help as little as this one."""


Post = Callable[[str, bytes, Mapping[str, str]], int]
"""Posts a body to an address through the guarded client; gives the status code.

Raises GalleyError (an address that may not be reached) or OSError (nobody answered).
"""


@dataclass(frozen=True, slots=True)
class MailServer:
    """How mail leaves: an SMTP server, and who it comes from."""

    host: str
    port: int = 25
    sender: str = "galley@localhost"
    user: str | None = None
    password: str | None = None
    security: str = "none"  # none, starttls, tls
    timeout_s: float = 10.0


class Mailer:
    """One thread that empties the outbox. `sign_keys` sign webhooks (Standard Webhooks, HMAC)."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        mail_server: MailServer | None,
        post: Post,
        sign_keys: Sequence[bytes],
        external_url: str,
    ) -> None:
        self._database = database
        self._clock = clock
        self._server = mail_server
        self._post = post
        self._sign_keys = sign_keys
        self._url = external_url
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="galley-mailer", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End after the message under way."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(15)

    def nudge(self) -> None:
        """Something was put into the outbox."""
        self._wake.set()

    def send_due(self) -> int:
        """Try every message that is due, oldest first; how many were tried."""
        box = models.outbox
        with self._database.reading() as session:
            query = (
                sa.select(box)
                .where(box.c.state == "waiting", box.c.next_at <= self._clock.now())
                .order_by(box.c.id)
                .limit(_BATCH)
            )
            rows = [dict(row) for row in session.execute(query).mappings()]
        for row in rows:
            self._try(row)
        return len(rows)

    def _try(self, row: dict[str, Any]) -> None:
        failpoint("mailer.before_send")
        try:
            if row["kind"] == "mail":
                self._mail(row)
            else:
                self._call(row)
        except Undeliverable as error:
            self._bury(row, row["tries"], str(error))
        except (GalleyError, OSError, smtplib.SMTPException) as error:
            self._failed(row, str(error) or type(error).__name__)
        except Exception as error:
            # One message that cannot be made must not keep back the others.
            log.exception("alert_not_made", key=row["subject_key"])
            self._failed(row, f"The message could not be made: {type(error).__name__}: {error}")
        else:
            failpoint("mailer.after_send")
            self._store(row["id"], state="sent", tries=row["tries"] + 1, last_error="")
            failpoint("mailer.after_mark")

    def _failed(self, row: dict[str, Any], why: str) -> None:
        tries = row["tries"] + 1
        if tries > len(PAUSES_S):
            self._bury(row, tries, why)
            return
        wait = timedelta(seconds=PAUSES_S[tries - 1] * _jitter.uniform(0.9, 1.1))
        log.warning("alert_not_sent", key=row["subject_key"], error=why, tries=tries)
        self._store(row["id"], tries=tries, last_error=why[:500], next_at=self._clock.now() + wait)

    def _bury(self, row: dict[str, Any], tries: int, why: str) -> None:
        log.error("alert_dead", key=row["subject_key"], error=why)
        self._store(row["id"], state="dead", tries=tries, last_error=why[:500])

    def _store(self, key: int, **values: Any) -> None:
        box = models.outbox
        with self._database.connection() as connection:
            connection.execute(box.update().where(box.c.id == key).values(**values))

    def _mail(self, row: dict[str, Any]) -> None:
        server = self._server
        if server is None:
            raise Undeliverable(f"Not sent: {NO_MAIL_SERVER}")
        message = compose(row["body"], server.sender, self._url)
        message["Date"] = format_datetime(row["created_at"])
        domain = parseaddr(server.sender)[1].rpartition("@")[2]
        message["Message-ID"] = f"<{self._id(row)}@{domain}>"
        context = ssl.create_default_context() if server.security != "none" else None
        if server.security == "tls":
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, timeout=server.timeout_s, context=context
            )
        else:
            client = smtplib.SMTP(server.host, server.port, timeout=server.timeout_s)
        with client:
            if server.security == "starttls":
                client.starttls(context=context)
            if server.user is not None:
                client.login(server.user, server.password or "")
            client.send_message(message)

    def _call(self, row: dict[str, Any]) -> None:
        """Post the event with Standard Webhooks headers. Source: standardwebhooks.com, spec 1.0."""
        body = msgspec.json.encode({"type": f"run.{row['body']['event']}", "data": row["body"]})
        stamp = str(int(self._clock.now().timestamp()))
        signed = f"{self._id(row)}.{stamp}.".encode() + body
        headers = {
            "content-type": "application/json",
            "webhook-id": self._id(row),
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(_signature(key, signed) for key in self._sign_keys),
        }
        status = self._post(row["body"]["to"], body, headers)
        if not 200 <= status < 300:  # noqa: PLR2004
            raise ConnectionError(f"The receiver answered {status}.")

    def _id(self, row: dict[str, Any]) -> str:
        return hashlib.sha256(row["subject_key"].encode()).hexdigest()[:32]

    def _serve(self) -> None:
        while not self._stopping:
            try:
                tried = self.send_due()
                nap_s = 0.0 if tried == _BATCH else self._nap()
            except Exception as error:  # noqa: BLE001 - this thread must go on
                note_trouble(log, "mailer_trouble", error)
                nap_s = _AFTER_TROUBLE_S
            self._wake.wait(nap_s)
            self._wake.clear()

    def _nap(self) -> float:
        box = models.outbox
        with self._database.reading() as session:
            query = sa.select(sa.func.min(box.c.next_at)).where(box.c.state == "waiting")
            due: datetime | None = session.scalar(query)
        if due is None:
            return _LONGEST_NAP_S
        wait = (due - self._clock.now()).total_seconds()
        return min(max(wait, 0.0), _LONGEST_NAP_S)


def _signature(key: bytes, signed: bytes) -> str:
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


def compose(alert: Mapping[str, Any], sender: str, external_url: str) -> EmailMessage:
    """The mail of an alert: what happened, where, and a link to the run."""
    titles = {
        "start": "started",
        "warning": "has warnings",
        "over_duration": "takes too long",
        "success": "succeeded",
        "failure": "failed",
    }
    what = f"{alert['source']} / {alert['variation']}"
    message = EmailMessage()
    message["From"] = sender
    message["To"] = alert["to"]
    message["Subject"] = f"{what} {titles[alert['event']]}"
    lines = [
        f"{what} {titles[alert['event']]} in kitchen {alert['kitchen']}.",
        "",
        *([f"Reason: {alert['reason']}"] if alert["reason"] else []),
        *([f"Warnings: {alert['warnings']}"] if alert["warnings"] else []),
        f"Run: {external_url}/runs/{alert['run_uid']}",
        f"At: {alert['at']}",
    ]
    message.set_content("\n".join(lines))
    return message
