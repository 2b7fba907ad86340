"""The seam between the drivers and a network of datagrams.

A datagram arrives whole or not at all, perhaps twice and in any order; nobody says which.
Failures are :class:`~laminar.errors.StreamError`. Addresses are numeric, ``host:port``, but for
those that are resolved.
"""

from __future__ import annotations

from typing import Protocol


class DatagramSocket(Protocol):
    """Sends and receives datagrams at one address.

    Any task may send; one task at a time receives.
    """

    @property
    def local_addr(self) -> str:
        """The bound address, ``host:port``, with the port that was really chosen."""
        ...

    async def send_to(self, addr: str, datagram: bytes) -> None:
        """Send ``datagram`` to a numeric address.

        Raises :class:`~laminar.errors.StreamBrokenError` when the system refuses to; that says
        nothing about the next one.
        """
        ...

    async def receive(self) -> tuple[str, bytes]:
        """Wait for the next datagram and return where it came from, and the datagram.

        Raises :class:`~laminar.errors.StreamBrokenError` when the system reports an error; the
        socket stays usable.
        """
        ...

    def close(self) -> None:
        """Close at once, from any task; pending calls raise. Closing twice is harmless."""
        ...


class DatagramNetwork(Protocol):
    """Makes datagram sockets."""

    async def bind(self, addr: str) -> DatagramSocket:
        """Bind a socket to ``addr`` (``host:port``; port 0 lets the system choose)."""
        ...

    async def resolve(self, addr: str) -> list[str]:
        """Return the numeric addresses that ``addr``, a name and a port, stands for.

        Raises :class:`~laminar.errors.StreamBrokenError` when there is none.
        """
        ...
