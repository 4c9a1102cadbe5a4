"""Where an alert may go: a mail address, or the http(s) address of a webhook.

One rule for orders, kitchens and recipes. Nothing here asks the network: what a name stands for
is judged again by whoever makes the call.
"""

import ipaddress
import os
import re
import socket
from urllib.parse import SplitResult, urlsplit

from galley.kit.addresses import Address, Network, may_reach

ALLOW_VARIABLE = "GALLEY_OUTBOUND_ALLOW"
MAX_MAIL = 254
MAX_URL = 2_000
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_DOMAIN = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\Z"
)
_UNFIT = re.compile(r"[\s\x00-\x1f\x7f\\]")
_NUMBERS = re.compile(r"(0[xX][0-9a-fA-F]*|\d+)(\.(0[xX][0-9a-fA-F]*|\d+)){0,3}\Z")


def opened_ranges() -> tuple[Network, ...]:
    """The networks beside the public ones that an administrator opened to outbound calls.

    Raises:
        ValueError: an entry of GALLEY_OUTBOUND_ALLOW is not an address or a range.
    """
    entries = (entry.strip() for entry in os.environ.get(ALLOW_VARIABLE, "").split(","))
    return tuple(ipaddress.ip_network(entry, strict=False) for entry in entries if entry)


def is_web_address(text: str) -> bool:
    """Whether the text is meant as a webhook's address rather than a mail address."""
    return "://" in text


def fault_of_destination(text: str, allowed: tuple[Network, ...] | None = None) -> str | None:
    """Why no alert can go to `text`; None if it can.

    `allowed` are ranges that calls may reach although they are not public; those that an
    administrator opened when not given.
    """
    if is_web_address(text):
        return _fault_of_url(text, opened_ranges() if allowed is None else allowed)
    return _fault_of_mail(text)


def _fault_of_mail(text: str) -> str | None:
    local, at, domain = text.partition("@")
    if not at or "@" in domain:
        return "is neither a mail address nor an http(s) address"
    if len(text) > MAX_MAIL:
        return f"is longer than {MAX_MAIL} characters"
    if not _LOCAL.match(local):
        return "is no mail address: what is before the @ cannot be a mailbox"
    if not _DOMAIN.match(domain):
        return (
            "is no mail address: what is after the @ cannot be a domain"
            " (write one with other letters than a-z in its xn-- form)"
        )
    return None


def _fault_of_url(text: str, allowed: tuple[Network, ...]) -> str | None:
    if len(text) > MAX_URL or _UNFIT.search(text):
        return f"has spaces, backslashes, control characters or more than {MAX_URL} characters"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        return f"is no web address ({error})"
    if parts.scheme not in {"http", "https"}:
        return "must begin with http:// or https://"
    if "@" in parts.netloc:
        return "carries a user or a password; leave them out"
    if not parts.hostname:
        return "names no host"
    return _fault_of_host(parts, allowed)


def _fault_of_host(parts: SplitResult, allowed: tuple[Network, ...]) -> str | None:
    host = (parts.hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        address: Address | None = ipaddress.ip_address("127.0.0.1")
    else:
        address = _literal(host)
    if address is not None and not may_reach(address, allowed):
        return (
            f"has a host that is not public. An administrator can open a range with"
            f" {ALLOW_VARIABLE}"
        )
    return None


def _literal(host: str) -> Address | None:
    """The address that is written out as the host, in any form that resolvers take."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if not _NUMBERS.match(host):
        return None
    try:
        return ipaddress.ip_address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None
