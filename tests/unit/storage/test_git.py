"""Repositories: what goes in comes out, races have one winner, and kills leave nothing broken."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from galley.storage import gitrepository
from galley.storage.git import (
    BranchExists,
    BranchMoved,
    GitFailed,
    GitStore,
    NotInRepository,
    PathClash,
    Repository,
    RepositoryBusy,
    author_line,
)
from galley.storage.gitprogram import clean_environment, run_git

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
ME = author_line("Ann", "ann@example.org")


@pytest.fixture
def store(tmp_path: Path) -> GitStore:
    return GitStore(tmp_path / "repositories")


@pytest.fixture
def repository(store: GitStore) -> Repository:
    made = store.create("main/recipes")
    made.start("master", message="Begin", author=ME, at=AT)
    return made


def save(repository: Repository, changes: dict[str, bytes | None], branch: str = "master") -> str:
    return repository.commit(branch, changes, message="Change", author=ME, at=AT)


def plant(repository: Repository, mode: str, name: str, content: bytes) -> str:
    """Commit an entry of any mode, as a push could bring it."""
    blob = (
        run_git(repository.folder, "hash-object", "-w", "--stdin", stdin=content).decode().strip()
    )
    if mode == "160000":
        blob = "1" * 40
    listing = (
        f"{mode} blob {blob}\t{name}\n" if mode != "160000" else f"{mode} commit {blob}\t{name}\n"
    )
    tree = (
        run_git(repository.folder, "mktree", "--missing", stdin=listing.encode()).decode().strip()
    )
    environment = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x", "GIT_COMMITTER_NAME": "x"}
    done = subprocess.run(
        ["git", f"--git-dir={repository.folder}", "commit-tree", tree, "-m", "planted"],
        env=clean_environment(environment | {"GIT_COMMITTER_EMAIL": "x"}),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def test_a_new_repository_is_bare_clean_and_has_the_default_branch(store: GitStore) -> None:
    made = store.create("main/recipes", "trunk")
    assert store.exists("main/recipes")
    assert store.projects() == ["main/recipes"]
    assert (made.folder / "HEAD").read_text() == "ref: refs/heads/trunk\n"
    assert not (made.folder / "hooks").exists()
    assert made.branches() == {}
    assert store.create("main/recipes").folder == made.folder


def test_an_unknown_project_is_not_found(store: GitStore) -> None:
    with pytest.raises(NotInRepository, match="main/other has no repository"):
        store.repository("main/other")
    with pytest.raises(NotInRepository, match="leave its folder"):
        store.repository("../../etc")


def test_the_first_commit_is_empty_and_made_once(repository: Repository) -> None:
    tip = repository.tip("master")
    assert tip is not None
    assert repository.entries(tip) == []
    assert repository.start("master", message="Again", author=ME, at=AT) == tip


def test_a_commit_can_be_read_back_and_git_agrees(repository: Repository) -> None:
    sha = save(repository, {"r/variables.json": b"{}", "r/nodes/a/x.sql": b"select 1", "top": b"t"})
    assert repository.tip("master") == sha
    assert repository.read(sha, "r/variables.json") == b"{}"
    assert repository.read_folder(sha, "r") == {
        "variables.json": b"{}",
        "nodes/a/x.sql": b"select 1",
    }
    assert repository.folders(sha) == ["r"]
    entries = repository.entries(sha, "r")
    assert [(e.path, e.size, e.is_folder) for e in entries] == [
        ("nodes", 0, True),
        ("nodes/a", 0, True),
        ("nodes/a/x.sql", 8, False),
        ("variables.json", 2, False),
    ]
    listed = run_git(repository.folder, "rev-parse", f"{sha}:r/variables.json").decode().strip()
    assert entries[3].sha == listed
    repository.fsck()


def test_missing_things_are_not_found(repository: Repository) -> None:
    sha = save(repository, {"r/a": b"1"})
    for act in (
        lambda: repository.read(sha, "r/b"),
        lambda: repository.read(sha, "r"),
        lambda: repository.read(sha, "r/a/b"),
        lambda: repository.read("0" * 40, "r/a"),
        lambda: repository.entries(sha, "r/a"),
        lambda: repository.read_folder(sha, "other"),
        lambda: repository.history("nowhere"),
        lambda: save(repository, {"x": b""}, branch="nowhere"),
        lambda: repository.open_branch("new", "0" * 40, parent="master"),
    ):
        with pytest.raises(NotInRepository):
            act()
    assert repository.tree_id(sha, "other") is None
    assert repository.tip("../../x") is None


def test_changes_edit_and_remove_files_and_folders(repository: Repository) -> None:
    save(repository, {"r/a": b"1", "r/sub/b": b"2", "s/c": b"3"})
    sha = save(repository, {"r/a": b"9", "r/sub/b": None, "s": None, "absent/x": None})
    assert repository.read_folder(sha) == {"r/a": b"9"}


def test_changes_that_change_nothing_make_no_commit(repository: Repository) -> None:
    first = save(repository, {"a": b"1"})
    assert save(repository, {"a": b"1", "gone": None}) == first


def test_the_executable_bit_survives_an_edit(repository: Repository) -> None:
    sha = plant(repository, "100755", "run.sh", b"one")
    repository.open_branch("b", sha, parent="master")
    changed = save(repository, {"run.sh": b"two"}, branch="b")
    assert run_git(repository.folder, "ls-tree", changed).startswith(b"100755")


@pytest.mark.parametrize(
    "changes",
    [{"r/a/b": b""}, {"r": b""}, {"r/a/b": b"", "r/c": b""}],
    ids=["into", "over", "both"],
)
def test_a_file_cannot_be_a_folder(repository: Repository, changes: dict[str, bytes]) -> None:
    before = save(repository, {"r/a": b"1"})
    with pytest.raises(PathClash):
        repository.commit("master", changes, message="x", author=ME, at=AT)
    assert repository.tip("master") == before


def test_a_file_gives_way_to_a_folder_in_one_commit(repository: Repository) -> None:
    save(repository, {"a": b"1"})
    sha = save(repository, {"a": None, "a/b": b"2"})
    assert repository.read_folder(sha) == {"a/b": b"2"}


@pytest.mark.parametrize("path", ["../x", ".git/config", "/etc/passwd", "a//b", "CON", ""])
def test_paths_that_cannot_be_are_refused(repository: Repository, path: str) -> None:
    with pytest.raises(ValueError):
        save(repository, {path: b""})


def test_compare_and_set_has_one_winner(repository: Repository) -> None:
    seen = repository.tip("master")
    assert seen is not None
    made = repository.prepare(seen, {"a": b"2"}, message="x", author=ME, at=AT)
    assert repository.tip("master") == seen
    save(repository, {"a": b"1"})
    with pytest.raises(BranchMoved):
        repository.advance("master", seen, made)


def test_a_branch_moves_at_once_or_not_at_all(repository: Repository) -> None:
    seen = repository.tip("master")
    assert seen is not None
    made = repository.prepare(seen, {"a": b"2"}, message="x", author=ME, at=AT)
    with repository.locked():
        with pytest.raises(RepositoryBusy):
            repository.advance("master", seen, made)
        assert not repository.wait_until_free("master", 0.05)
    lock = repository.folder / "refs/heads/master.lock"
    lock.touch()
    with pytest.raises(RepositoryBusy):
        repository.advance("master", seen, made)
    os.utime(lock, (0, 0))  # whoever made it was killed long ago
    assert repository.wait_until_free("master", 1)
    repository.advance("master", seen, made)
    assert repository.tip("master") == made


def test_parallel_commits_are_all_kept(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gitrepository, "_COMMIT_S", 240.0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: save(repository, {f"f{n}": b"%d" % n}), range(24)))
    tip = repository.tip("master")
    assert tip is not None
    assert len(repository.read_folder(tip)) == 24
    assert len(repository.history("master")) == 25
    repository.fsck()


def test_branches_begin_move_and_end(repository: Repository) -> None:
    first = save(repository, {"a": b"1"})
    repository.open_branch("dev", first, parent="master")
    second = save(repository, {"a": b"2"}, branch="dev")
    with pytest.raises(BranchExists):
        repository.open_branch("dev", first, parent="master")
    assert repository.branches() == {"dev": second, "master": first}
    assert repository.contains("dev", first)
    assert not repository.contains("master", second)
    with pytest.raises(BranchMoved):
        repository.advance("dev", first, second)
    repository.doom_branch("dev", keep_as="dev-1")
    repository.bury_branch("dev", keep_as="dev-1")
    repository.bury_branch("dev", keep_as="dev-1")
    assert repository.branches() == {"master": first}


def test_a_branch_name_that_git_forbids_is_refused(repository: Repository) -> None:
    tip = repository.tip("master")
    assert tip is not None
    with pytest.raises(ValueError, match="cannot name a branch"):
        repository.open_branch("a..b", tip, parent="master")


def test_kept_commits_outlive_their_branch_and_garbage_collection(repository: Repository) -> None:
    tip = repository.tip("master")
    assert tip is not None
    repository.open_branch("dev", tip, parent="master")
    sha = save(repository, {"only": b"here"}, branch="dev")
    repository.doom_branch("dev", keep_as="dev-1")
    repository.bury_branch("dev", keep_as="dev-1")
    run_git(repository.folder, "gc", "--quiet", "--prune=now")
    assert repository.kept() == {"dev-1": sha}
    assert repository.read(sha, "only") == b"here"
    assert repository.branches() == {"master": tip}
    assert save(repository, {"after": b"gc"}) != tip


def test_tidying_while_others_read_and_write_loses_nothing(repository: Repository) -> None:
    first = save(repository, {"f0": b"0"})
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(save, repository, {f"f{n}": b"%d" % n}) for n in range(1, 12)]
        reads = [pool.submit(repository.read, first, "f0") for _ in range(12)]
        tidied = [pool.submit(repository.tidy)]
    assert [job.exception() for job in (*writes, *tidied)] == [None] * 12
    assert {job.result() for job in reads} == {b"0"}
    repository.tidy()
    tip = repository.tip("master")
    assert tip is not None
    assert len(repository.read_folder(tip)) == 12
    assert not list((repository.folder / "objects").glob("??/*"))
    repository.fsck()


def test_history_is_newest_first_and_can_follow_one_path(repository: Repository) -> None:
    one = repository.commit("master", {"r/a": b"1"}, message="One\n\nwhy\n", author=ME, at=AT)
    two = repository.commit("master", {"r/b": b"1"}, message="Two", author="Zoë <z@x.org>", at=AT)
    past = repository.history("master")
    assert [commit.sha for commit in past[:2]] == [two, one]
    assert past[0].author == "Zoë <z@x.org>"
    assert past[1].message == "One\n\nwhy"
    assert past[1].at == AT
    assert [commit.sha for commit in repository.history("master", "r/a")] == [one]
    assert len(repository.history("master", limit=1)) == 1
    assert repository.history("master", ":(top)*") == []


def test_author_lines_cannot_break_the_format() -> None:
    assert author_line("A\n<b>", "c>\n@x") == "A b <c @x>"
    assert author_line("", "a@x") == "a@x <a@x>"


@pytest.mark.parametrize(
    ("mode", "name", "content"),
    [
        ("120000", "link", b"/etc/passwd"),
        ("160000", "module", b""),
        ("100644", ".gitmodules", b"[submodule]"),
        ("100644", ".git ", b"x"),
        ("100644", "CON", b"x"),
    ],
)
def test_readers_do_not_see_what_no_api_would_let_in(
    repository: Repository, tmp_path: Path, mode: str, name: str, content: bytes
) -> None:
    sha = plant(repository, mode, name, content)
    assert repository.entries(sha) == []
    assert repository.read_folder(sha) == {}
    with pytest.raises(NotInRepository):
        repository.read(sha, name)
    tree = repository.tree_id(sha)
    assert tree is not None
    repository.check_out(tree, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_check_out_writes_a_read_only_copy_once(repository: Repository, tmp_path: Path) -> None:
    sha = save(repository, {"r/a": b"1", "r/deep/er/b": b"2"})
    tree = repository.tree_id(sha, "r")
    assert tree is not None
    place = tmp_path / "trees" / tree
    repository.check_out(tree, place)
    repository.check_out(tree, place)
    assert (place / "a").read_bytes() == b"1"
    assert (place / "deep/er/b").read_bytes() == b"2"
    assert (place / "a").stat().st_mode & 0o222 == 0
    assert [path.name for path in place.parent.iterdir()] == [tree]
    with pytest.raises(NotInRepository):
        repository.check_out("1" * 40, tmp_path / "trees" / "none")
    assert not (tmp_path / "trees" / "none").exists()


def test_hooks_and_foreign_settings_have_no_say(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    hooks = repository.folder / "hooks"
    hooks.mkdir()
    (hooks / "pre-receive").write_text(f"#!/bin/sh\ntouch {canary}\n")
    (hooks / "pre-receive").chmod(0o755)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.bare=false'")
    said = run_git(repository.folder, "config", "core.hooksPath").decode().strip()
    assert said == "/dev/null"
    assert "GIT_DIR" not in clean_environment()
    with pytest.raises(GitFailed, match="rev-parse"):
        run_git(repository.folder, "rev-parse", "--verify", "nothing")
    assert not canary.exists()


KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from galley.storage.git import GitStore
repository = GitStore(Path(sys.argv[1])).repository("main/recipes")
repository.commit("master", {"a": b"new"}, message="x", author="x <x>", at=datetime.now(UTC))
"""


