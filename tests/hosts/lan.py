"""Hosts on one machine: network namespaces joined by a bridge, to be cut and joined again.

All of it, the bridge included, lives in namespaces that were made for the purpose: the machine's
own interfaces, routes and filters are neither used nor touched. It takes root and ``ip``.
"""

import itertools
import os
import shutil
import subprocess
from contextlib import ExitStack

import pytest

NETWORK = "10.77.0"
NOWHERE = "02:00:00:00:00:00"
"""A hardware address that nobody has: a switch carries what goes there, and it ends there."""

_numbers = itertools.count(1)


class LanError(Exception):
    """``ip`` refused."""


class Lan:
    """A context manager: the hosts live in its block.

    ::

        with Lan("a", "b") as lan:
            subprocess.run([*lan.inside("a"), "ping", "-c1", lan.ip("b")])
    """

    def __init__(self, *hosts: str) -> None:
        self._hosts = hosts
        self.prefix = f"laminar-{os.getpid()}-{next(_numbers)}"
        self._ips: dict[str, str] = {}
        self._free = map(f"{NETWORK}.{{}}".format, itertools.count(1))
        self._stack = ExitStack()

    def __enter__(self):
        with self._stack as stack:  # whatever was made goes again if the rest cannot be
            self._add_namespace("switch")
            self._ip("switch", "link", "add", "br0", "type", "bridge")
            self._ip("switch", "link", "set", "dev", "br0", "up")
            for host in self._hosts:
                self._add_namespace(host)
                self._join(host)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    # -- what a test does to hosts -------------------------------------------------------------

    def ip(self, host: str) -> str:
        """The address of ``host``."""
        return self._ips[host]

    def inside(self, host: str) -> list[str]:
        """What to put in front of a command to have it run on ``host``."""
        return ["ip", "netns", "exec", self._namespace(host)]

    def unplug(self, host: str) -> None:
        """Pull the cable of ``host`` out of the switch."""
        self._ip("switch", "link", "set", "dev", host, "down")

    def plug(self, host: str) -> None:
        """Put it back."""
        self._ip("switch", "link", "set", "dev", host, "up")

    def block(self, source: str, target: str) -> None:
        """From now on what ``source`` sends to ``target`` vanishes; not so the other way."""
        to = (self._ips[target], "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent")
        self._ip(source, "neigh", "replace", *to)

    def unblock(self, source: str, target: str) -> None:
        """Let it through again."""
        self._ip(source, "neigh", "del", self._ips[target], "dev", "eth0")

    def renumber(self, host: str) -> None:
        """Take the address of ``host`` away, and give it one that nobody has had."""
        self._ip(host, "addr", "flush", "dev", "eth0")
        self._number(host)

    # -- how -----------------------------------------------------------------------------------

    def _namespace(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    def _add_namespace(self, host: str) -> None:
        name = self._namespace(host)
        _run("ip", "netns", "add", name)
        self._stack.callback(_run, "ip", "netns", "delete", name)

    def _join(self, host: str) -> None:
        cable = ("link", "add", "dev", "eth0", "type", "veth", "peer", "name", host)
        self._ip(host, *cable, "netns", self._namespace("switch"))
        self._ip("switch", "link", "set", "dev", host, "master", "br0", "up")
        for device in ("lo", "eth0"):
            self._ip(host, "link", "set", "dev", device, "up")
        self._number(host)

    def _number(self, host: str) -> None:
        self._ips[host] = next(self._free)
        self._ip(host, "addr", "add", f"{self._ips[host]}/24", "dev", "eth0")

    def _ip(self, host: str, *what: str) -> None:
        _run("ip", "-netns", self._namespace(host), *what)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise LanError(f"{' '.join(command)}: {done.stderr.strip()}")


def _why_not() -> str:
    """Why there can be no :class:`Lan` here; empty if there can."""
    if shutil.which("ip") is None:
        return "no `ip` on the path (Debian: apt-get install iproute2)"
    try:
        with Lan("probe"):
            return ""
    except LanError as error:
        return f"{error} (it takes root)"


_REASON = _why_not()
missing = pytest.mark.skipif(bool(_REASON), reason=f"NOT TESTED ON REAL HOSTS: {_REASON}")
