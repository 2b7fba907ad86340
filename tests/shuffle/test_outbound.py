"""The sending half: what goes onto the wire when, and what the peer may say to it."""

from itertools import pairwise

import pyarrow as pa
import pytest

from laminar.cluster.keyring import Keyring
from laminar.config import ShuffleConfig
from laminar.errors import (
    BatchTooLargeError,
    ChannelEndedError,
    ConfigError,
    HandshakeRefusedError,
    PeerLostError,
    PeerRestartedError,
    ProtocolError,
)
from laminar.model import CheckpointBarrier
from laminar.shuffle import control
from laminar.shuffle.arrow import BatchDecoder, size_of
from laminar.shuffle.authentication import Challenger, key_id
from laminar.shuffle.frames import (
    HEADER,
    HEADER_BYTES,
    Flag,
    Frame,
    FrameDecoder,
    Kind,
    encode_frame,
    encode_preface,
)
from laminar.shuffle.link import _no_data
from laminar.shuffle.messages import Barrier, Challenge, Close, Data, End, Watermark, Welcome
from laminar.shuffle.outbound import TURN_BYTES, OutboundSession, State, join_small

WINDOW = 10_000


def session(keys=(), **settings):
    limits = {"window_bytes": WINDOW, "coalesce_bytes": 1000, "target_frame_bytes": 3000}
    ring = Keyring(keys) if keys else None
    return OutboundSession("me", "you", 7, ShuffleConfig(**{**limits, **settings}), ring)


def welcome(
    received=None,
    consumed=None,
    *,
    incarnation=1,
    node="you",
    window=1 << 30,
    controls=99,
    resumed=True,
):
    received, consumed = received or {}, consumed or {}
    channels = {name: (last, consumed.get(name, 0)) for name, last in received.items()}
    body = control.encode_welcome(Welcome(node, incarnation, window, controls, resumed, channels))
    return Frame(Kind.WELCOME, 0, 0, 0, body)


def opened(**settings):
    out = session(**settings)
    connect(out)
    return out


def connect(out, *args, **more):
    out.detach()
    out.hello()
    out.on_frame(welcome(*args, **more))


def frames_of(buffers):
    wire = b"".join(bytes(buffer) for buffer in buffers)
    frames = []
    while wire:
        length, kind, flags, channel, sequence = HEADER.unpack_from(wire)
        body = wire[HEADER_BYTES : HEADER_BYTES + length]
        frames.append(Frame(kind, flags, channel, sequence, body))
        wire = wire[HEADER_BYTES + length :]
    return frames


def taken(out, bytes_max=1 << 30):
    return frames_of(out.take(bytes_max))


def kinds(frames):
    return [frame.kind for frame in frames]


def rows(count=1, width=10, start=0):
    pad = ["x" * width] * count
    return pa.RecordBatch.from_pydict({"n": range(start, start + count), "pad": pad})


def credit(channel, sequence):
    return Frame(Kind.CREDIT, 0, channel, sequence, b"")


def pong(token):
    return Frame(Kind.PONG, 0, 0, token, b"")


