"""Idempotency keys: one object per key, the same answer again, and nobody else's."""

import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from galley.core.caller import Caller
from galley.core.errors import Invalid
from galley.core.events import idempotency
from galley.core.events.idempotency import KeyReused, RunningKeys, Scope, StillRunning
from galley.core.events.models import idempotency_keys
from galley.core.identity.policy import JUDGE
from galley.core.secrets.sealing import SealBroken, Sealer
from galley.storage.db import Database

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SCOPE = Scope("user:7", "POST", "/v2/order/create", "key-1")
BODY = idempotency.body_digest(b'{"a": 1}')


def _store(database: Database, scope: Scope = SCOPE, at: datetime = NOW, **how) -> None:
    row = idempotency.row(
        scope, body_sha256=BODY, status=201, answer=b'{"id": "\xc3\xa9"}', at=at, **how
    )
    with database.writing() as session:
        idempotency.store(session, row)


def test_the_same_request_gets_the_same_answer(database: Database) -> None:
    with database.reading() as session:
        assert idempotency.replay(session, SCOPE, BODY) is None
    _store(database, media_type="text/plain")
    with database.reading() as session:
        stored = idempotency.replay(session, SCOPE, BODY)
    assert stored is not None
    assert (stored.status, stored.media_type, stored.answer) == (
        201,
        "text/plain",
        b'{"id": "\xc3\xa9"}',
    )
    assert stored.created_at == NOW


def test_another_body_under_the_same_key_is_a_mistake(database: Database) -> None:
    _store(database)
    other = idempotency.body_digest(b'{"a": 2}')
    with database.reading() as session, pytest.raises(KeyReused, match="'key-1'"):
        idempotency.replay(session, SCOPE, other)


def test_other_people_methods_routes_and_keys_are_apart(database: Database) -> None:
    _store(database)
    others = [
        Scope("user:8", "POST", SCOPE.route, "key-1"),
        Scope("user:7", "PUT", SCOPE.route, "key-1"),
        Scope("user:7", "POST", "/v2/other", "key-1"),
        Scope("user:7", "POST", SCOPE.route, "KEY-1"),
    ]
    for scope in others:
        with database.reading() as session:
            assert idempotency.find(session, scope) is None
        _store(database, scope)
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(idempotency_keys)) == 5


def test_the_row_is_plain_json_for_the_ledger(database: Database) -> None:
    table, row = idempotency.row(
        SCOPE, body_sha256=BODY, status=200, answer=bytes(range(256)), at=NOW
    )
    assert msgspec.json.decode(msgspec.json.encode(row)) == row
    with database.connection() as connection:
        connection.execute(idempotency_keys.metadata.tables[table].insert(), row)
    with database.reading() as session:
        stored = idempotency.find(session, SCOPE)
    assert stored is not None
    assert stored.answer == bytes(range(256))


def test_a_sealed_answer_needs_the_key_and_its_place(database: Database) -> None:
    sealer = Sealer(b"k" * 32)
    row = idempotency.row(
        SCOPE, body_sha256=BODY, status=200, answer=b"gly_secret", at=NOW, sealer=sealer
    )
    assert "gly_secret" not in str(row)
    with database.writing() as session:
        idempotency.store(session, row)
    with database.reading() as session:
        stored = idempotency.find(session, SCOPE, sealer=sealer)
        assert stored is not None
        assert stored.answer == b"gly_secret"
        with pytest.raises(SealBroken):
            idempotency.find(session, SCOPE, sealer=Sealer(b"x" * 32))
        with pytest.raises(ValueError, match="sealer"):
            idempotency.find(session, SCOPE)
    with database.connection() as connection:
        connection.execute(idempotency_keys.update().values(principal="user:8"))
    stolen = Scope("user:8", SCOPE.method, SCOPE.route, SCOPE.key)
    with database.reading() as session, pytest.raises(SealBroken):
        idempotency.find(session, stolen, sealer=sealer)


