"""`galley secret`: values go in by standard input and never come out."""

from pathlib import Path

from click.testing import CliRunner, Result

from galley.app import open_store
from galley.app.store import Store
from galley.cli import cli
from galley.core.projects.operations import seed_account
from galley.core.projects.repository import KitchenRepository
from galley.core.secrets import operations as secrets
from galley.settings import Settings


def run(folder: Path, *arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(cli, ["secret", *arguments, "--data", str(folder)], input=given)


def stored(store: Store, reference: str, kitchen: str | None = None) -> str:
    with store.database.reading() as session:
        home = None if kitchen is None else KitchenRepository(session).get(kitchen)
        path = secrets.checked_path(reference)
        return secrets.open_values(session, store.sealer, secrets.scope_of(home), [path])[path]


def test_secrets_are_written_listed_and_removed(tmp_path: Path) -> None:
    store = open_store(Settings(data=tmp_path))
    seed_account(store.database, store.repositories, store.clock)
    results = [
        run(tmp_path, "set", "db/password", "--stdin", given="hush\n"),
        run(tmp_path, "set", "vault://db/password", "--stdin", given="hush hush\nline two\n"),
        run(tmp_path, "set", "db/password", "--kitchen", "master", "--stdin", given="own"),
    ]
    assert [result.output for result in results] == [
        "Wrote version 1 of vault://db/password.\n",
        "Wrote version 2 of vault://db/password.\n",
        "Wrote version 1 of vault://db/password.\n",
    ]
    assert stored(store, "vault://db/password") == "hush hush\nline two"
    assert stored(store, "vault://db/password", "master") == "own"
    assert run(tmp_path, "list").output == "vault://db/password\n"
    assert run(tmp_path, "rm", "db/password", "--kitchen", "master").exit_code == 0
    assert run(tmp_path, "list", "--kitchen", "master").output == ""
    assert run(tmp_path, "rewrap").output == "Secrets brought under the newest key: 0.\n"
    store.database.close()


def test_what_cannot_be_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    store = open_store(Settings(data=tmp_path))
    seed_account(store.database, store.repositories, store.clock)
    assert run(tmp_path, "set", "a", given="x").exit_code == 2  # without --stdin
    assert "no value" in str(run(tmp_path, "set", "a", "--stdin").exception)
    assert "cannot be a secret's path" in str(
        run(tmp_path, "set", "../a", "--stdin", given="x").exception
    )
    assert "nowhere" in str(
        run(tmp_path, "set", "a", "--kitchen", "nowhere", "--stdin", given="x").exception
    )
    assert "no secret vault://a" in str(run(tmp_path, "rm", "a").exception)
    assert run(tmp_path, "list").output == ""
    store.database.close()
