"""A worker beside a server: what it must have before it takes work."""

from pathlib import Path

import pytest

from galley.app import open_store
from galley.app.worker import build_worker
from galley.core.identity.actors import system_caller
from galley.core.projects import operations as projects
from galley.core.secrets import operations as secrets
from galley.core.secrets.sealing import KEY_FILE, KEY_VARIABLE, KeyMissing
from galley.settings import Settings


def test_a_worker_without_the_key_of_stored_secrets_does_not_begin(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    settings = Settings(data=tmp_path, database_url=postgres_url)
    store = open_store(settings)
    projects.seed_account(store.database, store.repositories, store.clock)
    build_worker(settings, "early")
    assert not (tmp_path / KEY_FILE).exists()
    with store.database.writing() as session:
        secrets.put_secret(
            session, system_caller(), store.sealer,
            path="pg/password", value="s3cret", kitchen=None, clock=store.clock,
        )  # fmt: skip
    store.database.close()
    build_worker(settings, "late")
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(KeyMissing, match="the key that opens them is not here"):
        build_worker(settings, "keyless")
    assert not (tmp_path / KEY_FILE).exists()
