"""What a merge of two kitchens would do: which files change or are in conflict, what to warn of.

Git follows a renamed file: an edit on one side lands in the file that the other side renamed. Where
that leaves git with a question (renamed here and deleted there, or to two names), the answer is
that every new name stays as its side has it; a warning names both sides.
"""

import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from galley.core.errors import Issue
from galley.core.projects.branches import Place
from galley.core.projects.errors import MergeTooLarge
from galley.kit.paths import fault_of_path
from galley.storage.git import Clash, Difference, Found, TriedMerge

MAX_CONFLICT_BYTES = 64_000_000
"""The most bytes that the files in conflict have, all their versions together."""
_IN_THE_WAY = frozenset({"file/directory", "distinct modes"})
_COMMIT_CHARS = 40
_GONE = "renamed or deleted"


@dataclass(frozen=True, slots=True)
class Contents:
    """The four versions of a file in conflict, whole; empty where a side has no such file.

    `merged` holds conflict markers that are labelled with the kitchens' names.
    """

    base: bytes
    source: bytes
    target: bytes
    merged: bytes


@dataclass(frozen=True, slots=True)
class MergePlan:
    """A tried merge of the kitchen `source` into the kitchen `target`."""

    tried: TriedMerge
    source: Place
    target: Place

    @property
    def is_nothing(self) -> bool:
        """Whether the target has all that the source has."""
        tried = self.tried
        return tried.base == tried.theirs or not (tried.by_theirs.files or tried.result.files)

    def touched(self) -> set[str]:
        """Every path that takes part in the merge, shown or not."""
        tried = self.tried
        return {*tried.by_theirs.files, *tried.result.files, *tried.clashes}

    def shown(self) -> list[str]:
        """The files that change or are in conflict, of the recipes active in both kitchens."""
        return sorted(path for path in self._changed() if self.is_shown(path))

    def questions(self) -> dict[str, Clash]:
        """The conflicts that the caller sees and can resolve."""
        return {path: clash for path, clash in self._conflicts().items() if not _fault(clash)}

    def blocked(self) -> list[Issue]:
        """Conflicts that cannot be resolved here, and what to do about them."""
        return [*self._out_of_sight(), *self._beyond_text()]

    def contents(self) -> dict[str, Contents]:
        """The versions of the files in conflict.

        Raises:
            MergeTooLarge: they have more bytes in all than an answer can hold.
        """
        asked = {path: self._versions(path, clash) for path, clash in self._conflicts().items()}
        wanted = {sha for shas in asked.values() for sha in shas if sha}
        size = sum(self.tried.sizes(wanted).values())
        if size > MAX_CONFLICT_BYTES:
            raise MergeTooLarge(len(asked), size, MAX_CONFLICT_BYTES)
        texts = self.tried.read(wanted)
        texts[""] = b""
        return {
            path: Contents(texts[base], texts[source], texts[target], self._labelled(texts[merged]))
            for path, (base, source, target, merged) in asked.items()
        }

    def answers(self, resolved: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
        """All that has to be put into the merged tree: the caller's answers, and our own.

        An empty text in place of a file that one side deleted means: deleted.
        """
        questions = self.questions()
        own = dict(self._own_answers())
        texts = self.tried.read(own.values())
        made: dict[str, bytes | None] = {path: texts[sha] for path, sha in own.items()}
        for path, content in resolved.items():
            clash = questions[path]
            is_deletion = not content and (clash.ours is None or clash.theirs is None)
            made[path] = None if is_deletion else content
        return made

    def warnings(self) -> list[str]:
        """What a reader of the list of files should know besides."""
        issues = [f"File '{issue.file}': {issue.description}" for issue in self.blocked()]
        return [*self._moves(), *self._companions(), *issues]

    def new_paths(self) -> set[str]:
        """The files that the target would get and has not."""
        return {path for path, (before, _) in self.tried.result.files.items() if before is None}

    def is_shown(self, path: str) -> bool:
        """Whether it is a file of a recipe that is active in both kitchens."""
        recipe, slash, _ = path.partition("/")
        is_active = self.source.is_active(recipe) and self.target.is_active(recipe)
        return bool(slash) and is_active and fault_of_path(path) is None

    def _conflicts(self) -> dict[str, Clash]:
        """The conflicts in what the caller sees, by the files' real names."""
        found = {
            _real_path(path, clash): clash
            for path, clash in self.tried.clashes.items()
            if not _own_side(clash)
        }
        return {path: clash for path, clash in sorted(found.items()) if self.is_shown(path)}

    def _changed(self) -> set[str]:
        moved = {path: _real_path(path, clash) for path, clash in self.tried.clashes.items()}
        return {moved.get(path, path) for path in self.touched()}

    def _versions(self, path: str, clash: Clash) -> tuple[str, str, str, str]:
        """Hashes of base, source, target and merged; empty where there is nothing."""
        result = self.tried.result.files
        merged = result[path][1] if path in result else clash.ours
        return _text(clash.base), _text(clash.theirs), _text(clash.ours), _text(merged)

    def _labelled(self, merged: bytes) -> bytes:
        """The text with the kitchens' names at its markers, where git puts the commits'."""
        ours, theirs = self.target.kitchen.name, self.source.kitchen.name
        merged = merged.replace(f"<<<<<<< {self.tried.ours}".encode(), f"<<<<<<< {ours}".encode())
        return merged.replace(f">>>>>>> {self.tried.theirs}".encode(), f">>>>>>> {theirs}".encode())

    def _own_answers(self) -> Iterator[tuple[str, str]]:
        """Path -> blob of the new names that stay as their side has them."""
        for path, clash in self.tried.clashes.items():
            side = _own_side(clash)
            if side in {"ours", "theirs"}:
                mine = self.tried.by_ours if side == "ours" else self.tried.by_theirs
                _, own = mine.files.get(path, (None, None))
                if sha := _text(own):
                    yield path, sha

    def _out_of_sight(self) -> Iterator[Issue]:
        """Conflicts in recipes that are not active in both kitchens, one issue for each recipe."""
        hidden: dict[str, Issue] = {}
        for path, clash in self.tried.clashes.items():
            if self.is_shown(path) or _own_side(clash):
                continue
            kitchens = " and ".join(self._inactive_in(path))
            name = path.partition("/")[0] if kitchens else printable(path)
            what = (
                f"is in conflict and not active in kitchen {kitchens}; add it to that kitchen's"
                " recipes to resolve it"
                if kitchens
                else "is in conflict and no file of a recipe; resolve it with git"
            )
            hidden[name] = Issue(name, what)
        return iter(hidden.values())

    def _beyond_text(self) -> Iterator[Issue]:
        for path, clash in self._conflicts().items():
            if fault := _fault(clash):
                yield Issue(path, fault)

    def _inactive_in(self, path: str) -> list[str]:
        """The kitchens whose restriction keeps this file's recipe out of sight."""
        recipe, slash, _ = path.partition("/")
        if not slash or recipe.startswith("."):
            return []
        places = (self.source, self.target)
        return [place.kitchen.name for place in places if not place.is_active(recipe)]

    def _companions(self) -> Iterator[str]:
        """What is merged along without being shown, for a merge is of whole branches."""
        hidden = [path for path in self._changed() if not self.is_shown(path)]
        counted = Counter((path.partition("/")[0], *self._inactive_in(path)) for path in hidden)
        others = 0
        for (recipe, *kitchens), count in sorted(counted.items()):
            if kitchens:
                where = " and ".join(kitchens)
                yield (
                    f"Recipe '{printable(recipe)}': not active in kitchen {where}; its {count}"
                    " changed files are merged with the branch and stay out of sight there"
                )
            else:
                others += count
        if others:
            yield f"{others} changed files that belong to no recipe are merged with the branch"

    def _moves(self) -> Iterator[str]:
        """Files that both sides changed, and one renamed or deleted."""
        tried = self.tried
        both = tried.by_theirs.files.keys() & tried.by_ours.files.keys()
        for path in sorted(path for path in both if self.is_shown(path)):
            source, target = self._fate(path, tried.by_theirs), self._fate(path, tried.by_ours)
            if source and target and self._is_telling(source, target):
                yield f"File '{path}': {source} in source kitchen; {target} in target kitchen"

    def _fate(self, path: str, side: Difference) -> str | None:
        """What a side did to a file that the base has; None if the base has none."""
        before, after = side.files[path]
        if before is None:
            return None
        if after is not None:
            return "modified"
        new = side.renames.get(path)
        return f"renamed to '{new}'" if new is not None and self.is_shown(new) else _GONE

    def _is_telling(self, source: str, target: str) -> bool:
        if source != target:
            return True
        return source == _GONE and self._has_strangers

    @property
    def _has_strangers(self) -> bool:
        """Whether one side has new files that the other has not: a deleted one may be among them.

        Git does not recognise a renamed file of which less than half is as it was.
        """
        added = [
            {path for path, (before, _) in side.files.items() if before is None}
            for side in (self.tried.by_theirs, self.tried.by_ours)
        ]
        return added[0] != added[1]


def _own_side(clash: Clash) -> str | None:
    """The side whose new name stays as it is there, for a clash that only names cause."""
    if "rename/delete" in clash.kinds or ("rename/rename" in clash.kinds and clash.base is None):
        if clash.theirs is None and clash.ours is not None:
            return "ours"
        if clash.ours is None and clash.theirs is not None:
            return "theirs"
    if clash.ours is None and clash.theirs is None:
        return "neither"
    return None


def _fault(clash: Clash) -> str | None:
    """Why a conflict cannot be resolved by a text."""
    if clash.kinds & _IN_THE_WAY:
        return "is a file in one kitchen and something else in the other; rename one of them first"
    sides = (clash.base, clash.ours, clash.theirs)
    if any(found is not None and not stat.S_ISREG(found[0]) for found in sides):
        return "is no ordinary file in one of the kitchens; resolve it with git"
    return None


def _real_path(path: str, clash: Clash) -> str:
    """The path before git moved the file out of something's way, to `path~commit`."""
    real, tilde, commit = path.rpartition("~")
    is_moved = clash.kinds & _IN_THE_WAY and len(commit.partition("_")[0]) == _COMMIT_CHARS
    return real if tilde and is_moved else path


def _text(found: Found | None) -> str:
    """The hash of an ordinary file's content; empty for anything else."""
    return found[1] if found is not None and stat.S_ISREG(found[0]) else ""


def printable(path: str) -> str:
    """A path of which nothing is known, such as one whose bytes are no UTF-8, to be shown."""
    return path.encode(errors="replace").decode()