class TestHandshake:
    def test_hello(self):
        out = session()
        for expected_round in (1, 2):
            (frame,) = frames_of([out.hello()])
            hello = control.decode_hello(frame.body)
            assert (hello.cluster, hello.node, hello.incarnation) == ("laminar", "me", 7)
            assert hello.round == expected_round
            assert out.state is State.GREETING
            out.detach()
            assert out.state is State.DETACHED

    @pytest.mark.parametrize("kind", [Kind.CREDIT, Kind.PONG, Kind.PING, Kind.DATA])
    def test_anything_before_the_welcome(self, kind):
        out = session()
        out.hello()
        with pytest.raises(ProtocolError) as caught:
            out.on_frame(Frame(kind, 0, 0, 1, b""))
        assert caught.value.reason == "order"

    @pytest.mark.parametrize(
        "kind",
        [
            *(Kind.WELCOME, Kind.CHALLENGE, Kind.PROOF, Kind.HELLO),
            *(Kind.OPEN, Kind.DATA, Kind.END, Kind.BARRIER),
        ],
    )
    def test_what_a_receiver_does_not_send(self, kind):
        out = opened()
        with pytest.raises(ProtocolError) as caught:
            out.on_frame(Frame(kind, 0, 0, 1, b""))
        assert caught.value.reason == "order"

    def test_another_node_than_expected(self):
        out = session()
        out.hello()
        with pytest.raises(ProtocolError, match="expected peer you, found them") as caught:
            out.on_frame(welcome(node="them"))
        assert caught.value.reason == "identity"

    def test_another_node_than_expected_gets_no_proof(self):
        out = session(keys=(b"k" * 16,))
        out.hello(bytes(32))
        out.on_preface(encode_preface())
        body = control.encode_challenge(Challenge("them", bytes(32), key_id(b"k" * 16), bytes(32)))
        with pytest.raises(ProtocolError, match="expected peer you, found them"):
            out.on_frame(Frame(Kind.CHALLENGE, 0, 0, 0, body))
        assert out.take_proof() == b""

    def test_with_keys_a_welcome_takes_a_proof(self):
        key = b"k" * 16
        out = session(keys=(key,))
        for nonce in (b"1" * 32, b"2" * 32):  # on every connection anew
            (hello,) = frames_of([out.hello(nonce)])
            out.on_preface(encode_preface())
            with pytest.raises(ProtocolError) as caught:
                out.on_frame(welcome())
            assert caught.value.reason == "key"
            challenger = Challenger([key], b"t" * 32, "you", encode_preface())
            greeting = control.decode_hello(hello.body)
            challenge = challenger.challenge(greeting, hello.body, encode_preface())
            out.on_frame(Frame(Kind.CHALLENGE, 0, 0, 0, control.encode_challenge(challenge)))
            (proof,) = frames_of([out.take_proof()])
            challenger.check(control.decode_proof(proof.body))
            assert out.take_proof() == b""
            out.on_frame(welcome())
            assert out.state is State.OPEN
            out.detach()

    def test_a_proof_is_of_one_connection(self):
        out = session(keys=(b"k" * 16,))
        out.hello(bytes(32))
        out._proof = b"for this one"
        out.detach()
        assert out.take_proof() == b""

    def test_with_keys_there_is_no_hello_without_a_nonce(self):
        with pytest.raises(ConfigError, match="nonce"):
            session(keys=(b"k" * 16,)).hello()

    def test_a_challenge_without_keys(self):
        out = session()
        out.hello()
        body = control.encode_challenge(Challenge("you", bytes(32), bytes(8), bytes(32)))
        with pytest.raises(ProtocolError) as caught:
            out.on_frame(Frame(Kind.CHALLENGE, 0, 0, 0, body))
        assert caught.value.reason == "order"

    def test_a_certificate_is_of_the_peer_that_was_dialled(self):
        out = session(cluster="c")
        out.check_certificate(None)
        out.check_certificate({"laminar://c/you", "laminar://c/them"})
        for uris in (set(), {"laminar://c/them"}, {"laminar://d/you"}):
            with pytest.raises(ProtocolError) as caught:
                out.check_certificate(uris)
            assert caught.value.reason == "certificate"

    def test_refused(self):
        out = session()
        out.hello()
        with pytest.raises(HandshakeRefusedError, match="wrong cluster"):
            out.on_frame(Frame(Kind.CLOSE, 0, 0, 0, control.encode_close(Close("wrong cluster"))))

    def test_closed_later(self):
        with pytest.raises(PeerLostError, match="bye"):
            opened().on_frame(Frame(Kind.CLOSE, 0, 0, 0, control.encode_close(Close("bye"))))

    def test_a_peer_without_its_memory(self):
        out = opened()
        out.offer(Data(rows()))
        with pytest.raises(PeerRestartedError):
            connect(out, incarnation=2)

    def test_a_peer_that_lost_what_it_had_consumed(self):
        out = opened()
        out.offer(Data(rows()))
        taken(out)
        out.on_frame(credit(0, 1))
        with pytest.raises(PeerLostError):
            connect(out, {"default": 0}, {"default": 0})

    def test_a_ping_is_answered(self):
        out = opened()
        out.on_frame(Frame(Kind.PING, 0, 0, 42, b""))
        assert out.has_work
        assert taken(out) == [Frame(Kind.PONG, 0, 0, 42, b"")]


