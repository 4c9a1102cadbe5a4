"""Kitchens merged: one commit with two parents, conflicts asked about, nothing lost in a race."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from tests.unit.storage.test_gitmerge import plant

from galley.core.caller import Caller
from galley.core.errors import Forbidden, Invalid
from galley.core.events.models import audit_entries
from galley.core.projects import mergeplan, merging
from galley.core.projects import operations as projects
from galley.core.projects.errors import (
    FileNameInvalid,
    FileTooLarge,
    KitchenNotFound,
    MergeTooLarge,
    MergeUnresolved,
    NothingToMerge,
    NothingToRevert,
    ResolutionUnneeded,
)
from galley.core.projects.merging import MergePreview, Outcome, Seen
from galley.core.projects.models import Kitchen
from galley.kit.clock import ManualClock
from galley.storage.db import Database
from galley.storage.git import GitStore, Repository
from galley.storage.gitprogram import run_git

LINES = b"".join(b"line %d\n" % number for number in range(1, 21))
Changes = dict[str, bytes | None]


def edited(*numbers: int, word: bytes) -> bytes:
    """The lines, some of them changed."""
    text = LINES
    for number in numbers:
        text = text.replace(b"line %d\n" % number, b"%s %d\n" % (word, number))
    return text


class Kitchens:
    """`master` and its child `dev`, with files that the test puts there."""

    def __init__(
        self, database: Database, repositories: GitStore, clock: ManualClock, caller: Caller
    ) -> None:
        self.database, self.repositories, self.clock, self.caller = (
            database, repositories, clock, caller,
        )  # fmt: skip

    @property
    def repository(self) -> Repository:
        return self.repositories.repository("main/recipes")

    def save(self, kitchen: str, changes: Changes) -> str:
        """Commit files by their whole paths, as a push could."""
        return self.repository.commit(
            kitchen, changes, message=f"Change {kitchen}", author="A <a@x>", at=self.clock.now()
        )

    def open(self, name: str = "dev", parent: str = "master") -> None:
        with self.database.writing() as session:
            projects.create_kitchen(
                session, self.caller, self.repositories,
                name=name, parent=parent, description="", clock=self.clock,
            )  # fmt: skip

    def set(self, name: str, **columns: Any) -> None:
        with self.database.writing() as session:
            row = session.query(Kitchen).filter_by(name=name).one()
            for column, value in columns.items():
                setattr(row, column, value)

    def preview(
        self, source: str = "dev", target: str = "master", *, caller: Caller | None = None
    ) -> MergePreview:
        with self.database.reading() as session:
            return merging.preview_merge(
                session, caller or self.caller, self.repositories, source, target
            )

    def merge(
        self,
        source: str = "dev",
        target: str = "master",
        *,
        caller: Caller | None = None,
        seen: MergePreview | None = None,
        resolved: Changes | None = None,
        announce: Callable[[str], None] = lambda _commit: None,
    ) -> Outcome:
        tips = Seen(seen.source_commit, seen.target_commit) if seen else Seen()
        return merging.merge_kitchen(
            self.database, caller or self.caller, self.repositories, source, target,
            resolved=resolved or {}, seen=tips, announce=announce, clock=self.clock,
        )  # fmt: skip

    def revert(self, kitchen: str = "master", tip: str | None = None) -> Outcome:
        return merging.revert_kitchen(
            self.database, self.caller, self.repositories, kitchen, tip or self.tip(kitchen),
            announce=lambda _commit: None, clock=self.clock,
        )  # fmt: skip

    def tip(self, kitchen: str = "master") -> str:
        found = self.repository.tip(kitchen)
        assert found is not None
        return found

    def files(self, kitchen: str = "master", recipe: str = "rec") -> dict[str, bytes]:
        return self.repository.read_folder(self.tip(kitchen), recipe)

    def git(self, *words: str) -> str:
        return run_git(self.repository.folder, *words).decode()


@pytest.fixture
def kitchens(
    account: Database, repositories: GitStore, manual_clock: ManualClock, ann: Caller
) -> Kitchens:
    made = Kitchens(account, repositories, manual_clock, ann)
    made.save("master", {"rec/a.txt": LINES, "rec/b.txt": b"b\n", "rec/c.json": b"{}\n"})
    made.open()
    return made


def status(preview: MergePreview) -> dict[str, str]:
    return {path: "conflict" if c else "ok" for path, c in preview.files.items()}


def audited(kitchens: Kitchens) -> int:
    with kitchens.database.reading() as session:
        wanted = sa.select(sa.func.count()).where(audit_entries.c.action == "kitchen.update")
        return session.scalar(wanted) or 0


def test_edits_of_different_lines_merge_and_both_parents_are_kept(kitchens: Kitchens) -> None:
    ours = kitchens.save("master", {"rec/a.txt": edited(2, word=b"master")})
    theirs = kitchens.save("dev", {"rec/a.txt": edited(19, word=b"dev"), "rec/new.txt": b"n"})
    found = kitchens.preview()
    assert status(found) == {"rec/a.txt": "ok", "rec/new.txt": "ok"}
    assert (found.source_commit, found.target_commit, found.warnings) == (theirs, ours, [])
    told: list[str] = []
    before = audited(kitchens)
    made = kitchens.merge(seen=found, announce=told.append).commit
    assert told == [made] == [kitchens.tip()]
    assert kitchens.git("log", "-1", "--format=%P|%an <%ae>|%s", made).strip() == (
        f"{ours} {theirs}|Ann <ann@example.org>|Merge kitchen dev into master"
    )
    assert kitchens.files()["a.txt"] == edited(2, word=b"master").replace(b"line 19", b"dev 19")
    assert kitchens.files()["new.txt"] == b"n"
    assert kitchens.tip("dev") == theirs
    assert audited(kitchens) == before + 1
    kitchens.repository.fsck()


def test_a_preview_leaves_nothing_behind(kitchens: Kitchens) -> None:
    kitchens.save("master", {"rec/a.txt": edited(2, word=b"master")})
    kitchens.save("dev", {"rec/a.txt": edited(2, 19, word=b"dev")})
    folder = kitchens.repository.folder
    before = sorted(folder.parent.rglob("*"))
    assert status(kitchens.preview()) == {"rec/a.txt": "conflict"}
    with pytest.raises(MergeUnresolved):
        kitchens.merge()
    assert [path for path in sorted(folder.parent.rglob("*")) if path not in before] in (
        [], [folder / "galley.queue"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("master", "dev", "versions"),
    [
        ({"rec/b.txt": b"m\n"}, {"rec/b.txt": b"d\n"}, (b"b\n", b"d\n", b"m\n")),
        ({"rec/b.txt": None}, {"rec/b.txt": b"d\n"}, (b"b\n", b"d\n", b"")),
        ({"rec/b.txt": b"m\n"}, {"rec/b.txt": None}, (b"b\n", b"", b"m\n")),
        ({"rec/n.txt": b"m\n"}, {"rec/n.txt": b"d\n"}, (b"", b"d\n", b"m\n")),
        ({"rec/n.png": b"m\0"}, {"rec/n.png": b"d\0"}, (b"", b"d\0", b"m\0")),
    ],
    ids=["both edited", "deleted in the target", "deleted in the source", "both added", "binary"],
)
def test_a_conflict_shows_every_version_and_needs_an_answer(
    kitchens: Kitchens, master: Changes, dev: Changes, versions: tuple[bytes, bytes, bytes]
) -> None:
    (path,) = master
    tip = kitchens.save("master", master)
    kitchens.save("dev", {**dev, "rec/else.txt": b"e"})
    found = kitchens.preview()
    assert status(found) == {path: "conflict", "rec/else.txt": "ok"}
    shown = found.files[path]
    assert shown is not None
    assert (shown.base, shown.source, shown.target) == versions
    if all(versions[1:]) and b"\0" not in versions[1]:
        text = b"<<<<<<< master\nm\n=======\nd\n>>>>>>> dev\n"
        assert shown.merged == text
    else:
        assert shown.merged in versions[1:]
    with pytest.raises(MergeUnresolved) as refused:
        kitchens.merge(seen=found)
    assert [issue.file for issue in refused.value.issues] == [path]
    assert kitchens.tip() == tip
    assert kitchens.merge(seen=found, resolved={path: b"r\0r"}).commit == kitchens.tip()
    assert kitchens.files()[path.removeprefix("rec/")] == b"r\0r"
    assert kitchens.files()["else.txt"] == b"e"


@pytest.mark.parametrize("answer", [None, b""])
def test_a_conflict_with_a_deletion_can_end_in_one(
    kitchens: Kitchens, answer: bytes | None
) -> None:
    kitchens.save("master", {"rec/b.txt": None})
    kitchens.save("dev", {"rec/b.txt": b"d\n"})
    kitchens.merge(resolved={"rec/b.txt": answer})
    assert "b.txt" not in kitchens.files()


def test_an_empty_answer_is_an_empty_file_where_both_sides_have_one(kitchens: Kitchens) -> None:
    kitchens.save("master", {"rec/b.txt": b"m\n"})
    kitchens.save("dev", {"rec/b.txt": b"d\n"})
    kitchens.merge(resolved={"rec/b.txt": b""})
    assert kitchens.files()["b.txt"] == b""


def test_there_is_nothing_to_merge_where_the_source_brings_nothing(kitchens: Kitchens) -> None:
    assert kitchens.preview().files == {}
    kitchens.save("master", {"rec/b.txt": b"m\n"})
    assert kitchens.preview().files == {}
    assert kitchens.preview("master", "master").files == {}
    with pytest.raises(NothingToMerge, match=r"Already up to date\. Nothing to do\."):
        kitchens.merge()
    kitchens.save("dev", {"rec/c.json": b"[]\n"})
    kitchens.merge()
    assert kitchens.preview("master", "dev").files == {"rec/b.txt": None}
    kitchens.merge("master", "dev")
    with pytest.raises(NothingToMerge):
        kitchens.merge()


def test_changes_that_both_made_are_listed_and_merge(kitchens: Kitchens) -> None:
    for kitchen in ("master", "dev"):
        kitchens.save(kitchen, {"rec/b.txt": b"same\n", "rec/c.json": None})
    found = kitchens.preview()
    assert status(found) == {"rec/b.txt": "ok", "rec/c.json": "ok"}
    assert found.warnings == []
    kitchens.merge(seen=found)
    assert kitchens.files() == {"a.txt": LINES, "b.txt": b"same\n"}


RENAMED: list[Any] = [
    pytest.param(
        {"rec/z.txt": LINES, "rec/a.txt": None}, {"rec/a.txt": edited(3, word=b"dev")},
        "modified in source kitchen; renamed to 'rec/z.txt' in target kitchen",
        {"z.txt": edited(3, word=b"dev")}, id="edited and renamed",
    ),
    pytest.param(
        {"rec/a.txt": edited(3, word=b"m")}, {"rec/z.txt": LINES, "rec/a.txt": None},
        "renamed to 'rec/z.txt' in source kitchen; modified in target kitchen",
        {"z.txt": edited(3, word=b"m")}, id="renamed and edited",
    ),
    pytest.param(
        {"rec/y.txt": LINES, "rec/a.txt": None}, {"rec/z.txt": LINES, "rec/a.txt": None},
        "renamed to 'rec/z.txt' in source kitchen; renamed to 'rec/y.txt' in target kitchen",
        {"y.txt": LINES, "z.txt": LINES}, id="renamed to two names",
    ),
    pytest.param(
        {"rec/a.txt": None}, {"rec/z.txt": edited(4, word=b"d"), "rec/a.txt": None},
        "renamed to 'rec/z.txt' in source kitchen; renamed or deleted in target kitchen",
        {"z.txt": edited(4, word=b"d")}, id="renamed and deleted",
    ),
    pytest.param(
        {"rec/y.txt": b"else\n", "rec/a.txt": None}, {"rec/a.txt": None},
        "renamed or deleted in source kitchen; renamed or deleted in target kitchen",
        {"y.txt": b"else\n"}, id="deleted and replaced",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("master", "dev", "told", "left"), RENAMED)
def test_renames_are_followed_and_told(
    kitchens: Kitchens, master: Changes, dev: Changes, told: str, left: dict[str, bytes]
) -> None:
    kitchens.save("master", master)
    kitchens.save("dev", dev)
    found = kitchens.preview()
    assert found.warnings == [f"File 'rec/a.txt': {told}"]
    assert found.files["rec/a.txt"] is None
    kitchens.merge(seen=found)
    assert kitchens.files() == {"b.txt": b"b\n", "c.json": b"{}\n", **left}


def test_a_file_where_the_other_has_a_folder_is_told_and_refused(kitchens: Kitchens) -> None:
    kitchens.save("master", {"rec/b.txt": b"m\n"})
    kitchens.save("dev", {"rec/b.txt": None})
    kitchens.save("dev", {"rec/b.txt/x": b"d\n"})
    found = kitchens.preview()
    assert status(found) == {"rec/b.txt": "conflict", "rec/b.txt/x": "ok"}
    (warning,) = [line for line in found.warnings if "something else" in line]
    assert warning.startswith("File 'rec/b.txt': is a file in one kitchen")
    with pytest.raises(MergeUnresolved) as refused:
        kitchens.merge(resolved={"rec/b.txt": b"r"})
    assert refused.value.issues[0].file == "rec/b.txt"


def test_modes_are_merged_as_git_does(kitchens: Kitchens) -> None:
    blob = kitchens.git("rev-parse", "dev:rec/b.txt").strip()
    folder = kitchens.git("ls-tree", "dev:rec").replace(
        "100644 blob " + blob, "100755 blob " + blob
    )
    rec = run_git(kitchens.repository.folder, "mktree", stdin=folder.encode()).decode().strip()
    top = run_git(
        kitchens.repository.folder, "mktree", stdin=f"040000 tree {rec}\trec\n".encode()
    ).decode().strip()  # fmt: skip
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    made = kitchens.git(*who, "commit-tree", top, "-p", kitchens.tip("dev"), "-m", "mode").strip()
    kitchens.repository.advance("dev", kitchens.tip("dev"), made)
    kitchens.save("master", {"rec/b.txt": b"edited\n"})
    assert status(kitchens.preview()) == {"rec/b.txt": "ok"}
    kitchens.merge()
    assert kitchens.git("ls-tree", "master:rec", "b.txt").startswith("100755 blob")
    assert kitchens.files()["b.txt"] == b"edited\n"


def test_what_came_since_the_preview_counts_if_it_touches_the_merge(kitchens: Kitchens) -> None:
    kitchens.save("dev", {"rec/a.txt": edited(3, word=b"dev")})
    found = kitchens.preview()
    kitchens.save("master", {"rec/else.txt": b"unrelated"})
    kitchens.save("dev", {"rec/more.txt": b"unrelated too"})
    assert kitchens.merge(seen=found).commit == kitchens.tip()
    assert kitchens.files() == {
        "a.txt": edited(3, word=b"dev"), "b.txt": b"b\n", "c.json": b"{}\n",
        "else.txt": b"unrelated", "more.txt": b"unrelated too",
    }  # fmt: skip
    kitchens.save("dev", {"rec/a.txt": edited(3, 5, word=b"dev")})
    found = kitchens.preview()
    tip = kitchens.save("master", {"rec/a.txt": edited(3, word=b"dev") + b"end\n"})
    assert kitchens.merge(seen=found) == Outcome(moved="master")
    found = kitchens.preview()
    kitchens.save("dev", {"rec/a.txt": edited(3, 5, 7, word=b"dev")})
    assert kitchens.merge(seen=found) == Outcome(moved="dev")
    assert kitchens.tip() == tip


def test_a_new_conflict_since_the_preview_is_not_an_open_question_but_news(
    kitchens: Kitchens,
) -> None:
    kitchens.save("dev", {"rec/a.txt": edited(3, word=b"dev")})
    kitchens.save("master", {"rec/b.txt": b"m\n"})
    found = kitchens.preview()
    kitchens.save("dev", {"rec/b.txt": b"d\n"})
    assert kitchens.merge(seen=found) == Outcome(moved="dev")


@pytest.mark.parametrize("sha", ["0" * 40, "nonsense", "--help"])
def test_tips_that_the_kitchen_never_had_are_old(kitchens: Kitchens, sha: str) -> None:
    kitchens.save("dev", {"rec/b.txt": b"d\n"})
    found = merging.MergePreview({}, [], kitchens.tip("dev"), sha)
    assert kitchens.merge(seen=found) == Outcome(moved="master")


def test_of_two_merges_of_one_preview_one_wins(kitchens: Kitchens) -> None:
    kitchens.open("other")
    kitchens.save("dev", {"rec/b.txt": b"d\n", "rec/d.txt": b"d"})
    kitchens.save("other", {"rec/b.txt": b"o\n", "rec/o.txt": b"o"})
    seen = {name: kitchens.preview(name) for name in ("dev", "other")}
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda name: kitchens.merge(name, seen=seen[name]), seen))
    won, lost = sorted(outcomes, key=lambda outcome: outcome.moved is not None)
    assert won.commit == kitchens.tip()
    assert lost == Outcome(moved="master")
    winner = "dev" if outcomes[0].commit else "other"
    assert kitchens.files()["b.txt"] == winner[:1].encode() + b"\n"


def test_merges_and_edits_at_once_lose_nothing(kitchens: Kitchens) -> None:
    names = [f"k{number}" for number in range(4)]
    for name in names:
        kitchens.open(name)
        kitchens.save(name, {f"rec/{name}.txt": name.encode()})

    def edit(number: int) -> None:
        projects.save_files(
            kitchens.database, kitchens.caller, kitchens.repositories, "master", "rec",
            {f"e{number}.txt": b"e"}, clock=kitchens.clock,
        )  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(kitchens.merge, name) for name in names]
        done += [pool.submit(edit, number) for number in range(4)]
        for each in done:
            each.result()
    assert {f"{name}.txt" for name in names} <= kitchens.files().keys()
    assert {f"e{number}.txt" for number in range(4)} <= kitchens.files().keys()
    assert kitchens.git("rev-list", "--merges", "--count", "master").strip() == "4"


def test_answers_are_for_conflicts_only_and_are_files(kitchens: Kitchens) -> None:
    kitchens.save("master", {"rec/b.txt": b"m\n"})
    tip = kitchens.save("dev", {"rec/b.txt": b"d\n", "rec/a.txt": edited(1, word=b"d")})
    with pytest.raises(ResolutionUnneeded, match=r"rec/a\.txt"):
        kitchens.merge(resolved={"rec/b.txt": b"x", "rec/a.txt": b"y"})
    with pytest.raises(FileTooLarge):
        kitchens.merge(resolved={"rec/b.txt": b"x" * 10_000_001})
    assert kitchens.tip("dev") == tip


def test_names_that_cannot_be_told_apart_are_not_merged_together(
    kitchens: Kitchens, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchens.save("master", {"rec/New.txt": b"m\n"})
    kitchens.save("dev", {"rec/new.txt": b"d\n"})
    with pytest.raises(FileNameInvalid, match="cannot be told from"):
        kitchens.merge()
    kitchens.save("dev", {"rec/new.txt": None, "rec/fine.txt": b"d\n"})
    monkeypatch.setattr(merging, "MAX_FILES", 4)
    with pytest.raises(Invalid, match="at most 4 files"):
        kitchens.merge()
    monkeypatch.undo()
    kitchens.merge()
    assert "fine.txt" in kitchens.files()


def test_a_closed_kitchen_is_not_there(kitchens: Kitchens, people: Any) -> None:
    kitchens.save("dev", {"rec/b.txt": b"d\n"})
    kitchens.set("dev", staff=["ann@example.org"], roles={"eve@example.org": "Guest"})
    bob = people("bob")
    for source, target in (("dev", "master"), ("master", "dev"), ("dev", "nowhere")):
        with pytest.raises(KitchenNotFound):
            kitchens.preview(source, target, caller=bob)
        with pytest.raises(KitchenNotFound):
            kitchens.merge(source, target, caller=bob)
    kitchens.set("dev", staff=[])
    kitchens.set("master", roles={"eve@example.org": "Guest"})
    assert status(kitchens.preview(caller=people("eve"))) == {"rec/b.txt": "ok"}
    with pytest.raises(Forbidden):
        kitchens.merge(caller=people("eve"))


def test_recipes_that_are_not_active_are_merged_along_out_of_sight(kitchens: Kitchens) -> None:
    kitchens.save("dev", {"rec/b.txt": b"d\n", "hid/x.txt": b"x", "hid/y.txt": b"y", "top": b"t"})
    kitchens.set("master", restrict_recipes=True, recipes=["rec"])
    found = kitchens.preview()
    assert status(found) == {"rec/b.txt": "ok"}
    assert found.warnings == [
        (
            "Recipe 'hid': not active in kitchen master; its 2 changed files are merged with the"
            " branch and stay out of sight there"
        ),
        "1 changed files that belong to no recipe are merged with the branch",
    ]
    kitchens.merge(seen=found)
    assert kitchens.files(recipe="hid") == {"x.txt": b"x", "y.txt": b"y"}
    kitchens.save("master", {"hid/x.txt": b"m"})
    kitchens.save("dev", {"hid/x.txt": b"d", "rec/b.txt": b"e\n"})
    assert "is in conflict and not active in kitchen master" in kitchens.preview().warnings[1]
    with pytest.raises(MergeUnresolved) as refused:
        kitchens.merge()
    assert [issue.file for issue in refused.value.issues] == ["hid"]
    kitchens.set("master", restrict_recipes=False)
    kitchens.merge(resolved={"hid/x.txt": b"r"})
    assert kitchens.files(recipe="hid")["x.txt"] == b"r"


def test_what_no_api_would_let_in_is_merged_along(kitchens: Kitchens) -> None:
    theirs = plant(
        kitchens.repository,
        [("120000", b"link", b"target"), ("100644", b"caf\xe9", b"x"), ("100644", b"a.txt", b"a")],
        kitchens.tip("dev"), folder=b"caf\xe9",
    )  # fmt: skip
    kitchens.repository.advance("dev", kitchens.tip("dev"), theirs)
    found = kitchens.preview()
    assert set(found.files) == {"rec/a.txt", "rec/b.txt", "rec/c.json"}
    assert found.warnings == ["3 changed files that belong to no recipe are merged with the branch"]
    kitchens.set("master", restrict_recipes=True, recipes=["rec"])
    (warning,) = kitchens.preview().warnings
    assert warning.encode().startswith(b"Recipe 'caf?': not active in kitchen master")
    kitchens.set("master", restrict_recipes=False)
    kitchens.merge()
    assert "120000 blob" in kitchens.git("ls-tree", "-r", "master")


def test_conflicts_too_large_to_show_are_refused(
    kitchens: Kitchens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mergeplan, "MAX_CONFLICT_BYTES", 20)
    kitchens.save("master", {"rec/b.txt": b"m\n"})
    kitchens.save("dev", {"rec/b.txt": b"d\n"})
    with pytest.raises(MergeTooLarge, match="1 files in conflict"):
        kitchens.preview()
    assert kitchens.merge(resolved={"rec/b.txt": b"r\n"}).commit == kitchens.tip()


def test_a_large_merge_is_previewed_in_a_moment(kitchens: Kitchens) -> None:
    import time

    text = b"".join(b"%d\n" % number for number in range(200))
    kitchens.save("master", {f"big/{n % 40}/{n}.sql": b"%d\n" % n + text for n in range(2000)})
    kitchens.open("large")
    kitchens.save("large", {f"big/{n % 40}/{n}.sql": b"large\n" + text for n in range(50)})
    kitchens.save("master", {f"big/{n % 40}/{n}.sql": b"master\n" + text for n in range(25)})
    began = time.monotonic()
    found = kitchens.preview("large")
    took_s = time.monotonic() - began
    assert sum(versions is not None for versions in found.files.values()) == 25
    assert len(found.files) == 50
    assert took_s < 1, took_s


def test_a_revert_takes_back_the_last_commit_and_twice_brings_it_again(
    kitchens: Kitchens,
) -> None:
    before = kitchens.tip()
    last = kitchens.save("master", {"rec/b.txt": b"bad\n", "rec/n.txt": b"n"})
    with kitchens.database.reading() as session:
        found = merging.preview_revert(session, kitchens.caller, kitchens.repositories, "master")
    assert (found.tip, found.back_to) == (last, before)
    made = kitchens.revert().commit
    assert made == kitchens.tip()
    assert kitchens.files() == {"a.txt": LINES, "b.txt": b"b\n", "c.json": b"{}\n"}
    assert kitchens.git("log", "-1", "--format=%P|%an|%s").strip() == (
        f'{last}|Ann|Revert "Change master"'
    )
    assert kitchens.revert(tip=last) == Outcome(moved="master")
    kitchens.revert()
    assert kitchens.files()["b.txt"] == b"bad\n"
    kitchens.repository.fsck()


def test_a_reverted_merge_is_back_at_its_first_parent(kitchens: Kitchens) -> None:
    ours = kitchens.save("master", {"rec/a.txt": edited(2, word=b"m")})
    kitchens.save("dev", {"rec/b.txt": b"d\n"})
    kitchens.merge()
    kitchens.revert()
    assert kitchens.repository.tree_id(kitchens.tip()) == kitchens.repository.tree_id(ours)


def test_the_first_commit_cannot_be_reverted(kitchens: Kitchens) -> None:
    first = kitchens.git("rev-list", "--max-parents=0", "master").strip()
    kitchens.git("update-ref", "refs/heads/dev", first)
    with pytest.raises(NothingToRevert):
        kitchens.revert("dev")
