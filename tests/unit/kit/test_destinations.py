"""Where alerts may go: one rule, judged when a destination is saved."""

import pytest

from galley.kit.destinations import fault_of_destination

GOOD = [
    "ann@example.org", "first.last+tag@sub.example.org", "root@mailhost",
    "https://hooks.example.org/a?b=c", "http://8.8.8.8:8080/x", "https://[2606:4700::1111]/",
    "https://example.org./",
]  # fmt: skip
BAD_MAIL = [
    "", "ann", "a@", "@b", "a@[", "a@b@c", "a@b\n", "a b@c.org", "a@b c", "a@-b.org", "a@b..org",
    ".a@b.org", "Ann <a@b.org>", "a@b.org,c@d.org", "a@b.org\r\nBcc: x@y.org", f"a@{'b' * 260}.org",
    "ä@b.org", "a@bü.org",
]  # fmt: skip
BAD_URL = [
    "ftp://example.org/", "file:///etc/passwd", "javascript://x@y", "http://", "http:///x",
    "https://ann:pw@example.org/", "https://ann@example.org/", "https://example.org:99999/",
    "http://exa mple.org/", "http://example.org/\n", "http://[::1", "http://a\\@b/",
    "https://example.org/" + "x" * 2000,
]  # fmt: skip
NOT_PUBLIC = [
    "http://127.0.0.1/", "http://localhost:8080/", "http://x.localhost/", "http://10.1.2.3/",
    "http://192.168.0.1/", "http://169.254.169.254/latest", "http://[::1]/", "http://[fd00:ec2::254]/",
    "http://[::ffff:10.0.0.1]/", "http://2130706433/", "http://0x7f.1/", "http://127.1/",
    "http://0/", "http://127.0.0.1./", "http://[fe80::1%25eth0]/",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_opened_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GALLEY_OUTBOUND_ALLOW", raising=False)


@pytest.mark.parametrize("text", GOOD)
def test_what_can_be_reached_is_taken(text: str) -> None:
    assert fault_of_destination(text) is None


@pytest.mark.parametrize("text", [*BAD_MAIL, *BAD_URL, *NOT_PUBLIC])
def test_what_cannot_be_reached_is_refused(text: str) -> None:
    assert fault_of_destination(text)


def test_the_reason_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "neither a mail address nor" in (fault_of_destination("ann") or "")
    assert "leave them out" in (fault_of_destination("https://a:b@example.org") or "")
    assert "GALLEY_OUTBOUND_ALLOW" in (fault_of_destination("http://10.0.0.1/") or "")
    monkeypatch.setenv("GALLEY_OUTBOUND_ALLOW", "10.0.0.0/8,169.254.0.0/16")
    assert fault_of_destination("http://10.0.0.1/") is None
    assert fault_of_destination("http://169.254.169.254/")
