"""One S3 bucket, called through the guarded client: read, write whole, list.

Source: Amazon S3 API Reference (GetObject, PutObject, ListObjectsV2, multipart upload).
"""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from galley.core.errors import GalleyError, Unavailable
from galley.engine.connectors.s3sign import EMPTY_SHA256, Credentials, encoded, query_of, signed
from galley.engine.faults import StepError
from galley.engine.outbound import Answer, OutboundClient

PART_BYTES = 64 * 1024 * 1024
"""Larger objects are written in parts of this size, which become one object at the end."""
_MOST_PARTS = 10_000
_MOST_BYTES = 5 * 1024**4
"""What an object has at most; the step's own limits come first."""
_READ_BYTES = 1024 * 1024
_DEADLINE_S = 1800.0
_LONG_DOCUMENT_BYTES = 16 * 1024 * 1024
_REDIRECTED, _SERVER_ERROR = 300, 500
_CODES = {403: "AccessDenied", 404: "NoSuchKey"}
_HOST_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_KEYS = "Check `access-key` and `secret-key`"
_CURES = {
    "AccessDenied": f"{_KEYS}, and what they may do in this bucket.",
    "AuthorizationHeaderMalformed": "Check `region`.",
    "ExpiredToken": "Get a new `aws-session-token`.",
    "InvalidAccessKeyId": f"{_KEYS}.",
    "InvalidToken": "Check `aws-session-token`.",
    "NoSuchBucket": "Check `bucket`.",
    "NoSuchKey": "Check `file-key`.",
    "PermanentRedirect": "Check `region`.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "SignatureDoesNotMatch": f"{_KEYS}.",
}
_LATER = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"})


