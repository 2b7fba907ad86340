"""The receiving half: order, credit, and what a peer may not do."""

from collections import deque

import pyarrow as pa
import pytest

from laminar.config import ShuffleConfig
from laminar.errors import ProtocolError
from laminar.model import CheckpointBarrier
from laminar.shuffle import control
from laminar.shuffle.arrow import BatchEncoder
from laminar.shuffle.frames import HEADER, HEADER_BYTES, Flag, Frame, Kind
from laminar.shuffle.inbound import InboundSession
from laminar.shuffle.messages import Barrier, Close, Data, End, Hello, Watermark

BATCH = pa.RecordBatch.from_pydict({"x": [1, 2, 3]})


class Box:
    def __init__(self):
        self.frames = deque()

    def put(self, channel, frame):
        self.frames.append((channel, frame))

    def take(self):
        channel, frame = self.frames.popleft()
        return channel.take(frame)


class Receiver:
    def __init__(self, **settings):
        limits = {"window_bytes": 1000, "control_frames_max": 8, **settings}
        limits = {"target_frame_bytes": 500, "coalesce_bytes": 100, **limits}
        self.boxes = {}
        self.round = 0
        config = ShuffleConfig(**limits)
        self.session = InboundSession(Hello("laminar", "a", 1, 1), config, self.box)
        self.connect()

    def box(self, name):
        return self.boxes.setdefault(name, Box())

    def connect(self):
        self.round += 1
        frame = self.session.attach(Hello("laminar", "a", 1, self.round), "me", 9)
        return control.decode_welcome(frame[HEADER_BYTES:])

    def __call__(self, *frames):
        return self.session.on_frames(frames)

    def credits(self):
        told = {}
        for reply in self.session.take():
            length, kind, _, channel, sequence = HEADER.unpack_from(reply)
            assert (kind, length) == (Kind.CREDIT, 0)
            told[channel] = sequence
        return told


def open_(number=0, name="x"):
    return Frame(Kind.OPEN, 0, number, 0, control.encode_channel_name(name))


def watermark(sequence, number=0, timestamp=5):
    return Frame(Kind.WATERMARK, 0, number, sequence, control.TIMESTAMP.pack(timestamp))


def data(sequence, number=0, size=100):
    return Frame(Kind.DATA, 0, number, sequence, b"x" * size)


def refused(receiver, *frames):
    with pytest.raises(ProtocolError) as caught:
        receiver(*frames)
    return caught.value.reason


class TestMessages:
    def test_all_kinds(self):
        receiver = Receiver(window_bytes=10_000)
        _, buffers, _ = BatchEncoder(1 << 20).encode(BATCH)
        body = b"".join(bytes(buffer) for buffer in buffers)
        barrier = CheckpointBarrier(3, 4)
        receiver(
            open_(5),
            Frame(Kind.DATA, Flag.STREAM_START, 5, 1, body),
            Frame(Kind.BARRIER, 0, 5, 2, control.encode_barrier(barrier, 1)),
            watermark(3, 5, -1),
            Frame(
                Kind.DATA,
                Flag.STREAM_START | Flag.VNODE,
                5,
                4,
                pa.py_buffer(control.encode_vnode(7) + body),
            ),
            Frame(Kind.END, 0, 5, 5, b""),
        )
        box = receiver.boxes["x"]
        assert [box.take() for _ in range(5)] == [
            Data(BATCH, "x"),
            Barrier(barrier, "x"),
            Watermark(-1, "x"),
            Data(BATCH, "x", 7),
            End("x"),
        ]
        assert receiver.session.channels["x"].ended
        statistics = receiver.session.channels["x"].statistics()
        assert (statistics.frames, statistics.batches) == (5, 2)
        assert statistics.bytes == 2 * len(body) + 8
        assert (statistics.window_used_bytes, statistics.window_used_frames) == (0, 0)
        assert statistics.credit_bytes == receiver.session.config.window_bytes

    def test_a_barrier_that_follows_something_else_than_it_says(self):
        receiver = Receiver()
        body = control.encode_barrier(CheckpointBarrier(1), 5)
        receiver(open_(), Frame(Kind.BARRIER, 0, 0, 1, body))
        with pytest.raises(ProtocolError) as caught:
            receiver.boxes["x"].take()
        assert caught.value.reason == "gap"

    @pytest.mark.parametrize(
        "frame",
        [
            data(1),
            Frame(Kind.DATA, Flag.VNODE, 0, 1, b"short"),
            Frame(Kind.DATA, Flag.STREAM_START, 0, 1, b"x" * 50),
            Frame(Kind.BARRIER, 0, 0, 1, b""),
            Frame(Kind.WATERMARK, 0, 0, 1, b"x"),
            Frame(Kind.DATA, 0, 0, 1, b"x" * 50),
        ],
    )
    def test_what_cannot_be_decoded_is_a_protocol_error(self, frame):
        receiver = Receiver()
        receiver(open_(), frame)
        with pytest.raises(ProtocolError):
            receiver.boxes["x"].take()

    def test_close(self):
        receiver = Receiver()
        goodbye = Frame(Kind.CLOSE, 0, 0, 0, control.encode_close(Close("done")))
        assert receiver(open_(), watermark(1), goodbye) == Close("done")
        assert len(receiver.boxes["x"].frames) == 1

    def test_a_ping_is_answered_behind_what_came_before(self):
        receiver = Receiver()
        receiver(open_(), watermark(1), Frame(Kind.PING, 0, 0, 77, b""))
        assert receiver.session.has_work
        (pong,) = receiver.session.take()
        assert HEADER.unpack_from(pong) == (0, Kind.PONG, 0, 0, 77)

    def test_a_keepalive_behind_a_flush_does_not_swallow_its_answer(self):
        receiver = Receiver()
        receiver(Frame(Kind.PING, 0, 0, 2, b""), Frame(Kind.PING, 0, 0, 1, b""))
        (pong,) = receiver.session.take()
        assert HEADER.unpack_from(pong) == (0, Kind.PONG, 0, 0, 2)
        assert not receiver.session.has_work


