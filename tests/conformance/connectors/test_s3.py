"""S3: signatures, keys with strange names, large objects in parts, wildcards, refusals."""

import io
import os
from datetime import UTC, datetime

import pytest
from tests.conformance.connectors.web import web_server

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import connector, s3bucket
from galley.engine.connectors.base import Batch
from galley.engine.connectors.s3bucket import Bucket
from galley.engine.connectors.s3sign import EMPTY_SHA256, Credentials, signed
from galley.engine.faults import StepError
from galley.engine.outbound import Answer, OutboundClient

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
HOST = "https://examplebucket.s3.amazonaws.com"
LATER = {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "signature"),
    [
        ("GET", "/test.txt", {"Range": "bytes=0-9"}, EMPTY_SHA256,
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("PUT", "/test%24file.text", LATER,
         "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
         "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
        ("GET", "/?lifecycle=", {}, EMPTY_SHA256,
         "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("GET", "/?max-keys=2&prefix=J", {}, EMPTY_SHA256,
         "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)  # fmt: skip
def test_signatures_are_those_of_amazons_examples(method, path, headers, content, signature):
    at = datetime(2013, 5, 24, tzinfo=UTC)
    made = signed(
        EXAMPLE, method, HOST + path, headers, region="us-east-1", at=at, content_sha256=content
    )
    assert made["authorization"].endswith(f"Signature={signature}")


def test_the_token_of_a_session_is_signed_too():
    who = Credentials("A", "S", "T")
    made = signed(who, "GET", HOST, {}, region="r", at=datetime.now(UTC))
    assert made["x-amz-security-token"] == "T"
    assert "x-amz-date;x-amz-security-token," in made["authorization"]


def put(place, into, config, path, content):
    source = into() / "content"
    source.write_bytes(content)
    key = KeySpec("w", "write_file", path=path)
    return connector("s3", place).write(config, key, Batch(source, "binary"))


def get(place, into, config, path):
    key = KeySpec("r", "read_file", path=path)
    return connector("s3", place).read(config, key, into()).path.read_bytes()


@pytest.mark.parametrize("path", ["a b/ü+&=%20.bin", "x#?.txt", "/led.bin", "deep/er/~'()*!.bin"])
def test_strange_names_are_names_like_others(place, into, s3_config, path):
    put(place, into, s3_config, path, b"content")
    assert get(place, into, s3_config, path) == b"content"
    assert connector("s3", place).keys(s3_config, "**") == [path.removeprefix("/")]


@pytest.mark.parametrize("path", ["", "/", "a/../b", "./a"])
def test_a_path_that_names_no_object_is_refused(place, into, s3_config, path):
    with pytest.raises(StepError, match="names no object"):
        get(place, into, s3_config, path)


def test_a_large_object_goes_in_parts_and_comes_back_whole(place, into, s3_config, monkeypatch):
    monkeypatch.setattr(s3bucket, "PART_BYTES", 5 * 1024 * 1024)  # the least that S3 takes
    content = os.urandom(12 * 1024 * 1024 + 7)
    put(place, into, s3_config, "large.bin", content)
    assert get(place, into, s3_config, "large.bin") == content


def test_parts_without_an_end_leave_nothing(place, into, s3_config, monkeypatch):
    monkeypatch.setattr(s3bucket, "PART_BYTES", 5 * 1024 * 1024)
    request, deleted = OutboundClient.request, []

    def broken(self, method, url, **more):
        if "partNumber=2" in url:
            return Answer(503, {}, b"<Error><Code>SlowDown</Code></Error>", 0, url)
        if method == "DELETE":
            deleted.append(url)
        return request(self, method, url, **more)

    monkeypatch.setattr(OutboundClient, "request", broken)
    with pytest.raises(StepError, match=r"answered 503 \(SlowDown\)") as caught:
        put(place, into, s3_config, "large.bin", bytes(12 * 1024 * 1024))
    assert caught.value.retryable
    assert len(deleted) == 1
    assert connector("s3", place).keys(s3_config, "**") == []


def test_wildcards_stay_in_a_folder_unless_they_say_otherwise(place, into, s3_config):
    names = ["a.csv", "in/b.csv", "in/c.txt", "in/deep/d.csv", "in/[x].csv"]
    for name in names:
        put(place, into, s3_config, name, b"x")
    made = connector("s3", place)
    assert made.keys(s3_config, "*.csv") == ["a.csv"]
    assert made.keys(s3_config, "in/*.csv") == ["in/[x].csv", "in/b.csv"]
    assert made.keys(s3_config, "in/?.[!c]*") == ["in/c.txt"]
    assert made.keys(s3_config, "in/[bc].*") == ["in/b.csv", "in/c.txt"]
    assert made.keys(s3_config, "**/*.csv") == sorted(n for n in names if n.endswith("csv"))
    assert made.keys(s3_config, "in/**") == sorted(names[1:])
    assert made.keys(s3_config, "nowhere/*") == []


def test_a_long_list_is_read_to_its_end(place, into, s3_config, monkeypatch):
    query_of = s3bucket.query_of
    monkeypatch.setattr(s3bucket, "query_of", lambda pairs: query_of({"max-keys": "2", **pairs}))
    names = [f"{number}.csv" for number in range(5)]
    for name in names:
        put(place, into, s3_config, name, b"x")
    assert connector("s3", place).keys(s3_config, "*.csv") == names


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"bucket": "nowhere"}, "The bucket nowhere cannot be used.*NoSuchBucket.*Check `bucket`"),
        ({"bucket": "a/../b"}, "no name of a bucket"),
        ({"bucket": None}, "Check `bucket`"),
        ({"region": "eu/../"}, "Check `region`"),
        ({"endpoint-url": "ftp://x"}, "Check `endpoint-url`"),
        ({"secret-key": ""}, "give `access-key` and `secret-key`, or say `public-bucket` true"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_cure(place, s3_config, change, told):
    with pytest.raises(StepError, match=told) as caught:
        connector("s3", place).test({**s3_config, **change})
    assert not caught.value.retryable


def test_a_public_bucket_is_read_without_keys(place, into, s3_config):
    put(place, into, s3_config, "a.csv", b"x")
    client = OutboundClient(place.outbound)
    public = {"x-amz-acl": "public-read"}
    assert Bucket(s3_config, client)._call("PUT", "a.csv", query={"acl": ""}, headers=public)
    put(place, into, s3_config, "closed.csv", b"x")
    bare = {name: s3_config[name] for name in ("bucket", "endpoint-url")}
    assert get(place, into, {**bare, "public-bucket": True}, "a.csv") == b"x"
    with pytest.raises(StepError, match=r"403 \(AccessDenied\). Check `access-key`"):
        get(place, into, {**bare, "public-bucket": True}, "closed.csv")


def test_what_is_no_s3_is_told(place, s3_config):
    with web_server() as web, pytest.raises(StepError, match="Check `bucket`"):
        connector("s3", place).keys({**s3_config, "endpoint-url": web.url}, "*")


def test_private_addresses_stay_closed(place, s3_config):
    with pytest.raises(StepError, match="is not public"):
        Bucket(s3_config, OutboundClient()).read("a", io.BytesIO())


@pytest.mark.parametrize(
    ("config", "host"),
    [
        ({"bucket": "logs"}, "https://logs.s3.us-east-1.amazonaws.com/a"),
        ({"bucket": "l.o.g", "region": "eu-west-3"}, "https://s3.eu-west-3.amazonaws.com/l.o.g/a"),
    ],
)
def test_amazons_addresses(config, host):
    called = []

    class Client:
        def request(self, _method, url, **_more):
            called.append(url)
            return Answer(200, {}, b"", 0, url)

    Bucket({**config, "public-bucket": "true"}, Client()).read("a", io.BytesIO())
    assert called == [host]
