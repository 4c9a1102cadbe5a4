"""Browser sessions and their CSRF tokens."""

import pytest

from galley.core.errors import NotFound
from galley.core.events import audit
from galley.core.identity import operations as identity
from galley.core.identity.errors import SessionEnded
from galley.core.identity.models import User, WebSession

from .conftest import People


def _open(people: People, user: User, agent: str = "Firefox") -> tuple[WebSession, str, str]:
    with people.database.writing() as session:
        return identity.open_web_session(
            session, user, clock=people.clock, address="192.0.2.7", user_agent=agent
        )


def _caller(people: People, cookie: str, uses: identity.UseLog | None = None):
    with people.database.reading() as session:
        return identity.caller_for_web_session(
            session, cookie, people.clock, address="192.0.2.8", request_id="r1", uses=uses
        )


def test_a_cookie_calls_as_its_user_without_a_token(people: People) -> None:
    ann = people.add("ann@example.org", "operator")
    row, cookie, _ = _open(people, ann)
    caller, found = _caller(people, cookie)
    assert found.id == row.id
    assert (caller.user_id, caller.login) == (ann.id, "ann@example.org")
    assert (caller.token_id, caller.token_kind, caller.scopes) == (None, None, None)
    assert (caller.address, caller.request_id) == ("192.0.2.8", "r1")
    assert len(cookie) >= 43


def test_sign_ins_get_different_cookies(people: People) -> None:
    ann = people.add("ann@example.org")
    cookies = {_open(people, ann)[1] for _ in range(5)}
    assert len(cookies) == 5


def test_strange_cookies_are_signed_out(people: People) -> None:
    for cookie in ("", "x", "é", "\x00", "\ud800", "x" * 5_000):
        with pytest.raises(SessionEnded):
            _caller(people, cookie)


def test_eight_idle_hours_end_it(people: People) -> None:
    _, cookie, _ = _open(people, people.add("ann@example.org"))
    people.clock.advance(8 * 3_600 - 1)
    assert _caller(people, cookie)[0].is_known
    people.clock.advance(1)
    with pytest.raises(SessionEnded):
        _caller(people, cookie)


def test_seven_days_end_it_however_busy(people: People) -> None:
    ann = people.add("ann@example.org")
    _, cookie, _ = _open(people, ann)
    uses = identity.UseLog(people.clock)
    for _ in range(7 * 4 - 1):
        people.clock.advance(6 * 3_600)
        assert _caller(people, cookie, uses)[0].is_known
        uses.flush(people.database)
    people.clock.advance(6 * 3_600)
    with pytest.raises(SessionEnded):
        _caller(people, cookie, uses)
    with people.database.reading() as session:
        assert identity.list_web_sessions(session, people.caller(ann), ann, people.clock) == []


def test_a_disabled_user_is_out_at_once_and_for_good(people: People) -> None:
    ann = people.add("ann@example.org")
    _, cookie, _ = _open(people, ann)
    for act in (identity.disable_user, identity.enable_user):
        with people.database.writing() as session:
            act(session, ann, clock=people.clock)
        with pytest.raises(SessionEnded):
            _caller(people, cookie)


def test_signing_out_ends_this_session_only(people: People) -> None:
    ann = people.add("ann@example.org")
    one, cookie_one, _ = _open(people, ann)
    two, cookie_two, _ = _open(people, ann)
    with people.database.writing() as session:
        identity.close_web_session(session, one, clock=people.clock)
        identity.close_web_session(session, one, clock=people.clock)
    with pytest.raises(SessionEnded):
        _caller(people, cookie_one)
    assert _caller(people, cookie_two)[1].id == two.id
    with people.database.reading() as session:
        listed = identity.list_web_sessions(session, people.caller(ann), ann, people.clock)
        assert [row.uid for row in listed] == [two.uid]
        assert audit.verify(session) is None


def test_others_sessions_are_hidden(people: People) -> None:
    ann, bob = people.add("ann@example.org"), people.add("bob@example.org")
    row, cookie, _ = _open(people, ann)
    stranger = people.caller(bob)
    with people.database.writing() as session:
        with pytest.raises(NotFound):
            identity.close_web_session(session, row, clock=people.clock, by=stranger)
        with pytest.raises(NotFound):
            identity.get_web_session(session, stranger, row.uid)
        with pytest.raises(NotFound):
            identity.list_web_sessions(session, stranger, ann, people.clock)
        found = identity.get_web_session(session, people.caller(ann), row.uid)
        assert found.user_agent == "Firefox"
    assert _caller(people, cookie)[0].is_known


def test_the_browsers_name_is_cut_and_cleaned(people: People) -> None:
    row, _, _ = _open(people, people.add("ann@example.org"), "evil\n\x1b[31m\x00" + "x" * 1_000)
    assert row.user_agent.startswith("evil[31mxxx")
    assert len(row.user_agent) <= 300


def test_csrf_tokens_belong_to_one_cookie(people: People) -> None:
    ann = people.add("ann@example.org")
    _, cookie, csrf = _open(people, ann)
    _, other, _ = _open(people, ann)
    assert identity.csrf_token(cookie) == csrf
    assert identity.csrf_matches(cookie, csrf)
    assert cookie not in csrf
    for wrong in (None, "", csrf[:-1], csrf + "x", identity.csrf_token(other), "é", "\ud800"):
        assert not identity.csrf_matches(cookie, wrong)


def test_old_sessions_are_forgotten(people: People) -> None:
    ann = people.add("ann@example.org")
    _open(people, ann)
    people.clock.advance(7 * 86_400 + 1)
    _, cookie, _ = _open(people, ann)
    with people.database.writing() as session:
        assert identity.purge_web_sessions(session, now=people.clock.now()) == 1
    assert _caller(people, cookie)[0].is_known
