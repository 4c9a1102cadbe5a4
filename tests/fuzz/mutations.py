"""Hostile requests made from good ones. Everything comes from one seeded generator."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

ODD_TEXTS = [
    "", " ", ".", "..", "None", "null", "0", "-1", "a" * 300, "a" * 5000, "é\u202eü", "日本語",
    "'; drop table run; --", '"', "\\", "/", "a/b", "../../etc/passwd", "%00", "\x00", "\n",
    "{{7*7}}",
    "{% for i in range(9) %}x{% endfor %}", "#{vault://a/b}", "<script>alert(1)</script>", "list",
    "settings", "master", "887d01ba-365e-11e9-8394-0242ac110002", "01K4ZC0000000000000000000A",
    "!" * 26, "a" * 26, "e\u0301", "CON", "x.", "\U0001f600", "1e999", "true",
]  # fmt: skip
ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, 10**30, -(10**18), 1e300, [], {}, [[]], [None], [1, "a"],
    {"a": {"b": [1]}}, {"": ""}, {"contents": 5}, {"error": "x"}, *ODD_TEXTS,
]  # fmt: skip
CONTENT_TYPES = [
    "application/json", "application/x-www-form-urlencoded", "text/plain", "", "text/xml",
    "multipart/form-data", "multipart/form-data; boundary=x", "application/json; charset=utf-16",
    "nonsense", "application/octet-stream", "image/png",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
BAD_AUTH = [
    None, "", "Bearer", "Bearer x", "Bearer a.b.c", "Basic", "Basic !!!", "Basic YTpi",
    "Basic OmI=", "Digest a=b", "Bearer " + "a" * 3000, "bearer gly_personal_x", "Token é",
]  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request: the path's parameters are filled into its template when it is sent."""

    method: str
    template: str
    parameters: dict[str, str] = field(default_factory=dict)
    body: Any = None
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""
    authorization: str | None = "good"

    @property
    def target(self) -> str:
        """Path and query as they stand in the request line."""
        path = self.template
        for name, value in self.parameters.items():
            whole = "{" + name + ":path}"
            path = path.replace(whole, quote(value, safe="/"))
            path = path.replace("{" + name + "}", quote(value, safe=""))
        return path + (f"?{self.query}" if self.query else "")

    @property
    def content(self) -> bytes:
        """The body's bytes."""
        if self.raw is not None:
            return self.raw
        return b"" if self.body is None else json.dumps(self.body).encode()


Mutation = Callable[[random.Random, Request], Request]


def odd_parameter(rng: random.Random, request: Request) -> Request:
    """One of the path's parameters becomes odd."""
    if not request.parameters:
        return odd_query(rng, request)
    name = rng.choice(sorted(request.parameters))
    odd = rng.choice(ODD_TEXTS)
    return replace(request, parameters={**request.parameters, name: odd})


def odd_query(rng: random.Random, request: Request) -> Request:
    """Strange things stand in the query."""
    names = ["start", "count", "scount", "r", "change_count", "serving_hid", "search", "x" * 50]
    pairs = [
        f"{rng.choice(names)}={quote(rng.choice(ODD_TEXTS))}" for _ in range(rng.randint(1, 4))
    ]
    return replace(request, query="&".join(pairs))


def odd_value(rng: random.Random, request: Request) -> Request:
    """One of the body's values becomes odd, or a strange key comes in."""
    body = dict(request.body) if isinstance(request.body, dict) else {}
    keys = [*body, "schedule", "parameters", "kitchen.json", "files", "role", "is_admin", "id"]
    key = rng.choice(keys)
    inner = body.get(key)
    if isinstance(inner, dict) and inner and rng.random() < 0.7:
        body[key] = {**inner, rng.choice(sorted(inner)): rng.choice(ODD_VALUES)}
    else:
        body[key] = rng.choice(ODD_VALUES)
    return replace(request, body=body)


def no_object(rng: random.Random, request: Request) -> Request:
    """The body is JSON, but no object."""
    return replace(request, body=rng.choice([[], [1], "x", 5, 1.5, True, [[{}]], "", None]))


