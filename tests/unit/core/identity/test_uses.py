"""Last uses: coarse, batched, and never lost to an error of the database."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from galley.core.identity import operations as identity
from galley.core.identity.errors import TokenKindRefused
from galley.core.identity.models import Token, WebSession

from .conftest import People


def _last(people: People, token_id: int):
    with people.database.reading() as session:
        row = session.get_one(Token, token_id)
        return row.last_used_at, row.last_ip


def test_a_use_is_written_at_most_once_a_minute(people: People) -> None:
    issued = people.token(people.add("ann@example.org"))
    uses = identity.UseLog(people.clock)
    assert _last(people, issued.token.id) == (None, None)
    written = []
    for _ in range(7):
        people.call(issued.text, uses=uses)
        people.call(issued.text, uses=uses)
        written.append(uses.flush(people.database))
        people.clock.advance(20)
    assert written == [1, 0, 0, 1, 0, 0, 1]
    at, address = _last(people, issued.token.id)
    assert (people.clock.now() - at).total_seconds() == 20
    assert address == "192.0.2.7"


def test_refused_calls_are_no_uses(people: People) -> None:
    issued = people.token(people.add("ann@example.org"), "trigger")
    uses = identity.UseLog(people.clock)
    with pytest.raises(TokenKindRefused):
        people.call(issued.text, "personal", uses=uses)
    assert uses.flush(people.database) == 0


def test_nothing_is_lost_when_the_database_refuses(people: People, monkeypatch) -> None:
    issued = people.token(people.add("ann@example.org"))
    uses = identity.UseLog(people.clock)
    people.call(issued.text, uses=uses)

    def broken() -> None:
        raise OperationalError("update", {}, Exception("gone"))

    with monkeypatch.context() as patch:
        patch.setattr(people.database, "writing", broken)
        with pytest.raises(OperationalError):
            uses.flush(people.database)
    assert uses.is_waiting(issued.token.id)
    assert uses.flush(people.database) == 1
    assert _last(people, issued.token.id)[0] == people.clock.now()


def test_browser_sessions_stay_awake_through_the_log(people: People) -> None:
    ann = people.add("ann@example.org")
    uses = identity.UseLog(people.clock)
    with people.database.writing() as session:
        _, cookie, _ = identity.open_web_session(session, ann, clock=people.clock, address=None)
    for _ in range(3):
        people.clock.advance(7 * 3_600)
        with people.database.reading() as session:
            identity.caller_for_web_session(session, cookie, people.clock, uses=uses)
        assert uses.flush(people.database) == 1
    with people.database.reading() as session:
        row = session.scalars(sa.select(WebSession)).one()
        assert row.last_seen_at == people.clock.now()
