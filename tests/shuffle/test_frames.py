"""Frames come out as they went in, however the network cuts them, and limits come first."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from laminar.errors import ProtocolError
from laminar.shuffle.frames import (
    CONTROL_BODY_BYTES_MAX,
    DIRECT_BYTES_MIN,
    GREETING_BODY_BYTES_MAX,
    HEADER,
    HEADER_BYTES,
    KIND_NAMES,
    MAGIC,
    PREFACE,
    READ_AHEAD_BYTES,
    SCRATCH_BYTES,
    SEQUENCED_MAX,
    VERSION_MAX,
    VERSION_MIN,
    FrameDecoder,
    Kind,
    encode_frame,
    encode_preface,
    negotiate,
)

DATA_BYTES_MAX = 1 << 20
KINDS = sorted(KIND_NAMES)
NOISE = np.random.default_rng(7).integers(0, 256, DATA_BYTES_MAX, np.uint8).tobytes()

THRESHOLDS = (0, HEADER_BYTES, READ_AHEAD_BYTES, DIRECT_BYTES_MIN, SCRATCH_BYTES)
SIZES = st.one_of(
    st.integers(0, 64),
    st.integers(0, 40_000),
    st.builds(
        lambda threshold, off: max(0, threshold + off),
        st.sampled_from(THRESHOLDS),
        st.integers(-2 * HEADER_BYTES, 2 * HEADER_BYTES),
    ),
    st.sampled_from([300_000, 700_001]),
)


def admit_all(channel, length):
    pass


def opened(admit=admit_all, data_bytes_max=DATA_BYTES_MAX):
    decoder = FrameDecoder(admit)
    decoder.open_for_data(admit, data_bytes_max)
    return decoder


def deliver(decoder, wire, chunk_sizes):
    """Feed ``wire`` as a network would that has ``chunk_sizes`` bytes ready, one at a time."""
    frames = []
    position = 0
    sizes = iter(chunk_sizes)
    size = 1
    view = memoryview(wire)
    while position < len(wire):
        size = next(sizes, size)
        ready = view[position : position + size]
        while ready:
            buffer = decoder.buffer()
            assert len(buffer) > 0
            count = min(len(buffer), len(ready))
            buffer[:count] = ready[:count]
            frames += decoder.received(count)
            ready = ready[count:]
        position += size
    return frames


def plain(frame):
    return (frame.kind, frame.flags, frame.channel, frame.sequence, frame.body_bytes())


@st.composite
def frame_lists(draw, sizes=SIZES, max_size=8):
    frames = []
    for _ in range(draw(st.integers(1, max_size))):
        kind = draw(st.sampled_from(KINDS))
        size = draw(sizes)
        if kind != Kind.DATA:
            size = min(size, CONTROL_BODY_BYTES_MAX)
        offset = draw(st.integers(0, 255))
        body = NOISE[offset : offset + size]
        flags = draw(st.integers(0, 255))
        channel = draw(st.integers(0, 2**16 - 1))
        frames.append((kind, flags, channel, draw(st.integers(0, 2**64 - 1)), body))
    return frames


def encoded(frames):
    return b"".join(
        encode_frame(kind, body, flags=flags, channel=channel, sequence=sequence)
        for kind, flags, channel, sequence, body in frames
    )


# Sizes like those of a socket: anything, the last one repeated; often a few large ones.
CHUNKS = st.one_of(
    st.lists(st.integers(1, 200_000), min_size=1, max_size=20).map(lambda s: [*s, 1 << 30]),
    st.sampled_from([1 << 30, SCRATCH_BYTES, DIRECT_BYTES_MIN, 4096, 1448, 999]).map(lambda s: [s]),
)


@settings(max_examples=150)
@given(frame_lists(), CHUNKS)
def test_what_goes_in_comes_out(frames, chunks):
    decoder = opened()
    assert decoder.idle
    out = deliver(decoder, encoded(frames), chunks)
    assert [plain(frame) for frame in out] == frames
    assert decoder.idle


@settings(max_examples=40)
@given(frame_lists(st.integers(0, 300)))
def test_byte_by_byte(frames):
    assert [plain(frame) for frame in deliver(opened(), encoded(frames), [1])] == frames


def test_a_large_body_byte_by_byte():
    frames = [
        (Kind.DATA, 3, 1, 1, NOISE[:70_000]),
        (Kind.END, 0, 1, 2, b""),
        (Kind.DATA, 0, 1, 3, NOISE[5:66_000]),
    ]
    assert [plain(frame) for frame in deliver(opened(), encoded(frames), [1])] == frames


@settings(max_examples=60)
@given(frame_lists(max_size=5), CHUNKS, CHUNKS)
def test_a_frame_is_handed_out_with_its_last_byte(frames, chunks, more_chunks):
    """Not later: a frame that waits for the next one would hold up a quiet channel."""
    decoder = opened()
    for frame, cuts in zip(frames, [chunks, more_chunks] * len(frames), strict=False):
        wire = encoded([frame])
        assert deliver(decoder, wire[:-1], cuts) == []
        assert not decoder.idle
        assert [plain(out) for out in deliver(decoder, wire[-1:], [1])] == [frame]


@settings(max_examples=60)
@given(frame_lists(max_size=6), CHUNKS)
def test_frames_own_their_memory(frames, chunks):
    """What is received later must not show through in frames handed out before."""
    decoder = opened()
    out = deliver(decoder, encoded(frames), chunks)
    deliver(decoder, encoded([(Kind.PING, 0, 0, 1, b"\xff" * 60_000)] * 10), [1 << 30])
    assert [plain(frame) for frame in out] == frames


class TestLargeBodies:
    SIZE = 800_000

    def test_are_received_where_arrow_reads_them(self):
        decoder = opened()
        wire = encode_frame(Kind.DATA, NOISE[: self.SIZE], channel=1, sequence=1)
        first = decoder.buffer()[:1000]
        first[:] = wire[:1000]
        assert decoder.received(1000) == []
        rest = decoder.buffer()
        assert len(rest) == self.SIZE + HEADER_BYTES - 1000
        target = np.frombuffer(rest, np.uint8).ctypes.data
        rest[:] = wire[1000:]
        (frame,) = decoder.received(len(rest))
        assert isinstance(frame.body, pa.Buffer)
        assert frame.body.address % 64 == 0
        assert frame.body.address + 1000 - HEADER_BYTES == target  # the very same bytes
        assert frame.body.to_pybytes() == NOISE[: self.SIZE]

    def test_are_not_read_ahead_into_the_scratch(self):
        """After a large body only its successor's header is copied, not most of its body."""
        decoder = opened()
        wire = encoded([(Kind.DATA, 0, 1, number, NOISE[: self.SIZE]) for number in (1, 2, 3)])
        position, copied, frames = 0, [], []
        while position < len(wire):
            buffer = decoder.buffer()
            count = min(len(buffer), len(wire) - position)
            if frames and len(buffer) < DIRECT_BYTES_MIN:
                copied.append(count)
            buffer[:count] = wire[position : position + count]
            frames += decoder.received(count)
            position += count
        assert [frame.sequence for frame in frames] == [1, 2, 3]
        assert copied == [READ_AHEAD_BYTES] * 2

    def test_small_frames_after_one_are_read_in_bulk_again(self):
        decoder = opened()
        deliver(decoder, encode_frame(Kind.DATA, NOISE[: self.SIZE]), [1 << 30])
        small = encode_frame(Kind.PING, bytes(16)) * 100_000
        reads, position = 0, 0
        while position < len(small):
            buffer = decoder.buffer()
            count = min(len(buffer), len(small) - position)
            buffer[:count] = small[position : position + count]
            decoder.received(count)
            position += count
            reads += 1
        assert reads <= len(small) // SCRATCH_BYTES + 5

    @pytest.mark.parametrize("size", [SCRATCH_BYTES, DIRECT_BYTES_MIN + 1, 500_000])
    def test_take_memory_once(self, size):
        decoder = opened()
        wire = encode_frame(Kind.DATA, NOISE[:size])
        before = pa.total_allocated_bytes()
        deliver(decoder, wire[:-1], [20])
        taken = pa.total_allocated_bytes() - before
        assert size <= taken <= size + 64
        (frame,) = deliver(decoder, wire[-1:], [1])
        assert pa.total_allocated_bytes() - before == taken
        assert frame.body.size == size


