"""Kitchens: who sees which, what a child takes over, and what goes and stays at the end."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.unit.core.projects.samples import TEMPLATES

from galley.core.caller import Caller
from galley.core.errors import Forbidden, GalleyError, Unauthenticated
from galley.core.events import audit
from galley.core.events.models import audit_entries
from galley.core.identity.actors import nobody
from galley.core.identity.users import disable_user, get_user
from galley.core.projects.errors import (
    BranchMissing,
    BranchTaken,
    KitchenBusy,
    KitchenExists,
    KitchenNameInvalid,
    KitchenNotFound,
    KitchenSettingInvalid,
    RecipeNameInvalid,
    RootKitchenStays,
)
from galley.core.projects.models import Kitchen, Project
from galley.core.projects.operations import (
    KitchenChanges,
    create_kitchen,
    create_recipe,
    delete_kitchen,
    get_kitchen,
    list_kitchens,
    list_recipes,
    seed_account,
    update_kitchen,
)
from galley.core.secrets.models import Secret
from galley.kit.clock import ManualClock, SystemClock
from galley.storage.db import Database
from galley.storage.git import GitStore, Repository


class Account:
    """The operations with everything but the interesting arguments filled in."""

    def __init__(self, database: Database, repositories: GitStore, clock: ManualClock) -> None:
        self.database, self.repositories, self.clock = database, repositories, clock

    def open(self, caller: Caller, name: str, parent: str = "master", text: str = "") -> Kitchen:
        with self.database.writing() as session:
            return create_kitchen(
                session, caller, self.repositories,
                name=name, parent=parent, description=text, clock=self.clock,
            )  # fmt: skip

    def change(self, caller: Caller, name: str, **changes: Any) -> Kitchen:
        with self.database.writing() as session:
            wanted = KitchenChanges(**changes)
            return update_kitchen(session, caller, name, changes=wanted, clock=self.clock)

    def close(self, caller: Caller, name: str) -> None:
        with self.database.writing() as session:
            delete_kitchen(session, caller, self.repositories, name, self.clock)

    def get(self, caller: Caller, name: str) -> Kitchen:
        with self.database.reading() as session:
            return get_kitchen(session, caller, name)

    def all(self, caller: Caller) -> list[Kitchen]:
        with self.database.reading() as session:
            return list_kitchens(session, caller)

    def create_recipe(self, caller: Caller, kitchen: str, name: str) -> str:
        return create_recipe(
            self.database,
            caller,
            self.repositories,
            kitchen,
            name,
            templates=TEMPLATES,
            clock=self.clock,
        )

    def recipes(self, caller: Caller, kitchen: str) -> list[str]:
        with self.database.reading() as session:
            return list_recipes(session, caller, self.repositories, kitchen)

    @property
    def repository(self) -> Repository:
        return self.repositories.repository("main/recipes")

    def audited(self) -> list[tuple[str, str]]:
        columns = audit_entries.c.action, audit_entries.c.object_id
        with self.database.reading() as session:
            assert audit.verify(session) is None
            rows = session.execute(sa.select(*columns).order_by(audit_entries.c.id))
            return [(row.action, row.object_id) for row in rows]


@pytest.fixture
def kitchens(account: Database, repositories: GitStore, manual_clock: ManualClock) -> Account:
    return Account(account, repositories, manual_clock)


def test_seeding_makes_the_root_kitchen_once(kitchens: Account, ann: Caller) -> None:
    seed_account(kitchens.database, kitchens.repositories, kitchens.clock)
    (root,) = kitchens.all(ann)
    assert (root.name, root.parent, root.is_root) == ("master", None, True)
    tip = kitchens.repository.tip("master")
    assert tip is not None
    assert kitchens.repository.entries(tip) == []
    with kitchens.database.reading() as session:
        project = session.scalars(sa.select(Project)).one()
    assert (project.path, project.default_branch) == ("main/recipes", "master")


def test_seeding_from_several_places_at_once_makes_one(
    database: Database, repositories: GitStore, manual_clock: ManualClock
) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(seed_account, database, repositories, manual_clock) for _ in range(4)]
    assert [job.exception() for job in jobs] == [None] * 4
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Kitchen)) == 1


def test_a_child_begins_as_a_copy_of_its_parent(
    kitchens: Account, ann: Caller, admin: Caller
) -> None:
    kitchens.change(
        admin, "master",
        overrides={"region": "eu", "deep": {"a": [1, None]}}, roles={"ANN@example.org": "Admin"},
        staff=["Ann@Example.org"], alerts={"failure": ["ops@example.org"]}, max_runs=2,
    )  # fmt: skip
    kitchens.create_recipe(ann, "master", "rec")
    child = kitchens.open(ann, "dev", text="Try things")
    assert (child.parent, child.description, child.is_root) == ("master", "Try things", False)
    seen = kitchens.get(ann, "dev")
    assert seen.overrides == {"region": "eu", "deep": {"a": [1, None]}}
    assert seen.staff == ["ann@example.org"]
    assert seen.roles == {"ann@example.org": "Admin"}
    assert seen.alerts == {"failure": ["ops@example.org"]}
    assert seen.max_runs == 2
    assert seen.created_by_login == "ann@example.org"
    assert seen.created_at == kitchens.clock.now()
    assert kitchens.repository.tip("dev") == kitchens.repository.tip("master")
    assert kitchens.recipes(ann, "dev") == ["rec"]


def test_the_list_has_the_root_first_and_then_a_to_z(kitchens: Account, ann: Caller) -> None:
    for name in ("zoo", "abc", "Mid"):
        kitchens.open(ann, name)
    names = [kitchen.name for kitchen in kitchens.all(ann)]
    assert names[0] == "master"
    assert sorted(names[1:]) == ["Mid", "abc", "zoo"]


def test_names_that_cannot_be_are_refused(kitchens: Account, ann: Caller) -> None:
    for name in ("", "a", "a b", "a-b", "../x", "list", "Settings", "HEAD", "x" * 65, "é9", "ab\n"):
        with pytest.raises(KitchenNameInvalid):
            kitchens.open(ann, name)
    assert len(kitchens.all(ann)) == 1
    assert list(kitchens.repository.branches()) == ["master"]


def test_a_name_is_used_once_whatever_its_case(kitchens: Account, ann: Caller) -> None:
    kitchens.open(ann, "dev")
    for name in ("dev", "DEV"):
        with pytest.raises(KitchenExists, match="already a kitchen"):
            kitchens.open(ann, name)


def test_of_two_who_open_the_same_kitchen_one_wins(kitchens: Account, ann: Caller) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(kitchens.open, ann, "dev") for _ in range(4)]
    errors = [type(job.exception()) for job in jobs if job.exception()]
    assert errors == [KitchenExists] * 3
    assert kitchens.audited() == [("kitchen.create", "dev")]


def test_unknown_kitchens_are_told_in_the_known_words(kitchens: Account, ann: Caller) -> None:
    text = "Kitchen nope was not found in the database or the user does not have access rights."
    for act in (
        lambda: kitchens.get(ann, "nope"),
        lambda: kitchens.open(ann, "dev", parent="nope"),
        lambda: kitchens.change(ann, "nope", description="x"),
        lambda: kitchens.close(ann, "nope"),
        lambda: kitchens.recipes(ann, "nope"),
    ):
        with pytest.raises(KitchenNotFound) as caught:
            act()
        assert caught.value.message == text


def test_a_closed_kitchen_is_not_there_for_others(
    kitchens: Account, ann: Caller, people: Any, admin: Caller
) -> None:
    bob = people("bob")
    kitchens.open(ann, "dev")
    kitchens.change(ann, "dev", staff=["ann@example.org"], overrides={"password": "x"})
    for act in (
        lambda: kitchens.get(bob, "dev"),
        lambda: kitchens.open(bob, "mine", parent="dev"),
        lambda: kitchens.change(bob, "dev", description="x"),
        lambda: kitchens.close(bob, "dev"),
        lambda: kitchens.recipes(bob, "dev"),
        lambda: kitchens.create_recipe(bob, "dev", "rec"),
    ):
        with pytest.raises(KitchenNotFound):
            act()
    assert kitchens.get(ann, "dev").overrides == {"password": "x"}
    assert kitchens.get(admin, "dev").name == "dev"
    (_, shown) = kitchens.all(bob)
    assert (shown.name, shown.staff, shown.overrides) == ("dev", ["ann@example.org"], {})


def test_nobody_in_particular_may_nothing(kitchens: Account) -> None:
    with pytest.raises(Unauthenticated):
        kitchens.all(nobody())
    with pytest.raises(Unauthenticated):
        kitchens.get(nobody(), "master")


def test_changes_touch_what_they_name_and_nothing_else(kitchens: Account, ann: Caller) -> None:
    kitchens.change(ann, "master", overrides={"a": 1}, description="One", max_runs=3)
    kitchens.change(ann, "master", overrides={"b": 2})
    seen = kitchens.get(ann, "master")
    assert (seen.overrides, seen.description, seen.max_runs) == ({"b": 2}, "One", 3)
    assert kitchens.change(ann, "master", max_runs=0).max_runs is None


def test_an_update_that_changes_nothing_leaves_no_trace(kitchens: Account, ann: Caller) -> None:
    kitchens.change(ann, "master", description="One")
    kitchens.change(ann, "master", description="One", staff=[])
    assert kitchens.audited() == [("kitchen.update", "master")]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"overrides": {"1a": 1}}, "1a"),
    ({"overrides": {"a-b": 1}}, "a-b"),
    ({"overrides": {"a": "x" * 1_000_001}}, "overrides: a"),
    ({"overrides": {"a": object()}}, "plain JSON"),
    ({"staff": ["a b"]}, "staff"),
    ({"staff": [5]}, "staff"),
    ({"staff": ["ann@example.org", "ana@example.org"]}, "no user ana@example.org"),
    ({"staff": ["bob@example.org"]}, "shut yourself out"),
    ({"roles": {"a@x": 5}}, "roles of a@x"),
    ({"roles": {"ann@example.org": "Chef"}}, "there are Admin, Developer, Guest"),
    ({"roles": {"ana@example.org": "Guest"}}, "no user ana@example.org"),
    ({"alerts": {"orderrunStart": []}}, "the events are start"),
    ({"alerts": {"failure": ["not an address"]}}, "neither"),
    ({"alerts": {"failure": ["a@x.org\r\nBcc: b@x.org"]}}, "neither"),
    ({"max_runs": -1}, "max_runs"),
    ({"description": "x" * 10_001}, "description"),
]


def test_settings_that_cannot_be_are_refused_by_name(kitchens: Account, ann: Caller) -> None:
    kitchens.open(ann, "dev")
    for changes, names in REFUSED:
        with pytest.raises(KitchenSettingInvalid) as caught:
            kitchens.change(ann, "dev", **{"description": "kept?", **changes})
        assert names in caught.value.message
    assert kitchens.get(ann, "dev").description == ""


def test_names_in_the_list_of_active_recipes_are_checked(kitchens: Account, ann: Caller) -> None:
    with pytest.raises(RecipeNameInvalid):
        kitchens.change(ann, "master", recipes=["../x"])


def test_only_the_kitchens_chiefs_choose_who_works_there(
    kitchens: Account, ann: Caller, people: Any
) -> None:
    kitchens.open(ann, "dev")
    roles = {"ann@example.org": "Admin", "bob@example.org": "Developer"}
    kitchens.change(ann, "dev", roles=roles)
    with pytest.raises(Forbidden):
        kitchens.change(people("bob"), "dev", staff=["bob@example.org"])
    with pytest.raises(Forbidden):
        kitchens.change(people("bob"), "dev", roles={})
    kitchens.change(people("bob"), "dev", description="fine", roles=roles)
    both = ["bob@example.org", "ann@example.org"]
    assert kitchens.change(ann, "dev", staff=both).staff == both


SEIZING: list[dict[str, Any]] = [
    {"staff": ["bob@example.org"]},
    {"roles": {"bob@example.org": "Admin", "ann@example.org": "Guest"}},
]


@pytest.mark.parametrize("changes", SEIZING)
def test_nobody_seizes_a_kitchen_that_is_open(
    kitchens: Account, ann: Caller, admin: Caller, people: Any, changes: dict[str, Any]
) -> None:
    kitchens.open(ann, "dev")
    with pytest.raises(Forbidden, match="decided by whoever made it"):
        kitchens.change(people("bob"), "dev", **changes)
    for caller in (people("bob"), ann):
        with pytest.raises(Forbidden, match="root kitchen is decided by administrators"):
            kitchens.change(caller, "master", **changes)
    with pytest.raises(Forbidden, match="is deleted is decided by whoever made it"):
        kitchens.close(people("bob"), "dev")
    with pytest.raises(Forbidden, match="root kitchen is never deleted"):
        kitchens.close(people("bob"), "master")
    kitchens.change(people("bob"), "dev", description="Anybody may")
    kitchens.change(admin, "master", **changes)


def test_the_staff_of_a_closed_kitchen_let_others_in_and_nobody_but_themselves_stay(
    kitchens: Account, ann: Caller, admin: Caller, people: Any
) -> None:
    kitchens.open(admin, "dev")
    kitchens.change(admin, "dev", staff=["ann@example.org"])
    both = ["ann@example.org", "bob@example.org"]
    assert kitchens.change(ann, "dev", staff=both).staff == both
    with pytest.raises(KitchenSettingInvalid, match="shut yourself out"):
        kitchens.change(people("bob"), "dev", staff=["ann@example.org"])


def test_a_disabled_user_stays_in_a_kitchen_but_comes_into_none(
    kitchens: Account, ann: Caller, admin: Caller
) -> None:
    both = ["ann@example.org", "bob@example.org"]
    roles = {"ann@example.org": "Admin", "bob@example.org": "developer"}
    kitchens.open(ann, "dev")
    kitchens.open(ann, "other")
    kitchens.change(ann, "other", staff=both, roles=roles)
    with kitchens.database.writing() as session:
        bob = get_user(session, admin, "bob@example.org")
        disable_user(session, bob, clock=kitchens.clock, by=admin)
    with pytest.raises(KitchenSettingInvalid, match=r"bob@example\.org is disabled"):
        kitchens.change(ann, "dev", staff=both)
    kept = kitchens.change(ann, "other", staff=both[::-1], roles=roles)
    assert kept.staff == both[::-1]
    assert kept.roles["bob@example.org"] == "Developer"


def test_an_administrator_may_leave_themself_out(kitchens: Account, admin: Caller) -> None:
    kitchens.change(admin, "master", staff=["ann@example.org"])
    assert kitchens.get(admin, "master").staff == ["ann@example.org"]


def test_a_deleted_kitchen_takes_its_branch_and_secrets_but_not_its_commits(
    kitchens: Account, ann: Caller
) -> None:
    kitchen = kitchens.open(ann, "dev")
    kitchens.open(ann, "child", parent="dev")
    sha = kitchens.create_recipe(ann, "dev", "rec")
    with kitchens.database.writing() as session:
        now = kitchens.clock.now()
        for scope in (f"kitchen:{kitchen.id}", "account"):
            session.add(Secret(scope=scope, path="a", sealed="x", created_at=now, updated_at=now))
    kitchens.close(ann, "dev")
    assert set(kitchens.repository.branches()) == {"master", "child"}
    assert kitchens.repository.read_folder(sha, "rec")["nodes/first/notebook.json"] == b"{}"
    assert kitchens.repository.kept() == {f"kitchen-{kitchen.uid}": sha}
    orphan = kitchens.get(ann, "child")
    assert (orphan.parent, orphan.is_root) == (None, False)
    with kitchens.database.reading() as session:
        assert [secret.scope for secret in session.scalars(sa.select(Secret))] == ["account"]
    with pytest.raises(KitchenNotFound):
        kitchens.close(ann, "dev")
    assert kitchens.audited()[-1] == ("kitchen.delete", "dev")
    again = kitchens.open(ann, "dev")
    assert again.id > kitchen.id
    assert kitchens.repository.tip("dev") == kitchens.repository.tip("master")


def test_the_root_kitchen_stays(kitchens: Account, admin: Caller) -> None:
    with pytest.raises(RootKitchenStays):
        kitchens.close(admin, "master")
    assert kitchens.repository.tip("master")


class Undone(Exception):
    """Whatever ends a transaction before its commit."""


def test_a_deletion_that_is_rolled_back_deletes_nothing(kitchens: Account, ann: Caller) -> None:
    kitchens.open(ann, "dev")
    sha = kitchens.create_recipe(ann, "dev", "rec")
    with suppress(Undone), kitchens.database.writing() as session:
        delete_kitchen(session, ann, kitchens.repositories, "dev", kitchens.clock)
        raise Undone
    assert kitchens.get(ann, "dev").name == "dev"
    assert kitchens.repository.tip("dev") == sha
    kitchens.close(ann, "dev")
    assert kitchens.repository.tip("dev") is None


def test_an_opening_that_is_rolled_back_can_be_repeated(kitchens: Account, ann: Caller) -> None:
    with suppress(Undone), kitchens.database.writing() as session:
        create_kitchen(
            session, ann, kitchens.repositories, name="dev", parent="master", clock=kitchens.clock
        )
        raise Undone
    assert kitchens.repository.tip("dev")
    tip = kitchens.create_recipe(ann, "master", "rec")
    kitchens.open(ann, "dev")
    assert kitchens.repository.tip("dev") == tip


def test_the_next_kitchen_of_that_name_takes_over_a_branch_that_was_left(
    kitchens: Account, ann: Caller
) -> None:
    kitchens.open(ann, "dev")
    sha = kitchens.create_recipe(ann, "dev", "rec")
    kitchens.repository.doom_branch("dev", keep_as="old")
    with kitchens.database.writing() as session:  # a deletion that was killed after its commit
        session.execute(sa.delete(Kitchen).where(Kitchen.name == "dev"))
    kitchens.open(ann, "dev")
    assert kitchens.repository.tip("dev") == kitchens.repository.tip("master")
    kitchens.repository.bury_branch("dev", keep_as="old")
    assert kitchens.repository.tip("dev") is not None
    assert kitchens.repository.kept() == {"old": sha}


def test_a_pushed_branch_without_a_kitchen_is_not_overwritten(
    kitchens: Account, ann: Caller
) -> None:
    tip = kitchens.repository.tip("master")
    assert tip is not None
    kitchens.repository.open_branch("dev", tip, parent="master")
    pushed = kitchens.repository.commit(
        "dev", {"a": b"1"}, message="x", author="x <x>", at=kitchens.clock.now()
    )
    with pytest.raises(BranchTaken):
        kitchens.open(ann, "dev")
    assert kitchens.repository.tip("dev") == pushed
    assert [kitchen.name for kitchen in kitchens.all(ann)] == ["master"]


def test_a_kitchen_whose_branch_is_lost_says_so(kitchens: Account, ann: Caller) -> None:
    kitchens.open(ann, "dev")
    kitchens.repository.doom_branch("dev", keep_as="lost")
    kitchens.repository.bury_branch("dev", keep_as="lost")
    for act in (lambda: kitchens.recipes(ann, "dev"), lambda: kitchens.open(ann, "sub", "dev")):
        with pytest.raises(BranchMissing, match="galley doctor") as caught:
            act()
        assert isinstance(caught.value, GalleyError)


KILLED = """
import sys
from pathlib import Path
from galley.core.identity.actors import system_caller
from galley.core.projects import operations as projects
from galley.core.tables import import_models
from galley.kit.clock import SystemClock
from galley.storage.db import Database
from galley.storage.git import GitStore
import_models()
act, url, root = sys.argv[1:]
with Database(url).writing() as session:
    given = session, system_caller(), GitStore(Path(root))
    if act == "open":
        projects.create_kitchen(*given, name="dev", parent="master", clock=SystemClock())
    else:
        projects.delete_kitchen(*given, "dev", SystemClock())
