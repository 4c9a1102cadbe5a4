"""Recipes: folders of a branch, changed by whole commits."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from tests.unit.core.projects.samples import TEMPLATES

from galley.core.caller import Caller
from galley.core.errors import Forbidden, Invalid
from galley.core.projects import branches
from galley.core.projects import operations as projects
from galley.core.projects.checks import MAX_FILE_BYTES
from galley.core.projects.contents import RecipeFiles
from galley.core.projects.errors import (
    ChangeInDoubt,
    FileNameInvalid,
    FileNotInRecipe,
    FileTooLarge,
    KitchenBusy,
    RecipeExists,
    RecipeNameInvalid,
    RecipeNotFound,
    TemplateUnknown,
)
from galley.core.projects.models import Kitchen
from galley.kit.clock import ManualClock
from galley.storage.db import Database
from galley.storage.git import BranchMoved, GitStore, Repository


class Recipes:
    """The operations on the recipes of `master`, each in its own transaction."""

    def __init__(
        self, database: Database, repositories: GitStore, clock: ManualClock, caller: Caller
    ) -> None:
        self.database, self.repositories, self.clock, self.caller = (
            database, repositories, clock, caller,
        )  # fmt: skip

    def do(self, act: Any, *arguments: Any, **named: Any) -> Any:
        caller, repositories = self.caller, self.repositories
        if act in {projects.list_recipes, projects.recipe_files}:
            with self.database.reading() as session:
                return act(session, caller, repositories, "master", *arguments, **named)
        return act(self.database, caller, repositories, "master", *arguments, **named)

    def create(self, name: str, **named: Any) -> str:
        made: str = self.do(
            projects.create_recipe, name, templates=TEMPLATES, clock=self.clock, **named
        )
        return made

    def save(self, name: str, changes: dict[str, bytes | None], message: str = "") -> str:
        saved: str = self.do(projects.save_files, name, changes, message=message, clock=self.clock)
        return saved

    def copy(self, source: str, name: str) -> str:
        made: str = self.do(projects.copy_recipe, source, name, clock=self.clock)
        return made

    def delete(self, name: str) -> str:
        made: str = self.do(projects.delete_recipe, name, clock=self.clock)
        return made

    def files(self, name: str, **named: Any) -> RecipeFiles:
        found: RecipeFiles = self.do(projects.recipe_files, name, **named)
        return found

    def names(self) -> list[str]:
        found: list[str] = self.do(projects.list_recipes)
        return found

    @property
    def repository(self) -> Repository:
        return self.repositories.repository("main/recipes")


@pytest.fixture
def recipes(
    account: Database, repositories: GitStore, manual_clock: ManualClock, ann: Caller
) -> Recipes:
    return Recipes(account, repositories, manual_clock, ann)


def test_a_recipe_is_made_from_a_template_and_read_back(recipes: Recipes) -> None:
    assert recipes.names() == []
    commit = recipes.create("rec", description="What it does")
    assert recipes.names() == ["rec"]
    found = recipes.files("rec")
    assert found.commit == commit
    assert found.project == "main/recipes"
    assert found.tree == recipes.repository.tree_id(commit, "rec")
    assert set(found.files) == set(found.shas) == {"description.json", "nodes/first/notebook.json"}
    assert b"What it does" in found.files["description.json"]
    (newest, _) = recipes.repository.history("master")
    assert newest.message == "Create recipe rec from template qs1"
    assert newest.author == "Ann <ann@example.org>"
    assert newest.at == recipes.clock.now()


def test_patterns_choose_files(recipes: Recipes) -> None:
    recipes.create("rec")
    assert set(recipes.files("rec", patterns=["nodes/*"]).files) == {"nodes/first/notebook.json"}
    assert set(recipes.files("rec", patterns=["description.json"]).shas) == {"description.json"}
    assert recipes.files("rec", patterns=["nothing"]).files == {}
    with pytest.raises(Invalid):
        recipes.files("rec", patterns=["*"] * 201)


def test_an_unknown_template_names_the_known_ones(recipes: Recipes) -> None:
    with pytest.raises(TemplateUnknown, match="other, qs1"):
        recipes.create("rec", template="nope")
    assert recipes.names() == []
    recipes.create("rec", template="other")
    assert recipes.files("rec").files == {"x": b"1"}


def test_a_recipe_name_is_used_once_whatever_its_case(recipes: Recipes) -> None:
    recipes.create("rec")
    for act in (partial(recipes.create, "Rec"), partial(recipes.copy, "rec", "REC")):
        with pytest.raises(RecipeExists):
            act()


def test_recipe_names_that_cannot_be(recipes: Recipes) -> None:
    for name in ("", ".", "..", "a/b", ".git", ".hidden", "CON", "a\0", "x" * 101):
        with pytest.raises(RecipeNameInvalid):
            recipes.create(name)
        with pytest.raises(RecipeNotFound):
            recipes.files(name)


def test_unknown_recipes_are_told_in_the_known_words(recipes: Recipes) -> None:
    for act in (
        partial(recipes.files, "nope"),
        partial(recipes.save, "nope", {"a": b""}),
        partial(recipes.copy, "nope", "new"),
        partial(recipes.delete, "nope"),
    ):
        with pytest.raises(RecipeNotFound) as caught:
            act()
        assert caught.value.message == 'Recipe "nope" not found in kitchen master'


def test_saving_writes_adds_and_deletes_in_one_commit(recipes: Recipes) -> None:
    recipes.create("rec")
    before = len(recipes.repository.history("master"))
    changes = {
        "description.json": b"new",
        "a/b.sql": b"select 1",
        "nodes/first/notebook.json": None,
    }
    commit = recipes.save("rec", changes, "Because\x07 of\nthis")
    assert recipes.files("rec").files == {"description.json": b"new", "a/b.sql": b"select 1"}
    past = recipes.repository.history("master")
    assert len(past) == before + 1
    assert (past[0].sha, past[0].message) == (commit, "Because of\nthis")


def test_saving_what_is_already_so_makes_no_commit(recipes: Recipes) -> None:
    recipes.create("rec")
    first = recipes.save("rec", {"a": b"1"})
    assert recipes.save("rec", {"a": b"1"}) == first


def test_saving_without_a_message_says_what_was_changed(recipes: Recipes) -> None:
    recipes.create("rec")
    recipes.save("rec", {"b": b"", "a": b""}, " \n")
    assert recipes.repository.history("master")[0].message == "Update a, b of rec"


BAD_PATHS = (
    "../../x", "/etc/x", ".git/hooks/post-receive", "CON", "a/./b", "e\u0301", "a" * 4096, "\0", "",
)  # fmt: skip


def test_file_names_that_cannot_be_save_nothing(recipes: Recipes) -> None:
    before = recipes.create("rec")
    for path in BAD_PATHS:
        with pytest.raises(FileNameInvalid):
            recipes.save("rec", {"fine": b"1", path: b"2"})
    assert recipes.repository.tip("master") == before


def test_files_that_a_file_system_could_confuse_are_refused(recipes: Recipes) -> None:
    recipes.create("rec")
    for changes in ({"Description.json": b""}, {"X": b"", "x": b""}, {"NODES/second": b""}):
        with pytest.raises(FileNameInvalid, match="cannot be told from"):
            recipes.save("rec", dict(changes))


def test_a_file_cannot_become_a_folder(recipes: Recipes) -> None:
    recipes.create("rec")
    for path in ("description.json/x", "nodes"):
        with pytest.raises(FileNameInvalid):
            recipes.save("rec", {path: b""})


def test_deleting_a_file_that_is_not_there_is_noticed(recipes: Recipes) -> None:
    before = recipes.create("rec")
    with pytest.raises(FileNotInRecipe, match='File "nope" not found in recipe rec of kitchen'):
        recipes.save("rec", {"nope": None, "other": b"1"})
    assert recipes.repository.tip("master") == before


def test_the_size_limit_of_a_file(recipes: Recipes) -> None:
    recipes.create("rec")
    recipes.save("rec", {"data": b"x" * MAX_FILE_BYTES})
    with pytest.raises(FileTooLarge, match=f"{MAX_FILE_BYTES + 1} bytes"):
        recipes.save("rec", {"data": b"x" * (MAX_FILE_BYTES + 1)})


def test_the_limit_on_the_number_of_files(
    recipes: Recipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes.create("rec")
    monkeypatch.setattr("galley.core.projects.contents.MAX_FILES", 3)
    recipes.save("rec", {"a": b""})
    with pytest.raises(Invalid, match="at most 3 files"):
        recipes.save("rec", {"b": b""})
    recipes.save("rec", {"b": b"", "a": None})


def test_a_copy_has_the_same_content_and_its_own_life(recipes: Recipes) -> None:
    recipes.create("rec")
    recipes.copy("rec", "twin")
    assert recipes.files("twin").shas == recipes.files("rec").shas
    recipes.save("twin", {"only": b"here"})
    assert recipes.names() == ["rec", "twin"]
    assert "only" not in recipes.files("rec").files


def test_a_deleted_recipe_stays_in_the_history(recipes: Recipes) -> None:
    commit = recipes.create("rec")
    recipes.delete("rec")
    assert recipes.names() == []
    assert recipes.repository.read_folder(commit, "rec")
    recipes.create("rec")


def test_a_kitchen_can_restrict_its_recipes(recipes: Recipes, account: Database) -> None:
    recipes.create("one")
    recipes.create("two")
    changes = projects.KitchenChanges(restrict_recipes=True, recipes=["one"])
    with account.writing() as session:
        projects.update_kitchen(
            session, recipes.caller, "master", changes=changes, clock=recipes.clock
        )
    assert recipes.names() == ["one"]
    with pytest.raises(RecipeNotFound):
        recipes.files("two")
    with pytest.raises(RecipeExists):
        recipes.create("two")
    recipes.create("three")
    assert recipes.names() == ["one", "three"]


def test_folders_that_start_with_a_dot_are_no_recipes(recipes: Recipes) -> None:
    recipes.repository.commit(
        "master", {".github/x": b"", "top": b""}, message="x", author="x <x>",
        at=recipes.clock.now(),
    )  # fmt: skip
    assert recipes.names() == []
    for name in (".github", "top"):
        with pytest.raises(RecipeNotFound):
            recipes.files(name)


def test_parallel_saves_are_all_kept(recipes: Recipes) -> None:
    recipes.create("rec")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: recipes.save("rec", {f"f{n}": b"1"}), range(8)))
    assert {f"f{n}" for n in range(8)} <= set(recipes.files("rec").files)


def test_whoever_holds_the_repository_stops_no_other_work(
    recipes: Recipes, account: Database
) -> None:
    recipes.create("rec")
    with ThreadPoolExecutor(1) as pool:
        with recipes.repository.locked():
            saving = pool.submit(recipes.save, "rec", {"a": b"1"})
            for _ in range(20):
                time.sleep(0.02)
                with account.writing() as session:  # held up, it would fail or never end
                    session.execute(sa.update(Kitchen).values(description="x"))
            assert not saving.done()
        assert saving.result(240)
    assert recipes.files("rec").files["a"] == b"1"


def test_objects_are_written_while_no_transaction_is_open(
    recipes: Recipes, account: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes.create("rec")
    prepare = Repository.prepare

    def beside(*arguments: Any, **named: Any) -> str:
        with account.writing() as session:
            session.execute(sa.update(Kitchen).values(description="beside"))
        return prepare(*arguments, **named)

    monkeypatch.setattr(Repository, "prepare", beside)
    recipes.save("rec", {"a": b"1"})
    assert recipes.files("rec").files["a"] == b"1"


def test_a_branch_that_never_rests_is_told(
    recipes: Recipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes.create("rec")

    def moved(*_: Any, **__: Any) -> str:
        raise BranchMoved

    monkeypatch.setattr(Repository, "advance", moved)
    monkeypatch.setattr(branches, "_PATIENCE_S", 0.1)
    with pytest.raises(KitchenBusy) as caught:
        recipes.save("rec", {"a": b"1"})
    assert caught.value.retry_after_s == 1


class Refusing:
    """A database that takes the rows and says no, or breaks off, when they are to stay."""

    def __init__(self, database: Database, error: Exception) -> None:
        self.reading = database.reading
        self._database = database
        self._error = error

    @contextmanager
    def writing(self) -> Iterator[Session]:
        with self._database.writing() as session:
            yield session
            raise self._error


def create_by(recipes: Recipes, transactions: branches.Transactions, name: str) -> str:
    return projects.create_recipe(
        transactions, recipes.caller, recipes.repositories, "master", name,
        templates=TEMPLATES, clock=recipes.clock,
    )  # fmt: skip


def test_a_change_that_the_database_refuses_at_the_end_can_be_tried_again(
    recipes: Recipes, account: Database
) -> None:
    full = OperationalError("COMMIT", {}, Exception("database or disk is full"))
    before = recipes.repository.tip("master")
    with pytest.raises(OperationalError):
        create_by(recipes, Refusing(account, full), "rec")
    assert recipes.repository.tip("master") == before
    assert recipes.names() == []
    recipes.create("rec")
    assert recipes.names() == ["rec"]


def test_a_branch_that_cannot_go_back_is_told(
    recipes: Recipes, account: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is so full that not even the way back finds room."""

    def fail(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    full = OperationalError("COMMIT", {}, Exception("database or disk is full"))
    with monkeypatch.context() as patched:
        patched.setattr(Repository, "take_back", fail)
        with pytest.raises(ChangeInDoubt) as caught:
            create_by(recipes, Refusing(account, full), "rec")
    assert caught.value.retry_after_s
    assert recipes.names() == ["rec"]


def test_a_branch_that_moved_and_then_failed_goes_back(
    recipes: Recipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Repository.advance

    def fail(*arguments: Any) -> None:
        advance(*arguments)
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(Repository, "advance", fail)
        with pytest.raises(OSError):
            recipes.create("rec")
    recipes.create("rec")


@pytest.mark.parametrize(
    "doubt",
    [
        OperationalError("COMMIT", {}, Exception("server closed"), connection_invalidated=True),
        OperationalError("COMMIT", {}, Exception("disk I/O error")),
    ],
)
def test_a_branch_stays_if_nobody_knows_what_the_database_did(
    recipes: Recipes, account: Database, doubt: OperationalError
) -> None:
    with pytest.raises(OperationalError):
        create_by(recipes, Refusing(account, doubt), "rec")
    assert recipes.names() == ["rec"]


def test_a_branch_that_others_went_on_from_stays(
    recipes: Recipes, account: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Repository.advance
    tips = []

    def push_after(repository: Repository, branch: str, tip: str, made: str) -> None:
        advance(repository, branch, tip, made)
        pushed = repository.prepare(
            made, {"p/a": b"1"}, message="x", author="x <x>", at=recipes.clock.now()
        )
        advance(repository, branch, made, pushed)
        tips.append(pushed)

    full = OperationalError("COMMIT", {}, Exception("database or disk is full"))
    monkeypatch.setattr(Repository, "advance", push_after)
    with pytest.raises(OperationalError):
        create_by(recipes, Refusing(account, full), "rec")
    assert [recipes.repository.tip("master")] == tips


def test_a_guest_of_the_kitchen_reads_only(recipes: Recipes, account: Database) -> None:
    recipes.create("rec")
    roles = {"ann@example.org": "Guest", "eve@example.org": "Admin"}
    admin = Recipes(
        account, recipes.repositories, recipes.clock,
        replace(recipes.caller, roles=frozenset({"admin"})),
    )  # fmt: skip
    with account.writing() as session:
        projects.update_kitchen(
            session, admin.caller, "master",
            changes=projects.KitchenChanges(roles=roles), clock=recipes.clock,
        )  # fmt: skip
    assert recipes.files("rec").files
    with pytest.raises(Forbidden):
        recipes.save("rec", {"a": b"1"})
    admin.save("rec", {"a": b"1"})
