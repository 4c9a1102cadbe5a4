"""Servers that share one clock and one Postgres fire each due time once, whoever freezes meanwhile.

With GALLEY_CHAOS_LONG 2,000 due times and four servers instead of 100 and two. GALLEY_CHAOS_SEED
sets what happens when; failures print it.
"""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from tests.chaos.test_kills import SEED, USER
from tests.contract.live import NO_RATES, PATIENCE_S, Answer, Api, Live, serve, until

from galley.core.runs import models
from galley.engine.folders import SHARED
from galley.kit.ids import uuid_of
from galley.storage.db import Database

IS_LONG = bool(os.environ.get("GALLEY_CHAOS_LONG"))
DUES, SERVERS, A_ORDER = (2000, 4, 50) if IS_LONG else (100, 2, 10)
"""How many due times, servers, and due times of each order within its one hour."""
pytestmark = pytest.mark.timeout(max(1800, DUES * 4))
RECIPE = {
    "description.json": '{"description": "for clocks"}',
    "variables.json": '{"variable-list": {}}',
    "variations.json": (
        '{"variation-list": {"v": {"description": "", "graph-setting": "g"}},'
        ' "graph-setting-list": {"g": [["a"]]}, "schedule-setting-list": {},'
        ' "override-setting-list": {}, "conditions-list": {}, "ingredient-definition-list": []}'
    ),
    "a/description.json": '{"type": "DKNode_NoOp", "description": "nothing"}',
    "a/notebook.json": "{}",
}


