"""Addresses as text."""

import pytest

from laminar.errors import ConfigError
from laminar.net.address import format_addr, is_unspecified, parse_addr, reaches_beyond_loopback


@pytest.mark.parametrize("addr", ["127.0.0.1:0", "host.example:65535", "[::1]:4000"])
def test_addresses_survive_parsing(addr):
    assert format_addr(*parse_addr(addr)) == addr


@pytest.mark.parametrize(
    "addr", ["", "host", ":1", "host:", "host:x", "host:-1", "host:65536", "::1:80", "host:٣"]
)
def test_what_is_no_address_is_refused(addr):
    with pytest.raises(ConfigError):
        parse_addr(addr)


@pytest.mark.parametrize(
    ("addr", "beyond"),
    [
        ("127.0.0.1:1", False),
        ("127.8.9.10:1", False),
        ("[::1]:1", False),
        ("[::ffff:127.0.0.1]:1", False),
        ("0.0.0.0:1", True),
        ("[::]:1", True),
        ("192.0.2.7:1", True),
        ("[::ffff:192.0.2.7]:1", True),
        ("[fe80::1%eth0]:1", True),
        ("simulated:1", False),
    ],
)
def test_who_can_reach_an_address(addr, beyond):
    assert reaches_beyond_loopback(addr) is beyond


@pytest.mark.parametrize(
    ("addr", "unspecified"),
    [("0.0.0.0:1", True), ("[::]:1", True), ("127.0.0.1:1", False), ("host.example:1", False)],
)
def test_what_stands_for_every_address(addr, unspecified):
    assert is_unspecified(addr) is unspecified
