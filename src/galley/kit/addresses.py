"""Which network addresses outbound calls may reach.

A table of our own: Python 3.11 calls NAT64, 6to4, multicast and the IPv4-compatible range
global, so `is_global` is only the first of the tests.
"""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NEVER_GLOBAL: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "::/96",
        "fe80::/10",
        "fec0::/10",
        "100::/64",
    )
)

METADATA: frozenset[Address] = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.169.253",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)
"""Where clouds answer with credentials: blocked even if an administrator allows the range."""


def unwrap(address: Address) -> Address:
    """The IPv4 address inside an IPv4-mapped IPv6 address, else the address itself."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_public(address: Address) -> bool:
    """Whether the address is an ordinary public one."""
    bare = unwrap(address)
    if not bare.is_global or bare.is_multicast or bare.is_reserved or bare.is_unspecified:
        return False
    return not any(bare.version == net.version and bare in net for net in _NEVER_GLOBAL)


def may_reach(address: Address, allowed: tuple[Network, ...]) -> bool:
    """Whether a call may go to the address: public, or inside a range that was allowed."""
    bare = unwrap(address)
    if bare in METADATA or (isinstance(bare, ipaddress.IPv6Address) and bare.scope_id):
        return False
    if is_public(bare):
        return True
    return any(bare.version == net.version and bare in net for net in allowed)
