"""Strangers who break the protocol: their connection ends, is counted, and nobody else notices."""

# Blocks nest here, and what raises is often a whole block.
# ruff: noqa: PT012

import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import anyio
import msgpack
import pyarrow as pa
import pytest

from laminar.errors import PeerLostError, StreamError
from laminar.model import CheckpointBarrier, CheckpointId
from laminar.shuffle import control
from laminar.shuffle.authentication import key_id
from laminar.shuffle.frames import (
    HEADER,
    PREFACE,
    SCRATCH_BYTES,
    VERSION_MAX,
    Kind,
    encode_frame,
    encode_preface,
)
from laminar.shuffle.messages import Close, Data, End, Watermark
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from tests.wiring import (
    KIB,
    MIB,
    QUICK,
    Raw,
    eventually,
    hello,
    limited,
    numbered,
    opening,
    rows_of,
)

CONFIG = replace(
    QUICK,
    window_bytes=64 * KIB,
    target_frame_bytes=16 * KIB,
    coalesce_bytes=1,
    control_frames_max=100,
    channels_max=3,
    handshake_timeout_s=0.2,
    reconnect_timeout_s=0.2,
)


@asynccontextmanager
async def bystander(**settings):
    """A receiver, and an honest peer whose connection must survive what happens in the block."""
    config = replace(CONFIG, **settings)
    async with ShuffleReceiver.bind("b", config=config) as receiver:
        honest = receiver.channel("honest")
        async with ShuffleSender("a", config=replace(config, reconnect_timeout_s=10)) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Data(numbered(0, 10), "honest"))
            await sender.flush()
            yield receiver
            await sender.send_to("b", Watermark(1, "honest"))
            await sender.flush()
            assert [message for _, message in honest.drain_available()] == [
                Data(numbered(0, 10), "honest"),
                Watermark(1, "honest"),
            ]
            assert sender.statistics().peers["b"].connections == 1


def data_header(length, *, kind=Kind.DATA, channel=0, sequence=1):
    return HEADER.pack(length, kind, 0, channel, sequence)


