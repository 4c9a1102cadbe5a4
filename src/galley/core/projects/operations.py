"""Kitchens: seed, list, open, change and close them. Recipes are in `contents`, told on here."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.events import audit
from galley.core.projects import checks
from galley.core.projects.attributes import forget_attributes
from galley.core.projects.contents import (
    RecipeFiles,
    copy_recipe,
    create_recipe,
    delete_recipe,
    list_recipes,
    recipe_files,
    save_files,
)
from galley.core.projects.errors import (
    BranchMissing,
    BranchTaken,
    KitchenBusy,
    KitchenExists,
    RootKitchenStays,
)
from galley.core.projects.models import Kitchen, Project
from galley.core.projects.people import check_people
from galley.core.projects.repository import KitchenRepository, ProjectRepository
from galley.core.projects.sight import see_kitchen
from galley.core.secrets.operations import delete_scope
from galley.kit.clock import Clock
from galley.kit.failpoints import failpoint
from galley.kit.ids import new_uid
from galley.storage.db import Database, after_commit
from galley.storage.git import BranchExists, GitStore, Repository, RepositoryBusy, author_line

__all__ = [
    "DEFAULT_PROJECT",
    "ROOT",
    "KitchenChanges",
    "RecipeFiles",
    "copy_recipe",
    "create_kitchen",
    "create_recipe",
    "delete_kitchen",
    "delete_recipe",
    "get_kitchen",
    "list_kitchens",
    "list_recipes",
    "recipe_files",
    "save_files",
    "seed_account",
    "update_kitchen",
]

DEFAULT_PROJECT = "main/recipes"
ROOT = "master"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KitchenChanges:
    """What to change about a kitchen; None leaves a thing as it is.

    `max_runs` 0 lifts the limit; `alerts` holds all events, those that are left out go silent.
    """

    description: str | None = None
    staff: Sequence[str] | None = None
    roles: Mapping[str, str] | None = None
    overrides: Mapping[str, Any] | None = None
    alerts: Mapping[str, Sequence[str] | None] | None = None
    settings: Mapping[str, Any] | None = None
    max_runs: int | None = None
    restrict_recipes: bool | None = None
    recipes: Sequence[str] | None = None


def seed_account(
    database: Database, repositories: GitStore, clock: Clock, project: str = DEFAULT_PROJECT
) -> None:
    """Make the project of recipes, its repository and its root kitchen, unless they are there.

    Safe to repeat and to call from several servers at once.
    """
    with database.reading() as session:
        if ProjectRepository(session).find(project) is not None:
            return
    repository = repositories.create(project, ROOT)
    failpoint("projects.repository_made")
    repository.start(
        ROOT, message="Begin", author=author_line("Galley", "galley@localhost"), at=clock.now()
    )
    try:
        with database.writing() as session:
            _add_rows(session, project, clock)
    except IntegrityError:
        with database.reading() as session:
            if ProjectRepository(session).find(project) is None:
                raise


def _add_rows(session: Session, path: str, clock: Clock) -> None:
    now = clock.now()
    project = Project(uid=new_uid(), path=path, default_branch=ROOT, created_at=now)
    session.add(project)
    session.flush()
    session.add(
        Kitchen(
            uid=new_uid(),
            project_id=project.id,
            name=ROOT,
            parent=None,
            is_root=True,
            description="The root of all kitchens",
            created_at=now,
        )
    )


def list_kitchens(session: Session, caller: Caller) -> list[Kitchen]:
    """Every kitchen, the root first, then A to Z.

    One that is closed to the caller shows its name, parent and staff, and nothing else of it.
    """
    caller.require("kitchen.list")
    rows = KitchenRepository(session).list_all()
    return [row if caller.may("kitchen.read", row) else _shut(row) for row in rows]


def _shut(row: Kitchen) -> Kitchen:
    """What outsiders see of a closed kitchen; it belongs to no session."""
    return Kitchen(
        id=row.id,
        uid=row.uid,
        project_id=row.project_id,
        name=row.name,
        parent=row.parent,
        is_root=row.is_root,
        description="",
        staff=list(row.staff),
        roles={},
        overrides={},
        alerts={},
        settings={},
        max_runs=None,
        restrict_recipes=False,
        recipes=[],
        created_by=None,
        created_by_login="",
        created_at=row.created_at,
    )


def get_kitchen(session: Session, caller: Caller, name: str) -> Kitchen:
    """The kitchen of that name.

    Raises:
        KitchenNotFound: there is none, or it is closed to the caller.
    """
    return see_kitchen(session, caller, name, "kitchen.read")


def create_kitchen(
    session: Session,
    caller: Caller,
    repositories: GitStore,
    *,
    name: str,
    parent: str,
    description: str = "",
    clock: Clock,
) -> Kitchen:
    """Open a kitchen: a branch at the tip of the kitchen `parent`, with that kitchen's settings.

    Raises:
        KitchenNotFound: no such parent, or the caller may not see it.
        Forbidden: the caller sees the parent but may not branch from it.
        KitchenNameInvalid, KitchenExists, BranchTaken: the name cannot be, or is taken.
    """
    above = see_kitchen(session, caller, parent, "kitchen.create")
    checks.check_kitchen_name(name)
    if name.casefold() in {row.name.casefold() for row in KitchenRepository(session).list_all()}:
        raise KitchenExists(name)
    child = _child(above, caller, name, checks.check_description(description), clock)
    KitchenRepository(session).add(child)
    repository = repositories.repository(ProjectRepository(session).of(above).path)
    _open_branch(repository, name, parent)
    failpoint("projects.branch_opened")
    _note(session, caller, "kitchen.create", child, clock, after=_document(child))
    return child


def _child(above: Kitchen, caller: Caller, name: str, description: str, clock: Clock) -> Kitchen:
    return Kitchen(
        uid=new_uid(),
        project_id=above.project_id,
        name=name,
        parent=above.name,
        description=description,
        staff=list(above.staff),
        roles=dict(above.roles),
        overrides=dict(above.overrides),
        alerts=dict(above.alerts),
        settings=dict(above.settings),
        max_runs=above.max_runs,
        restrict_recipes=above.restrict_recipes,
        recipes=list(above.recipes),
        created_by=caller.user_id,
        created_by_login=caller.login or "",
        created_at=clock.now(),
    )


def _open_branch(repository: Repository, name: str, parent: str) -> None:
    tip = repository.tip(parent)
    if tip is None:
        raise BranchMissing(parent)
    try:
        repository.open_branch(name, tip, parent=parent)
    except BranchExists as error:
        raise BranchTaken(name) from error
    except RepositoryBusy as error:
        raise KitchenBusy(name) from error


def update_kitchen(
    session: Session, caller: Caller, name: str, *, changes: KitchenChanges, clock: Clock
) -> Kitchen:
    """Change a kitchen's settings; all of `changes` or, with an error, none.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        Forbidden: the caller may not change it, or not who works in it.
        KitchenSettingInvalid, RecipeNameInvalid: a value that cannot be (a login that nobody has
            among them); the message names it.
    """
    row = see_kitchen(session, caller, name, "kitchen.update", to_change=True)
    before = _document(row)
    wanted = _checked(changes)
    if any(wanted.get(part, before[part]) != before[part] for part in ("staff", "roles")):
        caller.require("kitchen.staff", row)
        check_people(session, caller, row, wanted)
    for part, value in wanted.items():
        setattr(row, part, value)
    after = _document(row)
    if after != before:
        session.flush()
        _note(session, caller, "kitchen.update", row, clock, before=before, after=after)
    return row


_CHECKS: dict[str, Any] = {
    "description": checks.check_description,
    "staff": checks.check_staff,
    "roles": checks.check_roles,
    "overrides": checks.check_overrides,
    "alerts": checks.check_alerts,
    "settings": checks.check_settings,
    "max_runs": checks.check_max_runs,
    "restrict_recipes": bool,
    "recipes": lambda names: [checks.check_recipe_name(name) for name in dict.fromkeys(names)],
}


def _checked(changes: KitchenChanges) -> dict[str, Any]:
    given = ((part.name, getattr(changes, part.name)) for part in fields(changes))
    return {name: _CHECKS[name](value) for name, value in given if value is not None}


def delete_kitchen(
    session: Session, caller: Caller, repositories: GitStore, name: str, clock: Clock
) -> int:
    """Close a kitchen: its row, secrets and branch go, its runs and commits stay readable; its id.

    Its children become orphans. The branch goes after the commit of the caller's transaction.
    What runs in it is stopped by `core.runs.closing`, which calls this.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        Forbidden: the caller may not delete it.
        RootKitchenStays: it is the root.
        KitchenBusy: another writer holds the repository.
    """
    row = see_kitchen(session, caller, name, "kitchen.delete", to_change=True)
    if row.is_root:
        raise RootKitchenStays(name)
    repository = repositories.repository(ProjectRepository(session).of(row).path)
    keep_as = f"kitchen-{row.uid}"
    try:
        repository.doom_branch(name, keep_as=keep_as)
    except RepositoryBusy as error:
        raise KitchenBusy(name) from error
    before = _document(row)
    delete_scope(session, row)
    forget_attributes(session, row)
    KitchenRepository(session).remove(row)
    _note(session, caller, "kitchen.delete", row, clock, before=before)
    after_commit(session, lambda: _bury(repository, name, keep_as))
    return row.id


def _bury(repository: Repository, name: str, keep_as: str) -> None:
    """Remove a deleted kitchen's branch; should it stay, the next of its name takes it over."""
    failpoint("projects.kitchen_deleted")
    try:
        repository.bury_branch(name, keep_as=keep_as)
    except OSError:
        _log.exception("the branch of the deleted kitchen %s could not be removed", name)


def _document(row: Kitchen) -> dict[str, Any]:
    """What the audit chain digests of a kitchen."""
    return {part.name: getattr(row, part.name) for part in fields(KitchenChanges)} | {
        "name": row.name,
        "parent": row.parent,
    }


def _note(
    session: Session,
    caller: Caller,
    action: str,
    row: Kitchen,
    clock: Clock,
    *,
    before: Any = None,
    after: Any = None,
) -> None:
    made = audit.entry(
        caller, action, "kitchen", row.name, before=before, after=after, at=clock.now()
    )
    audit.append(session, [made])