class TestOrder:
    @pytest.mark.parametrize("kind", [Kind.HELLO, Kind.WELCOME, Kind.CREDIT])
    def test_what_a_sender_does_not_send(self, kind):
        assert refused(Receiver(), Frame(kind, 0, 0, 0, b"")) == "order"

    @pytest.mark.parametrize("frame", [watermark(1), data(1)])
    def test_a_channel_that_was_not_opened(self, frame):
        assert refused(Receiver(), frame) == "channel"

    @pytest.mark.parametrize("again", [open_(0, "y"), open_(1, "x"), open_(0, "x")])
    def test_opened_twice(self, again):
        assert refused(Receiver(), open_(0, "x"), again) == "channel"

    def test_too_many_channels(self):
        receiver = Receiver(channels_max=2)
        receiver(open_(0, "x"), open_(1, "y"))
        assert refused(receiver, open_(2, "z")) == "channel"
        receiver.connect()
        receiver(open_(0, "x"), open_(1, "y"))
        assert refused(receiver, open_(2, "z")) == "channel"

    def test_a_gap(self):
        receiver = Receiver()
        assert refused(receiver, open_(), watermark(1), watermark(3)) == "gap"
        assert len(receiver.boxes["x"].frames) == 1

    @pytest.mark.parametrize("late", [watermark(2), data(2), Frame(Kind.END, 0, 0, 2, b"")])
    def test_nothing_follows_an_end(self, late):
        assert refused(Receiver(), open_(), Frame(Kind.END, 0, 0, 1, b""), late) == "order"

    def test_data_without_body(self):
        """It would cost nothing, and there could be any number of them."""
        assert refused(Receiver(), open_(), data(1, size=0)) == "arrow"

    def test_an_overdraft(self):
        receiver = Receiver()
        assert refused(receiver, open_(), data(1, size=900), data(2, size=101)) == "credit"

    def test_channels_do_not_share_credit(self):
        Receiver()(open_(0, "x"), open_(1, "y"), data(1, 0, 1000), data(1, 1, 1000))

    def test_admission(self):
        receiver = Receiver()
        session = receiver.session
        with pytest.raises(ProtocolError) as caught:
            session.admit(0, 10)
        assert caught.value.reason == "channel"
        receiver(open_())
        session.admit(0, 100_000)
        receiver(data(1, size=950))
        session.admit(0, 50)
        with pytest.raises(ProtocolError) as caught:
            session.admit(0, 51)
        assert caught.value.reason == "credit"


