"""A broadcast is encoded once, and every peer gets all of it in order."""

from contextlib import AsyncExitStack
from dataclasses import replace

import anyio
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laminar.config import ShuffleConfig
from laminar.errors import BatchTooLargeError, SchemaError
from laminar.shuffle import arrow
from laminar.shuffle.arrow import BatchDecoder, size_of
from laminar.shuffle.exchange import Exchange
from laminar.shuffle.messages import Data, End
from laminar.shuffle.outbound import OutboundSession
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from laminar.shuffle.shared import SharedStream
from laminar.shuffle.spread import BroadcastPartitioner
from tests.wiring import KIB, QUICK, eventually, limited, numbered, rows_of

CONFIG = ShuffleConfig(target_frame_bytes=4 * KIB, coalesce_bytes=KIB)


@pytest.fixture
def encodings(monkeypatch):
    """How many batches are encoded, by whomever."""
    encoded = []
    encode = arrow.BatchEncoder.encode

    def spy(self, batch):
        encoded.append(batch)
        return encode(self, batch)

    monkeypatch.setattr(arrow.BatchEncoder, "encode", spy)
    return encoded


class Peer:
    """A sender's session with one peer, and what the peer would decode."""

    def __init__(self, config=CONFIG):
        self.session = OutboundSession("me", "you", 1, config, None)
        self.decoder = BatchDecoder(1 << 30, validate_full=True)

    def offer(self, message):
        return self.session.offer(message)

    @property
    def channel(self):
        return self.session.channel("x")

    def batches(self):
        """What was queued since the last call; all of it is consumed."""
        self.channel.seal()
        found = []
        for frame in self.channel.window.retained:
            data = b"".join(bytes(buffer) for buffer in frame.buffers)
            found.append(self.decoder.decode(data, 16, bool(data[5] & 2)))
        self.channel.window.retained.clear()
        self.channel.window.retained_bytes = 0
        return found


def test_each_piece_is_encoded_once_and_its_buffers_are_shared(encodings):
    stream, peers = SharedStream("x", CONFIG), [Peer() for _ in range(5)]
    batches = [numbered(0, 100), numbered(100, 2000), numbered(2100, 5)]
    for batch in batches:
        message = stream.encode(batch)
        assert all(peer.offer(message) for peer in peers)
    assert len(encodings) == 1 + 4 + 1
    frames = [peer.channel.window.retained for peer in peers]
    for one, other in zip(frames[0], frames[1], strict=True):
        shared = [buffer for buffer in one.buffers if isinstance(buffer, pa.Buffer)]
        assert all(any(buffer is its for its in other.buffers) for buffer in shared)
    for peer in peers:
        assert [row for batch in peer.batches() for row in rows_of(batch)] == list(range(2105))


SCHEMAS = ("plain", "noted", "coded")


def batch_of(kind, words):
    array = pa.array(words, pa.string())
    if kind == "coded":
        array = array.dictionary_encode()
    batch = pa.RecordBatch.from_arrays([array], ["x"])
    return batch.replace_schema_metadata({"k": "v"}) if kind == "noted" else batch


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(SCHEMAS),
            st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5),
            st.lists(st.sampled_from(["shared", "own", "both", "not"]), min_size=3, max_size=3),
        ),
        max_size=12,
    )
)
def test_any_mixture_with_batches_of_its_own_reaches_each_peer_as_it_was(steps):
    """Whoever misses a piece gets a body that stands for itself, and is in step again."""
    stream, peers = SharedStream("x", CONFIG), [Peer() for _ in range(3)]
    expected = [[] for _ in peers]
    for kind, words, ways in steps:
        batch = batch_of(kind, words)
        message = stream.encode(batch)
        for peer, way, rows in zip(peers, ways, expected, strict=True):
            if way in ("own", "both"):
                own = batch_of(kind, ["z", *words])
                assert peer.offer(Data(own, "x"))
                rows.append(own)
            if way in ("shared", "both"):
                assert peer.offer(message)
                rows.append(batch)
    for peer, rows in zip(peers, expected, strict=True):
        found = [
            (row, batch.schema.metadata, batch.schema.field(0).type)
            for batch in peer.batches()
            for row in batch["x"].to_pylist()
        ]
        assert found == [
            (row, batch.schema.metadata, batch.schema.field(0).type)
            for batch in rows
            for row in batch["x"].to_pylist()
        ]


def test_who_missed_a_piece_costs_one_encoding_for_all_like_them(encodings):
    stream, peers = SharedStream("x", CONFIG), [Peer() for _ in range(4)]
    first, second, third = (stream.encode(numbered(10 * n, 10)) for n in range(3))
    assert all(peer.offer(first) for peer in peers[:2])
    assert all(peer.offer(second) for peer in peers)
    assert len(encodings) == 3 + 1
    assert all(peer.offer(third) for peer in peers)
    assert len(encodings) == 3 + 1