class TestChannels:
    def test_open_comes_before_the_first_frame_and_once(self):
        out = opened()
        out.offer(Data(rows(), "a"))
        assert kinds(taken(out)) == [Kind.OPEN, Kind.DATA]
        out.offer(Data(rows(), "a"))
        assert kinds(taken(out)) == [Kind.DATA]

    def test_one_without_messages_is_opened_too(self):
        """Else nobody would wait for its end."""
        out = opened()
        out.channel("a")
        (frame,) = taken(out)
        assert (frame.kind, control.decode_channel_name(frame.body)) == (Kind.OPEN, "a")

    def test_are_opened_again_on_every_connection(self):
        out = opened()
        out.offer(Data(rows(), "a"))
        out.channel("b")
        taken(out)
        connect(out, {"a": 1}, {"a": 1})
        names = {f.channel: control.decode_channel_name(f.body) for f in taken(out)}
        assert names == {0: "a", 1: "b"}

    def test_there_is_a_limit(self):
        out = opened(channels_max=2)
        out.channel("a")
        out.channel("b")
        with pytest.raises(ConfigError, match="more than 2 channels"):
            out.offer(End("c"))
        out.channel("a")

    @pytest.mark.parametrize("name", ["", "x" * 129, "\ud800", b"bytes"])
    def test_a_name_that_cannot_be_sent_is_refused_at_once(self, name):
        """Not in the writer, where it would end every channel."""
        out = opened()
        with pytest.raises(ConfigError):
            out.offer(End(name))
        assert out.channels == {}
        assert not taken(out)

    def test_nothing_follows_the_end(self):
        out = opened()
        assert out.offer(End("a"))
        for message in (
            Data(rows(), "a"),
            Data(rows(300, 20), "a"),
            Watermark(1, "a"),
            Barrier(CheckpointBarrier(1), "a"),
            End("a"),
        ):
            with pytest.raises(ChannelEndedError):
                out.offer(message)
        assert kinds(taken(out)) == [Kind.OPEN, Kind.END]
        assert out.offer(Data(rows(), "b"))