class Crowd:
    """Servers on one Postgres, with one clock that only the test moves ahead."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.clock = folder / "clock"
        self.address = address
        self.database = Database(address)
        self.servers: list[Live] = []
        self.set_clock(datetime.now(UTC))

    def set_clock(self, at: datetime) -> None:
        """Let it be that time for all servers, from one moment to the next."""
        fresh = self.clock.with_name("clock.new")
        fresh.write_text(str((at - datetime.now(UTC)).total_seconds()))
        fresh.replace(self.clock)

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(self.clock.read_text()))

    @contextmanager
    def up(self, count: int) -> Iterator[None]:
        """Start so many servers, each with a data folder of its own and the shared ones."""
        environment = {
            "GALLEY_DATABASE_URL": self.address,
            "GALLEY_TEST_CLOCK": str(self.clock),
            "GALLEY_SLOTS": "8",
            **NO_RATES,
        }
        with ExitStack() as stack:
            for number in range(count):
                data = self.folder / f"server-{number}"
                if self.servers:
                    self._link(data)
                live = stack.enter_context(serve(data, **environment))
                if not self.servers:
                    live.add_user(USER, admin=True)
                self.servers.append(live)
            yield

    def _link(self, data: Path) -> None:
        data.mkdir()
        first = self.servers[0].data
        for name in (*SHARED, "blobs", "environments", "secret.key", "webhook.key"):
            if (first / name).exists():
                (data / name).symlink_to(first / name)

    def leader(self) -> Live | None:
        """The server that leads now, by the lease."""
        lease = sa.text(
            "select holder from lease where name = 'leader'"
            " and until >= extract(epoch from clock_timestamp())"
        )
        holder = self.value(lease)
        names = {(live.data / "worker.id").read_text().strip(): live for live in self.servers}
        return names.get(holder)

    def epoch(self) -> int:
        found: int = self.value(sa.text("select epoch from lease where name = 'leader'"))
        return found

    def value(self, query: Any) -> Any:
        with self.database.reading() as session:
            return session.scalar(query)

    def rows(self, query: Any) -> list[Any]:
        with self.database.reading() as session:
            return list(session.execute(query))

    def load_recipe(self, api: Api) -> None:
        api.good("POST", "/v2/recipe/create/master/clocks", {"templatename": "qs1"})
        old = api.good("GET", "/v2/recipe/tree/master/clocks")["recipes"]["clocks"]
        files: dict[str, Any] = {
            f"{folder}/{entry['filename']}".removeprefix("clocks/"): {}
            for folder, entries in old.items()
            for entry in entries
        }
        files |= {path: {"contents": text, "isNew": True} for path, text in RECIPE.items()}
        api.good("POST", "/v2/recipe/update/master/clocks", {"message": "m", "files": files})

    def order(self, api: Api, schedule: Any = "now") -> str:
        made = api.good("PUT", "/v2/order/create/master/clocks/v", {"schedule": schedule})
        return str(made["order_id"])


@pytest.fixture
def crowd(tmp_path: Path, postgres_url: str) -> Iterator[Crowd]:
    made = Crowd(tmp_path, postgres_url)
    yield made
    made.database.close()


def said(live: Live, event: str) -> list[str]:
    return [line for line in live.lines if f'"{event}"' in line]


def fires(crowd: Crowd) -> list[tuple[str, datetime]]:
    f, o = models.schedule_fires.c, models.orders.c
    query = sa.select(o.uid, f.due_at).join(models.orders, o.id == f.order_id)
    return [(uuid_of(row.uid), row.due_at) for row in crowd.rows(query)]


def test_each_due_time_fires_once_though_a_server_freezes(crowd: Crowd) -> None:
    chance = random.Random(SEED)  # noqa: S311 - decides what is due when, nothing secret
    print(f"seed {SEED}: {DUES} due times, {SERVERS} servers")
    with crowd.up(SERVERS):
        api = crowd.servers[0].log_in(USER)
        crowd.load_recipe(api)
        start = (crowd.now() + timedelta(minutes=3)).replace(second=0, microsecond=0)
        due = place_orders(crowd, api, chance, start)
        minutes = sorted({at for _, at in due})
        freezing, waking = minutes[len(minutes) // 4], minutes[len(minutes) // 2]
        frozen, late = None, None
        for at in minutes:
            crowd.set_clock(max(crowd.now(), at + timedelta(seconds=chance.uniform(0.5, 30))))
            if at == freezing:
                pause(chance.uniform(0, 0.2))
                frozen = freeze_leader(crowd)
            until(
                lambda at=at: len(fires(crowd)) >= sum(when <= at for _, when in due),
                seconds=90,
                what=f"what is due at {at} (seed {SEED})",
            )
            if at == waking:
                assert frozen is not None
                late = wake(crowd, frozen)
        assert frozen is not None
        assert late is not None
        check_all_ended(crowd, due, late)
        until(lambda: said(frozen, "leadership_lost"), what="the word that it is over")


def place_orders(
    crowd: Crowd, api: Api, chance: random.Random, start: datetime
) -> list[tuple[str, datetime]]:
    """Orders that are due at minutes drawn from one hour: what is due when."""
    due = []
    span = {"start": start.isoformat(), "end": (start + timedelta(minutes=59)).isoformat()}
    for _ in range(DUES // A_ORDER):
        minutes = sorted(chance.sample(range(60), A_ORDER))
        line = ",".join(map(str, minutes)) + " * * * *"
        uid = crowd.order(api, {"recurrence": line, "zone": "UTC", **span})
        hour = [start + timedelta(minutes=number) for number in range(60)]
        due += [(uid, at) for at in hour if at.minute in minutes]
    assert len(due) == DUES
    return due


def freeze_leader(crowd: Crowd) -> Live:
    """Stop the leader in the midst of its work, until another one has taken over."""
    old: Live = until(crowd.leader, what="a leader")
    epoch = crowd.epoch()
    os.kill(old.process.pid, signal.SIGSTOP)
    until(lambda: crowd.epoch() > epoch, what=f"a new leader (seed {SEED})")
    assert crowd.leader() is not old
    return old


def wake(crowd: Crowd, frozen: Live) -> str:
    """Send an order to the frozen server, and let it go on; the order's uid."""
    api = Api(frozen.base, token_of(crowd))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(crowd.order, api)
        os.kill(frozen.process.pid, signal.SIGCONT)
        return waiting.result(PATIENCE_S)


def token_of(crowd: Crowd) -> str:
    """A session of another server's is good for all."""
    other = until(crowd.leader, what="a leader")
    return str(other.log_in(USER).token)