class Bucket:
    """The bucket that a `config` names."""

    def __init__(self, config: dict[str, Any], client: OutboundClient) -> None:
        self._client = client
        self.name = _text(config, "bucket")
        if not _BUCKET.fullmatch(self.name):
            raise StepError(f"{self.name!r} is no name of a bucket. Check `bucket`.")
        self._region = _text(config, "region") or "us-east-1"
        if not _REGION.fullmatch(self._region):
            raise StepError(f"{self._region!r} is no region. Check `region`.")
        self._base = self._address(_text(config, "endpoint-url"))
        self._credentials = _credentials(config)

    def _address(self, endpoint: str) -> str:
        """Amazon's host of the bucket; behind another endpoint the bucket is the first folder."""
        if endpoint:
            parts = urlsplit(endpoint)
            if parts.scheme not in {"http", "https"} or not parts.netloc:
                raise StepError(f"{endpoint!r} is no web address. Check `endpoint-url`.")
            return f"{endpoint.rstrip('/')}/{self.name}"
        if _HOST_NAME.fullmatch(self.name):
            return f"https://{self.name}.s3.{self._region}.amazonaws.com"
        return f"https://s3.{self._region}.amazonaws.com/{self.name}"

    def check(self) -> None:
        """See that the bucket is there and lets us in.

        Raises:
            StepError: it is not, or does not.
        """
        self._good(self._call("GET", query={"list-type": "2", "max-keys": "1"}))

    def read(self, key: str, into: BinaryIO) -> Answer:
        """Fetch an object.

        Raises:
            StepError: there is none, or it cannot be had; `retryable` if it may be later.
        """
        answer = self._call("GET", key, into=into)
        if answer.status >= _REDIRECTED:
            into.seek(0)
            answer = _with_body(answer, into.read(_LONG_DOCUMENT_BYTES))
        return self._good(answer, key)

    def write(self, key: str, path: Path, media_type: str) -> None:
        """Put a file there: whole, or nothing changes.

        Raises:
            StepError: it cannot be written.
        """
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= PART_BYTES:
                headers = {"content-type": media_type}
                self._good(self._send("PUT", key, file, size, headers=headers), key)
            else:
                self._write_parts(key, file, size, media_type)

    def _write_parts(self, key: str, file: BinaryIO, size: int, media_type: str) -> None:
        part_bytes = max(PART_BYTES, -(-size // _MOST_PARTS))
        begun = self._call("POST", key, query={"uploads": ""}, headers={"content-type": media_type})
        upload = _found(self._good(begun, key), "UploadId")
        try:
            tags = list(self._parts(key, upload, file, size, part_bytes))
            listed = "".join(
                f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>"
                for number, tag in enumerate(tags, start=1)
            )
            body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
            query = {"uploadId": upload}
            done = self._send("POST", key, io.BytesIO(body), len(body), query=query)
            _found(self._good(done, key), "ETag")  # an error may come with status 200
        except BaseException:
            with suppress(StepError):  # the first fault is told; S3 drops such parts by its rules
                self._call("DELETE", key, query={"uploadId": upload})
            raise

    def _parts(
        self, key: str, upload: str, file: BinaryIO, size: int, part_bytes: int
    ) -> Iterator[str]:
        for number, start in enumerate(range(0, size, part_bytes), start=1):
            count = min(part_bytes, size - start)
            query = {"partNumber": str(number), "uploadId": upload}
            part = _Slice(file, start, count)
            yield self._good(self._send("PUT", key, part, count, query=query), key).headers["etag"]

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, A to Z.

        Raises:
            StepError: the bucket does not tell them.
        """
        query = {"list-type": "2", "prefix": prefix}
        while True:
            answer = self._good(self._call("GET", query=query))
            listed = _document(answer)
            for element in listed.iter():
                if _tag(element) == "Key":
                    yield element.text or ""
            following = [e.text for e in listed.iter() if _tag(e) == "NextContinuationToken"]
            if not following or not following[0]:
                return
            query["continuation-token"] = following[0]

    def _send(
        self,
        method: str,
        key: str,
        content: Any,
        size: int,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        digest = hashlib.sha256()
        while chunk := content.read(_READ_BYTES):
            digest.update(chunk)
        content.seek(0)
        sent = {**(headers or {}), "content-length": str(size)}
        return self._call(
            method, key, query=query, headers=sent, content=content, sha256=digest.hexdigest()
        )

    def _call(
        self,
        method: str,
        key: str = "",
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        content: Any = None,
        sha256: str = EMPTY_SHA256,
        into: BinaryIO | None = None,
    ) -> Answer:
        url = f"{self._base}/{encoded(key, keep='/')}"
        if query:
            url = f"{url}?{query_of(query)}"
        sent = dict(headers or {})
        if self._credentials is not None:
            sent = signed(
                self._credentials,
                method,
                url,
                sent,
                region=self._region,
                at=datetime.now(UTC),
                content_sha256=sha256,
            )
        limit = None if into is not None else _LONG_DOCUMENT_BYTES
        try:
            return self._client.request(
                method,
                url,
                headers=sent,
                content=content,
                into=into,
                deadline_s=_DEADLINE_S,
                max_bytes=limit or _MOST_BYTES,
            )
        except GalleyError as error:
            raise StepError(error.message, retryable=isinstance(error, Unavailable)) from error

    def _good(self, answer: Answer, key: str = "") -> Answer:
        if answer.status < _REDIRECTED:
            return answer
        code = _code_of(answer)
        if not key and code == "NoSuchKey":
            code = "NoSuchBucket"
        what = f"The object {key} of the bucket {self.name}" if key else f"The bucket {self.name}"
        cure = _CURES.get(code, "Look at what the server says, or try again later.")
        late = code in _LATER or answer.status >= _SERVER_ERROR
        raise StepError(
            f"{what} cannot be used: {urlsplit(answer.url).netloc} answered {answer.status}"
            f" ({code or 'no reason given'}). {cure}",
            retryable=late,
        )


class _Slice:
    """A part of an open file, read like a file of its own."""

    def __init__(self, file: BinaryIO, start: int, count: int) -> None:
        self._file, self._start, self._count = file, start, count
        self.seek(0)

    def seek(self, offset: int) -> None:
        """Go to this place of the part."""
        self._at = offset
        self._file.seek(self._start + offset)

    def read(self, size: int) -> bytes:
        """The next bytes, at most so many."""
        chunk = self._file.read(min(size, self._count - self._at))
        self._at += len(chunk)
        return chunk


def _text(config: dict[str, Any], name: str) -> str:
    value = config.get(name)
    return "" if value is None else str(value).strip()


def _credentials(config: dict[str, Any]) -> Credentials | None:
    """Who reads and writes; None for a public bucket.

    Raises:
        StepError: the bucket is not said to be public, and a key is missing.
    """
    access, secret = _text(config, "access-key"), _text(config, "secret-key")
    if access and secret:
        return Credentials(access, secret, _text(config, "aws-session-token") or None)
    if str(config.get("public-bucket")).lower() == "true":
        return None
    raise StepError(
        "The configuration names no keys: give `access-key` and `secret-key`, or say"
        " `public-bucket` true."
    )


def _with_body(answer: Answer, body: bytes) -> Answer:
    return Answer(answer.status, answer.headers, body, answer.size_bytes, answer.url)


def _document(answer: Answer) -> ET.Element:
    try:
        return ET.fromstring(answer.body)  # noqa: S314 (expat bounds entities since 2.4.1)
    except ET.ParseError as error:
        host = urlsplit(answer.url).netloc
        raise StepError(f"{host} does not answer as S3 does. Check `endpoint-url`.") from error


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _found(answer: Answer, name: str) -> str:
    """The text of this element of the answer.

    Raises:
        StepError: there is none.
    """
    for element in _document(answer).iter():
        if _tag(element) == name and element.text:
            return element.text
    code = _code_of(answer) or "no reason given"
    raise StepError(
        f"{urlsplit(answer.url).netloc} did not take the object ({code}). Try again later.",
        retryable=True,
    )


def _code_of(answer: Answer) -> str:
    """S3's word for what went wrong, or the usual one where it says none."""
    try:
        for element in ET.fromstring(answer.body).iter():  # noqa: S314 (as above)
            if _tag(element) == "Code":
                return element.text or ""
    except ET.ParseError:
        pass
    return _CODES.get(answer.status, "")