class TestOffer:
    def test_a_large_batch_is_queued_whole_or_not_at_all(self):
        out = opened()
        large = rows(200, 25)
        assert WINDOW > size_of(large) > 5000
        assert out.offer(Data(large))
        frames = taken(out)
        assert kinds(frames) == [Kind.OPEN, *[Kind.DATA] * (len(frames) - 1)]
        assert len(frames) >= 3
        assert not out.offer(Data(large))
        assert taken(out) == []
        out.on_frame(credit(0, len(frames) - 1))
        assert out.offer(Data(large))

    def test_larger_than_the_window_is_left_to_the_driver(self):
        out = opened()
        batch = rows(1000, 25)
        assert not out.offer(Data(batch))
        channel = out.channel("default")
        pieces = list(out.pieces(batch))
        queued = 0
        while pieces and out.offer_piece(channel, pieces[0], None):
            queued += pieces.pop(0).num_rows
        assert 0 < queued < 1000
        assert channel.window.retained_bytes <= WINDOW

    def test_a_row_that_is_too_large_takes_nothing_of_its_batch_along(self):
        out = opened(max_frame_bytes=4000)
        batch = pa.RecordBatch.from_pydict({"x": ["small"] * 400 + ["x" * 4500]})
        assert size_of(batch) < WINDOW
        with pytest.raises(BatchTooLargeError):
            out.offer(Data(batch))
        assert kinds(taken(out)) == [Kind.OPEN]
        assert out.offer(Data(rows()))

    def test_dictionaries_that_are_too_large_leave_the_channel_usable(self):
        out = opened(max_frame_bytes=4000)
        column = pa.array(["x" * 5000]).dictionary_encode()
        with pytest.raises(BatchTooLargeError, match="dictionaries"):
            out.offer(Data(pa.RecordBatch.from_arrays([column], ["x"])))
        assert out.offer(Data(rows()))
        assert kinds(taken(out)) == [Kind.OPEN, Kind.DATA]

    def test_a_batch_just_as_large_as_the_largest_frame_gets_through(self):
        """With its schema it is larger, which must not count against the rows."""
        out = opened(target_frame_bytes=3000, max_frame_bytes=3000)
        noted = rows(40, 40).replace_schema_metadata({"note": "y" * 500})
        assert size_of(noted) < 3000
        for batch in (noted, rows(150, 20)):
            assert out.offer(Data(batch)) or list(out.pieces(batch))
            taken(out)

    @pytest.mark.parametrize("vnode", [-1, 2**31])
    def test_a_wrong_vnode_is_the_callers_error_at_once(self, vnode):
        """Not the writer's, for whom it would be too late."""
        out = opened()
        assert out.offer(Data(rows(start=1)))
        with pytest.raises(ConfigError, match="vnode"):
            out.offer(Data(rows(), vnode=vnode))
        assert out.offer(Data(rows(start=2)))
        assert values(taken(out)) == [1, 2]

    @pytest.mark.parametrize(
        "message",
        [Watermark(2**63), Barrier(CheckpointBarrier(-1)), Barrier(CheckpointBarrier(2**64))],
    )
    def test_a_wrong_number_leaves_no_gap(self, message):
        out = opened()
        with pytest.raises(ConfigError):
            out.offer(message)
        out.offer(Watermark(1))
        assert [f.sequence for f in taken(out)] == [0, 1]

    def test_while_others_wait_nobody_gets_ahead(self):
        out = opened()
        out.channel("default").waiting = 1
        assert not out.offer(Data(rows()))
        assert not out.offer(Watermark(1))
        assert out.offer(Watermark(1), in_turn=True)

    def test_control_has_an_allowance_of_its_own(self):
        out = opened(control_frames_max=2)
        while out.offer(Data(rows(50, 15))):
            pass
        assert out.offer(Barrier(CheckpointBarrier(1)))
        assert out.offer(Watermark(1))
        assert not out.offer(Watermark(2))

    @pytest.mark.parametrize(("target", "count"), [(3000, 180), (WINDOW, 180)])
    def test_what_waits_for_company_counts(self, target, count):
        """For batches above the target and below it, also when nothing else is queued."""
        out = opened(coalesce_bytes=3000, target_frame_bytes=target)
        assert out.offer(Data(rows(20, 100)))
        used = out.channel("default").statistics(0.0).window_used_bytes
        over = rows(count, 35)
        assert WINDOW - used < size_of(over) < WINDOW
        assert not out.offer(Data(over))


def decoded(frames):
    decoder = BatchDecoder(1 << 30)
    out = []
    for frame in frames:
        if frame.kind == Kind.DATA:
            start = 8 if frame.flags & Flag.VNODE else 0
            starts = bool(frame.flags & Flag.STREAM_START)
            out.append(decoder.decode(frame.body, start, starts))
    return out


def values(frames):
    return [value for batch in decoded(frames) for value in batch["n"].to_pylist()]