def check_all_ended(crowd: Crowd, due: list[tuple[str, datetime]], late: str) -> None:
    """Every due time has one fire and one run of its own, every run has ended well, no other is."""
    r, o = models.runs.c, models.orders.c
    running = sa.select(sa.func.count()).where(r.state.not_in(("succeeded", "failed", "canceled")))
    until(lambda: crowd.value(running) == 0, what="the end of every run")
    f = models.schedule_fires.c
    outcomes = crowd.rows(sa.select(f.outcome, sa.func.count()).group_by(f.outcome))
    assert [tuple(row) for row in outcomes] == [("fired", DUES)], f"seed {SEED}"
    assert Counter(fires(crowd)) == Counter(due), f"seed {SEED}"
    runs = crowd.rows(sa.select(o.uid, r.due_at, r.state).join(models.orders, o.id == r.order_id))
    assert Counter(row.state for row in runs) == {"succeeded": DUES + 1}, f"seed {SEED}"
    made = Counter((uuid_of(row.uid), row.due_at) for row in runs)
    assert made == Counter([*due, (late, None)]), f"seed {SEED}"


def test_a_letter_in_a_frozen_leader_is_not_written_by_it(crowd: Crowd) -> None:
    """It waits in the leader's queue, behind a commit that hangs, while another takes over."""
    with crowd.up(2), ThreadPoolExecutor(1) as pool:
        old = until(crowd.leader, what="a leader")
        api = old.log_in(USER)
        crowd.load_recipe(api)
        crowd.order(api)
        with psycopg.connect(plain(crowd.address)) as holder:
            holder.execute("select 1 from lease where name = 'leader' for update")
            stuck = until(lambda: waiting_backends(crowd), what="a commit that hangs")
            letter: Future[Answer] = pool.submit(
                api.call, "PUT", "/v2/order/create/master/clocks/v", {"schedule": "now"}
            )
            until(lambda: queued(old) > 0, what="the letter in the queue")
            os.kill(old.process.pid, signal.SIGSTOP)
            for pid in stuck:
                holder.execute("select pg_terminate_backend(%s)", [pid])
        epoch = crowd.epoch()
        until(lambda: crowd.epoch() > epoch, what="a new leader")
        orders = sa.select(sa.func.count()).select_from(models.orders)
        assert crowd.value(orders) == 1
        assert not letter.done()
        os.kill(old.process.pid, signal.SIGCONT)
        until(lambda: said(old, "leadership_lost"), what="the word that it is over")
        assert letter.result(PATIENCE_S).status == 200
        i = models.inbox.c
        kinds = crowd.rows(sa.select(i.kind).where(i.kind == "SubmitOrder", i.done_at.is_not(None)))
        assert len(kinds) == 1  # the new leader wrote it, for the old one had left it there
        assert crowd.value(orders) == 2
        r = models.runs.c
        until(
            lambda: crowd.value(sa.select(sa.func.count()).where(r.state == "succeeded")) == 2,
            what="the end of both runs",
        )


def waiting_backends(crowd: Crowd) -> list[int]:
    """The database's processes that wait to renew the leader's lease."""
    found = sa.text(
        "select pid from pg_stat_activity where wait_event_type = 'Lock'"
        " and query like 'update lease set until%' and datname = current_database()"
    )
    return [row.pid for row in crowd.rows(found)]


def queued(live: Live) -> float:
    """How many messages wait for the server's ledger."""
    text = Api(live.base).call("GET", "/metrics").text
    (line,) = (it for it in text.splitlines() if it.startswith("galley_writer_queue "))
    return float(line.split()[1])


def plain(address: str) -> str:
    return address.replace("postgresql+psycopg://", "postgresql://")


def test_a_server_on_a_copied_folder_does_not_start(crowd: Crowd) -> None:
    with crowd.up(1):
        first = crowd.servers[0]
        until(crowd.leader, what="a leader")
        copy = crowd.folder / "copy"
        crowd._link(copy)
        (copy / "worker.id").write_text((first.data / "worker.id").read_text())
        epoch = crowd.epoch()
        refused = pytest.raises(AssertionError, match=r"delete worker\.id in it")
        with refused, serve(copy, GALLEY_DATABASE_URL=crowd.address):
            pass
        assert crowd.epoch() == epoch
        (copy / "worker.id").unlink()
        with serve(copy, GALLEY_DATABASE_URL=crowd.address):
            assert (copy / "worker.id").read_text() != (first.data / "worker.id").read_text()


def pause(seconds: float) -> None:
    """The random moment of a freeze: the one thing here that is about real time."""
    threading.Event().wait(seconds)