class TestResume:
    def test_the_welcome_says_how_far_each_channel_is(self):
        receiver = Receiver()
        receiver(open_(0, "x"), open_(1, "y"), watermark(1), watermark(2))
        receiver.boxes["x"].take()
        welcome = receiver.connect()
        assert welcome.channels == {"x": (2, 1), "y": (0, 0)}

    def test_what_comes_again_is_dropped_and_counted(self):
        receiver = Receiver()
        receiver(open_(), watermark(1), data(2))
        receiver.connect()
        receiver(open_(3), watermark(1, 3), data(2, 3), watermark(3, 3))
        assert len(receiver.boxes["x"].frames) == 3
        assert receiver.session.duplicates == 2

    def test_numbers_are_given_anew(self):
        receiver = Receiver()
        receiver(open_(0, "x"), open_(1, "y"))
        receiver.connect()
        assert refused(receiver, watermark(1)) == "channel"
        receiver.connect()
        receiver(open_(0, "y"), open_(1, "x"), watermark(1, 0))
        assert len(receiver.boxes["y"].frames) == 1

    def test_replies_to_the_old_connection_are_not_for_the_new(self):
        receiver = Receiver()
        receiver(open_(), data(1, size=1000), Frame(Kind.PING, 0, 0, 7, b""))
        receiver.boxes["x"].frames.clear()
        receiver.connect()
        assert receiver.session.take() == []

    def test_credit_owed_before_the_channel_is_open_again_is_not_lost(self):
        """The sender would wait for it for ever."""
        receiver = Receiver()
        receiver(open_(), Frame(Kind.WATERMARK, 0, 0, 1, bytes(8)))
        channel = receiver.session.channels["x"]
        assert receiver.connect().channels["x"][1] == 0
        receiver.boxes["x"].take()
        receiver.session.owe_credit(channel)
        assert receiver.credits() == {}
        receiver(open_(4))
        assert receiver.credits() == {4: 1}

    def test_nothing_to_send_is_not_work(self):
        """The driver asks before it sleeps, and must not spin until the channel is open."""
        receiver = Receiver()
        receiver(open_(), watermark(1))
        receiver.connect()
        receiver.boxes["x"].take()
        receiver.session.owe_credit(receiver.session.channels["x"])
        assert receiver.session.take() == []
        assert not receiver.session.has_work


def test_a_frame_behind_the_end_is_refused_and_not_counted():
    receiver = Receiver()
    receiver(open_(), Frame(Kind.END, 0, 0, 1, b""))
    with pytest.raises(ProtocolError, match="follows the end"):
        receiver(watermark(2))
    assert receiver.session.channels["x"].window.received == 1


class TestCredit:
    def test_is_due_at_a_quarter_of_the_window(self):
        receiver = Receiver()
        _, buffers, size = BatchEncoder(1 << 20).encode(BATCH)
        body = b"".join(bytes(buffer) for buffer in buffers)
        receiver = Receiver(window_bytes=size * 8)
        frames = [Frame(Kind.DATA, Flag.STREAM_START, 0, n, body) for n in range(1, 5)]
        receiver(open_(), *frames)
        due = []
        for _ in frames:
            receiver.boxes["x"].take()
            due.append(receiver.credits())
        assert due == [{}, {0: 2}, {}, {0: 4}]

    def test_is_due_at_a_quarter_of_the_control_allowance(self):
        receiver = Receiver(control_frames_max=8)
        receiver(open_(), *(watermark(n) for n in range(1, 6)))
        due = []
        for _ in range(5):
            receiver.boxes["x"].take()
            due.append(receiver.credits())
        assert due == [{}, {0: 2}, {}, {0: 4}, {}]

    def test_is_cumulative_and_told_once(self):
        receiver = Receiver(control_frames_max=8)
        receiver(open_(), *(watermark(n) for n in range(1, 9)))
        for _ in range(8):
            receiver.boxes["x"].take()
        assert receiver.session.has_work
        assert receiver.credits() == {0: 8}
        assert not receiver.session.has_work
        assert receiver.credits() == {}

    def test_a_message_that_cannot_be_decoded_is_consumed_all_the_same(self):
        receiver = Receiver()
        receiver(open_(), data(1, size=1000))
        with pytest.raises(ProtocolError):
            receiver.boxes["x"].take()
        assert receiver.session.channels["x"].window.held_bytes == 0


def forget(name):
    return Frame(Kind.FORGET, 0, 0, 0, control.encode_channel_name(name))


class TestForgetting:
    def test_a_channel_that_is_over_makes_room(self):
        receiver = Receiver(channels_max=1)
        for life in range(20):
            receiver(open_(0, f"x{life}"), watermark(1), Frame(Kind.END, 0, 0, 2, b""))
            box = receiver.boxes[f"x{life}"]
            box.take(), box.take()
            receiver(forget(f"x{life}"))
        assert receiver.session.channels == {}
        assert receiver.connect().channels == {}

    @pytest.mark.parametrize("state", ["unknown", "not ended", "not consumed"])
    def test_one_that_is_not_over_stays(self, state):
        receiver = Receiver()
        if state != "unknown":
            receiver(open_(), watermark(1))
        if state == "not consumed":
            receiver(Frame(Kind.END, 0, 0, 2, b""))
            receiver.boxes["x"].take()
        elif state == "not ended":
            receiver.boxes["x"].take()
        assert refused(receiver, forget("x")) == "channel"

    def test_one_that_was_opened_on_an_earlier_connection(self):
        receiver = Receiver()
        receiver(open_(), Frame(Kind.END, 0, 0, 1, b""))
        receiver.boxes["x"].take()
        receiver.connect()
        receiver(forget("x"), open_(0, "y"))
        assert list(receiver.session.channels) == ["y"]
