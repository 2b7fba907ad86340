"""A simulated network for drivers that speak in datagrams.

It implements :class:`~laminar.net.datagram.DatagramNetwork` and starts no task: what was sent lies
in the socket of its receiver until it arrives, so under trio's mock clock all of it takes virtual
time only.
"""

from __future__ import annotations

import heapq
from itertools import count

import anyio
from anyio.lowlevel import checkpoint

from laminar.errors import StreamBrokenError, StreamClosedError
from laminar.net.address import format_addr, parse_addr
from laminar.testing.datagrams import DatagramWeather

RECEIVE_BUFFER_DATAGRAMS = 1024
"""Datagrams that one socket holds; further ones are lost, as in a kernel's buffer."""


class SimulatedDatagramSocket:
    """A :class:`~laminar.net.datagram.DatagramSocket` in a simulated network."""

    def __init__(self, network: SimulatedDatagrams, addr: str) -> None:
        self._network = network
        self._addr = addr
        self._closed = False
        self._arriving: list[tuple[float, int, str, bytes]] = []
        self._wake = anyio.Event()

    @property
    def local_addr(self) -> str:
        """The bound address."""
        return self._addr

    async def send_to(self, addr: str, datagram: bytes) -> None:
        """Send ``datagram``; whether it arrives, and when, is the weather's business."""
        self._check_open()
        await checkpoint()
        self._network.carry(self._addr, addr, datagram)

    async def receive(self) -> tuple[str, bytes]:
        """Wait for the next datagram."""
        await checkpoint()
        while True:
            self._check_open()
            if self._arriving and self._arriving[0][0] <= anyio.current_time():
                _, _, source, datagram = heapq.heappop(self._arriving)
                return source, datagram
            self._wake = anyio.Event()
            deadline = self._arriving[0][0] if self._arriving else float("inf")
            with anyio.CancelScope(deadline=deadline):
                await self._wake.wait()

    def close(self) -> None:
        """Close at once."""
        self._closed = True
        self._network.unbind(self)
        self._wake.set()

    def deliver(self, when: float, order: int, source: str, datagram: bytes) -> None:
        """Let a datagram arrive at that time."""
        if len(self._arriving) < RECEIVE_BUFFER_DATAGRAMS:
            heapq.heappush(self._arriving, (when, order, source, datagram))
            self._wake.set()

    def _check_open(self) -> None:
        if self._closed:
            raise StreamClosedError(f"the socket at {self._addr} was closed")


class SimulatedDatagrams:
    """A :class:`~laminar.net.datagram.DatagramNetwork` under a weather."""

    def __init__(self, weather: DatagramWeather) -> None:
        self.weather = weather
        self.names: dict[str, list[str]] = {}
        """What ``name:port`` stands for."""
        self._sockets: dict[str, SimulatedDatagramSocket] = {}
        self._order = count()
        self._ports = count(40000)

    async def bind(self, addr: str) -> SimulatedDatagramSocket:
        """Bind a socket; port 0 takes the next one that is free.

        Raises :class:`~laminar.errors.StreamBrokenError` when the address is taken.
        """
        await checkpoint()
        host, port = parse_addr(addr)
        addr = format_addr(host, port or next(self._ports))
        if addr in self._sockets:
            raise StreamBrokenError(f"cannot bind to {addr}: somebody else has")
        sock = self._sockets[addr] = SimulatedDatagramSocket(self, addr)
        return sock

    async def resolve(self, addr: str) -> list[str]:
        """Return what a name stands for; a name that is not in :attr:`names` is an address."""
        await checkpoint()
        found = self.names.get(addr, [addr])
        if not found:
            raise StreamBrokenError(f"cannot resolve {addr}: no such name")
        return list(found)

    def carry(self, source: str, target: str, datagram: bytes) -> None:
        """Give a datagram to the weather, and what it leaves of it to the target."""
        for when, arrived in self.weather.carry(source, target, datagram, anyio.current_time()):
            sock = self._sockets.get(target)
            if sock is not None:
                sock.deliver(when, next(self._order), source, arrived)

    def unbind(self, sock: SimulatedDatagramSocket) -> None:
        """The socket's address is free again."""
        if self._sockets.get(sock.local_addr) is sock:
            del self._sockets[sock.local_addr]