class TestAdmission:
    LENGTH = 500_000

    def header(self, sequence=1):
        return HEADER.pack(self.LENGTH, Kind.DATA, 0, 7, sequence)

    def test_comes_after_the_frames_before_it_were_handed_out(self):
        """They may be what makes it admissible: an Open, or data that is consumed at once."""
        asked = []
        decoder = opened(lambda *what: asked.append(what))
        wire = encode_frame(Kind.OPEN, b"name", channel=7) + self.header()
        buffer = decoder.buffer()
        buffer[: len(wire)] = wire
        (frame,) = decoder.received(len(wire))
        assert frame.kind == Kind.OPEN
        assert asked == []
        decoder.buffer()
        assert asked == [(7, self.LENGTH)]

    def test_is_asked_once_per_body(self):
        asked = []
        decoder = opened(lambda *what: asked.append(what))
        deliver(decoder, (self.header() + NOISE[: self.LENGTH]) * 2, [10_000])
        assert asked == [(7, self.LENGTH)] * 2

    def test_refused_means_no_memory(self):
        def refuse(channel, length):
            raise ProtocolError("credit", "no room")

        decoder = opened(refuse)
        before = pa.total_allocated_bytes()
        buffer = decoder.buffer()
        buffer[:HEADER_BYTES] = self.header()
        assert decoder.received(HEADER_BYTES) == []
        with pytest.raises(ProtocolError, match="no room"):
            decoder.buffer()
        assert pa.total_allocated_bytes() == before


