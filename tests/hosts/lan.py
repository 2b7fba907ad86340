"""Hosts on one machine: network namespaces joined by a bridge, to be cut and joined again.

All of it, the bridge included, lives in namespaces that were made for the purpose: the machine's
own interfaces, routes and filters are neither used nor touched. It takes ``ip``, and root or a
kernel that lets everybody make namespaces of their own.
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

NETWORK = "10.77.0"
NOWHERE = "02:00:00:00:00:00"
"""A hardware address that nobody has: a switch carries what goes there, and it ends there."""

ROOTLESS = ("unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c")
"""What to put in front of a script that may make hosts although the user may not."""
HOLD = "mount -t tmpfs none /run && echo held && exec cat"
"""Keeps namespaces, with room for the names of more of them, until its input ends."""

_numbers = itertools.count(1)


class LanError(Exception):
    """``ip`` refused."""


class Lan:
    """A context manager: the hosts live in its block.

    ::

        with Lan("a", "b") as lan:
            subprocess.run([*lan.inside("a"), "ping", "-c1", lan.ip("b")])
    """

    def __init__(self, *hosts: str, rootless: bool | None = None) -> None:
        """``rootless``: as a user who is nobody; where root is not needed that is the way."""
        self._hosts = hosts
        self._rootless = _way.rootless if rootless is None else rootless
        self._enter: list[str] = []
        """What to put in front of a command to have it run where the hosts can be made."""
        self.prefix = f"laminar-{os.getpid()}-{next(_numbers)}"
        self._ips: dict[str, str] = {}
        self._free = map(f"{NETWORK}.{{}}".format, itertools.count(1))
        self._stack = ExitStack()

    def __enter__(self):
        with self._stack as stack:  # whatever was made goes again if the rest cannot be
            if self._rootless:
                self._enter = stack.enter_context(_held())
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
        return [*self._enter, "ip", "netns", "exec", self._namespace(host)]

    def namespaces(self) -> str:
        """Those that there are, one in a line."""
        return _run(*self._enter, "ip", "netns")

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
        _run(*self._enter, "ip", "netns", "add", name)
        self._stack.callback(_run, *self._enter, "ip", "netns", "delete", name)

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
        _run(*self._enter, "ip", "-netns", self._namespace(host), *what)


@contextmanager
def _held() -> Iterator[list[str]]:
    """Namespaces in which the user counts as root; how to get into them."""
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*ROOTLESS, HOLD], text=True, **pipe) as holder:
        if holder.stdout.readline() != "held\n":
            raise LanError(f"{' '.join(ROOTLESS[:3])}: {holder.communicate()[1].strip()}")
        into = ("--user", "--mount", "--net", "--preserve-credentials", f"--target={holder.pid}")
        yield ["nsenter", *into]
        holder.communicate()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise LanError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class _Way(NamedTuple):
    """How hosts can be made here."""

    rootless: bool
    why_not: str
    """Empty if they can."""


def _find_way() -> _Way:
    for command, package in {"ip": "iproute2", "unshare": "util-linux"}.items():
        if shutil.which(command) is None:
            return _Way(False, f"no `{command}` on the path (Debian: apt-get install {package})")
    refused = []
    for rootless in (False, True):
        try:
            with Lan("probe", rootless=rootless):
                return _Way(rootless, "")
        except LanError as error:
            refused.append(str(error))
    return _Way(False, f"as root: {refused[0]}; as anybody: {refused[1]}")


_way = _find_way()
missing = pytest.mark.skipif(bool(_way.why_not), reason=f"NOT TESTED ON REAL HOSTS: {_way.why_not}")