@pytest.mark.parametrize(
    ("point", "content"), [("git.objects_written", b"old"), ("git.branch_moved", b"new")]
)
def test_a_kill_while_committing_leaves_the_old_or_the_new(
    store: GitStore, repository: Repository, point: str, content: bytes
) -> None:
    save(repository, {"a": b"old"})
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(store.root)],
        env=os.environ | {"GALLEY_FAILPOINTS": f"{point}=kill"},
        check=False,
    )
    assert done.returncode == 137
    tip = repository.tip("master")
    assert tip is not None
    assert repository.read(tip, "a") == content
    save(repository, {"a": b"newer"})
    repository.fsck()


def test_locks_and_temporaries_of_killed_processes_are_swept(
    store: GitStore, repository: Repository
) -> None:
    litter = [
        repository.folder / "refs/heads/master.lock",
        repository.folder / "packed-refs.lock",
        repository.folder / "objects/ab/tmp_obj_x",
        repository.folder.parent / ".tmp-1",
    ]
    for path in litter:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert store.sweep() == 0  # another server, or its git, may be at work just now
    assert all(path.exists() for path in litter)
    for path in litter:
        os.utime(path, (0, 0))
    assert store.sweep() == 4
    assert not any(path.exists() for path in litter)
    assert store.sweep() == 0


@pytest.mark.timeout(300)
def test_a_repository_that_another_server_has_locked_is_not_waited_for(
    store: GitStore, repository: Repository
) -> None:
    lock = repository.folder / "packed-refs.lock"
    lock.write_bytes(b"")
    os.utime(lock, (0, 0))
    with Repository(repository.folder).locked():
        assert store.sweep() == 0
    assert lock.exists()
    assert store.sweep() == 1


def test_an_old_lock_does_not_block_for_ever(repository: Repository) -> None:
    lock = repository.folder / "refs/heads/master.lock"
    lock.write_bytes(b"")
    os.utime(lock, (0, 0))
    sha = save(repository, {"a": b"1"})
    assert repository.tip("master") == sha


@pytest.fixture(autouse=True)
def no_litter(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list((tmp_path / "repositories").glob("*/*.git/objects/*/tmp_obj_*"))
