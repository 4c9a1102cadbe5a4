"""Blobs: one suite over both kinds of store."""

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.s3 import make_bucket, s3_server

from galley.storage.blobs import (
    BlobDamaged,
    BlobMissing,
    BlobsAway,
    BlobStore,
    LocalBlobs,
    S3Blobs,
    blob_store,
    local,
    s3,
    sha256_of,
)

ABSENT = "0" * 64


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


def s3_options(endpoint: str) -> dict[str, str]:
    return {
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": "test",
        "secret_access_key": "test",
    }


@pytest.fixture(params=["local", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "local":
        return blob_store(tmp_path / "blobs")
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:40]
    make_bucket(endpoint, bucket)
    return blob_store(f"s3://{bucket}/some/prefix", s3_options(endpoint))


def test_what_is_put_can_be_read(blobs: BlobStore, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    sha256 = blobs.put(content)
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert blobs.exists(sha256)
    assert blobs.read(sha256) == content
    with blobs.open(sha256) as file:
        assert file.read(10) == content[:10]
        file.seek(-5, io.SEEK_END)
        assert file.read() == content[-5:]
        file.seek(2_500_000)
        assert file.read(7) == content[2_500_000:2_500_007]


def test_a_file_is_copied_and_left_alone(blobs: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    sha256 = sha256_of(path)
    blobs.put_file(path, sha256)
    blobs.put_file(path, sha256)
    path.write_bytes(b"other")
    assert blobs.read(sha256) == b"hello"
    assert [(info.sha256, info.size_bytes) for info in blobs.list()] == [(sha256, 5)]


def test_a_file_with_another_hash_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    with pytest.raises(BlobDamaged, match="damaged"):
        blobs.put_file(path, ABSENT)
    assert not blobs.exists(ABSENT)
    assert list(blobs.list()) == []


def test_an_empty_blob(blobs: BlobStore) -> None:
    assert blobs.read(blobs.put(b"")) == b""


@pytest.mark.parametrize("name", [ABSENT, "../../etc/passwd", "", "A" * 64, "x"])
def test_what_is_not_there(blobs: BlobStore, name: str) -> None:
    with pytest.raises(BlobMissing):
        blobs.read(name)
    with pytest.raises(BlobMissing), blobs.open(name):
        pass


def test_deleting_can_be_repeated(blobs: BlobStore) -> None:
    sha256 = blobs.put(b"x")
    blobs.delete(sha256)
    blobs.delete(sha256)
    assert not blobs.exists(sha256)
    assert list(blobs.list()) == []


def test_the_same_content_from_many_at_once(blobs: BlobStore) -> None:
    content = os.urandom(200_000)
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: blobs.put(content), range(16)))
    assert len(names) == 1
    assert blobs.read(names.pop()) == content
    assert len(list(blobs.list())) == 1


def test_a_listing_tells_size_and_age(blobs: BlobStore) -> None:
    blobs.put(b"12345")
    (info,) = blobs.list()
    assert info.size_bytes == 5
    assert abs(info.modified_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_damage_on_the_disk_is_noticed(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    sha256 = blobs.put(b"hello")
    path = tmp_path / sha256[:2] / sha256
    path.chmod(0o600)
    path.write_bytes(b"hellO")
    with pytest.raises(BlobDamaged):
        blobs.read(sha256)


def test_damage_in_the_bucket_is_noticed(s3_endpoint: str, tmp_path: Path) -> None:
    make_bucket(s3_endpoint, "damaged")
    blobs = S3Blobs("s3://damaged", s3_options(s3_endpoint))
    sha256 = blobs.put(b"hello")
    blobs._obstore.put(blobs._store, f"{sha256[:2]}/{sha256}", b"hellO")
    with pytest.raises(BlobDamaged):
        blobs.read(sha256)


def test_an_old_blob_goes_unless_it_was_put_again(blobs: BlobStore) -> None:
    sha256 = blobs.put(b"x")
    (info,) = blobs.list()
    assert blobs.delete_old(sha256, before=info.modified_at) is False
    assert blobs.read(sha256) == b"x"
    later = info.modified_at + timedelta(days=1)
    assert blobs.delete_old(sha256, before=later) is True
    assert blobs.delete_old(sha256, before=later) is False
    assert list(blobs.list()) == []


def test_a_blob_that_is_put_while_it_is_set_aside_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = LocalBlobs(tmp_path)
    sha256 = blobs.put(b"x")
    long_ago = datetime.now(UTC) - timedelta(days=9)
    before = long_ago + timedelta(days=2)
    for meanwhile in ("touched", "written"):
        os.utime(blobs.path_of(sha256), (long_ago.timestamp(),) * 2)

        def put(name: str, how: str = meanwhile) -> None:
            if name != "blobs.set_aside":
                return
            if how == "touched":
                os.utime(blobs.path_of(sha256).with_name(f"old-{sha256}"))
            else:
                blobs.put(b"x")

        monkeypatch.setattr(local, "failpoint", put)
        assert blobs.delete_old(sha256, before=before) is (meanwhile == "written")
        monkeypatch.undo()
        assert blobs.read(sha256) == b"x"


def test_a_bucket_gets_a_blob_again_before_it_counts_as_old(
    s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bucket(s3_endpoint, "again")
    blobs = S3Blobs("s3://again", s3_options(s3_endpoint))
    sent: list[str] = []
    monkeypatch.setattr(s3, "failpoint", sent.append)
    path = tmp_path / "x"
    path.write_bytes(b"x")
    for _ in range(2):
        blobs.put_file(path, sha256_of(path))
    assert sent == ["blobs.sent"]
    monkeypatch.setattr(s3, "_FRESH", timedelta(0))
    blobs.put_file(path, blobs.put(b"x"))
    assert sent == ["blobs.sent"] * 3


def test_a_service_that_does_not_answer_is_named_and_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(s3._RETRIES, "max_retries", 0)
    blobs = S3Blobs("s3://bucket/prefix", s3_options("http://127.0.0.1:9"))
    path = tmp_path / "x"
    path.write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        lambda: blobs.put(b"x"),
        lambda: blobs.put_file(path, sha256_of(path)),
        lambda: blobs.read(ABSENT),
        lambda: blobs.open(ABSENT),
        lambda: blobs.exists(ABSENT),
        lambda: blobs.delete(ABSENT),
        lambda: blobs.delete_old(ABSENT, before=datetime.now(UTC)),
        lambda: list(blobs.list()),
    ]
    for call in calls:
        with pytest.raises(BlobsAway, match=r"s3://bucket/prefix cannot be used: .*127\.0\.0\.1:9"):
            call()


def test_a_bucket_that_is_not_there_is_named(s3_endpoint: str) -> None:
    blobs = S3Blobs("s3://nowhere", s3_options(s3_endpoint))
    with pytest.raises(BlobsAway, match="no bucket s3://nowhere"):
        blobs.put(b"x")
    with pytest.raises(BlobsAway, match="NoSuchBucket"):
        list(blobs.list())


def test_a_service_that_goes_while_a_blob_is_read_is_named(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bucket(s3_endpoint, "going")
    blobs = S3Blobs("s3://going", s3_options(s3_endpoint))
    with blobs.open(blobs.put(b"hello")) as file:

        class Gone:
            def read(self, _count: int) -> bytes:
                raise blobs._faults("connection lost")

            def close(self) -> None: ...

        monkeypatch.setattr(file.raw, "_reader", Gone())  # type: ignore[attr-defined]
        with pytest.raises(BlobsAway, match="connection lost"):
            file.read()


def test_other_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        blob_store("ftp://somewhere")


WRITE = """
import sys
from pathlib import Path
from galley.storage.blobs import LocalBlobs
LocalBlobs(Path(sys.argv[1])).put(b"content")
"""


@pytest.mark.parametrize(("point", "there"), [("blobs.written", False), ("blobs.named", True)])
def test_a_kill_leaves_a_whole_blob_or_none(tmp_path: Path, point: str, there: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path)],
        env=os.environ | {"GALLEY_FAILPOINTS": f"{point}=kill"},
        check=False,
    )
    assert done.returncode == 137
    blobs = LocalBlobs(tmp_path)
    assert blobs.exists(hashlib.sha256(b"content").hexdigest()) is there
    assert len(list(blobs.list())) == int(there)
    now = datetime.now(UTC)
    assert blobs.sweep(now=now) == 0
    assert blobs.sweep(now=now + timedelta(days=2)) == int(not there)
    assert blobs.read(blobs.put(b"content")) == b"content"


def test_a_blob_that_a_killed_sweeper_set_aside_comes_back(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    sha256 = blobs.put(b"x")
    path = blobs.path_of(sha256)
    path.rename(path.with_name(f"old-{sha256}"))
    assert not blobs.exists(sha256)
    assert blobs.sweep(now=datetime.now(UTC)) == 0
    assert blobs.read(sha256) == b"x"