def test_without_room_nothing_is_queued():
    config = replace(CONFIG, window_bytes=8 * KIB)
    stream, peer = SharedStream("x", config), Peer(config)
    assert peer.offer(stream.encode(numbered(0, 900)))  # two pieces
    before = peer.channel.queued
    small, large = stream.encode(numbered(900, 200)), stream.encode(numbered(1100, 900))
    assert not peer.offer(small)
    assert not peer.offer(large)
    assert peer.channel.queued == before
    assert len(peer.batches()) == 2
    assert peer.offer(large)
    assert [row for batch in peer.batches() for row in rows_of(batch)] == list(range(1100, 2000))


def test_one_that_is_too_large_leaves_everybody_as_they_were():
    config = replace(CONFIG, max_frame_bytes=8 * KIB)
    stream, peer = SharedStream("x", config), Peer(config)
    large = pa.RecordBatch.from_arrays([pa.array(["x" * 9000]).dictionary_encode()], ["x"])
    with pytest.raises(BatchTooLargeError):
        stream.encode(large)
    with pytest.raises(BatchTooLargeError):
        stream.encode(pa.record_batch({"x": ["y" * 9000]}))
    assert peer.offer(stream.encode(numbered(0, 3)))
    assert rows_of(peer.batches()[0]) == [0, 1, 2]


def test_a_schema_that_may_not_change_is_refused_and_nothing_queued():
    config = replace(CONFIG, schema_change="refuse")
    stream, peer = SharedStream("x", config), Peer(config)
    assert peer.offer(stream.encode(numbered(0, 3)))
    before = peer.channel.queued
    other = stream.encode(numbered(0, 3, 5))
    with pytest.raises(SchemaError):
        peer.offer(other)
    assert peer.channel.queued == before


@limited
async def test_a_slow_peer_holds_its_own_window_only_and_misses_nothing(encodings):
    config = replace(QUICK, window_bytes=64 * KIB, target_frame_bytes=8 * KIB, coalesce_bytes=KIB)
    names = ("a", "b", "c", "d")
    async with AsyncExitStack() as stack:
        receivers, exchanges = {}, {}
        for name in names:
            receiver = ShuffleReceiver.bind(name, config=config)
            receivers[name] = await stack.enter_async_context(receiver)
        for name, receiver in receivers.items():
            sender = await stack.enter_async_context(ShuffleSender(name, config=config))
            for other in receivers.values():
                sender.register_peer(other.local_id, other.local_addr)
            exchanges[name] = Exchange(
                "x",
                sender=sender,
                receiver=receiver,
                partitioner=BroadcastPartitioner(names),
                inputs=["a"],
            )
        sender = exchanges["a"]._sender
        rows = {name: [] for name in names}
        sent = 0

        async def send():
            nonlocal sent
            for start in range(0, 600, 30):
                await exchanges["a"].send(numbered(start, 30, KIB))
                sent += 1
            await exchanges["a"].end()

        async def consume(name):
            async for _, message in exchanges[name]:
                if isinstance(message, Data):
                    rows[name] += rows_of(message.batch)
                else:
                    assert message == End("x")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            for name in ("a", "b", "c"):
                tasks.start_soon(consume, name)
            # The peer that does not consume has a full window, the others what was sent.
            await eventually(lambda: sent and len(rows["b"]) == len(rows["c"]) >= 30 * (sent + 1))
            assert sent < 5
            channel = sender.statistics().peers["d"].channels["x"]
            assert channel.window_used_bytes <= config.window_bytes
            tasks.start_soon(consume, "d")
        assert all(found == list(range(600)) for found in rows.values())
        pieces = sender.statistics().peers["b"].channels["x"].batches
        assert len(encodings) == pieces


@given(st.integers(-500, 1000), st.integers(0, 300), st.booleans())
def test_what_is_not_taken_leaves_nothing_behind(slack, before, in_step):
    """A batch of several pieces is queued whole or not at all, however full the window is."""
    stream = SharedStream("x", CONFIG)
    first, message = stream.encode(numbered(0, 10)), stream.encode(numbered(0, 1500))
    window = size_of(numbered(0, before)) + sum(piece.size for piece in message.pieces) + slack
    peer = Peer(replace(CONFIG, window_bytes=window))
    if before:
        peer.offer(Data(numbered(0, before), "x"))
    if in_step:
        peer.offer(first)
    peer.channel.seal()
    queued = len(peer.channel.window.retained)
    taken = peer.offer(message)
    added = len(peer.channel.window.retained) - queued
    assert added == (len(message.pieces) if taken else 0)
