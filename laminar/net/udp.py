"""UDP on raw non-blocking sockets, on every event loop."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from laminar.errors import StreamBrokenError, StreamClosedError
from laminar.net.address import format_addr, parse_addr

DATAGRAM_BYTES_MAX = 65535

RECEIVE_BUFFER_BYTES = 1 << 20
"""Asked of the system, so that what arrives while the process is busy is not lost."""

CALLS_BEFORE_YIELD = 16
"""System calls in a row that never blocked before the event loop gets a turn."""

_Ready: TypeAlias = Callable[[socket.socket], Awaitable[None]]


class UdpSocket:
    """A :class:`~laminar.net.datagram.DatagramSocket` over UDP."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._closed = False
        self._calls = 0
        host, port = sock.getsockname()[:2]
        self._local_addr = format_addr(host, port)

    @property
    def local_addr(self) -> str:
        """The bound address."""
        return self._local_addr

    async def send_to(self, addr: str, datagram: bytes) -> None:
        """Send ``datagram``; see :class:`~laminar.net.datagram.DatagramSocket`."""
        target = _numeric(addr, self._socket.family)
        while True:
            try:
                self._socket.sendto(datagram, target)
            except BlockingIOError:
                await self._wait(anyio.wait_writable)
                continue
            except (OSError, OverflowError) as error:
                raise self._translate(f"sending to {addr}", error) from error
            await self._breathe()
            return

    async def receive(self) -> tuple[str, bytes]:
        """Wait for the next datagram; see :class:`~laminar.net.datagram.DatagramSocket`."""
        while True:
            try:
                datagram, source = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                await self._wait(anyio.wait_readable)
                continue
            except OSError as error:
                raise self._translate("receiving", error) from error
            await self._breathe()
            return format_addr(source[0], source[1]), datagram

    def close(self) -> None:
        """Close at once."""
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._socket)
            self._socket.close()

    async def _wait(self, ready: _Ready) -> None:
        self._calls = 0
        try:
            await ready(self._socket)
        except (OSError, ValueError, anyio.ClosedResourceError) as error:
            raise self._translate("waiting", error) from error

    async def _breathe(self) -> None:
        """Let other tasks run now and then although the socket never made us wait."""
        self._calls += 1
        if self._calls >= CALLS_BEFORE_YIELD:
            self._calls = 0
            await checkpoint()

    def _translate(self, what: str, error: Exception) -> StreamBrokenError | StreamClosedError:
        if self._closed:
            return StreamClosedError(f"the socket at {self._local_addr} was closed")
        return StreamBrokenError(f"{what} at {self._local_addr} failed: {error}")


class UdpNetwork:
    """A :class:`~laminar.net.datagram.DatagramNetwork` of UDP sockets."""

    async def bind(self, addr: str) -> UdpSocket:
        """Bind to the first address the name resolves to.

        Raises :class:`~laminar.errors.StreamBrokenError` when it cannot be bound.
        """
        family, target = (await _resolve(addr))[0]
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            raise StreamBrokenError(f"cannot bind to {addr}: {error}") from error
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            sock.bind(target)
            return UdpSocket(sock)
        except OSError as error:
            sock.close()
            raise StreamBrokenError(f"cannot bind to {addr}: {error}") from error

    async def resolve(self, addr: str) -> list[str]:
        """Return what ``addr`` stands for; see :class:`~laminar.net.datagram.DatagramNetwork`."""
        return [format_addr(*target) for _, target in await _resolve(addr)]

    async def host_towards(self, addr: str) -> str:
        """The address of this machine that datagrams to ``addr`` leave from. Sends nothing.

        Raises :class:`~laminar.errors.StreamBrokenError` when there is no way to it.
        """
        family, target = (await _resolve(addr))[0]
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect(target)
                return str(sock.getsockname()[0])
        except OSError as error:
            raise StreamBrokenError(f"there is no way to {addr}: {error}") from error


async def _resolve(addr: str) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    host, port = parse_addr(addr)
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise StreamBrokenError(f"cannot resolve {addr}: {error}") from error
    return [(family, (target[0], target[1])) for family, _, _, _, target in found]


@lru_cache(maxsize=4096)
def _numeric(addr: str, family: int) -> tuple[str, int]:
    """The target of a datagram. A name would be looked up, and that would block."""
    try:
        host, port = parse_addr(addr)
        version = ipaddress.ip_address(host).version
    except ValueError as error:
        raise StreamBrokenError(f"{addr!r} is no numeric address: {error}") from error
    if version != (4 if family == socket.AF_INET else 6):
        raise StreamBrokenError(f"{addr} is not of the IP version of this socket")
    return host, port