class TestCoalescing:
    def test_small_batches_travel_together_in_order(self):
        out = opened()
        for number in range(10):
            assert out.offer(Data(rows(start=number)))
        frames = taken(out)
        assert kinds(frames) == [Kind.OPEN, Kind.DATA]
        assert values(frames) == list(range(10))

    def test_not_beyond_the_target(self):
        out = opened(window_bytes=1 << 20)
        for number in range(200):
            assert out.offer(Data(rows(start=number, width=100)))
        frames = taken(out)
        assert values(frames) == list(range(200))
        assert all(len(frame.body) <= 3000 + 600 for frame in frames)
        assert len(frames) < 30

    @pytest.mark.parametrize(
        "other",
        [
            rows().rename_columns(["n", "other"]),
            rows().replace_schema_metadata({"k": "v"}),
            rows().cast(pa.schema([("n", pa.int32()), ("pad", pa.string())])),
            rows().cast(
                pa.schema([("n", pa.int64()), pa.field("pad", pa.string(), metadata={"u": "1"})])
            ),
        ],
        ids=["name", "metadata", "type", "field metadata"],
    )
    def test_only_with_the_same_schema(self, other):
        out = opened()
        sent = [rows(), other, rows()]
        for batch in sent:
            out.offer(Data(batch))
        received = decoded(taken(out))
        assert len(received) == 3
        for batch, expected in zip(received, sent, strict=True):
            assert batch.schema.equals(expected.schema, check_metadata=True)
            assert batch.equals(expected)

    def test_only_with_the_same_vnode(self):
        out = opened()
        for vnode in (None, None, 0, 3, 3, None):
            out.offer(Data(rows(), vnode=vnode))
        tags = [
            control.decode_vnode(frame.body) if frame.flags & Flag.VNODE else None
            for frame in taken(out)
            if frame.kind == Kind.DATA
        ]
        assert tags == [None, 0, 3, None]

    @pytest.mark.parametrize("message", [Barrier(CheckpointBarrier(1)), Watermark(5), End()])
    def test_control_stays_behind_what_waits(self, message):
        out = opened()
        out.offer(Data(rows(start=1)))
        out.offer(Data(rows(start=2)))
        out.offer(message)
        frames = taken(out)
        assert kinds(frames)[:2] == [Kind.OPEN, Kind.DATA]
        assert values(frames) == [1, 2]
        assert [frame.sequence for frame in frames] == [0, 1, 2]
        if isinstance(message, Barrier):
            assert control.decode_barrier(frames[2].body) == (message.barrier, 1)

    def test_an_empty_batch_is_not_lost(self):
        out = opened()
        out.offer(Data(rows().slice(1)))
        (batch,) = decoded(taken(out))
        assert (batch.num_rows, batch.schema) == (0, rows().schema)

    def test_batches_without_rows_are_bounded_while_they_wait(self):
        out = opened(target_frame_bytes=1 << 20, coalesce_bytes=1 << 20, window_bytes=1 << 20)
        assert out.offer(Data(rows()))
        sent = 0
        while out.offer(Data(rows().slice(1))):
            sent += 1
        assert sent <= (1 << 20) // 128

    def test_a_batch_of_another_library_is_left_to_the_driver(self):
        assert not opened().offer(Data(pa.table({"x": [1]})))


class TestTurns:
    def test_a_channel_without_credit_does_not_stop_others(self):
        out = opened()
        while out.offer(Data(rows(100), "full")):
            pass
        taken(out)
        assert not out.offer(Data(rows(100), "full"))
        for number in range(3):
            assert out.offer(Data(rows(start=number), "free"))
        frames = taken(out)
        assert values(frames) == [0, 1, 2]

    def test_channels_share_the_connection(self):
        big = {"window_bytes": 8 << 20, "target_frame_bytes": 100_000}
        out = opened(**big)
        for name in "ab":
            for _ in range(20):
                assert out.offer(Data(rows(1000, 80), name))
        order = [f.channel for f in taken(out) if f.kind == Kind.DATA]
        first_b = order.index(1)
        assert first_b * 90_000 <= TURN_BYTES + 90_000
        assert sorted(order) == [0] * 20 + [1] * 20
        switches = sum(a != b for a, b in pairwise(order))
        assert switches >= 40 * 90_000 // (TURN_BYTES + 90_000) - 2

    def test_about_as_much_as_asked_for(self):
        out = opened(window_bytes=8 << 20, target_frame_bytes=100_000)
        for _ in range(30):
            out.offer(Data(rows(1000, 80)))
        taken_bytes = []
        while buffers := out.take(300_000):
            taken_bytes.append(sum(len(buffer) for buffer in buffers))
        assert all(count <= 400_000 for count in taken_bytes)
        assert len(taken_bytes) < 15
        assert not out.has_work

    def test_small_pieces_are_joined_and_large_ones_left_alone(self):
        large = pa.py_buffer(b"L" * 10)
        assert join_small([b"a", b"b", large, b"c", large, large, b"d", b"e"]) == [
            b"ab",
            large,
            b"c",
            large,
            large,
            b"de",
        ]


