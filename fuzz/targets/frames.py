"""The frame decoder: any bytes, in any chunks, give the frames that a plain parser finds.

An input is four bytes (limits and chunking) and the stream. With the first bit of the first
byte set, the decoder's buffers are shrunk, so that a few hundred bytes exercise what otherwise
takes megabytes: bodies that outgrow the scratch, and the scratch's moving front.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fuzz.broken import expect
from laminar.errors import ProtocolError
from laminar.shuffle import frames
from laminar.shuffle.frames import (
    CONTROL_BODY_BYTES_MAX,
    GREETING_BODY_BYTES_MAX,
    HEADER,
    KIND_NAMES,
    Frame,
    FrameDecoder,
    Kind,
    encode_frame,
)

DATA_BYTES_MAX = 1024
ADMITTED_BYTES_MAX = 768
SMALL = {"SCRATCH_BYTES": 256, "DIRECT_BYTES_MIN": 64, "READ_AHEAD_BYTES": 32}
SMALL_CONTROL_BYTES_MAX = 192

Told = tuple[int, int, int, int, bytes]


def check(data: bytes) -> None:
    """Decode the stream in chunks and compare with :func:`reference`."""
    if len(data) < 4:
        return
    small, opened = data[0] & 1, data[0] & 2
    steps, stream = data[1:4], data[4:]
    with _buffer_sizes(SMALL if small else {}):
        decoder = FrameDecoder(_admit)
        if opened:
            decoder.open_for_data(_admit, DATA_BYTES_MAX)
        if small:
            decoder.control_bytes_max = SMALL_CONTROL_BYTES_MAX
        found, reason = decode(decoder, stream, steps)
    limit = CONTROL_BODY_BYTES_MAX if opened else GREETING_BODY_BYTES_MAX
    wanted, why, idle = reference(
        stream, DATA_BYTES_MAX if opened else 0, SMALL_CONTROL_BYTES_MAX if small else limit
    )
    if reason == "credit":
        # Only bodies that do not arrive whole in the scratch are put to admit: up to chunking.
        expect(found == wanted[: len(found)], f"decoded {found}, not {wanted}")
        expect(_starts_too_large(stream, found), "a body was not admitted that should be")
        return
    expect(found == wanted, f"decoded {found}, not {wanted}")
    expect(reason == why, f"refused for {reason!r}, not {why!r}")
    expect(reason is not None or decoder.idle == idle, f"idle is {decoder.idle}")


def _starts_too_large(stream: bytes, found: list[Told]) -> bool:
    start = sum(HEADER.size + len(frame[-1]) for frame in found)
    length, kind, *_ = HEADER.unpack_from(stream, start)
    return bool(kind == Kind.DATA and length > ADMITTED_BYTES_MAX)


def decode(decoder: FrameDecoder, stream: bytes, steps: bytes) -> tuple[list[Told], str | None]:
    """All frames of ``stream``, handed over in chunks whose sizes ``steps`` name in turn."""
    found: list[Told] = []
    position = turn = 0
    try:
        while position < len(stream):
            into = decoder.buffer()
            expect(len(into) > 0, "the buffer is empty")
            # Growing, lest a long stream takes thousands of steps.
            step = 1 + steps[turn % len(steps)] * (turn % 5) + 4 * max(0, turn - 16)
            turn += 1
            chunk = stream[position : position + min(step, len(into))]
            into[: len(chunk)] = chunk
            position += len(chunk)
            found += [_told(frame) for frame in decoder.received(len(chunk))]
        decoder.buffer()  # an error that waits for the frames before it is told here
    except ProtocolError as error:
        return found, error.reason
    return found, None


def reference(
    stream: bytes, data_bytes_max: int, control_bytes_max: int
) -> tuple[list[Told], str | None, bool]:
    """The frames, why they end early, and whether the stream ends between two."""
    found: list[Told] = []
    while len(stream) >= HEADER.size:
        length, kind, flags, channel, sequence = HEADER.unpack_from(stream)
        if kind not in KIND_NAMES:
            return found, "kind", False
        if length > (data_bytes_max if kind == Kind.DATA else control_bytes_max):
            return found, "size", False
        if len(stream) < HEADER.size + length:
            return found, None, False
        body = stream[HEADER.size : HEADER.size + length]
        found.append((kind, flags, channel, sequence, body))
        stream = stream[HEADER.size + length :]
    return found, None, not stream


def _told(frame: Frame) -> Told:
    return (frame.kind, frame.flags, frame.channel, frame.sequence, frame.body_bytes())


def _admit(channel: int, length: int) -> None:
    if length > ADMITTED_BYTES_MAX:
        raise ProtocolError("credit", f"channel {channel} has no room for {length} bytes")


@contextmanager
def _buffer_sizes(sizes: dict[str, int]) -> Iterator[None]:
    before = {name: getattr(frames, name) for name in sizes}
    vars(frames).update(sizes)
    try:
        yield
    finally:
        vars(frames).update(before)


def seeds() -> Iterator[tuple[str, bytes]]:
    """Streams of real frames, whole and cut, by size of buffers and chunks."""
    stream = b"".join(
        [
            encode_frame(Kind.OPEN, b"\x81\xa4name\xa1x", channel=1),
            encode_frame(Kind.DATA, b"d" * 40, flags=2, channel=1, sequence=1),
            encode_frame(Kind.WATERMARK, bytes(8), channel=1, sequence=2),
            encode_frame(Kind.DATA, b"e" * 500, flags=3, channel=1, sequence=3),
            encode_frame(Kind.END, channel=1, sequence=4),
            encode_frame(Kind.PING, sequence=1),
        ]
    )
    for mode in range(4):
        for name, steps in (
            ("bytes", bytes(3)),
            ("chunks", b"\x05\x30\xff"),
            ("large", b"\xff" * 3),
        ):
            yield f"stream-{mode}-{name}", bytes([mode]) + steps + stream
    yield "cut", b"\x03\x10\x20\x30" + stream[:200]
    yield "large-body", b"\x03\xff\xff\xff" + encode_frame(Kind.DATA, b"f" * 1000, sequence=1)
    yield "oversized", b"\x03\xff\xff\xff" + encode_frame(Kind.DATA, b"f" * 1025, sequence=1)
    yield "unknown-kind", b"\x02\xff\xff\xff" + encode_frame(9)
