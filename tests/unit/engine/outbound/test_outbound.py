import io
import ipaddress
import socket
import threading

import pytest
from tests.conformance.connectors.web import web_server

from galley.engine.outbound import (
    Gate,
    OutboundClient,
    OutboundFailed,
    OutboundPolicy,
    OutboundRefused,
    OutboundTooLarge,
    policy_from_environment,
)

LOOPBACK = OutboundPolicy(allowed=(ipaddress.ip_network("127.0.0.0/8"),))
HOSTILE = [
    "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/",
    "http://0177.0.0.1/", "http://0/", "http://localhost/", "http://[::1]/", "http://[::]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/", "http://[::127.0.0.1]/", "http://[fe80::1]/", "http://[fd00::1]/",
    "http://[ff02::1]/", "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/",
    "http://100.100.100.200/", "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/",
    "http://100.64.0.1/", "http://192.0.0.192/", "http://192.88.99.1/", "http://224.0.0.1/",
    "http://255.255.255.255/", "http://0.0.0.0:8080/", "http://127.0.0.1:22/",
    "http://user@127.0.0.1/", "http://8.8.8.8@127.0.0.1/", "http://8.8.8.8:80@127.0.0.1/",
    "http://127.0.0.1#@8.8.8.8/", "http://127.0.0.1%2f.example/",
    "ftp://8.8.8.8/", "file:///etc/passwd", "gopher://8.8.8.8/", "//8.8.8.8/", "http:///path", "",
    "http://8.8.8.8:22/", "http://8.8.8.8:25/", "javascript:alert(1)",
]  # fmt: skip


@pytest.fixture
def web():
    with web_server() as server:
        yield server


@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_addresses_never_connect(url, monkeypatch):
    def connect(*_args, **_kwargs):
        pytest.fail("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", connect)
    client = OutboundClient(OutboundPolicy())
    with pytest.raises((OutboundRefused, OutboundFailed)):
        client.request("GET", url)
    with pytest.raises((OutboundRefused, OutboundFailed)):
        client.check(url)


def test_every_address_of_a_name_must_pass():
    gate = Gate(OutboundPolicy(), lambda _host, _port: ["8.8.8.8", "127.0.0.1"])
    with pytest.raises(OutboundRefused, match=r"127\.0\.0\.1, which is not public"):
        gate.addresses("mixed.example", 443)


def test_a_name_that_cannot_be_resolved_is_no_connection():
    def fail(_host, _port):
        raise socket.gaierror(-2, "unknown")

    with pytest.raises(OutboundFailed, match="cannot be resolved"):
        Gate(OutboundPolicy(), fail).addresses("nowhere.example", 80)
    with pytest.raises(OutboundFailed, match="no address"):
        Gate(OutboundPolicy(), lambda _h, _p: []).addresses("nowhere.example", 80)


def test_a_name_that_changes_its_mind_is_asked_once_per_connection(web):
    asked = []

    def rebinding(host, _port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    web.files["/a"] = b"x"
    client = OutboundClient(LOOPBACK, resolve=rebinding)
    answer = client.request("GET", f"http://shop.example:{web.port}/a")
    assert (answer.status, answer.body) == (200, b"x")
    assert asked == ["shop.example"]
    assert web.seen[0][2]["host"] == f"shop.example:{web.port}"
    with pytest.raises(OutboundRefused):
        client.request("GET", f"http://shop.example:{web.port}/a")


def test_redirects_are_off_unless_asked_for(web):
    client = OutboundClient(LOOPBACK)
    assert client.request("GET", f"{web.url}/moved").status == 302
    web.files["/data.csv"] = b"a"
    answer = client.request("GET", f"{web.url}/moved", redirects=1)
    assert (answer.status, answer.body, answer.url) == (200, b"a", f"{web.url}/data.csv")


def test_a_redirect_is_checked_again(web):
    client = OutboundClient(LOOPBACK)
    with pytest.raises(OutboundRefused, match="not public"):
        client.request("GET", f"{web.url}/away/http://169.254.169.254/", redirects=5)
    with pytest.raises(OutboundRefused, match="redirects more than 5 times"):
        client.request("GET", f"{web.url}/loop", redirects=5)
    assert sum(1 for _, path, _ in web.seen if path == "/loop") == 6
    with pytest.raises(OutboundRefused, match="must begin with http"):
        client.request("GET", f"{web.url}/away/file:///etc/passwd", redirects=5)


def test_credentials_do_not_cross_origins(web):
    with web_server() as other:
        other.files["/x"] = b"1"
        headers = {"authorization": "Bearer T", "x-key": "K", "accept": "text/csv"}
        url = f"{web.url}/away/{other.url}/x"
        assert (
            OutboundClient(LOOPBACK).request("GET", url, headers=headers, redirects=1).body == b"1"
        )
        assert web.seen[0][2]["authorization"] == "Bearer T"
        seen = other.seen[0][2]
        assert "authorization" not in seen
        assert "x-key" not in seen
        assert seen["accept"] == "text/csv"


def test_proxies_of_the_environment_are_ignored(web, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    web.files["/a"] = b"x"
    assert OutboundClient(LOOPBACK).request("GET", f"{web.url}/a").body == b"x"


@pytest.mark.parametrize(("size", "fits"), [(9, True), (10, True), (11, False)])
def test_the_size_of_an_answer_is_bounded(web, size, fits):
    web.files["/a"] = b"x" * size
    client = OutboundClient(LOOPBACK)
    if fits:
        assert client.request("GET", f"{web.url}/a", max_bytes=10).size_bytes == size
    else:
        with pytest.raises(OutboundTooLarge, match="more than 10 bytes"):
            client.request("GET", f"{web.url}/a", max_bytes=10)


def test_an_answer_goes_to_a_file_and_a_body_comes_from_one(web):
    web.files["/a"] = b"x" * 200_000
    target = io.BytesIO()
    client = OutboundClient(LOOPBACK)
    answer = client.request("GET", f"{web.url}/a", into=target)
    assert (answer.body, answer.size_bytes, len(target.getvalue())) == (b"", 200_000, 200_000)
    client.request("PUT", f"{web.url}/b", content=io.BytesIO(b"y" * 100_000))
    assert web.files["/b"] == b"y" * 100_000


def test_a_peer_that_never_answers_is_left_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(OutboundFailed, match="time limit"):
            OutboundClient(LOOPBACK).request("GET", url, deadline_s=0.05)


def test_a_peer_that_drips_is_left_at_the_deadline():
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                try:
                    while not stop.wait(0.005):
                        connection.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/"
            with pytest.raises(OutboundFailed, match="time limit"):
                OutboundClient(LOOPBACK).request("GET", url, deadline_s=0.3)
        finally:
            stop.set()
            thread.join()


def test_the_policy_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("GALLEY_OUTBOUND_ALLOW", raising=False)
    assert policy_from_environment().allowed == ()
    monkeypatch.setenv("GALLEY_OUTBOUND_ALLOW", "10.0.0.0/8, ::1")
    allowed = policy_from_environment().allowed
    assert [str(net) for net in allowed] == ["10.0.0.0/8", "::1/128"]
    monkeypatch.setenv("GALLEY_OUTBOUND_ALLOW", "my.host")
    with pytest.raises(ValueError, match=r"my\.host"):
        policy_from_environment()