"""


SEED = """
import sys
from pathlib import Path
from galley.core.projects.operations import seed_account
from galley.core.tables import import_models
from galley.kit.clock import SystemClock
from galley.storage.db import Database
from galley.storage.git import GitStore
import_models()
seed_account(Database(sys.argv[1]), GitStore(Path(sys.argv[2])), SystemClock())
"""


def test_a_first_start_that_is_killed_is_made_up_for_by_the_next(
    database: Database, tmp_path: Path
) -> None:
    url = database.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-c", SEED, url, str(tmp_path / "git")],
        env=os.environ | {"GALLEY_FAILPOINTS": "projects.repository_made=kill"},
        check=False,
    )
    assert done.returncode == 137
    repositories = GitStore(tmp_path / "git")
    seed_account(database, repositories, SystemClock())
    (project,) = repositories.projects()
    assert repositories.repository(project).tip("master") is not None


@pytest.mark.parametrize(
    ("act", "point"),
    [("open", "projects.branch_opened"), ("close", "projects.kitchen_deleted")],
)
def test_a_kill_on_the_way_leaves_a_kitchen_that_can_be_opened_anew(
    kitchens: Account, ann: Caller, act: str, point: str
) -> None:
    if act == "close":
        kitchens.open(ann, "dev")
        kitchens.create_recipe(ann, "dev", "rec")
    url = kitchens.database.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, act, url, str(kitchens.repositories.root)],
        env=os.environ | {"GALLEY_FAILPOINTS": f"{point}=kill"},
        check=False,
    )
    assert done.returncode == 137
    assert [kitchen.name for kitchen in kitchens.all(ann)] == ["master"]
    assert kitchens.repository.tip("dev") is not None
    kitchens.open(ann, "dev")
    assert kitchens.repository.tip("dev") == kitchens.repository.tip("master")
    kitchens.close(ann, "dev")
    assert kitchens.repository.tip("dev") is None


def test_a_held_repository_is_told_instead_of_waited_for(kitchens: Account, ann: Caller) -> None:
    kitchens.open(ann, "dev")
    with kitchens.repository.locked():
        with pytest.raises(KitchenBusy):
            kitchens.open(ann, "other")
        with pytest.raises(KitchenBusy):
            kitchens.close(ann, "dev")
    kitchens.close(ann, "dev")
