"""Looking back: commits of a kitchen and of a file; an old copy of a file brought up to date."""

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.projects import checks
from galley.core.projects.branches import Place, find_place
from galley.core.projects.errors import FileNotInRecipe, FileNotMergeable, OriginUnknown
from galley.kit.paths import fault_of_path
from galley.storage.git import (
    GitStore,
    NotInRepository,
    PastCommit,
    blob_hash,
    is_commit,
    merge_texts,
    versions,
)

MAX_COMMITS = 1_000
"""The most commits that a history gives."""


def kitchen_history(
    session: Session, caller: Caller, repositories: GitStore, kitchen: str, *, limit: int = 0
) -> list[PastCommit]:
    """The newest commits of a kitchen, at most `limit` (0: all); never more than `MAX_COMMITS`.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
    """
    place = find_place(session, caller, repositories, kitchen, "kitchen.read")
    place.tip()
    return place.repository.history(kitchen, limit=_bounded(limit))


def file_history(
    session: Session,
    caller: Caller,
    repositories: GitStore,
    kitchen: str,
    recipe: str,
    *,
    path: str,
    limit: int = 0,
) -> list[PastCommit]:
    """The newest commits that changed what lies at a path of a recipe; `limit` as above.

    A file that is gone has its history still; one that was renamed begins anew.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        RecipeNotFound: no such recipe.
        FileNotInRecipe: there never was such a file.
    """
    place = find_place(session, caller, repositories, kitchen, "recipe.read")
    place.tree(place.tip(), recipe)
    full = f"{recipe}/{path}"
    found = []
    if fault_of_path(full) is None:
        found = place.repository.history(kitchen, full, limit=_bounded(limit))
    if not found:
        raise FileNotInRecipe(path, recipe, kitchen)
    return found


def merge_file(
    session: Session,
    caller: Caller,
    repositories: GitStore,
    kitchen: str,
    recipe: str,
    *,
    path: str,
    origin: str,
    content: bytes,
) -> bytes:
    """The caller's copy of a file, got at the commit `origin`, merged with the kitchen's newest.

    Changes nothing. Where both changed the same lines there are conflict markers, labelled `your`
    and `their`. `origin` may be older than the copy, for clients do not keep it up to date: a copy
    that the kitchen itself had since is no edit, and gives way to the newest. A file that `origin`
    does not have yet has an empty base.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        RecipeNotFound, FileNotInRecipe: there is nothing to merge with.
        OriginUnknown: `origin` is no commit of the kitchen.
        FileNotMergeable: one of the three is not UTF-8 text.
        FileTooLarge: the copy is.
    """
    place = find_place(session, caller, repositories, kitchen, "recipe.read")
    tip = place.tip()
    place.tree(tip, recipe)
    full = f"{recipe}/{path}"
    checks.check_file(full, content)
    newest = _read(place, tip, full)
    if newest is None:
        raise FileNotInRecipe(path, recipe, kitchen)
    repository = place.repository
    if not is_commit(repository, origin) or not repository.contains(kitchen, origin):
        raise OriginUnknown(origin, kitchen)
    base = _read(place, origin, full)
    if not all(_is_text(text) for text in (base or b"", content, newest)):
        raise FileNotMergeable(path)
    if content == base or blob_hash(content) in versions(repository, origin, tip, full):
        return newest
    return merge_texts(
        repository, base=base or b"", ours=content, theirs=newest, labels=("your", "their")
    )


def _read(place: Place, commit: str, path: str) -> bytes | None:
    try:
        return place.repository.read(commit, path)
    except NotInRepository:
        return None


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _bounded(limit: int) -> int:
    return min(limit, MAX_COMMITS) if limit > 0 else MAX_COMMITS