def refusal(decoder, wire, chunks):
    """Why the decoder refused ``wire``, if it did."""
    try:
        deliver(decoder, wire, chunks)
        decoder.buffer()
    except ProtocolError as error:
        return error.reason
    return None


class TestLimits:
    @settings(max_examples=60)
    @given(
        st.integers(DATA_BYTES_MAX + 1, 2**32 - 1),
        st.integers(0, 3),
        st.sampled_from([[1], [7], [1 << 30]]),
    )
    def test_no_memory_for_an_oversized_body(self, length, before, chunks):
        asked = []
        decoder = opened(lambda *what: asked.append(what))
        wire = encode_frame(Kind.PING) * before + HEADER.pack(length, Kind.DATA, 0, 1, 1)
        allocated = pa.total_allocated_bytes()
        assert refusal(decoder, wire, chunks) == "size"
        assert pa.total_allocated_bytes() == allocated
        assert asked == []

    def test_the_largest_body_is_let_in(self):
        wire = encode_frame(Kind.DATA, NOISE[:DATA_BYTES_MAX])
        assert len(deliver(opened(), wire, [1 << 30])) == 1

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != Kind.DATA])
    def test_control_frames_have_their_own_limit(self, kind):
        fits = encode_frame(kind, NOISE[:CONTROL_BODY_BYTES_MAX])
        assert len(deliver(opened(), fits, [1 << 30])) == 1
        too_long = HEADER.pack(CONTROL_BODY_BYTES_MAX + 1, kind, 0, 0, 0)
        assert refusal(opened(), too_long, [1]) == "size"

    @pytest.mark.parametrize("chunks", [[1], [1 << 30]])
    def test_before_the_handshake(self, chunks):
        fits = encode_frame(Kind.HELLO, NOISE[:GREETING_BODY_BYTES_MAX])
        assert len(deliver(FrameDecoder(admit_all), fits, chunks)) == 1
        too_long = encode_frame(Kind.HELLO, NOISE[: GREETING_BODY_BYTES_MAX + 1])
        assert refusal(FrameDecoder(admit_all), too_long, chunks) == "size"

    @pytest.mark.parametrize("chunks", [[1], [1 << 30]])
    @pytest.mark.parametrize("size", [1, 100, 100_000])
    def test_no_data_before_the_handshake(self, chunks, size):
        assert refusal(FrameDecoder(admit_all), encode_frame(Kind.DATA, NOISE[:size]), chunks)

    @settings(max_examples=60)
    @given(st.integers(1, 400_000), st.integers(1, 400_000), CHUNKS)
    @example(1000, 1001, [1 << 30])
    @example(1000, 1001, [100])
    def test_a_data_limit_holds_however_the_network_cuts(self, limit, size, chunks):
        decoder = opened(data_bytes_max=limit)
        wire = encode_frame(Kind.DATA, NOISE[:size])
        if size <= limit:
            assert len(deliver(decoder, wire, chunks)) == 1
        else:
            assert refusal(decoder, wire, chunks) == "size"

    @settings(max_examples=60)
    @given(
        st.integers(0, 255).filter(lambda kind: kind not in KIND_NAMES),
        st.integers(0, 2**32 - 1),
        st.sampled_from([[1], [1 << 30]]),
    )
    def test_unknown_kind(self, kind, length, chunks):
        allocated = pa.total_allocated_bytes()
        wire = HEADER.pack(length, kind, 0, 0, 0) + NOISE[: min(length, 100)]
        assert refusal(opened(), wire, chunks) == "kind"
        assert pa.total_allocated_bytes() == allocated

    @settings(max_examples=100)
    @given(st.binary(min_size=1, max_size=200))
    def test_noise_is_frames_or_a_protocol_error(self, noise):
        assert refusal(opened(), noise, [1 << 30]) in {None, "kind", "size"}


