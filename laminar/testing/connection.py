"""A simulated connection's two ends, and who accepts them."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from laminar.errors import StreamBrokenError, StreamClosedError
from laminar.net.stream import SendBuffer
from laminar.testing.pipe import Pipe

if TYPE_CHECKING:
    from laminar.testing.host import SimulatedHost


class SimulatedStream:
    """One end of a connection: a :class:`~laminar.net.stream.ByteStream`.

    Made by :meth:`SimulatedHost.connect <laminar.testing.network.SimulatedHost.connect>` and
    handed out by :meth:`SimulatedListener.accept`.
    """

    def __init__(self, name: str, host: SimulatedHost, outgoing: Pipe, incoming: Pipe) -> None:
        self.name = name
        """Number of the connection and host of this end, for the trace."""
        self.host = host
        self.outgoing = outgoing
        self.incoming = incoming
        self.peer: SimulatedStream = self
        self.reset_after: float = inf
        """The connection breaks when so many bytes were sent, both directions together."""
        self.closed = False
        self._finished = False
        self._receiving: anyio.Event | None = None
        self._sending: anyio.Event | None = None

    # -- the seam ------------------------------------------------------------------------

    async def send_vectored(self, buffers: Sequence[SendBuffer]) -> None:
        """Send all; see :meth:`ByteStream.send_vectored`."""
        rest = memoryview(b"".join(buffers))
        await self._perhaps_yield()
        self._check_can_send()
        while rest:
            still = self.host.standing_still(busy=True)
            if still or not self.outgoing.room:
                if not still:
                    self.host.network.note("full_buffer")
                await self._wait_to_send()
            else:
                rest = rest[self._send_some(rest, anyio.current_time()) :]
            if rest:
                self._check_can_send()

    async def receive_into(self, buffer: memoryview) -> int:
        """Receive some; see :meth:`ByteStream.receive_into`."""
        await self._perhaps_yield()
        while True:
            now = anyio.current_time()
            self._check_open()
            if not self.host.standing_still(busy=self.incoming.next_event() < inf):
                count = self.incoming.pull(buffer, now)
                if count is not None:
                    self.host.network.trace("receive", self.name, count)
                    self.peer.wake()
                    return count
                if self.incoming.broken(now):
                    raise StreamBrokenError(f"connection {self.name} was reset by the peer")
            await self._wait_to_receive(now)

    async def send_eof(self) -> None:
        """End this direction; see :meth:`ByteStream.send_eof`."""
        self._check_open()
        if not self._finished:
            self._finished = True
            self.outgoing.finish(anyio.current_time())
            self.peer.wake()

    def close(self) -> None:
        """Close this end; the other sees the end, or a reset if it was not listened to."""
        if self.closed:
            return
        self.closed = True
        self.host.network.trace("close", self.name)
        self.host.network.forget(self)
        now = anyio.current_time()
        if self.incoming.unread:
            self.outgoing.reset(now + self.host.network.faults.delay_s)
        elif not self._finished:
            self.outgoing.finish(now)
        self.incoming.abandon()
        self.wake()
        self.peer.wake()

    # -- what the network does to it -----------------------------------------------------

    def reset(self) -> None:
        """Break the connection for both ends, as a box in the middle would; bytes are lost."""
        at = anyio.current_time()
        for end in (self, self.peer):
            end.incoming.reset(at)
            end.wake()

    def wake(self) -> None:
        """Something may have changed for a call that waits."""
        for event in (self._receiving, self._sending):
            if event is not None:
                event.set()

    # -- inside --------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed:
            raise StreamClosedError(f"connection {self.name} was closed on this side")

    def _check_can_send(self) -> None:
        self._check_open()
        if self.incoming.broken(anyio.current_time()):
            raise StreamBrokenError(f"connection {self.name} was reset by the peer")
        if self._finished:
            raise StreamBrokenError(f"connection {self.name} was ended on this side")

    async def _perhaps_yield(self) -> None:
        network = self.host.network
        if network.rng.random() < network.faults.yields:
            await checkpoint()

    def _send_some(self, data: memoryview, now: float) -> int:
        network = self.host.network
        if self.peer.closed:
            # Whoever talks to a closed end hears so, after the way there and back.
            self.incoming.reset(now + 2 * network.faults.delay_s)
        left = self.reset_after - self.outgoing.sent - self.incoming.sent
        size = self.outgoing.push(data[: max(1, int(min(left, len(data))))], now)
        network.trace("send", self.name, size, zlib.crc32(data[:size]))
        self.peer.wake()
        if size >= left:
            self._break(now)
        return size

    def _break(self, now: float) -> None:
        network = self.host.network
        self.reset_after = self.peer.reset_after = inf
        if network.rng.random() < network.faults.one_sided:
            network.note("one_sided_reset")
            self.incoming.reset(now)
            self.wake()
        else:
            network.note("reset")
            self.reset()

    async def _wait_to_send(self) -> None:
        self._sending = anyio.Event()
        try:
            await _wait(self._sending, self.incoming.next_reset())
        finally:
            self._sending = None

    async def _wait_to_receive(self, now: float) -> None:
        deadline = inf if self.host.paused else self.incoming.next_event()
        if now < deadline < inf:
            self.host.network.note("delay")
        self._receiving = anyio.Event()
        try:
            await _wait(self._receiving, deadline)
        finally:
            self._receiving = None


async def _wait(event: anyio.Event, deadline: float) -> None:
    """Wait for ``event``, at the longest until ``deadline``."""
    if deadline == inf:
        await event.wait()
    else:
        with anyio.CancelScope(deadline=deadline):
            await event.wait()


class SimulatedListener:
    """Accepts the connections of one address: a :class:`~laminar.net.stream.Listener`."""

    def __init__(self, host: SimulatedHost, addr: str) -> None:
        self._host = host
        self._addr = addr
        self._backlog: deque[SimulatedStream] = deque()
        self._closed = False
        self._accepting: anyio.Event | None = None

    @property
    def local_addr(self) -> str:
        """The host's name and the port."""
        return self._addr

    async def accept(self) -> SimulatedStream:
        """Wait for the next stream; see :meth:`Listener.accept`."""
        await checkpoint()
        while True:
            if self._closed:
                raise StreamClosedError(f"the listener at {self._addr} was closed")
            if self._backlog and not self._host.standing_still(busy=True):
                return self._backlog.popleft()
            self._accepting = anyio.Event()
            await self._accepting.wait()

    def close(self) -> None:
        """Stop listening; connections that nobody accepted are reset."""
        if not self._closed:
            self._closed = True
            self._host.network.unbind(self._addr)
            while self._backlog:
                stream = self._backlog.popleft()
                stream.reset()
                stream.close()
            self.wake()

    def offer(self, stream: SimulatedStream) -> None:
        """A connection has been made."""
        self._backlog.append(stream)
        self.wake()

    def wake(self) -> None:
        """Something may have changed for a call that waits."""
        if self._accepting is not None:
            self._accepting.set()
