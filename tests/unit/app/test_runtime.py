"""The composition root: a whole Galley in this process, on both databases."""

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from galley.app import build, open_store
from galley.app import parts as app_parts
from galley.app.runtime import Leading, Runtime
from galley.app.signing import webhook_keys
from galley.app.worker import build_worker
from galley.core.errors import Invalid, Unavailable
from galley.core.identity import operations as identity
from galley.core.identity.actors import system_caller
from galley.core.projects import operations as projects
from galley.core.secrets.sealing import KEY_VARIABLE, new_key_text, open_sealer
from galley.core.vaults.operations import write_secret
from galley.settings import Settings
from galley.storage.db import Database

PASSWORD = "correct-horse-7-battery"


@pytest.fixture
def runtime(empty_url: str, tmp_path: Path) -> Iterator[Runtime]:
    is_sqlite = empty_url.startswith("sqlite")
    settings = Settings(data=tmp_path / "data", database_url=None if is_sqlite else empty_url)
    made = build(settings)
    made.start()
    yield made
    made.stop()


def test_a_fresh_folder_becomes_a_galley(runtime: Runtime) -> None:
    assert oct(runtime.settings.data.stat().st_mode & 0o777) == "0o700"
    with TestClient(runtime.app, client=("127.0.0.1", 1)) as client:
        ready = client.get("/readyz")
        parts = ("serving", "folder", "database", "writer", "steps")
        assert ready.json()["checks"] == dict.fromkeys(parts, "ok")
        assert client.get("/v2/userinfo").status_code == 401
        assert "message" in client.get("/v2/userinfo").json()
        assert client.get("/").status_code == 200  # the sign-in page, after redirects
        assert client.get("/v2/no/such/thing").json()["message"]["error"]
        assert client.get("/v2/" + "x" * 9000).status_code == 414
        text = client.get("/metrics").text
        assert "galley_writer_queue 0.0" in text
        assert "galley_attempts_live 0.0" in text
        assert 'galley_runs_live{state="queued"} 0.0' in text
        assert 'galley_runs_finished_total{state="failed"} 0.0' in text
        folder = runtime.services.repositories.root
        folder.rename(folder.with_name("away"))
        away = client.get("/readyz")
        assert away.status_code == 503
        assert away.json()["checks"]["folder"].startswith("the folder of the recipes is gone")
        folder.with_name("away").rename(folder)
        for executor in runtime.executors.values():
            executor.stop()
        broken = client.get("/readyz")
        assert broken.status_code == 503
        assert broken.json()["checks"]["steps"] == "the local executor does not serve"
        runtime.drain()
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


def test_a_user_of_the_store_can_sign_in(runtime: Runtime) -> None:
    with runtime.services.database.writing() as session:
        identity.create_user(
            session, email="ann@example.org", password=PASSWORD, clock=runtime.services.clock
        )
    form = {"username": "ann@example.org", "password": PASSWORD}
    with TestClient(runtime.app) as client:
        token = client.post("/v2/login", data=form).text
        assert len(token.split(".")) == 3
        answer = client.get("/v2/userinfo", headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["login"] == "ann@example.org"
    assert runtime.services.uses is not None
    runtime.services.uses.flush(runtime.services.database)
    with runtime.services.database.reading() as session:
        used = session.scalar(sa.text("select last_used_at from token"))
    assert used is not None


def test_a_runs_secrets_come_from_its_kitchens_vault_then_from_the_accounts(tmp_path: Path) -> None:
    store = open_store(Settings(data=tmp_path))
    projects.seed_account(store.database, store.repositories, store.clock)
    caller = system_caller()
    vaults = app_parts.vaults_of(store)
    for path, kitchen in (("a", None), ("b", None), ("b", "master")):
        value = f"{path} of {kitchen}"
        write_secret(vaults, store.database, caller, path=path, value=value, kitchen=kitchen)
    with store.database.reading() as session:
        master = projects.get_kitchen(session, caller, "master").id
    wanted = frozenset({"vault://a", "vault://b"})
    for kitchen_id, b in ((master, "b of master"), (None, "b of None"), (master + 1, "b of None")):
        run: Any = SimpleNamespace(kitchen_id=kitchen_id)
        found = app_parts.secrets_of(store, run, wanted)
        assert found == {"vault://a": "a of None", "vault://b": b}
    store.database.close()


def test_keys_are_made_once(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    assert app_parts.worker_name(settings) == app_parts.worker_name(settings)
    assert repr(open_sealer(tmp_path)) == repr(open_sealer(tmp_path))


def test_the_key_of_webhooks_comes_from_the_secret_key_and_is_kept_nowhere(
    tmp_path: Path,
) -> None:
    old, new = new_key_text(), new_key_text()
    settings = Settings(data=tmp_path)

    def keys(*texts: str) -> tuple[bytes, ...]:
        return webhook_keys(settings, open_sealer(tmp_path, {KEY_VARIABLE: ",".join(texts)}))

    assert keys(new) == keys(new) != keys(old)
    assert len(keys(new)[0]) == 32
    assert keys(new)[0] != base64.b64decode(new)
    assert keys(new, old) == (*keys(new), *keys(old))
    assert list(tmp_path.iterdir()) == []
    own = Settings(data=tmp_path, webhook_key="own")
    assert webhook_keys(own, open_sealer(tmp_path, {KEY_VARIABLE: new})) == (b"own",)


class Reign:
    """A thread of the leader's, which only notes what is done to it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.stopped = threading.Event()

    def start(self) -> None:
        self.told.append("start")

    def nudge(self) -> None:
        self.told.append("nudge")

    def stop(self) -> None:
        self.told.append("stop")
        self.stopped.set()


def test_each_reign_has_its_own_threads() -> None:
    made: list[Reign] = []

    def make() -> list[Reign]:
        made.append(Reign())
        return [made[-1]]

    leading = Leading(make)
    leading.nudge(Reign)
    leading.change(True)
    leading.nudge(Reign)
    leading.nudge(str)
    loser = threading.Thread(target=leading.change, args=(False,))
    loser.start()
    loser.join()
    assert made[0].stopped.wait(240)
    leading.change(True)
    leading.change(False)
    assert [reign.told for reign in made] == [["start", "nudge", "stop"], ["start", "stop"]]


def test_a_server_or_worker_whose_shared_folders_are_not_there_does_not_start(
    postgres_url: str, tmp_path: Path
) -> None:
    first = build(Settings(data=tmp_path / "first", database_url=postgres_url))
    first.services.database.close()
    unlinked = Settings(data=tmp_path / "second", database_url=postgres_url)
    for start in (build, build_worker):
        with pytest.raises(Unavailable, match=r"second/git does not hold .* main/recipes"):
            start(unlinked)
    assert not unlinked.data.exists()
    unlinked.data.mkdir(mode=0o755)
    (unlinked.data / "git").symlink_to(first.settings.data / "git")
    with capture_logs() as logs:
        linked = build(unlinked)
    linked.services.database.close()
    assert [it["cure"] for it in logs if it["event"] == "folder_open_to_others"] == [
        f"chmod 700 {unlinked.data}"
    ]


def test_a_bad_key_is_told_before_the_database_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(Invalid, match=KEY_VARIABLE):
        build(Settings(data=tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    from galley.storage.migrations import SchemaUnknown

    settings = Settings(data=tmp_path)
    open_store(settings).database.close()
    database = Database(settings.database_address)
    with database.connection() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    database.close()
    with pytest.raises(SchemaUnknown, match="9999"):
        open_store(settings)
