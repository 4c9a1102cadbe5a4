"""Merging kitchens, and taking their last change back. Each makes one commit; see `branches`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.errors import Invalid, Issue
from galley.core.projects import checks
from galley.core.projects.branches import Change, Place, Transactions, find_place
from galley.core.projects.contents import MAX_FILES
from galley.core.projects.errors import (
    FileNameInvalid,
    KitchensUnrelated,
    MergeUnresolved,
    NothingToMerge,
    NothingToRevert,
    ResolutionUnneeded,
)
from galley.core.projects.mergeplan import Contents, MergePlan, printable
from galley.kit.clock import Clock
from galley.kit.paths import find_twins
from galley.storage.git import (
    GitStore,
    PathClash,
    Repository,
    UnrelatedCommits,
    difference,
    first_parent,
    is_commit,
    tried_merge,
    write_revert,
)

Announce = Callable[[str], None]
"""Told the new commit's hash before it is published, so that the call's answer can name it."""


@dataclass(frozen=True, slots=True)
class MergePreview:
    """What a merge would change: path -> the versions of a file in conflict, None for the others.

    Paths begin with the recipe's name. `source_commit` and `target_commit` are the branches' tips.
    """

    files: dict[str, Contents | None]
    warnings: list[str]
    source_commit: str
    target_commit: str


@dataclass(frozen=True, slots=True)
class Seen:
    """The tips that the caller saw at the preview; None where it does not say."""

    source: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a merge or a revert: the commit; or the kitchen that moved on before it."""

    commit: str | None = None
    moved: str | None = None


@dataclass(frozen=True, slots=True)
class RevertPreview:
    """The branch's tip, and the commit whose content the kitchen would have again."""

    tip: str
    back_to: str


class _MovedOn(Exception):
    """A kitchen is no longer as the caller saw it; nothing is done."""

    def __init__(self, kitchen: str) -> None:
        super().__init__(kitchen)
        self.kitchen = kitchen


def preview_merge(
    session: Session, caller: Caller, repositories: GitStore, source: str, target: str
) -> MergePreview:
    """What merging the kitchen `source` into the kitchen `target` would do. Changes nothing.

    Raises:
        KitchenNotFound: one of them is not there, or closed to the caller.
        KitchensUnrelated: they belong to different projects.
        MergeTooLarge: the files in conflict are too large to be shown.
    """
    origin = _readable(session, caller, repositories, source)
    into = _readable(session, caller, repositories, target)
    with _planned(origin, into, origin.tip(), into.tip()) as plan:
        versions = plan.contents()
        return MergePreview(
            files={path: versions.get(path) for path in plan.shown()},
            warnings=plan.warnings(),
            source_commit=plan.tried.theirs,
            target_commit=plan.tried.ours,
        )


def merge_kitchen(
    transactions: Transactions,
    caller: Caller,
    repositories: GitStore,
    source: str,
    target: str,
    *,
    resolved: Mapping[str, bytes | None],
    seen: Seen,
    announce: Announce,
    clock: Clock,
) -> Outcome:
    """Merge the kitchen `source` into the kitchen `target`, as a commit with both as parents.

    `resolved` says what the files in conflict become (None: deleted; so does an empty text where
    one side deleted the file). Where a tip moved since it was seen, in a way that touches what is
    merged or leaves a conflict unanswered, nothing is done and the outcome names that kitchen.

    Raises:
        KitchenNotFound, Forbidden: the caller may not read the one or change the other.
        NothingToMerge: the target has all that the source has.
        MergeUnresolved, ResolutionUnneeded: the message names the files.
        FileNameInvalid, FileTooLarge: what the target would become cannot be.
        KitchenBusy: others kept changing the target.
    """
    change = Change(
        transactions, caller, repositories, target, clock, ("kitchen", target), "kitchen.update"
    )
    change.check_may()
    message = f"Merge kitchen {source} into {target}"

    def prepare(into: Place, tip: str) -> str:
        with transactions.reading() as session:
            origin = _readable(session, caller, repositories, source)
        newest = origin.tip()
        moved = _moved(origin, into, (newest, tip), seen)
        with _planned(origin, into, newest, tip) as plan:
            if plan.is_nothing:
                raise NothingToMerge
            _check_answers(plan, resolved, moved)
            answers = plan.answers(resolved)
            _check_result(plan, answers)
            try:
                made = plan.tried.keep(
                    answers, message=message, author=change.author(), at=clock.now()
                )
            except PathClash as error:
                raise FileNameInvalid(
                    str(error.args[0]), "is a file and a folder at the same time"
                ) from error
        announce(made)
        return made

    try:
        return Outcome(commit=change.commit(prepare, message))
    except _MovedOn as moved:
        return Outcome(moved=moved.kitchen)


def preview_revert(
    session: Session, caller: Caller, repositories: GitStore, kitchen: str
) -> RevertPreview:
    """What `revert_kitchen` would go back to.

    Raises:
        KitchenNotFound: no such kitchen, or it is closed to the caller.
        NothingToRevert: the branch has one commit only.
    """
    place = _readable(session, caller, repositories, kitchen)
    tip = place.tip()
    return RevertPreview(tip, _before(place, tip))


