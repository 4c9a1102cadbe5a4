"""The edge: ids, addresses, sizes, rates, deadlines, headers of safety, the last net."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.testclient import TestClient

from galley.core.caller import Caller
from galley.core.errors import Conflict, Unauthenticated
from galley.core.identity.policy import JUDGE
from galley.kit.clock import ManualClock
from galley.settings import Limits
from galley.wire.call import call_of
from galley.wire.edge import DATA_POLICY, PAGE_POLICY, Edge
from galley.wire.errors import install_errors, plain_response, render_plain
from galley.wire.limits import KnownCredentials, RateLimiter
from galley.wire.metrics import Metrics
from galley.wire.proxies import TrustedProxies
from galley.wire.surfaces import Surface, Surfaces

LIMITS = Limits(
    requests_per_minute=60,
    request_burst=5,
    anonymous_per_minute=60,
    anonymous_burst=3,
    header_count=20,
    header_bytes=2000,
    url_bytes=300,
    body_idle_s=0.05,
    stream_stall_s=0.05,
)
GOOD = {"Authorization": "Bearer good"}


async def show(request: Request) -> Response:
    call = call_of(request)
    return JSONResponse(
        {
            "id": call.request_id,
            "address": call.address,
            "scheme": request.url.scheme,
            "host": request.headers["host"],
            "forwarded": request.headers.get("x-forwarded-for"),
        }
    )


async def known(request: Request) -> Response:
    sent = request.headers.get("authorization")
    if sent not in {"Bearer good", "Bearer other"}:
        raise Unauthenticated("who?")
    call_of(request).identify(Caller(judge=JUDGE, user_id=7, login="ann@example.org"))
    return PlainTextResponse("hello")


async def body(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def page(_request: Request) -> Response:
    return HTMLResponse("<p>")


async def stream(_request: Request) -> Response:
    return StreamingResponse(iter([b"one", b"two"]))


async def framed(_request: Request) -> Response:
    return PlainTextResponse("x", headers={"Cache-Control": "max-age=5", "X-Frame-Options": "no"})


async def bug(_request: Request) -> Response:
    raise KeyError("secret detail /etc/passwd")


async def refuse(_request: Request) -> Response:
    raise Conflict("no", retry_after_s=3)


async def health(_request: Request) -> Response:
    return PlainTextResponse("ok")


async def half(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise KeyError("in the middle")


ROUTES = {
    "/show": show,
    "/known": known,
    "/body": body,
    "/page": page,
    "/stream": stream,
    "/framed": framed,
    "/bug": bug,
    "/refuse": refuse,
    "/healthz": health,
    "/things/{thing}": show,
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def make(manual_clock: ManualClock, metrics: Metrics) -> Callable[..., Edge]:
    def build(proxies: tuple[str, ...] = (), *, has_handlers: bool = True) -> Edge:
        routes = [Route(path, it, methods=["GET", "POST"]) for path, it in ROUTES.items()]
        app = Starlette(routes=routes)
        if has_handlers:
            install_errors(app, render=render_plain, plain=plain_response)
        surfaces = Surfaces(
            [
                Surface("half", ("/half",), half, render_plain, plain_response),
                Surface("rest", ("/",), app, render_plain, plain_response),
            ]
        )
        return Edge(
            surfaces,
            limits=LIMITS,
            shapes=surfaces,
            known=RateLimiter(
                LIMITS.requests_per_minute, LIMITS.request_burst, manual_clock.monotonic
            ),
            anonymous=RateLimiter(
                LIMITS.anonymous_per_minute, LIMITS.anonymous_burst, manual_clock.monotonic
            ),
            credentials=KnownCredentials(manual_clock.monotonic),
            metrics=metrics,
            proxies=TrustedProxies(proxies),
            monotonic=manual_clock.monotonic,
        )

    return build


@pytest.fixture
def client(make: Callable[..., Edge]) -> Iterator[TestClient]:
    with TestClient(make()) as made:
        yield made


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [("abc-1.2_Z", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("a\u00e9", False)],
)
def test_request_ids(client: TestClient, sent: str, is_kept: bool) -> None:
    answer = client.get("/show", headers={"X-Request-Id": sent.encode("utf-8")})
    shown = answer.headers["x-request-id"]
    assert shown == answer.json()["id"]
    assert (shown == sent) is is_kept
    assert len(shown) == (len(sent) if is_kept else 26)


def test_headers_of_safety(client: TestClient) -> None:
    data = client.get("/show").headers
    assert data["content-security-policy"] == DATA_POLICY
    assert data["x-content-type-options"] == "nosniff"
    assert data["referrer-policy"] == "no-referrer"
    assert data["cache-control"] == "no-store"
    assert "strict-transport-security" not in data
    assert client.get("/page").headers["content-security-policy"] == PAGE_POLICY
    own = client.get("/framed").headers
    assert (own["cache-control"], own["x-frame-options"]) == ("max-age=5", "no")


def test_forwarded_headers_of_strangers_are_dropped(make: Callable[..., Edge]) -> None:
    forged = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "e"}
    with TestClient(make(("10.0.0.0/8",)), client=("192.0.2.9", 1)) as client:
        seen = client.get("/show", headers=forged).json()
    assert seen | {"id": 0} == {
        "id": 0,
        "address": "192.0.2.9",
        "scheme": "http",
        "host": "testserver",
        "forwarded": None,
    }


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("1.1.1.1, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
        ("nonsense", "10.0.0.1"),
        ("10.2.2.2, 10.3.3.3", "10.2.2.2"),
        ("2001:db8::5", "2001:db8::5"),
    ],
)
def test_forwarded_headers_of_our_proxy_count(
    make: Callable[..., Edge], chain: str, address: str
) -> None:
    sent = {
        "X-Forwarded-For": chain,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "galley.example.org",
    }
    with TestClient(make(("10.0.0.0/8",)), client=("10.0.0.1", 1)) as client:
        answer = client.get("/show", headers=sent)
    seen = answer.json()
    assert (seen["address"], seen["scheme"]) == (address, "https")
    assert seen["host"] == "galley.example.org"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_sizes_are_limited(client: TestClient) -> None:
    assert client.get("/show?" + "x" * 280).status_code == 200
    assert client.get("/show?" + "x" * 300).status_code == 414
    assert client.get("/show", headers={"X-Long": "x" * 2000}).status_code == 431
    many = {f"X-{number}": "1" for number in range(20)}
    assert client.get("/show", headers=many).status_code == 431


@pytest.mark.parametrize("address", ["/show%00", "/show?a=%00"])
def test_nul_is_refused(client: TestClient, address: str) -> None:
    assert client.get(address).status_code == 400


def test_nobody_known_is_limited_by_address(client: TestClient, manual_clock: ManualClock) -> None:
    assert [client.get("/show").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = client.get("/show")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["x-request-id"]
    assert client.get("/healthz").status_code == 200
    manual_clock.advance(1)
    assert client.get("/show").status_code == 200


def test_a_guesser_is_limited_by_address(client: TestClient) -> None:
    statuses = [
        client.get("/known", headers={"Authorization": f"Bearer guess{n}"}).status_code
        for n in range(5)
    ]
    assert statuses == [401, 401, 401, 429, 429]


def test_a_known_caller_is_limited_by_name(client: TestClient) -> None:
    assert client.get("/known", headers=GOOD).status_code == 200
    while client.get("/show").status_code == 200:
        pass
    # the address is used up, but a credential that has proved good is let through
    other = {"Authorization": "Bearer other"}
    assert client.get("/known", headers=other).status_code == 429
    statuses = [client.get("/known", headers=GOOD).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 200, 429]


def test_a_credential_that_is_refused_is_forgotten(client: TestClient) -> None:
    assert client.get("/known", headers=GOOD).status_code == 200
    edge = client.app
    digests = list(edge._credentials._until)  # type: ignore[attr-defined]
    edge._credentials.forget(digests[0])  # type: ignore[attr-defined]
    assert not edge._credentials.has(digests[0])  # type: ignore[attr-defined]


def test_a_bug_tells_nothing(make: Callable[..., Edge]) -> None:
    for has_handlers in (True, False):
        with (
            TestClient(make(has_handlers=has_handlers)) as client,
            structlog.testing.capture_logs() as logs,
        ):
            answer = client.get("/bug", headers={"X-Request-Id": "r-1"})
        assert answer.status_code == 500
        assert ("r-1" in answer.text) is has_handlers
        assert answer.headers["x-request-id"] == "r-1"
        assert "passwd" not in answer.text
        assert "KeyError" not in answer.text
        told = [entry for entry in logs if entry["event"] == "bug"]
        assert len(told) == 1
        assert told[0]["request_id"] == "r-1"
        assert "passwd" in str(told[0]["exc_info"])


def test_a_bug_in_the_middle_cuts_the_answer(make: Callable[..., Edge]) -> None:
    with TestClient(make()) as client, pytest.raises(KeyError):
        client.get("/half")


def test_errors_have_the_surfaces_shape(client: TestClient) -> None:
    answer = client.get("/refuse")
    assert (answer.status_code, answer.text) == (409, "no\n")
    assert answer.headers["retry-after"] == "3"
    assert client.get("/nowhere").status_code == 404
    assert client.delete("/show").status_code == 405


def test_requests_are_counted_by_template(client: TestClient, metrics: Metrics) -> None:
    client.get("/things/1")
    client.get("/things/2")
    client.get("/nowhere")
    text = metrics.render().decode()
    assert 'galley_requests_total{method="GET",route="/things/{thing}",status="200"} 2.0' in text
    assert 'route="(none)",status="404"' in text
    assert "/things/1" not in text


def test_the_log_hides_credentials(client: TestClient) -> None:
    with structlog.testing.capture_logs() as logs:
        client.get(
            "/show?apikey=hush1&private_token=hush2&token=hush3&x=1",
            headers={"Authorization": "Bearer hush4", "User-Agent": "a\x1b[31m\nhush"},
        )
    line = next(entry for entry in logs if entry["event"] == "request")
    assert line["query"].endswith("&x=1")
    assert "hush1" not in str(logs)
    assert "hush2" not in str(logs)
    assert "hush3" not in str(logs)
    assert "hush4" not in str(logs)
    assert line["route"] == "/show"
    assert line["agent"].isprintable()


def _run(edge: Edge, messages: list[Any]) -> list[Any]:
    """The answer's messages when the body comes so; None stands for silence."""
    sent: list[Any] = []

    async def receive() -> Any:
        message = messages.pop(0)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/body",
        "raw_path": b"/body",
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"transfer-encoding", b"chunked")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "http_version": "1.1",
    }
    asyncio.run(edge(scope, receive, send))
    return sent


