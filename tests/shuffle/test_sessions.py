"""Both halves of a session, joined without a socket: what is sent arrives, whatever happens.

The connection keeps order, delivers bytes in pieces of any size, and breaks at any point; the
consumer takes what it likes, when it likes.
"""

from collections import deque

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from laminar.config import ShuffleConfig
from laminar.errors import RemoteError
from laminar.model import BarrierFlags, CheckpointBarrier
from laminar.shuffle import control
from laminar.shuffle.frames import HEADER, HEADER_BYTES, Frame, FrameDecoder, Kind
from laminar.shuffle.inbound import InboundSession
from laminar.shuffle.messages import Barrier, Data, End, SchemaChanged, Watermark
from laminar.shuffle.outbound import OutboundSession, State
from laminar.shuffle.peers import Peers

CHANNELS = ("a", "b", "c")
SCHEMAS = [
    pa.schema([("n", pa.int64()), ("pad", pa.string())]),
    pa.schema([("n", pa.int64()), ("pad", pa.string())], metadata={"made": "here"}),
    pa.schema([("n", pa.int64()), pa.field("pad", pa.string(), metadata={"unit": "x"})]),
    pa.schema([("n", pa.int64()), ("pad", pa.dictionary(pa.int8(), pa.string()))]),
    pa.schema([("n", pa.int64()), ("pad", pa.string_view())]),
]

WINDOW = 8192
FRAME_OVERHEAD_BYTES = 600
"""Metadata of one frame of these schemas, with the schema itself and a vnode."""


def admit_nothing(channel, length):
    raise AssertionError("a receiver sends nothing large")


class Box:
    """Like an inbox: keeps frames of one channel, and owes credit when it is emptied."""

    def __init__(self):
        self.frames = deque()

    def put(self, channel, frame):
        self.frames.append((channel, frame))

    def take(self):
        """The messages of one frame: one, or two when it brings another schema."""
        channel, frame = self.frames.popleft()
        messages = [channel.take(frame)]
        if isinstance(messages[0], SchemaChanged):
            messages.append(channel.take(frame))
        if not self.frames and channel.window.unreported:
            channel.session.owe_credit(channel)
        return messages