STRANGERS = {
    "wrong magic": ("magic", PREFACE.pack(b"HTTP", 1, 1)),
    "another protocol": ("magic", b"GET / HTTP/1.1\r\n\r\n"),
    "garbage": ("magic", bytes(range(256)) * 64),
    "a later version": ("version", PREFACE.pack(b"LMNR", VERSION_MAX + 1, VERSION_MAX + 9)),
    "a version range upside down": ("version", PREFACE.pack(b"LMNR", 2, 1)),
    "another cluster": ("cluster", encode_preface() + hello(cluster="prod")),
    "the receiver's own id": ("identity", encode_preface() + hello("b")),
    "round 0": ("control", encode_preface() + hello(round=0)),
    "data before hello": ("order", encode_preface() + encode_frame(Kind.OPEN, b"")),
    "welcome instead of hello": ("order", encode_preface() + encode_frame(Kind.WELCOME, b"")),
    "more than hello": ("order", encode_preface() + hello() + opening("x")),
    "a large hello": ("size", encode_preface() + data_header(5000, kind=Kind.HELLO)),
    "a data frame before hello": ("size", encode_preface() + data_header(5000)),
    "an unknown kind": ("kind", encode_preface() + data_header(0, kind=200)),
    "a hello that is no map": ("control", encode_preface() + encode_frame(Kind.HELLO, b"\xc1")),
    "a hello without a node": (
        "control",
        encode_preface() + encode_frame(Kind.HELLO, msgpack.packb({"cluster": "laminar"})),
    ),
    "a hello of wrong types": (
        "control",
        encode_preface()
        + encode_frame(
            Kind.HELLO,
            msgpack.packb({"cluster": "laminar", "node": 5, "incarnation": True, "round": -1}),
        ),
    ),
    "a hello of nested arrays": (
        "control", encode_preface() + encode_frame(Kind.HELLO, b"\x91" * 4000)
    ),
    "half a preface": ("timeout", encode_preface()[:5]),
    "silence": ("timeout", b""),
    "half a hello": ("timeout", encode_preface() + hello()[:-1]),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
@limited
async def test_a_stranger_is_refused(name):
    reason, sent = STRANGERS[name]
    async with bystander() as receiver:
        stranger = await Raw.dial(receiver.local_addr)
        await stranger.send(sent)
        await stranger.cut_off()
        assert receiver.statistics().drops == {reason: 1}
        assert receiver.statistics().peers.keys() == {"a"}
        assert receiver.drain_available() == []


KEY, OTHER_KEY = b"0123456789abcdef", b"fedcba9876543210"

KEYLESS = {
    "no key": ("key", encode_preface() + hello()),
    "another key": ("key", encode_preface() + hello(keys=(OTHER_KEY,))),
    "the name of the peer that is here": ("key", encode_preface() + hello("a", incarnation=2**63)),
    "the receiver's own id": ("identity", encode_preface() + hello("b", keys=(KEY,))),
    "another cluster": ("cluster", encode_preface() + hello(cluster="prod", keys=(KEY,))),
    "data behind the hello": ("order", encode_preface() + hello(keys=(KEY,)) + opening("x")),
    "a proof before the challenge": (
        "order", encode_preface() + encode_frame(Kind.PROOF, bytes(32))
    ),
    "half a key id": (
        "control",
        encode_preface()
        + encode_frame(Kind.HELLO, hello(keys=(KEY,))[HEADER.size :].replace(
            b"\xc4\x08" + key_id(KEY), b"\xc4\x04" + key_id(KEY)[:4]
        )),
    ),
    "a key, and then silence": ("timeout", encode_preface() + hello(keys=(KEY,))),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYLESS)
@limited
async def test_a_stranger_without_the_key_is_refused(name):
    reason, sent = KEYLESS[name]
    async with bystander(keys=(KEY,)) as receiver:
        stranger = await Raw.dial(receiver.local_addr)
        await stranger.send(sent)
        await stranger.cut_off()
        assert receiver.statistics().drops == {reason: 1}
        assert receiver.statistics().peers.keys() == {"a"}


@limited
async def test_a_key_where_nobody_asks_for_one_is_refused():
    async with bystander() as receiver:
        stranger = await Raw.dial(receiver.local_addr)
        await stranger.send(encode_preface(), hello(keys=(KEY,)))
        (goodbye,) = await stranger.frames()
        assert (
            "asks for a key, and this node has none"
            in control.decode_close(goodbye.body_bytes()).reason
        )
        await stranger.cut_off()
        assert receiver.statistics().drops == {"key": 1}


@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["open", "keyed"])
@limited
async def test_a_stranger_that_drips_has_no_more_time_than_others(keys):
    """Each byte is progress; the limit is on all of it."""
    async with bystander(keys=keys) as receiver:
        stranger = await Raw.dial(receiver.local_addr)
        with suppress(StreamError):
            for byte in encode_preface() + hello(keys=keys)[:-1]:
                await stranger.send(bytes([byte]))
                await anyio.sleep(0.01)  # the slowness under test
        await stranger.cut_off()
        assert receiver.statistics().drops == {"timeout": 1}


@limited
async def test_more_connections_than_allowed_are_closed_at_once():
    async with bystander(connections_max=2) as receiver:
        second = await Raw.greeted(receiver.local_addr, "second", channel=None)
        third = await Raw.dial(receiver.local_addr)
        await third.cut_off()
        assert receiver.statistics().drops == {"connections": 1}
        await second.send(encode_frame(Kind.CLOSE, control.encode_close(Close("bye"))))
        await second.cut_off()
        await Raw.greeted(receiver.local_addr, "third", channel=None)
        assert receiver.statistics().drops == {"connections": 1}


@limited
async def test_connections_that_come_too_fast_are_closed_at_once():
    async with bystander(handshakes_per_s=5.0) as receiver:
        for _ in range(20):
            stranger = await Raw.dial(receiver.local_addr)
            stranger.stream.close()
        await eventually(lambda: sum(receiver.statistics().drops.values()) == 20)
        drops = receiver.statistics().drops
        assert drops["handshake"] + drops["rate"] == 20
        assert 4 <= drops["handshake"] <= 14  # one of the first five is the bystander


@limited
async def test_a_stranger_that_hangs_up_early_is_counted():
    async with bystander() as receiver:
        for sent in (b"", encode_preface()[:3], encode_preface() + hello()[:20]):
            stranger = await Raw.dial(receiver.local_addr)
            await stranger.send(sent)
            await stranger.stream.send_eof()
            await stranger.cut_off()
        assert receiver.statistics().drops == {"handshake": 3}


