"""The room that workers have together."""

import sqlalchemy as sa

from galley.core.caller import Caller
from galley.core.identity.policy import JUDGE
from galley.core.runs import leadership
from galley.core.runs.ports import Capabilities
from galley.core.runs.workers import Room, find_room

WHO = Caller(JUDGE, 1, "mia", roles=frozenset({"member"}))


def test_the_only_worker_is_asked(database):
    offer = Capabilities("local", 1, frozenset(), (), "here", 100, 2000)
    with database.reading() as session:
        assert find_room(session, WHO, lambda: offer) == Room(True, 100, 2000)


def test_workers_of_one_machine_share_its_room(postgres_database):
    with postgres_database.connection() as connection:
        for name, host, memory in (("w1", "a", 100), ("w2", "a", 90), ("w3", "b", 50)):
            leadership.report_worker(connection, name, 2, (), 600, machine=(host, memory, 1000))
        leadership.report_worker(connection, "w4", 2, (), -1, machine=("c", 7, 7))
    with postgres_database.reading() as session:
        assert find_room(session, WHO) == Room(False, 140, 2000)  # nobody leads
    with postgres_database.connection() as connection:
        assert leadership.acquire(connection, "w1", 600) is not None
    with postgres_database.reading() as session:
        assert find_room(session, WHO) == Room(True, 140, 2000)
    with postgres_database.connection() as connection:
        connection.execute(sa.text("delete from lease where name <> 'leader'"))
    with postgres_database.reading() as session:
        assert find_room(session, WHO) == Room(False, 0, 0)