class TestCredit:
    def test_makes_room(self):
        out = opened()
        while out.offer(Data(rows(100))):
            pass
        last = taken(out)[-1].sequence
        out.on_frame(credit(0, last))
        assert out.offer(Data(rows(100)))

    @pytest.mark.parametrize(("channel", "sequence"), [(1, 1), (65535, 0)])
    def test_for_an_unknown_channel(self, channel, sequence):
        out = opened()
        out.offer(Data(rows()))
        with pytest.raises(ProtocolError) as caught:
            out.on_frame(credit(channel, sequence))
        assert caught.value.reason == "channel"

    def test_for_what_was_not_sent(self):
        out = opened()
        out.offer(Data(rows()))
        with pytest.raises(ProtocolError) as caught:
            out.on_frame(credit(0, 1))
        assert caught.value.reason == "credit"

    def test_the_smaller_window_holds(self):
        out = session()
        connect(out, window=2000, controls=2)
        sent = 0
        while out.offer(Data(rows(10, 20))):
            sent += sum(len(f.body) for f in taken(out) if f.kind == Kind.DATA)
        assert 0 < sent <= 2000
        assert [out.offer(Watermark(n)) for n in range(3)] == [True, True, False]

    def test_a_smaller_window_holds_for_what_was_queued_before_it_was_known(self):
        out = session()
        while out.offer(Data(rows(20, 20))):
            pass
        connect(out, window=2500)
        first = sum(len(frame.body) for frame in taken(out) if frame.kind == Kind.DATA)
        assert 0 < first <= 2500


class TestResume:
    def test_goes_on_behind_what_was_received(self):
        out = opened()
        for number in range(4):
            out.offer(Watermark(number))
        taken(out)
        connect(out, {"default": 2}, {"default": 1})
        assert [frame.sequence for frame in taken(out)] == [0, 3, 4]
        assert out.channel("default").window.consumed == 1

    def test_tells_whether_the_last_connection_got_further(self):
        out = opened()
        assert not out.advanced
        for number in range(4):
            out.offer(Watermark(number))
        taken(out)
        told = []
        for received in (2, 2, 3):
            connect(out, {"default": received})
            told.append(out.advanced)
        assert told == [True, False, True]

    def test_sends_the_very_same_frames(self):
        out = opened()
        out.offer(Data(rows(5), vnode=3))
        first = taken(out)
        connect(out)
        assert taken(out) == first

    def test_an_answer_to_the_old_connection_is_not_sent_on_the_new(self):
        out = opened()
        out.on_frame(Frame(Kind.PING, 0, 0, 42, b""))
        connect(out)
        assert taken(out) == []

    def test_claims_of_the_peer(self):
        out = opened()
        out.offer(Watermark(1))
        taken(out)
        with pytest.raises(ProtocolError) as caught:
            connect(out, {"default": 2})
        assert caught.value.reason == "resume"


