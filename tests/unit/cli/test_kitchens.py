"""`galley kitchen` on a data folder."""

from pathlib import Path

from click.testing import CliRunner, Result

from galley.app.store import open_store
from galley.cli import cli
from galley.core.identity.operations import system_caller
from galley.core.projects import operations as projects
from galley.settings import Settings


def galley(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["kitchen", "set", *arguments, "--data", str(folder)])


def test_the_limit_of_runs_is_set_and_lifted(tmp_path: Path) -> None:
    store = open_store(Settings(data=tmp_path))
    projects.seed_account(store.database, store.repositories, store.clock)

    def limit() -> int | None:
        with store.database.reading() as session:
            return projects.get_kitchen(session, system_caller(), "master").max_runs

    assert limit() is None
    assert galley(tmp_path, "master", "--max-runs", "2").output == (
        "The kitchen master has at most 2 runs at once.\n"
    )
    assert limit() == 2
    assert galley(tmp_path, "master", "--max-runs", "0").exit_code == 0
    assert limit() is None
    assert galley(tmp_path, "master", "--max-runs", "-1").exit_code != 0
    assert galley(tmp_path, "master").exit_code != 0
    assert galley(tmp_path, "nowhere", "--max-runs", "1").exit_code != 0
    store.database.close()
