"""Bodies: lenient about labels, strict about content."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from galley.core.errors import Invalid
from galley.wire.body import LenientBody, parse_body, read_body
from galley.wire.errors import render_plain

LIMIT = 2000


@pytest.fixture
def client() -> Iterator[TestClient]:
    async def echo(request: Request) -> Response:
        return JSONResponse(
            {
                "type": request.headers["content-type"],
                "length": int(request.headers["content-length"]),
                "body": await request.json(),
                "document": request.state.document,
            }
        )

    app = Starlette(routes=[Route("/", echo, methods=["GET", "POST", "PUT", "DELETE"])])
    with TestClient(LenientBody(app, render=render_plain, limit_bytes=LIMIT)) as made:
        yield made


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "label", [None, "application/json", "application/x-www-form-urlencoded", "text/plain", "bad"]
)
@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (b"", {}),
        (b"null", {}),
        (b'{"parameters": {"a": "2"}}', {"parameters": {"a": "2"}}),
        (b'  [["n1"]]\n', [["n1"]]),
        (
            b"username=u%40example.com&password=p+w%261",
            {"username": "u@example.com", "password": "p w&1"},
        ),
        ("username=é&empty=".encode(), {"username": "é", "empty": ""}),
        (b'a={"not":"json"}', {"a": '{"not":"json"}'}),
    ],
)
def test_any_label_on_any_verb(
    client: TestClient, verb: str, label: str | None, sent: bytes, meant: Any
) -> None:
    headers = {} if label is None else {"content-type": label}
    answer = client.request(verb, "/", content=sent, headers=headers).json()
    assert answer["body"] == answer["document"] == meant
    assert answer["type"] == "application/json"
    assert json.loads(json.dumps(answer["body"])) == meant


def test_a_multipart_form_gives_its_text_fields(client: TestClient) -> None:
    boundary = "b0"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="username"\r\n\r\nann\r\n'
        f"--{boundary}--\r\n"
    )
    label = {"content-type": f"multipart/form-data; boundary={boundary}"}
    assert client.post("/", content=body, headers=label).json()["body"] == {"username": "ann"}
    broken = {"content-type": "multipart/form-data"}
    assert client.post("/", content=body, headers=broken).status_code == 400


@pytest.mark.parametrize(("name", "text"), [("a", "x\0y"), ("a", "\0"), ("a%00", "x")])
def test_a_multipart_field_holds_no_nul(client: TestClient, name: str, text: str) -> None:
    head = f'--b0\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.replace("%00", "\0")
    label = {"content-type": "multipart/form-data; boundary=b0"}
    answer = client.post("/", content=f"{head}{text}\r\n--b0--\r\n", headers=label)
    assert answer.status_code == 400
    if name == "a":
        assert "NUL" in answer.text


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        (b'{"a": ', "truncated"),
        (b'{"a": NaN}', "invalid"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": {"b": 1, "b": 2}}', "twice"),
        (b'{"a": "\\ud800"}', "not valid JSON"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b"a=%00", "NUL"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b'{"a": "\xff"}', "byte 7"),
        (b"a=%ff", "UTF-8"),
        (b"a=\xff", "UTF-8"),
        (b"[" * 200_000, "64 levels"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "64 levels"),
        (b'{"a":' + b"9" * 1_000_000 + b"}", "out of range"),
        (b'{"a": 1e999}', "out of range"),
        (b'"text"', "object"),
        (b"garbage", "not valid JSON"),
        (b"&".join(b"f%d=1" % n for n in range(1001)), "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(raw: bytes, hint: str) -> None:
    with pytest.raises(Invalid, match=hint):
        parse_body(raw)


def test_the_depth_limit_counts_brackets_outside_texts_only() -> None:
    deepest = b'{"a":' * 64 + b"1" + b"}" * 64
    document, passed = parse_body(deepest)
    assert passed == deepest
    assert isinstance(document, dict)
    text = json.dumps({"a": "[" * 500 + '\\"{' * 500}).encode()
    assert parse_body(text)[0]["a"].startswith("[[")
    wide = json.dumps({"rows": [[{}] for _ in range(500)]}).encode()
    assert len(parse_body(wide)[0]["rows"]) == 500


@pytest.mark.parametrize(("length", "status"), [(LIMIT - 1, 200), (LIMIT, 200), (LIMIT + 1, 413)])
def test_the_size_limit(client: TestClient, length: int, status: int) -> None:
    body = b'{"a":"' + b"x" * (length - 8) + b'"}'
    assert len(body) == length
    assert client.post("/", content=body).status_code == status
    chunked = client.post("/", content=iter([body[:1000], body[1000:]]))
    assert chunked.status_code == status
    if status == 413:
        assert chunked.headers["connection"] == "close"


async def _count(chunks: int, length: str | None) -> tuple[int, str]:
    """How many chunks of 500 bytes were taken before the refusal, and its text."""
    taken = 0

    async def receive() -> Any:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x" * 500, "more_body": taken < chunks}

    headers = [] if length is None else [(b"content-length", length.encode())]
    try:
        await read_body({"headers": headers}, receive, LIMIT)
    except Exception as error:  # noqa: BLE001 - its text is what is asked for
        return taken, str(error)
    return taken, ""


@pytest.mark.parametrize(
    ("length", "taken", "hint"),
    [("50000", 0, "larger than 2000"), (None, 5, "larger than 2000"), ("-1", 0, "not a number")],
)
def test_no_more_is_read_than_needed(length: str | None, taken: int, hint: str) -> None:
    import anyio

    read, text = anyio.run(_count, 100, length)
    assert read == taken
    assert hint in text


def test_bodies_that_are_sent_at_once_take_a_bounded_room() -> None:
    asyncio.run(_send_forty_at_once())


async def _send_forty_at_once() -> None:
    answered: list[int] = []
    is_over = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Response()(scope, receive, send)

    body = LenientBody(app, render=render_plain, limit_bytes=LIMIT)

    async def send_slowly() -> None:
        pieces = iter([{"type": "http.request", "body": b" " * LIMIT, "more_body": True}])

        async def receive() -> Any:
            for piece in pieces:
                return piece
            await is_over.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])

        await body({"type": "http", "path": "/", "headers": []}, receive, send)

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(send_slowly())
        for _ in range(10):
            await asyncio.sleep(0)
        assert answered == [503] * 8
        is_over.set()
    assert answered == [503] * 8 + [200] * 32
    await send_slowly()
    assert answered[-1] == 200
