"""Alerts leave by real SMTP and by webhook, once each, and survive a receiver that is down."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller

from galley.core.errors import Forbidden
from galley.core.runs import models
from galley.engine.mailer import PAUSES_S, Mailer, MailServer
from galley.kit.clock import ManualClock
from galley.storage.db import Database

KEY, OLDER = b"k" * 32, b"o" * 32


class Postbox:
    """What a mail server took in; or a refusal."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.answer = "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            self.taken.append(envelope)
        return self.answer


@pytest.fixture
def postbox(free_port: Callable[[], int]) -> Iterator[tuple[Postbox, int]]:
    box, port = Postbox(), free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


class Receiver:
    """Stands for the guarded client: remembers posts, answers as told."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, bytes, Mapping[str, str]]] = []
        self.status = 204
        self.error: Exception | None = None

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        if self.error is not None:
            raise self.error
        self.posts.append((url, body, headers))
        return self.status


def put(database: Database, clock: ManualClock, to: str, key: int = 1) -> None:
    body = {
        "to": to,
        "event": "failure",
        "run_uid": "01RUN",
        "order_uid": "01ORDER",
        "kitchen": "master",
        "source": "flights",
        "variation": "full",
        "state": "failed",
        "reason": "Step gate failed: 3 greater-than 10",
        "warnings": 2,
        "at": clock.now().isoformat(),
    }
    row = {
        "id": key,
        "kind": "webhook" if to.startswith("http") else "mail",
        "subject_key": f"01RUN:failure:{to}",
        "body": body,
        "state": "waiting",
        "tries": 0,
        "next_at": clock.now(),
        "last_error": "",
        "created_at": clock.now(),
    }
    with database.connection() as connection:
        connection.execute(models.outbox.insert(), row)


def mailer(database: Database, clock: ManualClock, port: int | None, post: Receiver) -> Mailer:
    server = None if port is None else MailServer("127.0.0.1", port, "galley@example.org")
    return Mailer(
        database,
        clock,
        mail_server=server,
        post=post,
        sign_keys=(KEY, OLDER),
        external_url="https://galley.example.org",
    )


def state(database: Database) -> tuple[str, int, str]:
    box = models.outbox.c
    with database.reading() as session:
        row = session.execute(sa.select(box.state, box.tries, box.last_error)).one()
    return tuple(row)


def test_a_mail_says_what_failed_and_where_to_look(
    database: Database, manual_clock: ManualClock, postbox: tuple[Postbox, int]
) -> None:
    box, port = postbox
    put(database, manual_clock, "ann@example.org")
    sender = mailer(database, manual_clock, port, Receiver())
    assert sender.send_due() == 1
    assert sender.send_due() == 0
    text = box.taken[0].content.decode()
    assert box.taken[0].rcpt_tos == ["ann@example.org"]
    assert "Subject: flights / full failed" in text
    assert "Reason: Step gate failed: 3 greater-than 10" in text
    assert "https://galley.example.org/runs/01RUN" in text
    message = message_from_bytes(box.taken[0].content)
    assert parsedate_to_datetime(message["Date"]) == manual_clock.now().replace(microsecond=0)
    assert re.fullmatch("<[0-9a-f]{32}@example.org>", message["Message-ID"])
    assert state(database)[:2] == ("sent", 1)


def test_a_refused_mail_is_tried_again_later_and_only_once_taken(
    database: Database, manual_clock: ManualClock, postbox: tuple[Postbox, int]
) -> None:
    box, port = postbox
    box.answer = "451 come back later"
    put(database, manual_clock, "ann@example.org")
    sender = mailer(database, manual_clock, port, Receiver())
    sender.send_due()
    assert state(database)[0] == "waiting"
    assert "451" in state(database)[2]
    assert sender.send_due() == 0
    box.answer = "250 OK"
    manual_clock.advance(PAUSES_S[0] * 1.2)
    assert sender.send_due() == 1
    assert len(box.taken) == 1
    assert state(database) == ("sent", 2, "")


def test_a_webhook_is_signed_and_keeps_its_id_over_tries(
    database: Database, manual_clock: ManualClock
) -> None:
    receiver = Receiver()
    receiver.status = 500
    put(database, manual_clock, "https://hooks.example.org/galley")
    sender = mailer(database, manual_clock, None, receiver)
    sender.send_due()
    receiver.status = 200
    manual_clock.advance(PAUSES_S[0] * 1.2)
    sender.send_due()
    (url, body, first), (_, _, second) = receiver.posts
    assert url == "https://hooks.example.org/galley"
    assert first["webhook-id"] == second["webhook-id"]
    signed = f"{first['webhook-id']}.{first['webhook-timestamp']}.".encode() + body
    expected = [
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        for key in (KEY, OLDER)
    ]
    assert first["webhook-signature"].split(" ") == expected
    assert json.loads(body)["type"] == "run.failure"
    assert json.loads(body)["data"]["kitchen"] == "master"
    assert state(database)[:2] == ("sent", 2)


def test_a_message_dies_after_its_last_try_and_says_why(
    database: Database, manual_clock: ManualClock
) -> None:
    receiver = Receiver()
    receiver.error = Forbidden("That address is private.")
    put(database, manual_clock, "http://10.0.0.1/")
    sender = mailer(database, manual_clock, None, receiver)
    for pause in (*PAUSES_S, 0):
        assert sender.send_due() == 1
        manual_clock.advance(pause * 1.2 + 1)
    assert state(database) == ("dead", len(PAUSES_S) + 1, "That address is private.")
    assert sender.send_due() == 0


def test_without_a_mail_server_a_mail_is_given_up_at_once_and_says_what_to_set(
    database: Database, manual_clock: ManualClock
) -> None:
    put(database, manual_clock, "ann@example.org")
    mailer(database, manual_clock, None, Receiver()).send_due()
    assert state(database)[:2] == ("dead", 0)
    assert "GALLEY_SMTP_HOST" in state(database)[2]


@pytest.mark.parametrize("bad", ["a@", "a@[", "a@b\nBcc: c@d"])
def test_a_message_that_cannot_be_made_holds_up_no_other(
    database: Database, manual_clock: ManualClock, postbox: tuple[Postbox, int], bad: str
) -> None:
    box, port = postbox
    put(database, manual_clock, bad, 1)
    put(database, manual_clock, "ann@example.org", 2)
    sender = mailer(database, manual_clock, port, Receiver())
    assert sender.send_due() == 2
    assert [envelope.rcpt_tos for envelope in box.taken] == [["ann@example.org"]]
    rows = models.outbox.c
    with database.reading() as session:
        states = session.execute(sa.select(rows.id, rows.state, rows.tries).order_by(rows.id)).all()
    assert [tuple(row) for row in states] == [(1, "waiting", 1), (2, "sent", 1)]