def broken(rng: random.Random, request: Request) -> Request:
    """The body is no JSON at all, or of the kind that parsers die of."""
    raw = rng.choice(
        [
            b"{", b"}", b'{"a":}', b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000,
            b'{"a": NaN}', b'{"a": Infinity}', b'{"a":1,"a":2}', b'"\\ud800"',
            b'{"a":"\\ud800"}', b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b'{"a":"\xff"}',
            b'{"a":' + b"1" * 5000 + b"}", b"{}{}", b"nul", b"\x00" * 10, b"a=b&c", b"=", b"&&&",
            b"a=%zz&b=%ff", b"&".join(b"a=1" for _ in range(2000)), b"<xml/>",
            b'{"kitchen.json":"x"}', b"--x\r\nContent-Disposition: form-data\r\n\r\n--x--",
        ]
    )  # fmt: skip
    return replace(request, raw=raw)


def large(rng: random.Random, request: Request) -> Request:
    """The body is large, sometimes larger than is taken."""
    size = rng.choice([100_000, 1_000_000, 1_000_000, 10_000_100])
    return replace(request, raw=b'{"parameters": {"a": "' + b"x" * size + b'"}}')


def as_form(rng: random.Random, request: Request) -> Request:
    """The same body, as a form."""
    body = request.body if isinstance(request.body, dict) else {"a": rng.choice(ODD_TEXTS)}
    fields = (
        f"{quote(key)}={quote(value if isinstance(value, str) else json.dumps(value))}"
        for key, value in body.items()
    )
    return replace(request, raw="&".join(fields).encode())


def odd_type(rng: random.Random, request: Request) -> Request:
    """The content type says something else."""
    headers = {**request.headers, "Content-Type": rng.choice(CONTENT_TYPES)}
    return replace(request, headers=headers)


def odd_header(rng: random.Random, request: Request) -> Request:
    """Headers that mean something to somebody."""
    name, value = rng.choice(
        [
            ("Idempotency-Key", "a" * 255), ("Idempotency-Key", "b" * 256),
            ("Idempotency-Key", "with space"), ("X-Request-Id", "x" * 64),
            ("X-Request-Id", "../../"), ("X-Forwarded-For", "1.2.3.4, 5.6.7.8"),
            ("X-Forwarded-Proto", "gopher"), ("Accept", "text/html"), ("Accept-Encoding", "zz"),
            ("Content-Encoding", "gzip"), ("Range", "bytes=0-1"), ("Cookie", "galley=x"),
            ("Expect", "nothing"), ("User-Agent", "\t" + "a" * 4000), ("PRIVATE-TOKEN", "x"),
        ]
    )  # fmt: skip
    return replace(request, headers={**request.headers, name: value})


def odd_method(rng: random.Random, request: Request) -> Request:
    """Another verb."""
    return replace(request, method=rng.choice(METHODS))


def odd_caller(rng: random.Random, request: Request) -> Request:
    """Somebody who is not known."""
    return replace(request, authorization=rng.choice(BAD_AUTH))


def longer_path(rng: random.Random, request: Request) -> Request:
    """The path goes on, or ends too early, or doubles its slashes."""
    template = rng.choice(
        [
            request.template + "/", request.template + "/extra/more",
            request.template.rsplit("/", 1)[0], request.template.replace("/", "//", 2),
            request.template.upper(), request.template + "%20", request.template + ";x=1",
            request.template + "/..;/x",
        ]
    )  # fmt: skip
    return replace(request, template=template or "/v2")


MUTATIONS: list[tuple[Mutation, int]] = [
    (odd_parameter, 6), (odd_query, 2), (odd_value, 8), (no_object, 2), (broken, 3), (large, 1),
    (as_form, 2), (odd_type, 2), (odd_header, 2), (odd_method, 2), (odd_caller, 2),
    (longer_path, 2),
]  # fmt: skip


def hostile(rng: random.Random, request: Request) -> Request:
    """The request with one to three mutations."""
    changes, weights = zip(*MUTATIONS, strict=True)
    for change in rng.choices(changes, weights, k=rng.randint(1, 3)):
        request = change(rng, request)
    return request
