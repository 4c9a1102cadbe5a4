"""Blobs: one suite over both kinds of store."""

import hashlib
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from galley.storage.blobs import (
    BlobDamaged,
    BlobMissing,
    BlobStore,
    LocalBlobs,
    S3Blobs,
    blob_store,
    sha256_of,
)

ABSENT = "0" * 64


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


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


def make_bucket(endpoint: str, bucket: str) -> None:
    import http.client

    host = endpoint.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("PUT", f"/{bucket}")
    assert connection.getresponse().status == 200
    connection.close()


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
