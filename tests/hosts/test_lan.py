"""The hosts themselves: what they hear of one another, and that nothing of them stays."""

import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.hosts.lan import Lan, LanError, missing

pytestmark = missing

LISTEN = """
import socket, sys
sock = socket.socket(type=socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 7946))
sock.settimeout(float(sys.argv[2]))
print("listening", flush=True)
try:
    print("heard", sock.recv(10) == b"hello")
except TimeoutError:
    print("heard nothing")
"""
SPEAK = """
import socket, sys
socket.socket(type=socket.SOCK_DGRAM).sendto(b"hello", (sys.argv[1], 7946))
"""


def hears(lan, target, source, limit_s=5.0):
    """Whether a datagram of ``source`` gets to ``target``."""
    listen = [*lan.inside(target), sys.executable, "-c", LISTEN, lan.ip(target), str(limit_s)]
    speak = [*lan.inside(source), sys.executable, "-c", SPEAK, lan.ip(target)]
    with subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout.readline() == "listening\n"
        subprocess.run(speak, check=True)
        return listener.stdout.read() == "heard True\n"


@pytest.fixture(params=[False, True], ids=["root", "anybody"])
def lan(request):
    """Three hosts, made in either way."""
    with ExitStack() as stack:
        try:
            lan = stack.enter_context(Lan("a", "b", "c", rootless=request.param))
        except LanError as error:
            pytest.skip(f"the other way is used here: {error}")
        yield lan


def test_hosts_hear_one_another_until_a_wire_is_cut(lan):
    assert hears(lan, "b", "a")
    lan.unplug("b")
    assert not hears(lan, "b", "a", limit_s=0.2)
    assert hears(lan, "c", "a")
    lan.plug("b")
    assert hears(lan, "b", "a")
    lan.renumber("b")
    assert hears(lan, "b", "a")


def test_a_wire_can_be_cut_one_way(lan):
    lan.block("a", "b")
    assert not hears(lan, "b", "a", limit_s=0.2)
    assert hears(lan, "a", "b")
    assert hears(lan, "c", "a")
    lan.unblock("a", "b")
    assert hears(lan, "b", "a")


def test_nothing_stays_when_a_test_fails():
    lan = Lan("a", "b")

    def fail():
        assert lan.prefix in lan.namespaces()
        raise KeyError

    with pytest.raises(KeyError), lan:
        fail()
    assert lan.prefix not in left_behind()


def test_nothing_stays_when_a_host_cannot_be_made():
    lan = Lan("a", "a-name-that-is-too-long")
    with pytest.raises(LanError, match="a-name-that-is-too-long"), lan:
        pass
    assert lan.prefix not in left_behind()


def left_behind():
    """On the machine itself; what was made elsewhere is gone with its holder."""
    return subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
