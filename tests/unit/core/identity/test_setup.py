"""The one-time link of a fresh installation."""

import threading

import pytest

from galley.core.identity import operations as identity
from galley.core.identity import tokens
from galley.core.identity.errors import AlreadySetUp, TokenInvalid, WeakPassword
from galley.storage.db import Database

from .conftest import PASSWORD, People


def _make(people: People) -> str | None:
    with people.database.writing() as session:
        return identity.make_setup_token(session, people.clock)


def _redeem(people: People, text: str, email: str = "ann@example.org", password: str = PASSWORD):
    with people.database.writing() as session:
        return identity.redeem_setup_token(
            session, text, email=email, name="Ann", password=password, clock=people.clock
        )


def test_the_link_makes_the_first_administrator_once(people: People, sign_in) -> None:
    text = _make(people)
    assert text is not None
    with people.database.reading() as session:
        identity.check_setup_token(session, text, people.clock)
    assert _redeem(people, text).roles == {"admin", "member"}
    assert sign_in().login == "ann@example.org"
    with pytest.raises(AlreadySetUp):
        _redeem(people, text, "eve@example.org")
    assert _make(people) is None


def test_a_weak_password_leaves_the_link_good(people: People) -> None:
    text = _make(people) or ""
    with pytest.raises(WeakPassword):
        _redeem(people, text, password="password1234")
    assert _redeem(people, text).login == "ann@example.org"


def test_a_link_ends_with_the_next_one_and_after_a_day(people: People) -> None:
    old, new = _make(people) or "", _make(people) or ""
    with pytest.raises(TokenInvalid, match="restart Galley"):
        _redeem(people, old)
    people.clock.advance(24 * 3_600)
    with pytest.raises(TokenInvalid, match="restart Galley"):
        _redeem(people, new)


def test_wrong_links_are_refused(people: People) -> None:
    _make(people)
    junk = ("", "x", "\x00", "\ud800", "gly_setup_x")
    for wrong in (*junk, tokens.new_text("setup"), tokens.new_text("personal")):
        with pytest.raises(TokenInvalid):
            _redeem(people, wrong)
        with people.database.reading() as session, pytest.raises(TokenInvalid):
            identity.check_setup_token(session, wrong, people.clock)


def test_bots_do_not_count_as_users(people: People) -> None:
    with people.database.writing() as session:
        identity.create_user(
            session, email="bot@example.org", password=None, clock=people.clock, kind="bot"
        )
    assert _make(people) is not None


def test_of_many_at_once_one_wins(people: People, database: Database) -> None:
    text = _make(people) or ""
    start, outcomes = threading.Barrier(8), []

    def redeem(number: int) -> None:
        start.wait(240)
        try:
            outcomes.append(_redeem(people, text, f"user{number}@example.org").login)
        except (AlreadySetUp, TokenInvalid) as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=redeem, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert len(outcomes) == 8
    assert sum("@" in outcome for outcome in outcomes) == 1
    with database.reading() as session:
        assert identity.list_users(session, identity.system_caller()).total == 1
