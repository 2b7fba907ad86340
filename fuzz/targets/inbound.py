"""The inbound session, and any sequence of frames.

Each channel delivers a prefix of its sequence, once and in order, within its window, and credit
never runs ahead of the consumer.

An input is a list of steps: one byte of what to do, and what that needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pyarrow as pa

from fuzz.broken import expect
from fuzz.reading import Bytes
from laminar.config import ShuffleConfig
from laminar.errors import ProtocolError
from laminar.model import BarrierFlags, CheckpointBarrier, CheckpointId, Epoch, Incarnation, NodeId
from laminar.shuffle import control
from laminar.shuffle.arrow import BatchEncoder
from laminar.shuffle.frames import HEADER, HEADER_BYTES, SEQUENCED_MAX, Flag, Frame, Kind
from laminar.shuffle.inbound import InboundChannel, InboundSession
from laminar.shuffle.messages import Barrier, Close, Data, End, Hello, Watermark

WINDOW_BYTES = 2048
CONTROL_FRAMES_MAX = 4
CHANNELS_MAX = 3
STEPS_MAX = 256
KINDS = (1, 2, 3, 4, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25)

MESSAGES = {Kind.DATA: Data, Kind.BARRIER: Barrier, Kind.WATERMARK: Watermark, Kind.END: End}

CONFIG = ShuffleConfig(
    window_bytes=WINDOW_BYTES,
    control_frames_max=CONTROL_FRAMES_MAX,
    channels_max=CHANNELS_MAX,
    target_frame_bytes=WINDOW_BYTES,
    coalesce_bytes=WINDOW_BYTES,
)
NODE = NodeId("peer")
BARRIER = CheckpointBarrier(CheckpointId(1), Epoch(1), BarrierFlags(0))


def _bodies() -> list[tuple[int, bytes]]:
    """DATA bodies of one stream: each with its flags."""
    encoder = BatchEncoder(WINDOW_BYTES)
    found = []
    for rows in (1, 30):
        batch = pa.RecordBatch.from_pydict({"x": pa.array(range(rows), pa.int64())})
        starts, buffers, _ = encoder.encode(batch)
        body = b"".join(bytes(buffer) for buffer in buffers)
        found.append((Flag.STREAM_START if starts else 0, body))
    return found


BODIES = _bodies()


class _Consumer:
    """The mailbox of all channels, and what was delivered of each."""

    def __init__(self) -> None:
        self.queue: deque[tuple[InboundChannel, Frame]] = deque()
        self.put_last: dict[InboundChannel, int] = {}
        self.ended: set[InboundChannel] = set()

    def put(self, channel: InboundChannel, frame: Frame) -> None:
        following = self.put_last.get(channel, 0) + 1
        expect(frame.sequence == following, f"{channel.name!r} skips or repeats")
        self.put_last[channel] = frame.sequence
        expect(channel not in self.ended, f"{channel.name!r} goes on after its end")
        if frame.kind == Kind.END:
            self.ended.add(channel)
        self.queue.append((channel, frame))

    def take(self) -> None:
        channel, frame = self.queue.popleft()
        if channel.broken:
            return
        try:
            message = channel.take(frame)
        except ProtocolError:
            expect(channel.broken, "an undecodable frame leaves its channel whole")
            return
        expect(isinstance(message, MESSAGES[frame.kind]), f"{message} of kind {frame.kind}")


def check(data: bytes) -> None:
    """Run the steps, and look at the session after each."""
    source = Bytes(data)
    consumer = _Consumer()
    hello = Hello("laminar", NODE, Incarnation(1), 1)
    session = InboundSession(hello, CONFIG, lambda name: consumer)
    session.attach(hello, NodeId("me"), Incarnation(1))
    open_for_frames = True
    for _ in range(STEPS_MAX):
        if source.exhausted:
            break
        what = source.u8()
        if what < 0x20:
            open_for_frames = _reconnect(session, source.u8())
        elif what < 0x50:
            if consumer.queue:
                consumer.take()
        elif what < 0x60:
            _look_at_replies(session)
        elif open_for_frames:
            open_for_frames = _receive(session, _frame(session, source, what))
        _look_at(session, consumer)


def _frame(session: InboundSession, source: Bytes, what: int) -> Frame:
    """A frame, most often the one that belongs there.

    The bits of its shape: 0x80 another sequence number, 0x40 any; 0x20 a body of any bytes,
    else one that fits the kind; 0x10 other flags; the lowest choose among what fits.
    """
    kind = KINDS[what % len(KINDS)]
    number, shape = source.u8() % (CHANNELS_MAX + 2), source.u8()
    sequence = _sequence(session, source, kind, number, shape)
    flags, body = _body(source, kind, shape, sequence)
    if shape & 0x10:
        flags ^= source.u8()
    return Frame(kind, flags, number, sequence, body)


def _sequence(session: InboundSession, source: Bytes, kind: int, number: int, shape: int) -> int:
    channel = session._by_number.get(number)  # to hit the right number often
    following = channel.window.received + 1 if channel is not None else 1
    if shape & 0xC0 == 0xC0:
        return source.u64()
    if shape & 0x80:
        return max(0, following + (shape & 7) - 4)
    return shape & 7 if kind > SEQUENCED_MAX else following


def _body(source: Bytes, kind: int, shape: int, sequence: int) -> tuple[int, bytes]:
    if shape & 0x20:
        return 0, source.take(source.u8())
    if kind == Kind.DATA:
        return BODIES[shape & 1]
    if kind in (Kind.OPEN, Kind.FORGET):
        return 0, control.encode_channel_name(f"c{shape & 7}")
    if kind == Kind.BARRIER:
        return 0, control.encode_barrier(BARRIER, max(0, sequence - 1))
    if kind == Kind.CLOSE:
        return 0, control.encode_close(Close("done"))
    return 0, bytes(8) if kind == Kind.WATERMARK else b""


def _receive(session: InboundSession, frame: Frame) -> bool:
    try:
        return session.on_frames([frame]) is None
    except ProtocolError:
        return False  # the driver closes the connection


def _reconnect(session: InboundSession, step: int) -> bool:
    hello = Hello("laminar", NODE, Incarnation(1), max(1, session.round + step % 4 - 1))
    newer = hello.round > session.round
    try:
        body = session.attach(hello, NodeId("me"), Incarnation(1))[HEADER_BYTES:]
    except ProtocolError:
        expect(not newer, "a newer connection was refused")
        return False
    expect(newer, "an older connection superseded")
    welcome = control.decode_welcome(body)
    for name, (received, consumed) in welcome.channels.items():
        window = session.channels[name].window
        expect((received, consumed) == (window.received, window.consumed), "a false Welcome")
    return True


def _look_at_replies(session: InboundSession) -> None:
    for reply in session.take():
        _, kind, _, number, sequence = HEADER.unpack_from(reply)
        if kind == Kind.CREDIT:
            window = session._by_number[number].window
            expect(sequence == window.consumed, f"credit of {sequence}")
    expect(not session.owing, "something is still owed")


def _look_at(session: InboundSession, consumer: _Consumer) -> None:
    held: dict[str, list[int]] = {name: [] for name in session.channels}
    known = session.channels.values()
    expect(all(channel in known for channel, _ in consumer.queue), "frames of a forgotten channel")
    for channel, frame in consumer.queue:
        if not channel.broken:
            held[channel.name].append(len(frame.body) if frame.kind == Kind.DATA else -1)
    expect(len(session.channels) <= CHANNELS_MAX, "too many channels")
    for name, channel in session.channels.items():
        window, sizes = channel.window, held[name]
        data = [size for size in sizes if size >= 0]
        if channel.broken:
            continue
        expect(window.held_bytes == sum(data), f"{window.held_bytes} bytes held, not {sum(data)}")
        expect(sum(data) <= WINDOW_BYTES or len(data) == 1, "the window is overdrawn")
        expect(window.held_control == len(sizes) - len(data), "control frames miscounted")
        expect(window.held_control <= CONTROL_FRAMES_MAX, "too many control frames")
        expect(window.consumed + len(sizes) == window.received, "frames went missing")


def seeds() -> Iterator[tuple[str, bytes]]:
    """Sessions that go well, and some that do not."""
    base = 0x62  # a multiple of the number of kinds, so that adding an index chooses one

    def step(kind: int, channel: int, shape: int, *rest: int) -> bytes:
        return bytes([base + KINDS.index(kind), channel, shape, *rest])

    take, replies, again = b"\x30", b"\x50", b"\x00\x02"
    opened = step(Kind.OPEN, 1, 0)
    data, more = step(Kind.DATA, 1, 0), step(Kind.DATA, 1, 1)
    controls = step(Kind.BARRIER, 1, 0) + step(Kind.WATERMARK, 1, 0) + step(Kind.PING, 0, 5)
    yield "one-batch", opened + data + take + replies
    yield "all-kinds", opened + data + controls + step(Kind.END, 1, 0) + take * 4 + replies
    yield "two-channels", opened + step(Kind.OPEN, 2, 1) + data + step(Kind.DATA, 2, 0) + take * 2
    yield "reconnect", opened + data + more + again + opened + more + take * 3 + replies
    yield "duplicate", opened + data + step(Kind.DATA, 1, 0x83) + take
    yield "gap", opened + data + step(Kind.DATA, 1, 0x85)
    yield "far-gap", opened + step(Kind.DATA, 1, 0xC0, *b"\xff" * 8)
    yield "overdrawn", opened + data + more * 12
    yield "overdrawn-control", opened + step(Kind.WATERMARK, 1, 0) * 5
    yield "after-the-end", opened + step(Kind.END, 1, 0) * 2
    yield "close", opened + data + step(Kind.CLOSE, 0, 0) + take
    ended = step(Kind.OPEN, 1, 0) + step(Kind.END, 1, 0)
    yield "forget", ended + take + step(Kind.FORGET, 0, 0) + opened + data + take
    yield "forget-too-early", ended + step(Kind.FORGET, 0, 0)
    yield "old-round", opened + b"\x00\x00"
    yield "vnode", opened + step(Kind.DATA, 1, 0x10, 1) + take
    yield "any-body", opened + step(Kind.DATA, 1, 0x20, 5, *b"wrong") + data + take * 2