def revert_kitchen(
    transactions: Transactions,
    caller: Caller,
    repositories: GitStore,
    kitchen: str,
    tip: str,
    *,
    announce: Announce,
    clock: Clock,
) -> Outcome:
    """Take back the last commit `tip` of a kitchen's branch, by a new commit; history stays.

    The kitchen has the content again that it had before: of a merge, before it was merged into.
    To revert a revert is to have the change again. If the branch is no longer at `tip`, nothing is
    done and the outcome names the kitchen.

    Raises:
        KitchenNotFound, Forbidden: the caller may not see or not change it.
        NothingToRevert: the branch has one commit only.
        KitchenBusy: others kept changing the branch.
    """
    change = Change(
        transactions, caller, repositories, kitchen, clock, ("kitchen", kitchen), "kitchen.update"
    )

    def prepare(place: Place, newest: str) -> str:
        if newest != tip:
            raise _MovedOn(kitchen)
        _before(place, tip)
        title = place.repository.history(kitchen, limit=1)[0].message.partition("\n")[0]
        made = write_revert(
            place.repository,
            tip,
            message=f'Revert "{title}"\n\nThis takes back commit {tip}.',
            author=change.author(),
            at=clock.now(),
        )
        announce(made)
        return made

    try:
        return Outcome(commit=change.commit(prepare, f"Revert {tip}"))
    except _MovedOn as moved:
        return Outcome(moved=moved.kitchen)


def _readable(session: Session, caller: Caller, repositories: GitStore, kitchen: str) -> Place:
    """The kitchen, if the caller may read it and its recipes."""
    place = find_place(session, caller, repositories, kitchen, "kitchen.read")
    caller.require("recipe.read", place.kitchen)
    return place


@contextmanager
def _planned(source: Place, target: Place, theirs: str, ours: str) -> Iterator[MergePlan]:
    """The plan of merging the commit `theirs` of `source` into the commit `ours` of `target`."""
    names = source.kitchen.name, target.kitchen.name
    if source.project != target.project:
        raise KitchensUnrelated(*names)
    try:
        with tried_merge(target.repository, ours, theirs) as tried:
            yield MergePlan(tried, source, target)
    except UnrelatedCommits as error:
        raise KitchensUnrelated(*names) from error


def _moved(source: Place, target: Place, tips: tuple[str, str], seen: Seen) -> str | None:
    """The name of a kitchen whose tip is not the one that was seen; None if both are.

    Raises:
        _MovedOn: what came since touches what was to be merged.
    """
    repository = target.repository
    sides = [
        (place, before, tip)
        for place, before, tip in zip(
            (source, target), (seen.source, seen.target), tips, strict=True
        )
        if before is not None and before != tip
    ]
    if not sides:
        return None
    for place, before, _ in sides:
        if not _had(repository, place.kitchen.name, before):
            raise _MovedOn(place.kitchen.name)
    with _planned(source, target, seen.source or tips[0], seen.target or tips[1]) as plan:
        touched = plan.touched()
    for place, before, tip in sides:
        if touched & difference(repository, before, tip).files.keys():
            raise _MovedOn(place.kitchen.name)
    return sides[-1][0].kitchen.name


def _had(repository: Repository, branch: str, commit: str) -> bool:
    return is_commit(repository, commit) and repository.contains(branch, commit)


def _check_answers(
    plan: MergePlan, resolved: Mapping[str, bytes | None], moved: str | None
) -> None:
    """Refuse unless every conflict is answered, and nothing else.

    Raises:
        MergeUnresolved, ResolutionUnneeded: the message names the files.
        _MovedOn: that is so because a kitchen moved on.
    """
    questions = plan.questions()
    open_ones = sorted(questions.keys() - resolved.keys())
    needless = sorted(resolved.keys() - questions.keys())
    blocked = plan.blocked()
    if moved is not None and (open_ones or needless or blocked):
        raise _MovedOn(moved)
    if open_ones or blocked:
        what = "is in conflict; say in `files` what it becomes"
        issues = [*(Issue(path, what) for path in open_ones), *blocked]
        raise MergeUnresolved(plan.source.kitchen.name, plan.target.kitchen.name, issues)
    if needless:
        raise ResolutionUnneeded(needless)
    for path, content in resolved.items():
        checks.check_file(path, content)


def _check_result(plan: MergePlan, answers: Mapping[str, bytes | None]) -> None:
    """Refuse what the target would become: files that cannot be told apart, or too many."""
    gone = {path for path, content in answers.items() if content is None}
    new = plan.new_paths() | (answers.keys() - gone)
    if not new:
        return
    after = (set(plan.tried.paths()) - gone) | (answers.keys() - gone)
    before = {path for path in after if path not in new}
    twins = find_twins(after)
    if twins and not set(twins) <= before and find_twins(before) is None:
        one, other = map(printable, twins)
        raise FileNameInvalid(other, f"cannot be told from {one} on every file system")
    for recipe in sorted({path.partition("/")[0] for path in new if "/" in path}):
        count = sum(path.startswith(f"{recipe}/") for path in after)
        if count > MAX_FILES:
            raise Invalid(f"A recipe has at most {MAX_FILES} files; {recipe} would have {count}.")


def _before(place: Place, tip: str) -> str:
    before = first_parent(place.repository, tip)
    if before is None:
        raise NothingToRevert(place.kitchen.name)
    return before