def test_a_plain_answer_reads_with_a_sealer_at_hand(database: Database) -> None:
    _store(database)
    with database.reading() as session:
        stored = idempotency.find(session, SCOPE, sealer=Sealer(b"k" * 32))
    assert stored is not None
    assert stored.status == 201


def test_a_rolled_back_change_leaves_no_key(database: Database) -> None:
    row = idempotency.row(SCOPE, body_sha256=BODY, status=200, answer=b"", at=NOW)

    def fail() -> None:
        with database.writing() as session:
            idempotency.store(session, row)
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        fail()
    with database.reading() as session:
        assert idempotency.find(session, SCOPE) is None


def test_of_many_at_once_one_is_stored(database: Database) -> None:
    start, outcomes = threading.Barrier(8), []

    def attempt() -> None:
        start.wait(240)
        try:
            _store(database)
            outcomes.append("stored")
        except IntegrityError:
            outcomes.append("lost")

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert sorted(outcomes) == ["lost"] * 7 + ["stored"]


def test_keys_live_for_a_day(database: Database) -> None:
    _store(database)
    _store(database, Scope("user:7", "POST", "/x", "young"), NOW + timedelta(seconds=1))
    with database.writing() as session:
        assert idempotency.purge(session, now=NOW + timedelta(hours=24)) == 0
        assert idempotency.purge(session, now=NOW + timedelta(hours=24, milliseconds=1)) == 1
    with database.reading() as session:
        assert idempotency.find(session, SCOPE) is None


@pytest.mark.parametrize("key", ["a", "a" * 255, "8e03978e-40d5-43dd-bc93-6894a57f9324", "~!"])
def test_keys_that_can_be(key: str) -> None:
    assert idempotency.checked_key(key) == key


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "é", "a\n", "\x7f", "\x00"])
def test_keys_that_cannot_be(key: str) -> None:
    with pytest.raises(Invalid, match="1 to 255"):
        idempotency.checked_key(key)


def test_spacing_and_order_do_not_change_a_json_body() -> None:
    one = idempotency.body_digest(b'{"a":1,"b":[1,2]}')
    assert one == idempotency.body_digest(b' { "b" : [1, 2],\n "a": 1 } ')
    assert one != idempotency.body_digest(b'{"a":1,"b":[2,1]}')
    assert one != idempotency.body_digest(b'{"a":"1","b":[1,2]}')


def test_other_bodies_are_taken_as_they_are() -> None:
    bodies = [b"", b"a=1", b"a=1 ", b"\xff\xfe", b"[" * 100_000, b"1" * 5_000]
    digests = {idempotency.body_digest(body) for body in bodies}
    assert len(digests) == len(bodies)


def test_numbers_that_only_round_alike_are_different_bodies() -> None:
    near = b'{"a": 0.1000000000000000000001}'
    assert idempotency.body_digest(near) != idempotency.body_digest(b'{"a": 0.1}')
    big = b'{"a": 9007199254740993.0}'
    assert idempotency.body_digest(big) != idempotency.body_digest(b'{"a": 9007199254740992.0}')


def test_principals() -> None:
    known = Caller(judge=JUDGE, user_id=7, token_id=3, address="192.0.2.7")
    assert idempotency.principal_of(known) == "user:7"
    assert idempotency.principal_of(Caller(judge=JUDGE, address="192.0.2.7")) == "address:192.0.2.7"
    assert idempotency.principal_of(Caller(judge=JUDGE)) == "address:"


def test_a_running_key_is_busy_until_its_request_ends() -> None:
    running = RunningKeys()
    other = Scope("user:8", "POST", "/x", "key-1")
    with running.hold(SCOPE):
        with running.hold(other), pytest.raises(StillRunning) as refused, running.hold(SCOPE):
            pass
        assert refused.value.retry_after_s == 1
    failed = RuntimeError("the request failed")
    with pytest.raises(RuntimeError), running.hold(SCOPE):
        raise failed
    with running.hold(SCOPE):
        assert running._held == {SCOPE}
