"""Last words to a peer, before its connection is closed."""

from __future__ import annotations

from typing import Final

import anyio

from laminar.errors import StreamError
from laminar.net.stream import ByteStream
from laminar.shuffle import control
from laminar.shuffle.frames import Kind, encode_frame
from laminar.shuffle.messages import Close

FAREWELL_TIMEOUT_S: Final = 1.0
"""Longest time that a peer is given to listen."""


def close_frame(reason: str) -> bytes:
    """A CLOSE frame."""
    return encode_frame(Kind.CLOSE, control.encode_close(Close(reason)))


async def tell(stream: ByteStream, goodbye: bytes) -> None:
    """Send the last words to the peer, if it listens."""
    with anyio.move_on_after(FAREWELL_TIMEOUT_S):
        try:
            await stream.send_vectored([goodbye])
        except StreamError:
            return  # it will find out by the end of the stream
