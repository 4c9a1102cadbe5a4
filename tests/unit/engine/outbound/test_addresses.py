import ipaddress

import pytest

from galley.engine.addresses import METADATA, is_public, may_reach

PRIVATE = [
    "0.0.0.0",  # noqa: S104
    "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.8.9.1",
    "169.254.1.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1",
    "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2001::1", "2001:db8::1",
    "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd00::1", "fe80::1",
    "fec0::1", "ff02::1", "100::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450::1"]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_an_ordinary_public_address_is_refused(text):
    address = ipaddress.ip_address(text)
    assert not is_public(address)
    assert not may_reach(address, ())


@pytest.mark.parametrize("text", PUBLIC)
def test_ordinary_addresses_are_reached(text):
    assert may_reach(ipaddress.ip_address(text), ())


def test_a_mapped_public_address_counts_as_what_it_is():
    assert may_reach(ipaddress.ip_address("::ffff:8.8.8.8"), ())


def test_an_opened_range_is_reached_and_nothing_else():
    opened = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))
    assert may_reach(ipaddress.ip_address("10.1.2.3"), opened)
    assert may_reach(ipaddress.ip_address("::ffff:10.1.2.3"), opened)
    assert may_reach(ipaddress.ip_address("fd00::5"), opened)
    assert not may_reach(ipaddress.ip_address("10.2.0.1"), opened)


@pytest.mark.parametrize("address", sorted(METADATA, key=str))
def test_cloud_metadata_stays_closed_whatever_is_opened(address):
    everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    assert not may_reach(address, everything)