class Sessions(RuleBasedStateMachine):
    @initialize(
        coalesce=st.sampled_from([1, 700]),
        compression=st.sampled_from([None, None, "lz4", "zstd"]),
        window=st.sampled_from([WINDOW, WINDOW // 2]),
        controls=st.sampled_from([3, 100]),
    )
    def begin(self, coalesce, compression, window, controls):
        config = ShuffleConfig(
            window_bytes=WINDOW,
            control_frames_max=4,
            target_frame_bytes=2500,
            max_frame_bytes=12_000,
            coalesce_bytes=coalesce,
            compression=compression,
        )
        self.out = OutboundSession("me", "you", 1, config, None)
        self.receiver_config = ShuffleConfig(window_bytes=window, control_frames_max=controls)
        self.window = min(window, WINDOW)
        self.inbound = None
        self.boxes = {name: Box() for name in CHANNELS}
        self.forth, self.back = bytearray(), bytearray()
        self.expected = {name: [] for name in CHANNELS}
        self.seen = {name: [] for name in CHANNELS}
        self.schemas = {}
        self.counter = dict.fromkeys(CHANNELS, 0)
        self.ended = set()
        self.under_way = {}
        self.flushes = []
        self.promises = {name: [] for name in CHANNELS}
        self.opened = {}
        self.restart()

    # -- what the user does --------------------------------------------------------------

    def batch(self, channel, rows, width, schema):
        first = self.counter[channel]
        # Few different values: a dictionary of long ones would not fit a frame.
        pad = [f"{number % 17:>{width}}" for number in range(first, first + rows)]
        columns = [pa.array(range(first, first + rows), pa.int64())]
        columns.append(pa.array(pad, pa.string()).cast(schema.field(1).type))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def note_rows(self, channel, batch, vnode):
        numbers = batch.column(0).to_pylist()
        schema = batch.schema.serialize().to_pybytes()
        if batch.num_rows:
            self.counter[channel] = max(self.counter[channel], numbers[-1] + 1)
        pads = batch.column(1).cast(pa.string()).to_pylist()
        if self.schemas.setdefault(channel, schema) != schema:
            self.schemas[channel] = schema
            self.expected[channel].append(("schema", schema))
        self.expected[channel] += [
            ("row", number, pad, schema, vnode) for number, pad in zip(numbers, pads, strict=True)
        ]

    @rule(
        channel=st.sampled_from(CHANNELS),
        rows=st.sampled_from([0, 1, 1, 2, 5, 30, 100]),
        width=st.sampled_from([1, 3, 40, 300]),
        schema=st.sampled_from([SCHEMAS[0], SCHEMAS[0], *SCHEMAS]),
        vnode=st.sampled_from([None, None, 0, 7]),
    )
    def send_rows(self, channel, rows, width, schema, vnode):
        if channel in self.ended:
            return
        batch = self.batch(channel, rows, width, schema)
        before = self.out.channel(channel).queued
        if self.out.offer(Data(batch, channel, vnode)):
            self.note_rows(channel, batch, vnode)
            assert self.out.channel(channel).queued > before
        else:
            assert self.out.channel(channel).queued == before

    @rule(channel=st.sampled_from(CHANNELS), rows=st.sampled_from([50, 400]))
    def send_more_than_the_window(self, channel, rows):
        """As the driver does: piece by piece, and nobody gets in between."""
        if channel in self.ended or channel in self.under_way:
            return
        batch = self.batch(channel, rows, 60, SCHEMAS[0])
        self.out.channel(channel).waiting += 1
        self.counter[channel] += rows
        self.under_way[channel] = deque(self.out.pieces(batch))
        self.go_on_sending(channel)

    def go_on_sending(self, name):
        pieces = self.under_way.get(name)
        channel = self.out.channel(name)
        while pieces and self.out.offer_piece(channel, pieces[0], None):
            self.note_rows(name, pieces.popleft(), None)
        if pieces is not None and not pieces:
            del self.under_way[name]
            channel.waiting -= 1

    @rule(
        channel=st.sampled_from(CHANNELS), number=st.integers(0, 2**63 - 1), barrier=st.booleans()
    )
    def send_control(self, channel, number, barrier):
        if channel in self.ended:
            return
        if barrier:
            flags = BarrierFlags(number % 4)
            message = Barrier(CheckpointBarrier(number, number % 5, flags), channel)
        else:
            message = Watermark(number, channel)
        if self.out.offer(message):
            self.expected[channel].append(message)

    @rule(channel=st.sampled_from(CHANNELS))
    def end(self, channel):
        if channel not in self.ended and self.out.offer(End(channel)):
            self.expected[channel].append(End(channel))
            self.ended.add(channel)

    @rule()
    def flush(self):
        token = self.out.request_flush()
        sent = {name: len(expected) for name, expected in self.expected.items()}
        self.flushes.append((token, sent))
        self.check_flushes()

    @rule(channel=st.sampled_from(CHANNELS), count=st.integers(1, 5))
    def consume(self, channel, count):
        box = self.boxes[channel]
        for _ in range(min(count, len(box.frames))):
            for message in box.take():
                self.see(channel, message)
            self.check_promises(channel, consumed=1)

    def see(self, channel, message):
        assert message.channel == channel
        if isinstance(message, Data):
            message.batch.validate(full=True)
            schema = message.batch.schema.serialize().to_pybytes()
            numbers = message.batch.column(0).to_pylist()
            pads = message.batch.column(1).cast(pa.string()).to_pylist()
            events = [
                ("row", number, pad, schema, message.vnode)
                for number, pad in zip(numbers, pads, strict=True)
            ]
        elif isinstance(message, SchemaChanged):
            events = [("schema", message.schema.serialize().to_pybytes())]
        else:
            events = [message]
        start = len(self.seen[channel])
        assert events == self.expected[channel][start : start + len(events)]
        self.seen[channel] += events

    # -- what the network does -----------------------------------------------------------

    def restart(self):
        """A new connection, up to the Hello."""
        self.forth.clear()
        self.back.clear()
        self.out.detach()
        self.opened = {}
        hello = self.out.hello()
        self.out_decoder = FrameDecoder(admit_nothing)
        self.out_decoder.open_for_data(admit_nothing, 0)
        self.in_decoder = FrameDecoder(admit_nothing)
        greeting = control.decode_hello(hello[HEADER_BYTES:])
        if self.inbound is None:
            self.inbound = InboundSession(greeting, self.receiver_config, self.boxes.get)
        self.back += self.inbound.attach(greeting, "you", 9)
        self.in_decoder.open_for_data(self.inbound.admit, self.receiver_config.max_frame_bytes)

    @rule(soon=st.booleans())
    def cut(self, soon):
        self.restart()
        if soon:
            self.arrive_at_sender(1 << 20)

    @precondition(lambda self: self.out.state is State.OPEN)
    @rule(bytes_max=st.sampled_from([1, 3000, 1 << 20]))
    def write(self, bytes_max):
        had_work = self.out.has_work
        buffers = self.out.take(bytes_max)
        assert had_work or not buffers
        wire = b"".join(bytes(buffer) for buffer in buffers)
        self.check_announced(wire)
        self.forth += wire

    def check_announced(self, wire):
        """Frames are whole, each channel is opened once, and before its first frame."""
        position = 0
        while position < len(wire):
            length, kind, _, number, _ = HEADER.unpack_from(wire, position)
            body = wire[position + HEADER_BYTES : position + HEADER_BYTES + length]
            if kind == Kind.OPEN:
                assert number not in self.opened
                self.opened[number] = control.decode_channel_name(body)
            elif kind not in (Kind.PING, Kind.PONG):
                assert number in self.opened
            position += HEADER_BYTES + length
        assert position == len(wire)

    @precondition(lambda self: self.forth)
    @rule(count=st.sampled_from([1, 17, 500, 5000, 1 << 20]))
    def arrive_at_receiver(self, count):
        move(self.forth, count, self.in_decoder, self.inbound.on_frames)

    @rule()
    def answer(self):
        had_work = self.inbound.has_work
        replies = self.inbound.take()
        assert had_work or not replies
        self.back += b"".join(replies)

    @precondition(lambda self: self.back)
    @rule(count=st.sampled_from([1, 17, 1 << 20]))
    def arrive_at_sender(self, count):
        def act(frames):
            for frame in frames:
                self.out.on_frame(frame)

        move(self.back, count, self.out_decoder, act)
        for name in list(self.under_way):
            self.go_on_sending(name)
        self.check_flushes()

    def check_flushes(self):
        """What is confirmed is here: consumed, or among the frames that wait now."""
        for token, sent in self.flushes:
            if token <= self.out.flushed:
                for name, count in sent.items():
                    self.promises[name].append((len(self.boxes[name].frames), count))
                    self.check_promises(name)
        self.flushes = [flush for flush in self.flushes if flush[0] > self.out.flushed]

    def check_promises(self, name, consumed=0):
        promises = [(waiting - consumed, count) for waiting, count in self.promises[name]]
        for waiting, count in promises:
            assert waiting > 0 or len(self.seen[name]) >= count
        self.promises[name] = [promise for promise in promises if promise[0] > 0]

    @rule()
    def settle(self):
        """Everybody does their part: then everything arrives and nothing is kept."""
        idle = 0
        while idle < 2:
            before = self.progress()
            if self.out.state is State.OPEN:
                self.write(1 << 20)
            while self.forth:
                self.arrive_at_receiver(1 << 20)
            for name in CHANNELS:
                self.consume(name, 10_000)
            self.answer()
            while self.back:
                self.arrive_at_sender(1 << 20)
            idle = idle + 1 if self.progress() == before else 0
        assert not self.under_way
        assert self.seen == self.expected
        assert not self.flushes
        assert not self.out.outstanding
        for channel in self.out.channels.values():
            assert not channel.window.retained
        assert set(self.inbound.channels) == set(self.out.channels)
        ended = {name for name, channel in self.inbound.channels.items() if channel.ended}
        assert ended == self.ended & set(self.out.channels)

    def progress(self):
        return (
            {name: len(seen) for name, seen in self.seen.items()},
            {name: (c.queued, c.window.consumed) for name, c in self.out.channels.items()},
            self.out.flushed,
            self.out.state,
        )

    # -- what always holds ---------------------------------------------------------------

    @invariant()
    def the_sender_is_bounded(self):
        for channel in self.out.channels.values():
            charges = [frame.charge for frame in channel.window.retained if frame.charge]
            used = channel.statistics(0.0).window_used_bytes
            frames = len(charges) + channel.pending
            # Rounding: what a batch takes as a frame is only known when it is one.
            limit = WINDOW + FRAME_OVERHEAD_BYTES * frames
            assert used <= limit or frames == 1, (used, charges)

    @invariant()
    def the_receiver_is_bounded(self):
        for channel in self.inbound.channels.values():
            held = [
                len(frame.body)
                for _, frame in self.boxes[channel.name].frames
                if frame.kind == Kind.DATA
            ]
            assert channel.window.held_bytes == sum(held)
            assert sum(held) <= self.receiver_config.window_bytes or len(held) == 1


def move(wire, count, decoder, act):
    """Receive once: at most ``count`` bytes of ``wire``, as many as fit."""
    buffer = decoder.buffer()
    count = min(count, len(wire), len(buffer))
    buffer[:count] = wire[:count]
    del wire[:count]
    act(decoder.received(count))


def test_a_session_that_the_receiver_gave_up_is_not_resumed():
    """Its user was told of the loss; what it had taken before must not come a second time."""
    config = ShuffleConfig()
    box = Box()
    peers = Peers(config, lambda name: box)
    out = OutboundSession("me", "you", 1, config, None)

    def connect():
        out.detach()
        greeting = control.decode_hello(out.hello()[HEADER_BYTES:])
        session, _ = peers.greet(greeting)
        reply = session.attach(greeting, "you", 9)
        out.on_frame(Frame(Kind.WELCOME, 0, 0, 0, reply[HEADER_BYTES:]))
        return session

    session = connect()
    for number in range(3):
        out.offer(Watermark(number, "a"))
    decoder = FrameDecoder(session.admit)
    wire = bytearray(b"".join(bytes(buffer) for buffer in out.take(1 << 20)))
    move(wire, len(wire), decoder, session.on_frames)
    assert box.take() == [Watermark(0, "a")]
    assert peers.forget(session)  # nobody came back in time
    with pytest.raises(RemoteError):
        connect()


TestSessions = Sessions.TestCase
TestSessions.settings = settings(stateful_step_count=50)