class TestFlush:
    def test_nothing_to_confirm(self):
        out = opened()
        assert out.request_flush() == out.flushed == 0

    def test_the_ping_comes_behind_everything(self):
        out = opened()
        out.offer(Data(rows(), "a"))
        out.offer(Data(rows(), "b"))
        token = out.request_flush()
        frames = taken(out)
        assert kinds(frames) == [Kind.OPEN, Kind.DATA, Kind.OPEN, Kind.DATA, Kind.PING]
        assert frames[-1].sequence == token > out.flushed
        out.on_frame(pong(token))
        assert out.flushed == token

    def test_waits_for_credit(self):
        out = opened()
        while out.offer(Data(rows(100))):
            pass
        out.channel("default").window.window_bytes = 100  # as a smaller peer would
        token = out.request_flush()
        sent = [frame for frame in taken(out) if frame.kind != Kind.OPEN]
        assert Kind.PING not in kinds(sent)
        while sent:
            out.on_frame(credit(0, sent[-1].sequence))
            frames = sent = taken(out)
            if Kind.PING in kinds(frames):
                assert frames[-1].sequence == token
                assert not out.channel("default").window.unsent
                return
        pytest.fail("no ping")

    def test_is_asked_again_on_the_next_connection(self):
        out = opened()
        out.offer(Watermark(1))
        token = out.request_flush()
        taken(out)
        connect(out, {"default": 1})
        assert taken(out)[-1] == Frame(Kind.PING, 0, 0, token, b"")

    def test_is_not_held_up_by_what_is_sent_after_it(self):
        """Else a producer that never pauses keeps everybody else's flush waiting for ever."""
        out = opened(window_bytes=8 << 20, target_frame_bytes=100_000)
        for _ in range(5):
            out.offer(Data(rows(1000, 80)))
        out.request_flush()
        for _ in range(30):
            out.offer(Data(rows(1000, 80)))
            frames = taken(out, 1)
            if Kind.PING in kinds(frames):
                return
            sent = [frame.sequence for frame in frames if frame.kind == Kind.DATA]
            out.on_frame(credit(0, sent[-1]))
            out.offer(Data(rows(1000, 80)))
        pytest.fail("30 frames later, the 5 before the flush are not confirmed")

    def test_a_confirmation_of_what_was_not_asked(self):
        """It would let later flushes return before anything arrived."""
        out = opened()
        with pytest.raises(ProtocolError):
            out.on_frame(pong(1000))

    def test_outstanding(self):
        out = opened()
        assert not out.outstanding
        out.offer(Watermark(1))
        assert out.outstanding
        taken(out)
        assert out.outstanding
        out.on_frame(credit(0, 1))
        assert not out.outstanding
        out.offer(Data(rows()))
        assert out.outstanding

    def test_what_was_consumed_needs_no_answer(self):
        """The peer may leave right after it took the last row."""
        out = opened()
        out.offer(Data(rows(), "a"))
        out.offer(Data(rows(), "b"))
        token = out.request_flush()
        assert kinds(taken(out))[-1] == Kind.PING
        out.on_frame(credit(0, 1))
        assert out.flushed < token
        assert out.outstanding
        out.on_frame(credit(1, 1))
        assert out.flushed == token
        with pytest.raises(PeerLostError):
            out.on_frame(Frame(Kind.CLOSE, 0, 0, 0, control.encode_close(Close("done"))))
        assert not out.outstanding  # so the driver does not call it a loss


class TestGoodbye:
    def test_comes_last_and_once(self):
        out = opened()
        out.offer(Data(rows()))
        out.request_close("done")
        out.request_flush()
        frames = taken(out)
        assert kinds(frames) == [Kind.OPEN, Kind.DATA, Kind.PING, Kind.CLOSE]
        assert control.decode_close(frames[-1].body) == Close("done")
        assert out.said_goodbye
        assert taken(out) == []
        assert not out.has_work

    def test_again_on_the_next_connection(self):
        out = opened()
        out.request_close("done")
        taken(out)
        connect(out)
        assert not out.said_goodbye
        assert kinds(taken(out)) == [Kind.CLOSE]


def test_statistics():
    out = opened()
    for _ in range(3):
        out.offer(Data(rows()))
    out.offer(Watermark(1))
    frames = taken(out)
    statistics = out.channels["default"].statistics(7.0)
    assert (statistics.frames, statistics.batches) == (2, 3)
    assert statistics.bytes == statistics.window_used_bytes == len(frames[1].body)
    assert statistics.credit_bytes == WINDOW - statistics.bytes
    assert (statistics.window_used_frames, statistics.blocked_s) == (2, 0)
    assert out.frames_sent == 2
    assert out.bytes_sent == sum(HEADER_BYTES + len(frame.body) for frame in frames[1:])


