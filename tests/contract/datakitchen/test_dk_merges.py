"""Merges, reverts and histories by the vendor's `dk` command line, unmodified, version 1.5.33."""

import pytest
from tests.contract.datakitchen.edits import LINES, edited, git, pair_of_kitchens, read, save
from tests.contract.datakitchen.test_dk_cli import Dk
from tests.contract.datakitchen.world import MEMBER

pytestmark = pytest.mark.evidence("client", "dkcloudcommand 1.5.33")


@pytest.fixture
def dk(live, tmp_path):
    return Dk(tmp_path / "one", live.base)


@pytest.fixture
def other(live, tmp_path):
    """A second working copy, with a home of its own."""
    return Dk(tmp_path / "two", live.base)


@pytest.fixture
def child(member, admin, kitchen):
    name = pair_of_kitchens(member, kitchen)
    yield name
    admin.call("DELETE", f"/v2/kitchen/delete/{name}")


def between(source, target):
    return "-sk", source, "-tk", target


def previewed(dk, source, target, *more):
    """The lines of the preview's list, as (status, file)."""
    shown = dk.good("kitchen-merge-preview", *between(source, target), *more)
    assert "Kitchen merge preview done." in shown
    return [tuple(line.split("\t\t")) for line in shown.splitlines() if "\t\t" in line]


def failed(dk, *argv, cwd=None):
    done = dk.call(*argv, cwd=cwd)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_child_is_merged_into_its_parent(dk, live, member, kitchen, child):
    shown = dk.good("kitchen-merge-preview", *between(child, kitchen))
    assert "Nothing to merge." in shown
    told = failed(dk, "kitchen-merge", *between(child, kitchen), "-y")
    assert "Already up to date. Nothing to do." in told
    dk.good("kitchen-get", child, "-r", "rec")
    dk.good("kitchen-get", kitchen, "-r", "rec")
    mine = dk.home / child / "rec"
    (mine / "a.txt").write_text(edited(3, word="child"))
    (mine / "new.png").write_bytes(b"\x89PNG\0")
    dk.good("recipe-update", "-m", "mine", cwd=mine)
    save(member, kitchen, {"a.txt": edited(18, word="parent")})
    dk.good("recipe-get", "rec", cwd=dk.home / kitchen)
    assert previewed(dk, child, kitchen) == [("      ok", "rec/a.txt"), ("      ok", "rec/new.png")]
    done = dk.good("kitchen-merge", *between(child, kitchen), "-y")
    head = git(live, "rev-parse", f"refs/heads/{kitchen}")
    assert "Merge done." in done
    assert f"{live.base}/dk/index.html#/history/ga/{kitchen}/{head}" in done
    merged = edited(3, word="child").replace("line 18\n", "parent 18\n")
    assert read(member, kitchen, "a.txt") == merged
    assert git(live, "log", "-1", "--format=%P", head).split() == [
        git(live, "rev-parse", f"{head}^1"), git(live, "rev-parse", f"refs/heads/{child}"),
    ]  # fmt: skip
    local = dk.home / kitchen / "rec"
    assert (local / "a.txt").read_text() == merged
    assert (local / "new.png").read_bytes() == b"\x89PNG\0"


def test_conflicts_are_resolved_in_files(dk, member, kitchen, child):
    save(member, kitchen, {"b.txt": "parent\n", "a.txt": None})
    save(member, child, {"b.txt": "child\n", "a.txt": edited(2, word="child"), "n.txt": "n\n"})
    listed = [("conflict", "rec/a.txt"), ("conflict", "rec/b.txt"), ("      ok", "rec/n.txt")]
    assert previewed(dk, child, kitchen) == listed
    folder = dk.home / ".dk" / "default" / "merges" / f"{child}_to_{kitchen}" / "rec"
    pieces = {part: (folder / f"b.txt.{part}").read_text() for part in ("base", "left", "right")}
    assert pieces == {"base": "b\n", "left": "child\n", "right": "parent\n"}
    assert (folder / "b.txt.merge").read_text().startswith(f"<<<<<<< {kitchen}\nparent\n")
    assert "unresolved conflicts" in failed(dk, "kitchen-merge", *between(child, kitchen), "-y")
    (folder / "b.txt.base").write_text("both\n")
    (folder / "a.txt.base").write_text("")
    for path in ("rec/a.txt", "rec/b.txt"):
        assert "File resolve done." in dk.good("file-resolve", *between(child, kitchen), path)
    assert previewed(dk, child, kitchen)[:2] == [
        ("resolved", "rec/a.txt"), ("resolved", "rec/b.txt"),
    ]  # fmt: skip
    assert "Merge done." in dk.good("kitchen-merge", *between(child, kitchen), "-y")
    assert read(member, kitchen, "b.txt") == "both\n"
    assert read(member, kitchen, "a.txt") is None
    assert read(member, kitchen, "n.txt") == "n\n"
    assert not folder.exists()