def barrier(last, **how):
    body = control.encode_barrier(CheckpointBarrier(CheckpointId(1)), last)
    return encode_frame(Kind.BARRIER, body, **how)


PEERS = {
    "an unknown kind": ("kind", data_header(0, kind=9)),
    "garbage": ("kind", b"\xff" * 100),
    "a channel that is not open": ("channel", data_header(1, channel=7) + b"x"),
    "a large body for a channel that is not open": (
        "channel", data_header(60 * KIB * 5, channel=7) + bytes(SCRATCH_BYTES)
    ),
    "a channel opened twice": ("channel", opening("other", 0)),
    "a name opened twice": ("channel", opening("default", 1)),
    "too many channels": ("channel", b"".join(opening(f"c{n}", n) for n in range(1, 4))),
    "a name that is too long": ("control", opening("x" * 129, 1)),
    "a frame too large for anybody": ("size", data_header(2**32 - 1)),
    "a frame above the limit": ("size", data_header(CONFIG.max_frame_bytes + 1)),
    "a large control frame": ("size", data_header(2**20, kind=Kind.PING)),
    "a gap": ("gap", data_header(1, sequence=2) + b"x"),
    "sequence 0": ("gap", data_header(1, sequence=0) + b"x"),
    "an empty batch body": ("arrow", data_header(0)),
    "more control frames than allowed": (
        "credit", b"".join(barrier(n, sequence=n + 1) for n in range(101))
    ),
    "hello again": ("order", hello()),
    "a proof again": ("order", encode_frame(Kind.PROOF, bytes(40))),
    "a challenge from a sender": ("order", encode_frame(Kind.CHALLENGE, bytes(40))),
    "credit from a sender": ("order", encode_frame(Kind.CREDIT, sequence=1)),
    "a goodbye that is no map": ("control", encode_frame(Kind.CLOSE, b"\xc1")),
    "a barrier that is far too large": (
        None, encode_frame(Kind.BARRIER, bytes(200 * KIB), sequence=1)
    ),
    "an end with a body": (None, encode_frame(Kind.END, bytes(200 * KIB), sequence=1)),
    "a watermark with a large body": (
        None, encode_frame(Kind.WATERMARK, bytes(200 * KIB), sequence=1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PEERS)
@limited
async def test_a_peer_that_breaks_the_protocol_is_cut_off(name):
    """Without anybody consuming: it is the reader that notices."""
    reason, sent = PEERS[name]
    async with bystander() as receiver:
        evil = await Raw.greeted(receiver.local_addr)
        await evil.send(sent)
        await evil.cut_off()
        drops = receiver.statistics().drops
        assert drops == {reason: 1} if reason else sum(drops.values()) == 1
        await eventually(lambda: receiver.statistics().peers.keys() == {"a"})
        with pytest.raises(PeerLostError, match="evil was cut off") as told:
            while True:
                await receiver.recv()
        assert told.value.peer == "evil"
        assert receiver.drain_available() == []


@limited
async def test_what_follows_an_end_is_refused():
    async with bystander() as receiver:
        evil = await Raw.greeted(receiver.local_addr)
        await evil.send(evil.frame(Kind.END), evil.frame(Kind.END))
        await evil.cut_off()
        assert receiver.statistics().drops == {"order": 1}
        assert receiver.drain_available() == [("evil", End())]


@limited
async def test_what_came_whole_before_a_bad_frame_is_taken_in():
    """Also when both are received by one call."""
    async with bystander() as receiver:
        evil = await Raw.greeted(receiver.local_addr, channel=None)
        await evil.send(opening("default"), evil.data(numbered(0, 5)), data_header(0, kind=200))
        await evil.cut_off()
        assert receiver.statistics().drops == {"kind": 1}
        assert rows_of((await receiver.recv())[1].batch) == list(range(5))
        with pytest.raises(PeerLostError, match="evil was cut off"):
            await receiver.recv()


@limited
async def test_no_memory_is_taken_for_a_body_without_credit():
    """Sixty megabytes are announced again and again; a window is 64 KiB."""
    async with bystander() as receiver:
        before = pa.total_allocated_bytes()
        for number in range(20):
            evil = await Raw.greeted(receiver.local_addr, f"evil-{number}")
            filler = evil.data(numbered(0, 1000, 40))
            await evil.send(filler, data_header(60 * MIB, sequence=2), bytes(SCRATCH_BYTES))
            await evil.cut_off()
            assert pa.total_allocated_bytes() - before < 8 * MIB
        assert receiver.statistics().drops == {"credit": 20}


@limited
async def test_overdrawn_credit_is_refused_and_what_was_within_it_is_delivered():
    async with bystander() as receiver:
        evil = await Raw.greeted(receiver.local_addr)
        for start in range(0, 100, 10):  # ten times 10 KiB into a window of 64 KiB
            await evil.send_batch(numbered(start, 10, KIB))
        await evil.cut_off()
        assert receiver.statistics().drops == {"credit": 1}
        rows = []
        with pytest.raises(PeerLostError, match="overdraws the window"):
            while True:
                rows += rows_of((await receiver.recv())[1].batch)
        assert rows == list(range(60))


@limited
async def test_a_body_that_is_cut_short_is_a_lost_peer():
    async with bystander() as receiver:
        evil = await Raw.greeted(receiver.local_addr)
        await evil.send(evil.data(numbered(0, 1)), evil.data(numbered(1, 100, 300))[:-1])
        await evil.stream.send_eof()
        assert rows_of((await receiver.recv())[1].batch) == [0]
        with pytest.raises(PeerLostError):
            await receiver.recv()
        assert receiver.drain_available() == []


# -- bodies that are not what they should be ---------------------------------------------------


def stream_body(batch):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        schema_bytes = sink.tell()
        writer.write_batch(batch)
        end = sink.tell()
    return bytes(sink.getvalue())[:end], schema_bytes


def with_offsets(*offsets):
    """The body of a batch of strings, whose offsets are replaced by anything at all."""
    good = [0, 11, 12, 17]
    batch = pa.record_batch({"row": ["hello-there", "!", "again"]})
    was, now = (struct.pack("<4i", *numbers) for numbers in (good, offsets))
    body, _ = stream_body(batch)
    assert body.count(was) == 1
    return body.replace(was, now)


GOOD, SCHEMA_BYTES = stream_body(numbered(0, 100))

BODIES = {
    "noise": b"\x00\x01\x02\x03" * 200,
    "zeros": bytes(2000),
    "an end of stream": b"\xff\xff\xff\xff\x00\x00\x00\x00",
    "a schema alone": GOOD[:SCHEMA_BYTES],
    "a batch cut short": GOOD[:-100],
    "bytes behind the batch": GOOD + bytes(8),
    "two batches": GOOD + GOOD[SCHEMA_BYTES:],
    "a schema in disorder": GOOD[:8] + b"\xff" * 40 + GOOD[48:],
    "metadata in disorder": GOOD[: SCHEMA_BYTES + 8] + b"\xff" * 40 + GOOD[SCHEMA_BYTES + 48 :],
    "metadata of 2 GiB": GOOD[:SCHEMA_BYTES] + struct.pack("<Ii", 0xFFFFFFFF, 2**31 - 1) + GOOD,
    "offsets that run backwards": with_offsets(0, 11, 5, 17),
    "offsets beyond the data": with_offsets(0, 11, 12, 2**30),
    "negative offsets": with_offsets(-(2**30), 11, 12, 17),
}


@pytest.mark.parametrize("name", BODIES)
@limited
async def test_a_body_that_is_no_batch_is_refused(name):
    async with bystander() as receiver:
        evil = await Raw.greeted(receiver.local_addr)
        await evil.send(evil.frame(Kind.DATA, BODIES[name], flags=2))
        with pytest.raises(PeerLostError, match="evil was cut off: arrow"):
            await receiver.recv()
        await evil.cut_off()
        assert receiver.statistics().drops == {"arrow": 1}
        assert receiver.drain_available() == []


@limited
async def test_a_batch_before_its_schema_is_refused():
    async with bystander() as receiver:
        evil = await Raw.greeted(receiver.local_addr)
        await evil.send(evil.frame(Kind.DATA, GOOD[SCHEMA_BYTES:]))
        with pytest.raises(PeerLostError, match="before the schema"):
            await receiver.recv()
        await evil.cut_off()
        assert receiver.statistics().drops == {"arrow": 1}


@limited
async def test_nothing_behind_a_bad_frame_is_delivered():
    """Above all no barrier: its checkpoint would lack the rows of the frame that was dropped."""
    async with bystander() as receiver:
        other = receiver.channel("other")
        evil = await Raw.greeted(receiver.local_addr)
        await evil.send(
            opening("other", 1),
            evil.data(numbered(0, 5)),
            evil.frame(Kind.DATA, bytes(100)),
            evil.data(numbered(5, 5)),
            barrier(3, sequence=4),
            encode_frame(Kind.END, sequence=5),
            barrier(0, channel=1, sequence=1),
        )
        await eventually(lambda: _frames(receiver) == {"default": 5, "other": 1})
        assert rows_of((await receiver.recv())[1].batch) == list(range(5))
        with pytest.raises(PeerLostError, match="evil was cut off: arrow"):
            await receiver.recv()
        await evil.cut_off()
        assert receiver.drain_available() == []
        assert receiver.statistics().drops == {"arrow": 1}
        # What came on other channels was whole; then they hear of the loss too.
        assert len(other.drain_available()) == 1
        with pytest.raises(PeerLostError):
            await other.recv()


def _frames(receiver):
    peer = receiver.statistics().peers.get("evil")
    return {name: c.frames for name, c in peer.channels.items()} if peer else {}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.WATERMARK, b"short"),
        (Kind.BARRIER, b"\xc1"),
        (Kind.BARRIER, msgpack.packb({"id": -1, "epoch": 0, "flags": 0, "last": 0})),
        (Kind.BARRIER, msgpack.packb({"id": 1, "epoch": 0, "flags": 1 << 40, "last": 0})),
    ],
)
@limited
async def test_a_control_body_that_makes_no_sense_is_refused(kind, body):
    async with bystander() as receiver:
        evil = await Raw.greeted(receiver.local_addr)
        await evil.send(evil.frame(kind, body))
        with pytest.raises(PeerLostError, match="control"):
            await receiver.recv()
        await evil.cut_off()
        assert receiver.statistics().drops == {"control": 1}