def part(content: bytes, *, more: bool = True) -> Any:
    return {"type": "http.request", "body": content, "more_body": more}


@pytest.mark.parametrize("has_handlers", [True, False])
def test_a_body_that_stops_is_cut(make: Callable[..., Edge], has_handlers: bool) -> None:
    sent = _run(make(has_handlers=has_handlers), [part(b"some"), None])
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_body_that_trickles_is_cut(make: Callable[..., Edge], manual_clock: ManualClock) -> None:
    class Trickle(list[Any]):
        def pop(self, index: Any = -1) -> Any:
            manual_clock.advance(10)
            return part(b"x")

    sent = _run(make(), Trickle())
    assert sent[0]["status"] == 408


def test_a_whole_body_passes(make: Callable[..., Edge]) -> None:
    sent = _run(make(), [part(b"some"), part(b"more", more=False), None])
    assert sent[0]["status"] == 200
    assert sent[1]["body"] == b"8"


def test_websockets_are_turned_away(make: Callable[..., Edge]) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(make()({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]


def test_a_reader_that_takes_nothing_is_left(make: Callable[..., Edge]) -> None:
    async def stuck(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> Any:
        return await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/stream",
        "query_string": b"",
        "headers": [],
        "client": None,
        "scheme": "http",
    }
    with structlog.testing.capture_logs() as logs:
        asyncio.run(make()(scope, receive, stuck))
    assert [entry["event"] for entry in logs] == ["request"]


def test_a_refusal_is_logged_with_its_reason(client: TestClient) -> None:
    with structlog.testing.capture_logs() as logs:
        client.get("/refuse")
    told = next(entry for entry in logs if entry["event"] == "refused")
    assert (told["reason"], told["kind"]) == ("no", "conflict")
    assert told["request_id"] == next(it for it in logs if it["event"] == "request")["request_id"]