def test_an_old_preview_has_to_be_made_again(dk, member, kitchen, child):
    save(member, child, {"b.txt": "child\n"})
    previewed(dk, child, kitchen)
    save(member, kitchen, {"b.txt": "parent\n"})
    told = failed(dk, "kitchen-merge", *between(child, kitchen), "-y")
    assert f"Kitchen {kitchen} has new changes since last kitchen-merge-preview." in told
    assert read(member, kitchen, "b.txt") == "parent\n"
    told = failed(dk, "kitchen-merge", *between(child, kitchen), "-y")
    assert "Please run kitchen-merge-preview" in told
    assert previewed(dk, child, kitchen) == [("conflict", "rec/b.txt")]


def test_answers_left_over_from_an_older_conflict_are_cleared_away(dk, member, kitchen, child):
    save(member, kitchen, {"b.txt": "parent\n"})
    save(member, child, {"b.txt": "child\n", "a.txt": edited(2, word="child")})
    previewed(dk, child, kitchen)
    dk.good("file-resolve", *between(child, kitchen), "rec/b.txt")
    save(member, child, {"b.txt": "parent\n"})
    previewed(dk, child, kitchen)
    told = failed(dk, "kitchen-merge", *between(child, kitchen), "-y")
    assert "rec/b.txt: not in conflict" in told
    previewed(dk, child, kitchen)
    dk.good("kitchen-merge", *between(child, kitchen), "-y")
    assert read(member, kitchen, "a.txt") == edited(2, word="child")


def test_a_kitchen_is_reverted_twice(dk, live, member, child):
    save(member, child, {"b.txt": "bad\n"})
    bad = git(live, "rev-parse", f"refs/heads/{child}")
    assert f"/history/ga/{child}/{bad}" in dk.good("kitchen-revert", "-k", child, "-p")
    assert "Revert Kitchen done!" in dk.good("kitchen-revert", "-k", child, "-y")
    assert read(member, child, "b.txt") == "b\n"
    told = failed(dk, "kitchen-revert", "-k", child, "-y")
    assert f"Kitchen {child} has new changes" in told
    dk.good("kitchen-revert", "-k", child, "-p")
    dk.good("kitchen-revert", "-k", child, "-y")
    assert read(member, child, "b.txt") == "bad\n"
    assert git(live, "rev-list", "--count", f"{bad}..refs/heads/{child}") == "2"


def test_histories_are_shown(dk, live, member, child):
    for number in range(3):
        save(member, child, {"b.txt": f"{number}\n"})
    shown = dk.good("kitchen-history", "-k", child, "-c", "2")
    shas = git(live, "log", "-n2", "--format=%H", f"refs/heads/{child}").split()
    assert [line.split(": ")[1] for line in shown.splitlines() if line.startswith("sha")] == shas
    assert shown.count(f"author  : {MEMBER}") == 2
    assert shown.count(f"message : change of {child}") == 2
    dk.good("kitchen-get", child, "-r", "rec")
    folder = dk.home / child / "rec"
    shown = dk.good("file-history", "b.txt", cwd=folder)
    assert shown.count(f"Author:\t\t{MEMBER}") == 4
    assert f"Url:\t\t{live.base}/dk/index.html#/history/ga/{child}/{shas[0]}" in shown
    assert dk.good("file-history", "-cc", "1", "b.txt", cwd=folder).count("Author:") == 1


def test_two_working_copies_of_one_kitchen_are_merged(dk, other, member, child):
    for each in (dk, other):
        each.good("kitchen-get", child, "-r", "rec")
    mine, theirs = (each.home / child / "rec" for each in (dk, other))
    (theirs / "a.txt").write_text(edited(2, word="their"))
    (theirs / "new.txt").write_text("one\n")
    other.good("recipe-update", "-m", "theirs", cwd=theirs)
    (mine / "a.txt").write_text(edited(19, word="my"))
    told = dk.good("recipe-get", "-y", cwd=mine)
    assert "Auto-merging 'a.txt'" in told
    assert "CONFLICT" not in told
    both = edited(2, word="their").replace("line 19\n", "my 19\n")
    assert (mine / "a.txt").read_text() == both
    assert read(member, child, "a.txt") == edited(2, word="their")
    dk.good("file-update", "-m", "mine", "a.txt", cwd=mine)
    assert read(member, child, "a.txt") == both
    (theirs / "a.txt").write_text(edited(2, word="their").replace("line 19\n", "their 19\n"))
    told = other.good("recipe-get", "-y", cwd=theirs)
    assert "CONFLICT (content): Merge conflict in a.txt" in told
    marked = "<<<<<<< your\ntheir 19\n=======\nmy 19\n>>>>>>> their\n"
    text = edited(2, word="their").replace("line 19\n", marked)
    assert (theirs / "a.txt").read_text() == text


def test_a_file_that_is_younger_than_the_copy_is_kept_up_to_date(dk, other, member, child):
    for each in (dk, other):
        each.good("kitchen-get", child, "-r", "rec")
    mine, theirs = (each.home / child / "rec" for each in (dk, other))
    for word in ("one\n", "two\n"):
        (theirs / "new.txt").write_text(word)
        other.good("recipe-update", "-m", "theirs", cwd=theirs)
        told = dk.good("recipe-get", "-y", cwd=mine)
        assert "CONFLICT" not in told
        assert (mine / "new.txt").read_text() == word
    assert read(member, child, "a.txt") == LINES
