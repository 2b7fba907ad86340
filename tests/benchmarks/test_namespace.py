"""A network of one's own, and what its loopback carried."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import namespace
from benchmarks.process import PeerMissing

TABLE = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
  eth0: 99 1 0 0 0 0 0 0 7 1 0 0
    lo:   25577     180    0    0    0     0          0         0    25578     180    0    0
"""


def test_the_bytes_of_an_interface_are_those_received() -> None:
    assert namespace.received_bytes(TABLE, "lo") == 25577
    assert namespace.received_bytes(TABLE, "eth0") == 99
    with pytest.raises(ValueError, match="no interface eth1"):
        namespace.received_bytes(TABLE, "eth1")


def test_the_way_in_is_the_first_that_works(monkeypatch) -> None:
    monkeypatch.setattr(namespace, "WAYS", (["false"], ["env"]))
    assert namespace.inside() == ["env"]


@pytest.mark.parametrize(
    ("ways", "why"),
    [((["no-such-command"],), "util-linux"), ((["false"],), "no network namespace can be made")],
)
def test_without_a_way_in_the_contestants_are_missing(monkeypatch, ways, why) -> None:
    monkeypatch.setattr(namespace, "WAYS", ways)
    with pytest.raises(PeerMissing, match=why):
        namespace.inside()


def test_what_is_sent_in_there_is_counted_to_the_byte() -> None:
    try:
        way = namespace.inside()
    except PeerMissing as missing:
        pytest.skip(str(missing))
    program = (
        "import socket; from benchmarks.namespace import loopback_bytes, raise_loopback\n"
        "raise_loopback(); before = loopback_bytes()\n"
        "s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))\n"
        "s.sendto(bytes(100), s.getsockname()); s.recv(100); print(loopback_bytes() - before)"
    )
    done = subprocess.run([*way, sys.executable, "-c", program], capture_output=True, check=True)
    assert int(done.stdout) == 20 + 8 + 100
