"""One machine of a simulated network: what a driver takes for its network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laminar.net.address import parse_addr
from laminar.testing.connection import SimulatedListener, SimulatedStream

if TYPE_CHECKING:
    from laminar.testing.network import SimulatedNetwork


class SimulatedHost:
    """A :class:`~laminar.net.stream.Network` as seen from one host.

    Made by :meth:`SimulatedNetwork.host <laminar.testing.network.SimulatedNetwork.host>`.
    """

    def __init__(self, network: SimulatedNetwork, name: str) -> None:
        self.network = network
        self.name = name
        self.paused = False
        """Whether everything on this host stands still."""
        self._pause_bit = False

    # -- the seam ------------------------------------------------------------------------

    async def connect(self, addr: str) -> SimulatedStream:
        """Connect to ``addr``, which is ``host:port`` with the name of a simulated host.

        Raises :class:`~laminar.errors.StreamBrokenError` when it is refused.
        """
        return await self.network.dial(self, addr)

    async def listen(self, addr: str) -> SimulatedListener:
        """Listen at the port of ``addr``, under this host's own name whatever ``addr`` says.

        Raises :class:`~laminar.errors.StreamBrokenError` when the port is taken.
        """
        return self.network.bind(self, parse_addr(addr)[1])

    # -- making trouble ------------------------------------------------------------------

    def pause(self) -> None:
        """Let no call on this host get on until :meth:`resume`; its clock does not stop."""
        self.network.trace("pause", self.name)
        self.paused, self._pause_bit = True, False

    def resume(self) -> None:
        """End a pause."""
        if self.paused:
            self.network.trace("resume", self.name)
            self.paused = False
            self.network.wake_all()

    def crash(self) -> None:
        """Close everything this host has open, as its kernel does when a process is killed."""
        self.network.trace("crash", self.name)
        for listener in self.network.listeners_of(self):
            listener.close()
        for stream in self.network.streams_of(self):
            self.network.note("crash")
            stream.reset()
            stream.close()

    def standing_still(self, *, busy: bool) -> bool:
        """Whether the host is paused; if it is ``busy``, the pause has bitten."""
        if self.paused and busy and not self._pause_bit:
            self._pause_bit = True
            self.network.note("pause")
        return self.paused