@limited
async def test_a_barrier_that_knows_of_frames_which_never_came_is_refused():
    async with bystander() as receiver:
        evil = await Raw.greeted(receiver.local_addr)
        await evil.send(evil.data(numbered(0, 1)), barrier(7, sequence=2))
        assert rows_of((await receiver.recv())[1].batch) == [0]
        with pytest.raises(PeerLostError, match="gap"):
            await receiver.recv()
        assert receiver.statistics().drops == {"gap": 1}


@limited
async def test_a_refused_introduction_changes_nothing_for_the_peer_it_names():
    async with bystander() as receiver:
        for how in ({"round": 0, "incarnation": 2**63}, {"incarnation": 0}, {"cluster": "prod"}):
            evil = await Raw.dial(receiver.local_addr)
            await evil.send(encode_preface(), hello("a", **how))
            await evil.cut_off()
        assert receiver.statistics().drops == {"control": 1, "incarnation": 1, "cluster": 1}
        peer = receiver.statistics().peers["a"]
        assert (peer.alive, peer.connections, peer.channels["honest"].frames) == (True, 1, 1)


@limited
async def test_a_refused_peer_hears_why():
    async with bystander() as receiver:
        stranger = await Raw.dial(receiver.local_addr)
        await stranger.send(encode_preface(), hello(cluster="prod"))
        (goodbye,) = await stranger.frames()
        assert goodbye.kind == Kind.CLOSE
        assert "cluster is not 'prod'" in control.decode_close(goodbye.body_bytes()).reason
        stranger.stream.close()
        evil = await Raw.greeted(receiver.local_addr)
        await evil.send(data_header(1, sequence=2) + b"x")
        (goodbye,) = await evil.frames()
        assert "frame 2 follows frame 0" in control.decode_close(goodbye.body_bytes()).reason


@limited
async def test_answers_that_nobody_reads_do_not_pile_up():
    """A million pings whose pongs stay in the kernel: whoever sends them waits or is cut off."""
    pings = encode_frame(Kind.PING, sequence=1) * (16 * KIB)
    async with bystander() as receiver:
        evil = await Raw.greeted(receiver.local_addr, channel=None)
        session = receiver._peers.sessions["evil"]
        with anyio.move_on_after(0.5), suppress(StreamError):
            for _ in range(64):
                await evil.send(pings)
        assert len(session.take()) <= 1  # the newest confirms those before
        evil.stream.close()