class TestPreface:
    def test_both_sides_agree(self):
        assert len(encode_preface()) == PREFACE.size == 8
        assert negotiate(encode_preface()) == VERSION_MAX

    @given(st.binary(min_size=4, max_size=4).filter(lambda magic: magic != MAGIC))
    @example(b"GET ")
    @example(b"\x16\x03\x01\x02")
    @example(MAGIC.lower())
    def test_a_stranger(self, magic):
        with pytest.raises(ProtocolError, match="not a Laminar peer") as caught:
            negotiate(PREFACE.pack(magic, VERSION_MIN, VERSION_MAX))
        assert caught.value.reason == "magic"

    @given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
    @example(0, VERSION_MIN)
    @example(0, 0)
    @example(VERSION_MAX, 2**16 - 1)
    @example(VERSION_MAX + 1, VERSION_MAX + 1)
    @example(VERSION_MAX, VERSION_MIN - 1)
    def test_the_newest_common_version(self, low, high):
        common = [v for v in range(VERSION_MIN, VERSION_MAX + 1) if low <= v <= high]
        preface = PREFACE.pack(MAGIC, low, high)
        if common:
            assert negotiate(preface) == max(common)
        else:
            with pytest.raises(ProtocolError, match=f"versions {low} to {high}") as caught:
                negotiate(preface)
            assert caught.value.reason == "version"


def test_header_is_the_documented_one():
    frame = encode_frame(Kind.BARRIER, b"xyz", flags=3, channel=0x0102, sequence=5)
    assert frame == b"\3\0\0\0" + b"\2\3" + b"\2\1" + b"\5" + bytes(7) + b"xyz"
    assert MAGIC == b"LMNR"
    assert encode_preface()[:4] == MAGIC


def test_kinds_are_distinct_and_sequenced_ones_come_first():
    sequenced = {Kind.DATA, Kind.BARRIER, Kind.WATERMARK, Kind.END}
    assert len(KIND_NAMES) == 14
    assert {kind for kind in KIND_NAMES if kind <= SEQUENCED_MAX} == sequenced
