"""Merges of commits as git itself makes them, with what no API would let in."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from galley.storage.git import (
    GitFailed,
    GitStore,
    NotInRepository,
    Repository,
    UnrelatedCommits,
    author_line,
    difference,
    first_parent,
    is_commit,
    merge_texts,
    tried_merge,
    versions,
    write_revert,
)
from galley.storage.gitmerge import read_blobs
from galley.storage.gitprogram import clean_environment, run_git

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
ME = author_line("Ann", "ann@example.org")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = GitStore(tmp_path / "repositories").create("main/recipes")
    made.start("master", message="Begin", author=ME, at=AT)
    made.commit("master", {"r/a": b"a\n"}, message="a", author=ME, at=AT)
    tip = made.tip("master")
    assert tip is not None
    made.open_branch("dev", tip, parent="master")
    return made


def save(repository: Repository, branch: str, changes: dict[str, bytes | None]) -> str:
    return repository.commit(branch, changes, message="Change", author=ME, at=AT)


def plant(
    repository: Repository,
    entries: Sequence[tuple[str, bytes, bytes]],
    *parents: str,
    folder: bytes = b"r",
) -> str:
    """A commit whose one folder has these entries (mode, name, content), as a push could bring."""
    listing = b""
    for mode, name, content in entries:
        sha = run_git(repository.folder, "hash-object", "-w", "--stdin", stdin=content).strip()
        listing += b"%s blob %s\t%s\0" % (mode.encode(), sha, name)
    inner = run_git(repository.folder, "mktree", "-z", stdin=listing).strip()
    outer = b"040000 tree %s\t%s\0" % (inner, folder)
    top = run_git(repository.folder, "mktree", "-z", stdin=outer)
    names = {
        f"GIT_{who}_{what}": "x@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    words = [word for parent in parents for word in ("-p", parent)]
    tree = top.decode().strip()
    return run_git(
        repository.folder, "commit-tree", tree, "-m", "planted", *words, extra=names
    ).decode().strip()  # fmt: skip


def test_a_kept_merge_is_whole_and_its_folder_is_gone(repository: Repository) -> None:
    ours = save(repository, "master", {"r/b": b"b\n"})
    theirs = save(repository, "dev", {"r/c": b"c\n"})
    with tried_merge(repository, ours, theirs) as tried:
        assert tried.clashes == {}
        assert set(tried.result.files) == {"r/c"}
        assert sorted(tried.paths()) == ["r/a", "r/b", "r/c"]
        assert repository.tip("master") == ours
        made = tried.keep({"r/d": b"d\n", "r/a": None}, message="m", author=ME, at=AT)
    assert not tried.objects.exists()
    assert repository.read_folder(made, "r") == {"b": b"b\n", "c": b"c\n", "d": b"d\n"}
    assert first_parent(repository, made) == ours
    repository.advance("master", ours, made)
    repository.fsck()


def test_links_and_names_that_are_no_text_do_not_stop_a_merge(repository: Repository) -> None:
    base = repository.tip("dev")
    assert base is not None
    strange = b"caf\xe9"
    theirs = plant(
        repository, [("100644", b"a", b"a\n"), ("120000", b"l", b"a"), ("100644", strange, b"s")],
        base,
    )  # fmt: skip
    ours = save(repository, "master", {"r/a": b"changed\n"})
    with tried_merge(repository, ours, theirs) as tried:
        name = strange.decode(errors="surrogateescape")
        assert set(tried.result.files) == {"r/l", f"r/{name}"}
        made = tried.keep({}, message="m", author=ME, at=AT)
    listed = run_git(repository.folder, "ls-tree", "-r", "-z", made)
    assert b"120000 blob" in listed
    assert b"r/caf\xe9\0" in listed
    other = plant(repository, [("120000", b"l", b"b"), ("100644", b"a", b"a\n")], base)
    with tried_merge(repository, made, other) as tried:
        (clash,) = [clash for path, clash in tried.clashes.items() if path.startswith("r/l")]
        assert clash.ours is not None
        assert clash.ours[0] == 0o120000


def test_commits_that_have_nothing_in_common_are_not_merged(repository: Repository) -> None:
    tip = repository.tip("master")
    assert tip is not None
    stranger = plant(repository, [("100644", b"a", b"x")])
    with pytest.raises(UnrelatedCommits), tried_merge(repository, tip, stranger):
        pass
    for unknown in ("0" * 40, "master", "--help", ""):
        assert not is_commit(repository, unknown)
        with pytest.raises(NotInRepository), tried_merge(repository, tip, unknown):
            pass
    assert list(repository.folder.parent.glob(".tmp-*")) == []


def test_differences_know_modes_and_renames(repository: Repository) -> None:
    old = save(repository, "master", {"r/x": b"1\n2\n3\n4\n", "r/y": b"y\n"})
    new = save(repository, "master", {"r/x": None, "s/z": b"1\n2\n3\n4\n5\n", "r/y": None})
    found = difference(repository, old, new)
    assert found.renames == {"r/x": "s/z"}
    assert {path: (b is None, a is None) for path, (b, a) in found.files.items()} == {
        "r/x": (False, True), "s/z": (True, False), "r/y": (False, True),
    }  # fmt: skip
    assert difference(repository, new, new).files == {}
    with pytest.raises(GitFailed):
        difference(repository, old, "0" * 40)


def test_blobs_are_read_in_bulk_whatever_is_in_them(repository: Repository) -> None:
    contents = [b"", b"\n", b"no end", b"\0\n\0", b"x" * 100_000]
    tip = save(repository, "master", {f"r/{n}": text for n, text in enumerate(contents)})
    shas = dict(repository.read_files(tip, "r").values())
    assert read_blobs(repository, shas) == shas
    assert read_blobs(repository, []) == {}
    with pytest.raises(NotInRepository):
        read_blobs(repository, ["1" * 40])


def test_texts_are_merged_with_labels(repository: Repository) -> None:
    base = b"1\n2\n3\n4\n5\n6\n7\n"

    def merged(ours: bytes, theirs: bytes) -> bytes:
        return merge_texts(repository, base=base, ours=ours, theirs=theirs, labels=("me", "you"))

    assert merged(base + b"8\n", b"0\n" + base) == b"0\n" + base + b"8\n"
    assert merged(base, base + b"no end") == base + b"no end"
    both = merged(base.replace(b"4", b"m"), base.replace(b"4", b"y"))
    assert both == base.replace(b"4\n", b"<<<<<<< me\nm\n=======\ny\n>>>>>>> you\n")
    many = b"".join(b"%d\n" % n for n in range(1000))
    crossed = merge_texts(
        repository, base=many, ours=many.replace(b"5\n", b"m\n"),
        theirs=many.replace(b"5\n", b"y\n"), labels=("me", "you"),
    )  # fmt: skip
    assert crossed.count(b"<<<<<<< me") == 100
    with pytest.raises(ValueError, match="binary"):
        merged(b"\0", base)
    assert list(repository.folder.parent.glob(".tmp-*")) == []


def test_a_revert_has_the_tree_before_and_a_file_its_versions(repository: Repository) -> None:
    before = repository.tip("master")
    assert before is not None
    shas = set()
    for text in (b"1\n", b"2\n"):
        tip = save(repository, "master", {"r/a": text})
        shas.add(repository.read_files(tip, "r")["a"][0])
    save(repository, "master", {"r/other": b"3\n"})
    tip = save(repository, "master", {"r/a": None})
    assert versions(repository, before, tip, "r/a") == shas
    made = write_revert(repository, tip, message="m", author=ME, at=AT)
    assert repository.read(made, "r/a") == b"2\n"
    assert first_parent(repository, made) == tip
    first = run_git(repository.folder, "rev-list", "--max-parents=0", tip).decode().strip()
    assert first_parent(repository, first) is None
    with pytest.raises(NotInRepository):
        write_revert(repository, first, message="m", author=ME, at=AT)


def test_what_is_set_for_one_call_reaches_git(repository: Repository) -> None:
    assert clean_environment({"A": "b"})["A"] == "b"
    assert run_git(repository.folder, "rev-parse", "-q", "--verify", "none", statuses=(0, 1)) == b""
    with pytest.raises(GitFailed):
        run_git(repository.folder, "rev-parse", "-q", "--verify", "none")
