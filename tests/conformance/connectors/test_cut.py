"""Connections that are cut, files that are taken, and other bad luck."""

import fcntl
import os
import threading

import pytest
import sqlalchemy as sa

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import connector
from galley.engine.faults import StepError

DOWNLOAD = KeySpec("r", "read_file", path="/cut")


def test_a_download_that_is_cut_fails_and_may_be_tried_again(web, place, into):
    with pytest.raises(StepError, match="/cut could not be called") as caught:
        connector("http", place).read({"url": web.url}, DOWNLOAD, into())
    assert caught.value.retryable


def test_a_busy_server_may_be_asked_again(web, place, into):
    with pytest.raises(StepError, match="answered 503") as caught:
        connector("http", place).read(
            {"url": web.url}, KeySpec("r", "read_file", path="/busy"), into()
        )
    assert caught.value.retryable


def test_wrong_credentials_are_named(web, place, into):
    web.files["/private/a.csv"] = b"a\n1\n"
    key = KeySpec("r", "read_file", path="/private/a.csv")
    made = connector("http", place)
    wrong = {"url": web.url, "username": "cook", "password": "pot"}
    with pytest.raises(StepError, match=r"answered 401. Check username, password or token"):
        made.read(wrong, key, into())
    with pytest.raises(StepError, match="401"):
        made.test({"url": f"{web.url}/private", "token": "x"})

    batch = made.read({**wrong, "password": "pan"}, key, into())

    assert batch.path.read_bytes() == b"a\n1\n"


def test_a_redirect_is_followed_within_the_server(web, place, into):
    web.files["/data.csv"] = b"a\n1\n"
    key = KeySpec("r", "read_file", path="/moved")
    batch = connector("http", place).read({"url": web.url}, key, into())
    assert (batch.format, batch.path.read_bytes()) == ("csv", b"a\n1\n")


def test_a_call_gives_its_json(web, place):
    key = KeySpec("c", "scalar", path="/json")
    assert connector("http", place).run({"url": web.url}, key).value == {"rows": 3}


def test_a_call_sends_its_body(web, place):
    key = KeySpec("c", "statement", path="/jobs", options={"body": {"a": 1}})
    connector("http", place).run({"url": web.url, "token": "T"}, key)
    assert web.files["/jobs"] == b'{"a":1}'
    method, _, headers = web.seen[-1]
    assert (method, headers["authorization"]) == ("POST", "Bearer T")


def test_a_private_address_is_refused_by_default(web, place, into):
    from dataclasses import replace

    from galley.engine.outbound import OutboundPolicy

    strict = replace(place, outbound=OutboundPolicy())
    with pytest.raises(StepError, match="is not public") as caught:
        connector("http", strict).read(
            {"url": web.url}, KeySpec("r", "read_file", path="/a"), into()
        )
    assert not caught.value.retryable
    assert web.seen == []


def test_a_killed_postgres_session_is_a_clear_fault(postgres_config, postgres_url, place, into):
    made = connector("postgres", place)
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    stop = threading.Event()

    def kill() -> None:
        asked = sa.text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND query LIKE '%pg_sleep%' AND state = 'active'"
        )
        with engine.connect() as connection:
            while not stop.is_set() and not connection.scalar(asked):
                connection.rollback()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(StepError, match="was cut") as caught:
            made.read(
                postgres_config, KeySpec("q", "query", sql="SELECT pg_sleep(60)::text"), into()
            )
    finally:
        stop.set()
        killer.join()
        engine.dispose()
    assert caught.value.retryable
    assert "Nothing was kept" in caught.value.message


def test_a_statement_that_takes_too_long_is_ended(postgres_config, place):
    key = KeySpec("s", "statement", sql="SELECT pg_sleep(60)", options={"timeout-s": 0.05})
    with pytest.raises(StepError, match="ended the statement"):
        connector("postgres", place).run(postgres_config, key)


def test_a_wrong_password_says_what_to_check(postgres_config, place):
    config = {**postgres_config, "username": "nobody_here"}
    with pytest.raises(StepError, match=r"let us not in.*Check hostname, port, database") as caught:
        connector("postgres", place).test(config)
    assert "does not exist" not in caught.value.message


@pytest.mark.parametrize("system", ["duckdb", "sqlite"])
def test_a_file_in_use_is_waited_for_only_so_long(system, place, rows):
    config = {"database": "busy.db", "lock-wait-s": 0.05}
    made = connector(system, place)
    key = KeySpec("w", "insert", table="t", options={"write-mode": "create"})
    made.write(config, key, rows("SELECT 1 AS id"))
    if system == "duckdb":
        holder = os.open(place.work / ".busy.db.lock", os.O_RDWR)
        fcntl.flock(holder, fcntl.LOCK_EX)
        release = lambda: os.close(holder)  # noqa: E731
    else:
        from galley.engine.connectors.sqlite import sqlite_driver

        other = sqlite_driver.connect(place.work / "busy.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        release = other.close
    try:
        with pytest.raises(StepError, match=r"0\.05 s") as caught:
            made.write(config, key, rows("SELECT 2 AS id"))
    finally:
        release()
    assert caught.value.retryable
    made.write(config, key, rows("SELECT 3 AS id"))
    count = KeySpec("c", "scalar", sql="SELECT count(*) FROM t")
    assert made.run(config, count).value == 2


def test_two_loads_into_one_duckdb_file_take_turns(place, rows):
    from dataclasses import replace

    patient = replace(place, lock_wait_s=30.0)
    batches = [rows(f"SELECT {n} AS id FROM range(2000)") for n in range(4)]
    faults: list[BaseException] = []

    def load(number: int) -> None:
        try:
            key = KeySpec("w", "insert", table="t", options={"write-mode": "create"})
            connector("duckdb", patient).write({"database": "one.db"}, key, batches[number])
        except BaseException as error:  # noqa: BLE001
            faults.append(error)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    key = KeySpec("c", "scalar", sql="SELECT count(*) FROM t")
    assert connector("duckdb", place).run({"database": "one.db"}, key).value == 8000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", b"a,b\n1,2\n1,2,3\n"),
        ("a.csv", b"a\n\xff\xfe\xfa\n"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n'),
        ("a.parquet", b"PAR1 nothing PAR1"),
    ],
)
def test_a_damaged_file_says_how_to_mend_it(name, text, place, into):
    (place.work / name).write_bytes(text)
    batch = connector("file", place).read({}, KeySpec("r", "read_file", path=name), into())
    key = KeySpec("w", "insert", table="t", options={"write-mode": "create"})
    for system in ("duckdb", "sqlite"):
        with pytest.raises(StepError, match=r"[Cc]heck"):
            connector(system, place).write({"database": f"{system}.db"}, key, batch)
