import asyncio
import gc
from io import BytesIO

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.testclient import TestClient

from galley.web.downloads import Part, disposition, download, file_part

CONTENT = b"0123456789" * 10


@pytest.fixture
def client():
    def answer(request):
        parts = [
            Part(5, lambda: BytesIO(CONTENT[:5])),
            Part(0, lambda: BytesIO(b"")),
            Part(95, lambda: BytesIO(CONTENT[5:])),
        ]
        return download(request, parts, request.query_params.get("name", "a.log"), "text/html")

    with TestClient(Starlette(routes=[Route("/", answer)])) as client:
        yield client


def test_a_file_is_an_attachment_that_no_browser_renders(client):
    answer = client.get("/")
    assert answer.content == CONTENT
    assert answer.headers["content-length"] == "100"
    assert answer.headers["content-disposition"].startswith('attachment; filename="a.log"')
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=3-6", 3, 7),
        ("bytes=5-", 5, 100),
        ("bytes=-10", 90, 100),
        ("bytes=90-1000", 90, 100),
    ],
)
def test_a_range_crosses_the_parts(client, asked, start, end):
    answer = client.get("/", headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/100"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=7-3", "bytes=-0"])
def test_a_range_that_cannot_be_names_the_size(client, asked):
    answer = client.get("/", headers={"range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */100"
    assert answer.content == b""


@pytest.mark.parametrize("asked", ["bytes=" + "0-1," * 10_000 + "0-1", "lines=1-2", "bytes=-", "x"])
def test_many_ranges_or_strange_ones_get_the_whole(client, asked):
    answer = client.get("/", headers={"range": asked})
    assert answer.status_code == 200
    assert answer.content == CONTENT


def test_a_head_request_gets_no_body(client):
    answer = client.head("/", headers={"range": "bytes=0-9"})
    assert answer.status_code == 206
    assert answer.headers["content-length"] == "10"
    assert answer.content == b""


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("report.html", "report.html"),
        ("../../etc/passwd", "passwd"),
        ('a";\r\nSet-Cookie: x=y', "a__ Set-Cookie: x=y"),
        ("größe.csv", "gr__e.csv"),
        ("", "file"),
    ],
)
def test_names_cannot_break_out_of_the_header(name, plain):
    text = disposition(name)
    assert "\r" not in text
    assert "\n" not in text
    assert text.count('"') == 2
    if plain.isalnum():
        assert f'filename="{plain}"' in text


def test_a_growing_file_is_sent_as_long_as_it_was(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"12345")
    part = file_part(path)
    path.write_bytes(b"1234567890")
    app = Starlette(routes=[Route("/", lambda r: download(r, [part], "log", "text/plain"))])
    with TestClient(app) as client:
        answer = client.get("/")
    assert answer.content == b"12345"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("version", ["2.3", "2.4"])
@pytest.mark.parametrize("ending", ["is cut off", "goes away"])
def test_a_file_is_closed_when_its_reader_leaves(ending, version):
    opened = []

    def open_part():
        opened.append(BytesIO(bytes(10 << 20)))
        return opened[-1]

    gone = asyncio.Event()

    async def send(message):
        if message.get("body"):
            if ending == "is cut off":
                asyncio.current_task().cancel()
            elif version == "2.4":
                raise OSError
            gone.set()
            await asyncio.sleep(0)

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def talk():
        asgi = {"spec_version": version}
        scope = {"type": "http", "asgi": asgi, "method": "GET", "path": "/", "headers": []}
        answer = download(Request(scope), [Part(10 << 20, open_part)], "a.log", "text/plain")
        task = asyncio.ensure_future(answer(scope, receive, send))
        left = await asyncio.gather(task, return_exceptions=True)
        states = [file.closed for file in opened]  # before the loop's end closes what is left
        return left, states

    gc.disable()
    try:
        (left,), states = asyncio.run(talk())
    finally:
        gc.enable()
    assert left is None or isinstance(left, asyncio.CancelledError | ClientDisconnect)
    assert states == [True]
