"""Where a request really comes from, when a proxy that is trusted says so."""

import ipaddress
from collections.abc import Sequence

from starlette.types import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_FORWARDED = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)


class TrustedProxies:
    """Networks whose `X-Forwarded-For`, `-Proto` and `-Host` are believed; nobody else's are."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks: tuple[Network, ...] = tuple(
            ipaddress.ip_network(text, strict=False) for text in networks
        )

    def apply(self, scope: Scope) -> str | None:
        """Put client, scheme and host of the real request into the scope; the client's address.

        The forwarding headers are taken away, so that nothing behind can believe them.
        """
        client = scope.get("client")
        peer = client[0] if client else None
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        given = [(name, value) for name, value in headers if name in _FORWARDED]
        if not given:
            return peer
        scope["headers"] = [pair for pair in headers if pair[0] not in _FORWARDED]
        if peer is None or not self.trusts(peer):
            return peer
        address = self._first_stranger(_values(given, b"x-forwarded-for")) or peer
        scope["client"] = (address, 0)
        schemes = _values(given, b"x-forwarded-proto")
        if schemes and schemes[-1] in {"http", "https"}:
            scope["scheme"] = schemes[-1]
        hosts = _values(given, b"x-forwarded-host")
        if hosts:
            kept = [pair for pair in scope["headers"] if pair[0] != b"host"]
            scope["headers"] = [*kept, (b"host", hosts[-1].encode("latin-1"))]
        return address

    def trusts(self, address: str) -> bool:
        """Whether this is a proxy of ours."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def _first_stranger(self, chain: Sequence[str]) -> str | None:
        """The nearest address that is no proxy of ours; whatever is before it may be made up."""
        for text in reversed(chain):
            try:
                address = str(ipaddress.ip_address(text))
            except ValueError:
                return None
            if not self.trusts(address):
                return address
        return chain[0] if chain else None


def _values(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[str]:
    text = ",".join(value.decode("latin-1") for key, value in headers if key == name)
    return [part.strip() for part in text.split(",") if part.strip()]
