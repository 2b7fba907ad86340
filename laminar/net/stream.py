"""The seam between the drivers and the network.

A driver knows these protocols and nothing of sockets, so that TCP, TLS and a simulated
network are interchangeable. Failures are :class:`~laminar.errors.StreamError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import pyarrow as pa

from laminar.errors import StreamBrokenError

SendBuffer: TypeAlias = bytes | bytearray | memoryview | pa.Buffer
"""Anything with the buffer protocol that is not changed while it is being sent."""


class ByteStream(Protocol):
    """A connected, ordered, reliable stream of bytes.

    One task may send while another receives; two tasks never do the same at once.
    """

    async def send_vectored(self, buffers: Sequence[SendBuffer]) -> None:
        """Send all ``buffers`` in order. If cancelled or failed, part may be sent: close it."""

    async def receive_into(self, buffer: memoryview) -> int:
        """Receive at least one byte into ``buffer``; return how many, 0 at the end."""

    async def send_eof(self) -> None:
        """Tell the other side that nothing more follows. Receiving goes on."""

    def close(self) -> None:
        """Close at once, from any task; pending calls raise. Closing twice is harmless."""


class Listener(Protocol):
    """Accepts streams at one address."""

    @property
    def local_addr(self) -> str:
        """The bound address, ``host:port``, with the port that was really chosen."""

    async def accept(self) -> ByteStream:
        """Wait for the next stream. A failed accept raises; the listener stays usable."""

    def close(self) -> None:
        """Stop listening at once. Closing twice is harmless."""


class Network(Protocol):
    """Makes streams."""

    async def connect(self, addr: str) -> ByteStream:
        """Connect to ``addr`` (``host:port``). The caller limits the time."""

    async def listen(self, addr: str) -> Listener:
        """Listen at ``addr`` (``host:port``; port 0 lets the system choose)."""


async def receive_exactly(stream: ByteStream, size: int) -> bytes:
    """Receive ``size`` bytes.

    Raises :class:`~laminar.errors.StreamBrokenError` when the stream ends before.
    """
    received = bytearray(size)
    view = memoryview(received)
    while view:
        count = await stream.receive_into(view)
        if count == 0:
            raise StreamBrokenError("the connection ended in the middle of a message")
        view = view[count:]
    return bytes(received)
