"""The audit chain: what it records, that nobody can change it unseen, and that it grows safely."""

import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import sqlalchemy as sa

from galley.core.caller import Caller
from galley.core.events import audit
from galley.core.events.audit import AuditAnchor, AuditFault
from galley.core.events.models import audit_entries, audit_heads
from galley.core.identity.policy import JUDGE
from galley.storage.db import Database

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ANN = Caller(
    judge=JUDGE,
    user_id=7,
    login="ann@example.org",
    token_id=3,
    token_kind="personal",
    address="192.0.2.7",
    request_id="r-1",
)


def _entries(count: int, first: int = 1, at: datetime = NOW) -> list[dict]:
    return [
        audit.entry(ANN, "kitchen.update", "kitchen", n, before={"n": n}, after={"n": n + 1}, at=at)
        for n in range(first, first + count)
    ]


def _chain(database: Database, count: int = 6) -> None:
    with database.connection() as connection:
        audit.append(connection, _entries(2))
    with database.writing() as session:
        audit.append(session, _entries(count - 2, 3, NOW + timedelta(seconds=1)))


def _verify(database: Database) -> AuditFault | None:
    with database.reading() as session:
        return audit.verify(session)


def test_an_entry_tells_who_did_what_from_where(database: Database) -> None:
    _chain(database)
    with database.reading() as session:
        rows = session.execute(sa.select(audit_entries).order_by(audit_entries.c.id)).all()
    assert [row.id for row in rows] == [1, 2, 3, 4, 5, 6]
    row = rows[1]
    assert (row.actor_id, row.actor, row.token_id, row.token_kind) == (
        7,
        "ann@example.org",
        3,
        "personal",
    )
    assert (row.address, row.request_id, row.at) == ("192.0.2.7", "r-1", NOW)
    assert (row.action, row.object_kind, row.object_id, row.outcome) == (
        "kitchen.update",
        "kitchen",
        "2",
        "done",
    )
    assert row.before_digest == audit.digest_of({"n": 2}) != row.after_digest
    assert row.previous == rows[0].hash
    assert _verify(database) is None


def test_an_empty_chain_is_whole(database: Database) -> None:
    assert _verify(database) is None
    with database.reading() as session:
        assert audit.anchor(session, at=NOW) == AuditAnchor(0, audit.GENESIS, NOW)
        assert audit.agrees(session, AuditAnchor(0, audit.GENESIS, NOW))
    with database.writing() as session:
        audit.append(session, [])
    assert _verify(database) is None


def test_entries_travel_as_json(database: Database) -> None:
    given = _entries(1)[0]
    travelled = msgspec.json.decode(msgspec.json.encode(given))
    assert travelled == given
    with database.connection() as connection:
        audit.append(connection, [travelled])
    assert _verify(database) is None


def test_a_rolled_back_change_leaves_no_entry(database: Database) -> None:
    _chain(database)

    def fail() -> None:
        with database.writing() as session:
            audit.append(session, _entries(3))
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        fail()
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(audit_entries)) == 6
    assert _verify(database) is None


def _altered(value: object) -> object:
    if isinstance(value, datetime):
        return value - timedelta(microseconds=1)
    return value + 1 if isinstance(value, int) else f"{value}x"


def test_every_altered_column_is_noticed(database: Database) -> None:
    _chain(database)
    columns = [column.name for column in audit_entries.columns if column.name != "id"]
    assert len(columns) == 15
    for name in columns:
        with database.reading() as session:
            row = (
                session.execute(sa.select(audit_entries).where(audit_entries.c.id == 4))
                .mappings()
                .one()
            )
        for value in (_altered(row[name]), None):
            if value is None and not audit_entries.c[name].nullable:
                continue
            _set(database, 4, **{name: value})
            fault = _verify(database)
            assert fault is not None, name
            assert fault.entry_id == 4, name
        _set(database, 4, **{name: row[name]})
        assert _verify(database) is None, name


def _set(database: Database, entry_id: int, **values: object) -> None:
    with database.connection() as connection:
        connection.execute(
            audit_entries.update().where(audit_entries.c.id == entry_id).values(**values)
        )


@pytest.mark.parametrize("gone", [1, 3, 6])
def test_a_removed_entry_is_noticed(database: Database, gone: int) -> None:
    _chain(database)
    with database.connection() as connection:
        connection.execute(audit_entries.delete().where(audit_entries.c.id == gone))
    fault = _verify(database)
    assert fault is not None
    assert fault.entry_id == gone


def test_swapped_entries_are_noticed(database: Database) -> None:
    _chain(database)
    for old, new in ((3, 99), (4, 3), (99, 4)):
        _set(database, old, id=new)
    fault = _verify(database)
    assert fault is not None
    assert fault.entry_id == 3


def test_an_added_entry_is_noticed(database: Database) -> None:
    _chain(database)
    with database.connection() as connection:
        row = dict(
            connection.execute(sa.select(audit_entries).where(audit_entries.c.id == 6))
            .mappings()
            .one()
        )
        row |= {"id": 7, "previous": row["hash"]}
        row["hash"] = audit._hash(row)
        connection.execute(audit_entries.insert(), row)
    assert _verify(database) == AuditFault(7, "the chain's head names another end")


