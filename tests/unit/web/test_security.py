import pytest
from starlette.requests import Request
from starlette.responses import Response

from galley.web import security


def request(*, scheme="http", host="127.0.0.1:8080", **headers):
    raw = [(b"host", host.encode())]
    raw += [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": scheme,
        "path": "/",
        "query_string": b"",
        "headers": raw,
        "server": ("127.0.0.1", 8080),
    }
    return Request(scope)


@pytest.mark.parametrize(
    "path", ["/runs", "/runs?state=failed&kitchen=a%20b", "/runs/0193#log", "/account/tokens"]
)
def test_paths_of_our_own_are_kept(path):
    assert security.local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "runs",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/runs\r\nSet-Cookie: a=b",
        "///evil.example",
        "/sign-in?next=/sign-in",
        "/sign-out",
        "/setup",
        "/ru\u202ens",
        "/" + "a" * 3000,
    ],
)
def test_whatever_could_lead_elsewhere_leads_to_the_runs(path):
    assert security.local_path(path) == "/runs"


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({"sec_fetch_site": "same-origin"}, True),
        ({"origin": "http://127.0.0.1:8080"}, True),
        ({"sec_fetch_site": "same-origin", "origin": "http://127.0.0.1:8080"}, True),
        ({}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site", "origin": "http://127.0.0.1:8080"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://127.0.0.1:8081"}, False),
        ({"origin": "ftp://127.0.0.1:8080"}, False),
        ({"sec_fetch_site": "same-origin", "origin": "http://evil.example"}, False),
    ],
)
def test_only_our_own_pages_may_post(headers, verdict):
    assert security.is_same_origin(request(**headers)) is verdict


def test_behind_a_proxy_the_external_address_counts_as_our_own():
    asked = request(host="10.0.0.5:8080", origin="https://galley.example.org")
    assert not security.is_same_origin(asked)
    assert security.is_same_origin(asked, "https://galley.example.org")


def cookie_of(asked, external=None):
    response = Response()
    security.set_cookie(response, asked, "secret", external)
    return response.headers["set-cookie"]


def test_over_https_the_cookie_is_bound_to_the_host():
    cookie = cookie_of(request(scheme="https", host="galley.example.org"))
    assert cookie.startswith("__Host-galley=secret;")
    parts = {part.strip().lower() for part in cookie.split(";")}
    assert {"secure", "httponly", "samesite=lax", "path=/", "max-age=604800"} <= parts
    assert not any(part.startswith("domain") for part in parts)


def test_on_http_loopback_the_cookie_is_plain():
    cookie = cookie_of(request())
    assert cookie.startswith("galley=secret;")
    assert "secure" not in {part.strip().lower() for part in cookie.split(";")}


def test_a_proxy_with_tls_makes_the_cookie_secure():
    asked = request(host="galley.example.org")
    assert cookie_of(asked, "https://galley.example.org").startswith("__Host-galley=")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:8080", "a.localhost", "[::1]:8080"])
def test_loopback_needs_no_encryption(host):
    assert security.insecure_notice(request(host=host)) == ""


@pytest.mark.parametrize("host", ["10.0.0.5:8080", "galley.example.org", "localhost.evil.example"])
def test_elsewhere_signing_in_needs_encryption(host):
    assert "--tls-cert" in security.insecure_notice(request(host=host))
    assert security.insecure_notice(request(host=host, scheme="https")) == ""


def test_the_cookie_of_the_other_kind_of_connection_is_not_read():
    asked = request(scheme="https", host="galley.example.org", cookie="galley=planted")
    assert security.read_cookie(asked) is None
