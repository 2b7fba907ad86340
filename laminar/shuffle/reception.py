"""The driver of a :class:`~laminar.shuffle.greeting.Greeting`: reads, replies, and no rules."""

from __future__ import annotations

from laminar.errors import ProtocolError, StreamBrokenError
from laminar.net.stream import ByteStream, receive_exactly
from laminar.shuffle.frames import PREFACE, Frame, FrameDecoder
from laminar.shuffle.greeting import Greeting
from laminar.shuffle.messages import Hello


async def receive_hello(stream: ByteStream, greeting: Greeting) -> tuple[Hello, FrameDecoder]:
    """Let the peer introduce itself; the decoder goes on where its introduction ended.

    The caller limits the time. Raises :class:`~laminar.errors.ProtocolError` when the peer may
    not come in, and :class:`~laminar.errors.StreamError`.
    """
    greeting.on_preface(await receive_exactly(stream, PREFACE.size))
    decoder = FrameDecoder(_nothing_yet)
    while True:
        reply = greeting.on_frame(await _receive_frame(stream, decoder))
        if isinstance(reply, Hello):
            return reply, decoder
        await stream.send_vectored([reply])


async def _receive_frame(stream: ByteStream, decoder: FrameDecoder) -> Frame:
    """One frame, behind which the peer has to wait for the answer."""
    frames: list[Frame] = []
    while not frames:
        count = await stream.receive_into(decoder.buffer())
        if count == 0:
            raise StreamBrokenError("the connection ended before the handshake")
        frames = decoder.received(count)
    if len(frames) > 1 or not decoder.idle:
        raise ProtocolError("order", "the peer did not wait for the answer to its introduction")
    return frames[0]


def _nothing_yet(channel: int, length: int) -> None:
    raise ProtocolError("order", f"a body of {length} bytes before the handshake")
