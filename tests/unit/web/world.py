"""The pages over a real database, with runs written straight into the ledger's tables."""

from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from galley.core.identity import operations as identity
from galley.core.identity.actions import ACTIONS
from galley.core.identity.policy import JUDGE
from galley.core.projects.models import Kitchen, Project
from galley.core.runs import models
from galley.core.runs.alerts import subject_key
from galley.core.runs.desk import Desk
from galley.core.runs.views import RunDetail
from galley.core.secrets.sealing import Sealer
from galley.core.vaults.desk import Vaults
from galley.engine.vaults import HashiCorpVaults
from galley.kit.ids import new_uid
from galley.settings import Settings
from galley.storage.blobs import LocalBlobs
from galley.storage.git import GitStore
from galley.web.app import make_app
from galley.wire.limits import RateLimiter
from galley.wire.services import Services

EMAIL = "ada@example.org"
PASSWORD = "four unrelated words"


class RecordingWriter:
    """Stands in for the ledger's writer: keeps the messages."""

    def __init__(self):
        self.messages = []
        self.reply = None

    def send(self, message):
        self.messages.append(message)
        future = Future()
        future.set_result(self.reply)
        return future

    def call(self, message, *, timeout_s=30.0):
        return self.send(message).result()


class Feed:
    """A feed that the test rings."""

    def __init__(self):
        self.listeners = []

    def subscribe(self, run_id, listener):
        entry = (run_id, listener)
        self.listeners.append(entry)
        return lambda: self.listeners.remove(entry)

    def ring(self, run_id):
        for wanted, listener in list(self.listeners):
            if wanted in {None, run_id}:
                listener(run_id)


class World:
    """A whole application of pages with its folder, clock, writer and feed."""

    def __init__(self, database, folder, clock, **settings):
        self.database, self.folder, self.clock = database, folder, clock
        self.writer, self.feed = RecordingWriter(), Feed()
        self.add_project()
        repositories = GitStore(folder / "git")
        self.services = Services(
            settings=Settings(data=folder, **settings),
            database=database,
            clock=clock,
            judge=JUDGE,
            sealer=Sealer(bytes(32)),
            vaults=Vaults(database, Sealer(bytes(32)), HashiCorpVaults(), clock),
            desk=Desk(database, self.writer, None, repositories, clock),
            feed=self.feed,
            repositories=repositories,
            blobs=LocalBlobs(folder / "blobs"),
            logs=folder / "logs",
            limiter=RateLimiter(12_000, 2000, clock.monotonic),
            actions=ACTIONS,
            uses=identity.UseLog(clock),
        )
        self.app = make_app(self.services)

    def add_user(self, email=EMAIL, *, roles=("admin",), name="Ada Lovelace"):
        with self.database.writing() as session:
            return identity.create_user(
                session, email=email, name=name, password=PASSWORD, roles=roles, clock=self.clock
            )

    def add_project(self):
        """The recipes' project and the root kitchen, without a repository: no page reads one."""
        now = self.clock.now()
        with self.database.writing() as session:
            project = Project(
                uid=new_uid(), path="main/recipes", default_branch="master", created_at=now
            )
            session.add(project)
            session.flush()
            self.project_id = project.id
        self.add_kitchen("master", is_root=True)

    def add_kitchen(self, name, staff=(), *, is_root=False):
        with self.database.writing() as session:
            session.add(
                Kitchen(
                    uid=new_uid(),
                    project_id=self.project_id,
                    name=name,
                    parent=None if is_root else "master",
                    is_root=is_root,
                    description="",
                    staff=list(staff),
                    created_at=self.clock.now(),
                )
            )

    def add_run(self, detail: RunDetail):
        """Write a run as the ledger would have, with its plan, steps, attempts and checks.

        It belongs to the kitchen of its name, if there is one.
        """
        named = sa.select(Kitchen.id).where(Kitchen.name == detail.run.kitchen)
        with self.database.connection() as connection:
            home = {"kitchen_id": connection.scalar(named)}
            run, order = replace(detail.run, **home), replace(detail.order, **home)
            for table, row in ledger_rows(replace(detail, run=run, order=order)):
                connection.execute(table.insert(), row)

    def add_alert(self, run, event, to, **columns):
        """Put a message about the run into the outbox, and its receiver into the run."""
        now = self.clock.now()
        row = {"id": 1, "kind": "mail", "subject_key": subject_key(run.uid, event, to), "body": {},
               "next_at": now, "created_at": now, **columns}  # fmt: skip
        with self.database.connection() as connection:
            connection.execute(models.outbox.insert(), row)
            listening = models.runs.update().where(models.runs.c.id == run.id)
            connection.execute(listening.values(alerts={event: [to]}))

    def add_event(self, event_id, run_id, kind, at: datetime):
        row = {"id": event_id, "run_id": run_id, "order_id": run_id, "kind": kind, "body": {}}
        with self.database.connection() as connection:
            connection.execute(models.events.insert(), {**row, "at": at})

    def write_log(self, run_id, attempt_id, lines):
        path = self.services.logs / str(run_id) / f"{attempt_id}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)


def ledger_rows(detail):
    run, order = detail.run, detail.order
    plan_row = {
        "id": run.id,
        "digest": f"{run.id}",
        "body": detail.plan.encoded().decode(),
        "created_at": run.created_at,
    }
    yield models.plans, plan_row
    names = {column.name for column in models.orders.c}
    row = {name: getattr(order, name) for name in names}
    yield models.orders, {**row, "id": run.order_id, "uid": run.order_uid}
    names = {column.name for column in models.runs.c} & set(run.__slots__)
    row = {name: getattr(run, name) for name in names}
    yield models.runs, {**row, "plan_id": run.id, "work_id": run.id, "alerts": {}}
    for step in detail.steps:
        yield models.steps, _own(models.steps, step, run) | {"attempt_id": step.attempts[0].id}
        for attempt in step.attempts:
            extra = {"step_id": step.id, "fence": 1}
            yield models.attempts, _own(models.attempts, attempt, run) | extra
        for number, check in enumerate(step.checks):
            yield (
                models.checks,
                {
                    "id": step.id * 100 + number,
                    "run_id": run.id,
                    "step_id": step.id,
                    "attempt_id": step.attempts[0].id,
                    "name": check.name,
                    "status": check.status,
                    "action": check.action,
                    "text": check.text,
                    "value": check.value,
                    "metric": check.metric,
                    "place_kind": check.place[0],
                    "place_name": check.place[1],
                    "description": check.description,
                    "created_at": run.created_at,
                },
            )
    for artifact in detail.artifacts:
        extra = {"attempt_id": detail.steps[0].attempts[0].id}
        yield models.artifacts, _own(models.artifacts, artifact, run) | extra


def _own(table, view, run):
    names = {column.name for column in table.c} & set(view.__slots__)
    return {"run_id": run.id, **{name: getattr(view, name) for name in names}}
