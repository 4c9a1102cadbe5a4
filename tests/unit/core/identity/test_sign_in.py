"""Signing in: throttled, silent about who exists, and safe against what people send."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from galley.core.identity import operations as identity
from galley.core.identity import passwords
from galley.core.identity import sign_in as module
from galley.core.identity.errors import BadCredentials, HashingBusy, TooManyFailures
from galley.core.identity.models import LoginFailure, User
from galley.core.identity.passwords import HashingGate
from galley.storage.db import Database

from .conftest import PASSWORD, People


def test_a_good_sign_in_gives_the_user(people: People, sign_in) -> None:
    people.add("ann@example.org", "operator")
    people.clock.advance(60)
    user = sign_in(" Ann@Example.org")
    assert user.login == "ann@example.org"
    assert user.roles == {"operator", "member"}
    assert user.last_login_at == people.clock.now()


REFUSED = [
    ("ann@example.org", "wrong words here", "wrong password"),
    ("eve@example.org", PASSWORD, "unknown account"),
    ("bot@example.org", PASSWORD, "the account has no password"),
    ("off@example.org", PASSWORD, "the account is disabled"),
    ("off@example.org", "wrong words here", "wrong password"),
]


def test_every_refusal_says_the_same(people: People, sign_in) -> None:
    people.add("ann@example.org", "admin")
    people.add("bot@example.org", password=None)
    off = people.add("off@example.org")
    with people.database.writing() as session:
        identity.disable_user(session, off, clock=people.clock)
    for login, password, reason in REFUSED:
        with pytest.raises(BadCredentials) as refused:
            sign_in(login, password)
        assert str(refused.value) == refused.value.message == "Credentials are invalid"
        assert refused.value.reason == reason


def test_hostile_texts_are_just_wrong(people: People, sign_in) -> None:
    people.add("ann@example.org")
    texts = ("", " ", "\x00", "a\x00b@x.org", "\ud800", "x" * 1_000_000, "ann@example.org\u200b")
    for number, text in enumerate(texts):
        with pytest.raises(BadCredentials):
            sign_in(text, PASSWORD, f"192.0.2.{number}")
        with pytest.raises(BadCredentials):
            sign_in("ann@example.org", text, f"192.0.2.{number}")
    with people.database.reading() as session:
        assert len(session.scalars(sa.select(LoginFailure)).all()) == 2 * len(texts)


def _fail(sign_in, times: int, **how: str) -> None:
    for _ in range(times):
        with pytest.raises(BadCredentials):
            sign_in(password="wrong words here", **how)


@pytest.mark.parametrize("login", ["ann@example.org", "eve@example.org"])
def test_ten_failures_close_the_account_for_the_address(
    people: People, sign_in, login: str
) -> None:
    people.add("ann@example.org")
    people.add("bob@example.org")
    for _ in range(10):
        _fail(sign_in, 1, login=login)
        people.clock.advance(30)
    with pytest.raises(TooManyFailures) as refused:
        sign_in(login, PASSWORD)
    assert refused.value.retry_after_s == 15 * 60 - 10 * 30
    assert sign_in("bob@example.org").login == "bob@example.org"
    if login == "ann@example.org":
        assert sign_in(login, address="198.51.100.9").login == login
        people.clock.advance(refused.value.retry_after_s)
        assert sign_in(login).login == login


def test_refused_tries_do_not_lengthen_the_wait(people: People, sign_in) -> None:
    people.add("ann@example.org")
    _fail(sign_in, 10)
    waits = []
    for _ in range(3):
        people.clock.advance(100)
        with pytest.raises(TooManyFailures) as refused:
            sign_in()
        waits.append(refused.value.retry_after_s)
    assert waits == [800, 700, 600]


def test_a_good_sign_in_forgets_the_failures_before(people: People, sign_in) -> None:
    people.add("ann@example.org")
    for _ in range(3):
        _fail(sign_in, 9)
        assert sign_in().login == "ann@example.org"


def test_a_spray_over_accounts_closes_the_address(people: People, sign_in) -> None:
    people.add("ann@example.org")
    with people.database.writing() as session:
        _, key = module._keys("any@example.org", "192.0.2.7")
        for number in range(99):
            session.add(
                LoginFailure(account_key=f"k{number}", address_key=key, at=people.clock.now())
            )
    _fail(sign_in, 1, login="user99@example.org")
    with pytest.raises(TooManyFailures):
        sign_in()
    assert sign_in(address="192.0.2.8").login == "ann@example.org"


def test_a_whole_ipv6_network_counts_as_one_address(people: People, sign_in) -> None:
    people.add("ann@example.org")
    for host in range(10):
        _fail(sign_in, 1, address=f"2001:db8:1:2::{host:x}")
    with pytest.raises(TooManyFailures):
        sign_in(address="2001:db8:1:2:ffff::1")
    assert sign_in(address="2001:db8:1:3::1").login == "ann@example.org"
    _fail(sign_in, 10, address="::ffff:203.0.113.5")
    with pytest.raises(TooManyFailures):
        sign_in(address="203.0.113.5")


def test_old_failures_are_swept(people: People, sign_in) -> None:
    people.add("ann@example.org")
    _fail(sign_in, 3)
    people.clock.advance(timedelta(minutes=16).total_seconds())
    _fail(sign_in, 1)
    with people.database.reading() as session:
        assert len(session.scalars(sa.select(LoginFailure)).all()) == 1


def test_no_failure_row_holds_what_was_typed(people: People, sign_in) -> None:
    _fail(sign_in, 1, login="my secret passphrase")
    with people.database.reading() as session:
        row = session.scalars(sa.select(LoginFailure)).one()
    assert "secret" not in f"{row.account_key}{row.address_key}"
    assert "192.0.2.7" not in f"{row.account_key}{row.address_key}"


def test_an_old_hash_is_renewed_at_sign_in(
    people: People, sign_in, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = people.add("ann@example.org")
    monkeypatch.setattr(
        passwords, "_HASHER", PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    )
    assert sign_in().password_hash != ann.password_hash
    with people.database.reading() as session:
        user = session.get(User, ann.id)
        assert user is not None
        assert not passwords.needs_rehash(user.password_hash or "")
    assert sign_in().login == "ann@example.org"


def test_an_account_that_changes_while_its_password_is_hashed_is_refused(
    people: People, sign_in, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.add("root@example.org", "admin")
    ann = people.add("ann@example.org")
    real = passwords.matches

    def meanwhile(stored: str | None, password: str) -> bool:
        with people.database.writing() as session:
            identity.disable_user(session, ann, clock=people.clock)
        return real(stored, password)

    monkeypatch.setattr(passwords, "matches", meanwhile)
    with pytest.raises(BadCredentials) as refused:
        sign_in()
    assert refused.value.reason == "the account changed meanwhile"


def test_many_guesses_at_once_get_no_more_tries(people: People, database: Database) -> None:
    people.add("ann@example.org")
    outcomes: list[type[BaseException]] = []
    start = threading.Barrier(16)

    def guess() -> None:
        start.wait(240)
        try:
            identity.log_in(
                database,
                login="ann@example.org",
                password="wrong words here",
                address="192.0.2.7",
                clock=people.clock,
            )
        except (BadCredentials, TooManyFailures, HashingBusy) as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=guess) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert len(outcomes) == 16
    # Two hash side by side, so at most one guess more than the limit is judged.
    assert outcomes.count(BadCredentials) in {10, 11}


def test_a_full_queue_is_told_to_come_back(people: People, database: Database) -> None:
    people.add("ann@example.org")
    gate = HashingGate(slots=1, queue=0)
    with gate.slot(), pytest.raises(HashingBusy) as refused:
        identity.log_in(
            database,
            login="ann@example.org",
            password=PASSWORD,
            address=None,
            clock=people.clock,
            gate=gate,
        )
    assert refused.value.retry_after_s == 1
    assert "please try again in a bit" in refused.value.message
