from datetime import UTC, datetime

from galley.storage.git import GitStore
from galley.storage.gitcache import FileCache

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def files(size):
    return {"a.txt": ("sha", b"x" * size)}


def test_a_tree_is_read_once():
    cache, read = FileCache(), []

    def fetch():
        read.append(1)
        return files(10)

    assert cache.files(b"t", fetch) == files(10)
    assert cache.files(b"t", fetch) is cache.files(b"t", fetch)
    assert read == [1]


def test_the_least_recently_read_goes_first():
    cache = FileCache(max_bytes=10_000)
    for name in (b"1", b"2", b"3", b"4"):
        cache.files(name, lambda: files(2000))
    cache.files(b"1", lambda: files(1))
    cache.files(b"5", lambda: files(2000))
    assert cache.files(b"1", lambda: files(1)) == files(2000)
    assert cache.files(b"2", lambda: files(1)) == files(1)


def test_what_is_too_large_is_not_kept():
    cache = FileCache(max_bytes=10_000)
    cache.files(b"1", lambda: files(9000))
    assert cache.files(b"1", lambda: files(1)) == files(1)


def test_a_new_commit_shows_its_own_files(tmp_path):
    store = GitStore(tmp_path)
    author = "A <a@x>"
    store.create("main/recipes").start("master", message="Begin", author=author, at=NOW)

    def write(text):
        repository = store.repository("main/recipes")
        return repository.commit("master", {"r/f.txt": text}, message="m", author=author, at=NOW)

    old = write(b"old")
    repository = store.repository("main/recipes")
    assert repository.read_folder(old, "r") == {"f.txt": b"old"}
    new = write(b"new")
    assert repository.read_folder(new, "r") == {"f.txt": b"new"}
    assert store.repository("main/recipes").read_folder(old, "r") == {"f.txt": b"old"}