def test_a_chain_cut_with_its_head_disagrees_with_the_anchor(database: Database) -> None:
    _chain(database)
    with database.reading() as session:
        kept = audit.anchor(session, at=NOW)
        cut = session.execute(sa.select(audit_entries).where(audit_entries.c.id == 3)).one()
    assert str(kept) == f"audit anchor 2026-11-24 entry=6 sha256={kept.last_hash}"
    with database.connection() as connection:
        connection.execute(audit_entries.delete().where(audit_entries.c.id > 3))
        connection.execute(audit_heads.update().values(last_id=3, last_hash=cut.hash))
    assert _verify(database) is None  # nothing inside shows it
    with database.reading() as session:
        assert not audit.agrees(session, kept)
    with database.connection() as connection:
        audit.append(connection, _entries(3, 4))
    with database.reading() as session:
        assert audit.anchor(session, at=NOW).last_id == 6
        assert not audit.agrees(session, kept)


def test_a_lost_head_is_noticed(database: Database) -> None:
    _chain(database)
    with database.connection() as connection:
        connection.execute(audit_heads.delete())
    assert _verify(database) == AuditFault(1, "the chain has entries but no head")


def test_a_clock_that_goes_back_does_not_break_the_order(database: Database) -> None:
    _chain(database)
    with database.connection() as connection:
        audit.append(connection, _entries(2, 7, NOW - timedelta(days=30)))
    assert _verify(database) is None


def test_writers_at_once_make_one_chain(database: Database) -> None:
    start, errors = threading.Barrier(6), []

    def write(writer: int) -> None:
        start.wait(240)
        try:
            for n in range(10):
                with database.writing() as session:
                    audit.append(session, _entries(2, writer * 100 + n))
        except Exception as error:  # noqa: BLE001 - the test shows whatever it was
            errors.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert errors == []
    assert _verify(database) is None
    with database.reading() as session:
        assert audit.anchor(session, at=NOW).last_id == 120


def test_a_chain_that_grows_while_it_is_walked_is_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_BATCH", 2)
    _chain(database)
    real, grown = audit._fault_of, []

    def meanwhile(row: dict, last_id: int, last_hash: str) -> AuditFault | None:
        if len(grown) < 5:
            grown.append(row["id"])
            with database.writing() as session:
                audit.append(session, _entries(1, 100 + row["id"]))
        return real(row, last_id, last_hash)

    with monkeypatch.context() as patch:
        patch.setattr(audit, "_fault_of", meanwhile)
        assert _verify(database) is None
    assert len(grown) == 5
    assert _verify(database) is None
    with database.reading() as session:
        assert audit.anchor(session, at=NOW).last_id == 11


def test_retention_while_the_chain_is_walked_is_no_fault(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_BATCH", 1)
    _chain(database)
    real, purged = audit._fault_of, []

    def meanwhile(row: dict, last_id: int, last_hash: str) -> AuditFault | None:
        if not purged:
            with database.writing() as session:
                purged.append(audit.purge(session, before=NOW + timedelta(seconds=1)))
        return real(row, last_id, last_hash)

    monkeypatch.setattr(audit, "_fault_of", meanwhile)
    assert _verify(database) is None
    assert purged == [2]


def test_long_chains_are_verified_in_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_BATCH", 4)
    _chain(database, 12)
    assert _verify(database) is None
    _set(database, 9, actor="eve")
    assert _verify(database) == AuditFault(9, "the entry was altered")


def test_retention_removes_a_prefix_and_keeps_the_rest_provable(database: Database) -> None:
    _chain(database)
    with database.reading() as session:
        kept = audit.anchor(session, at=NOW)
    with database.writing() as session:
        assert audit.purge(session, before=NOW + timedelta(seconds=1)) == 2
        assert audit.purge(session, before=NOW + timedelta(seconds=1)) == 0
    assert _verify(database) is None
    with database.reading() as session:
        assert audit.agrees(session, kept)
    with database.writing() as session:
        assert audit.purge(session, before=NOW + timedelta(days=1)) == 4
        audit.append(session, _entries(1, 7))
    assert _verify(database) is None
    with database.reading() as session:
        assert audit.agrees(session, kept)  # it was the last that left
    with database.connection() as connection:
        connection.execute(audit_entries.delete())
    assert _verify(database) == AuditFault(7, "the chain's end is missing")


def test_hostile_texts_are_stored_plain(database: Database) -> None:
    eve = Caller(judge=JUDGE, login="eve\n\x00\ud800", address="\x1b[31m", request_id="r" * 10_000)
    told = audit.entry(eve, "order.create", "order", "x\u2028y", after={"a": "\ud800"}, at=NOW)
    with database.connection() as connection:
        audit.append(connection, [told])
    with database.reading() as session:
        row = session.execute(sa.select(audit_entries)).one()
    assert row.actor == "eve\ufffd\ufffd\ufffd"
    assert row.address == "\ufffd[31m"
    assert len(row.request_id) == 500
    assert _verify(database) is None


def test_nobody_is_called_anonymous() -> None:
    told = audit.entry(Caller(judge=JUDGE), "public", "account", "", at=NOW)
    assert (told["actor"], told["actor_id"]) == ("anonymous", None)


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert audit.digest_of({"a": 1, "b": [2]}) == audit.digest_of({"b": [2], "a": 1})
    assert audit.digest_of({"a": 1}) != audit.digest_of({"a": "1"})
    assert audit.digest_of(None) is None
