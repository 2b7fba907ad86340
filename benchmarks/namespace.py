"""A network of one's own: nothing but the loopback, and nobody else's traffic on it."""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
from pathlib import Path

from benchmarks.process import PeerMissing

WAYS = (["unshare", "--net"], ["unshare", "--net", "--map-root-user"])
"""As root, and as anybody else where the kernel allows it."""
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
REQUEST = struct.Struct("16sH14x")
"""``struct ifreq``: a name and flags."""


def inside() -> list[str]:
    """What to put before a command so that it runs in a new network namespace.

    Raises :class:`PeerMissing` where none can be made.
    """
    for way in WAYS:
        try:
            tried = subprocess.run([*way, "true"], capture_output=True, check=False)
        except FileNotFoundError as error:
            raise PeerMissing("the command unshare is not installed (util-linux)") from error
        if tried.returncode == 0:
            return way
    raise PeerMissing(f"no network namespace can be made: {tried.stderr.decode().strip()}")


def raise_loopback() -> None:
    """Bring the loopback of this process's namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        asked = fcntl.ioctl(anything, SIOCGIFFLAGS, REQUEST.pack(b"lo", 0))
        name, flags = REQUEST.unpack(asked[: REQUEST.size])
        fcntl.ioctl(anything, SIOCSIFFLAGS, REQUEST.pack(name, flags | IFF_UP))


def loopback_bytes() -> int:
    """IP bytes that the loopback of this process's namespace has carried, each counted once."""
    return received_bytes(Path("/proc/self/net/dev").read_text(), "lo")


def received_bytes(table: str, interface: str) -> int:
    """The first figure of an interface's line in ``/proc/net/dev``."""
    for line in table.splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == interface:
            return int(figures.split()[0])
    raise ValueError(f"no interface {interface}")