def test_what_waits_for_company_is_queued_and_an_oversized_frame_leaves_no_credit():
    out = opened()
    channel = out.channel("default")
    assert channel.statistics(0.0).credit_bytes == WINDOW
    out.offer(Data(rows()))
    out.offer(Data(rows()))
    waiting = channel.statistics(0.0)
    assert (waiting.frames, waiting.batches, waiting.window_used_frames) == (0, 2, 1)
    assert waiting.credit_bytes == WINDOW - waiting.window_used_bytes < WINDOW
    wide = opened(target_frame_bytes=3 * WINDOW, window_bytes=WINDOW)
    assert wide.offer(Data(rows(1, 2 * WINDOW)))
    assert wide.channel("default").statistics(0.0).credit_bytes == 0


class TestManyChannels:
    """A Welcome that names them all is large, and arrives in pieces."""

    @pytest.mark.parametrize("first_piece", [100, 20_000, 10**9])
    def test_resume(self, first_piece):
        out = opened(channels_max=1024)
        names = [f"job-17.stage-{number:04}.orders-by-customer" for number in range(1024)]
        for name in names:
            out.offer(Watermark(1, name))
        taken(out)
        out.detach()
        out.hello()
        body = welcome(dict.fromkeys(names, 1), dict.fromkeys(names, 0)).body
        decoder = FrameDecoder(_no_data)
        decoder.open_for_data(_no_data, 0)
        wire, frames = encode_frame(Kind.WELCOME, body), []
        while wire:
            buffer = decoder.buffer()
            count = min(len(buffer), len(wire), first_piece)
            first_piece = 10**9
            buffer[:count] = wire[:count]
            frames += decoder.received(count)
            wire = wire[count:]
        for frame in frames:
            out.on_frame(frame)
        assert out.state is State.OPEN


class TestFinishedChannels:
    def ended(self, out, *names):
        """Open and end channels of these names, and have everything consumed."""
        for name in names:
            out.offer(Data(rows(), name))
            out.offer(End(name))
        frames = taken(out)
        for name in names:
            out.on_frame(credit(out.channels[name].number, 2))
        return frames

    def test_they_make_room_for_new_ones(self):
        out = opened(channels_max=3)
        for life in range(100):
            frames = self.ended(out, f"x{life}", f"y{life}", f"z{life}")
            told = [control.decode_channel_name(f.body) for f in frames if f.kind == Kind.FORGET]
            assert told == ([f"{name}{life - 1}" for name in "xyz"] if life else [])
            if life:  # the peer has room before it hears of the new ones
                assert kinds(frames).index(Kind.OPEN) > 2
            assert len(out.channels) == 3

    @pytest.mark.parametrize("what", ["not ended", "not consumed"])
    def test_one_in_use_does_not(self, what):
        out = opened(channels_max=1)
        out.offer(Data(rows(), "a"))
        if what == "not consumed":
            out.offer(End("a"))
        taken(out)
        out.on_frame(credit(0, 1))
        with pytest.raises(ConfigError, match="more than 1 channels to you: end those"):
            out.offer(Data(rows(), "b"))

    def test_their_names_are_not_used_again(self):
        out = opened(channels_max=1)
        self.ended(out, "a")
        self.ended(out, "b")
        with pytest.raises(ChannelEndedError):
            out.offer(Data(rows(), "a"))

    def test_a_peer_that_has_not_heard_of_it_is_told_on_the_next_connection(self):
        out = opened(channels_max=1)
        self.ended(out, "a")
        out.offer(Data(rows(), "b"))
        connect(out, {"a": 2}, {"a": 2})
        frames = taken(out)
        assert kinds(frames) == [Kind.FORGET, Kind.OPEN, Kind.DATA]
        connect(out, {"b": 1}, {"b": 1})
        assert Kind.FORGET not in kinds(taken(out))

    def test_a_flush_still_covers_what_comes_later(self):
        out = opened(channels_max=1)
        for name in "abcd":
            self.ended(out, name)
        assert out.request_flush() == out.flushed
        out.offer(End("e"))
        assert out.request_flush() > out.flushed


class TestMessages:
    @pytest.mark.parametrize("wrong", [rows(), "rows", None, Close("why")])
    def test_what_is_no_message_is_told_so(self, wrong):
        out = opened()
        with pytest.raises(TypeError, match="expected Data, Barrier, Watermark or End, got"):
            out.offer(wrong)
