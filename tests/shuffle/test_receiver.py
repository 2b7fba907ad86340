"""The receiving end over real sockets: who gets what, what is told, what is published."""

# Blocks nest here, and what raises is often a whole block.
# ruff: noqa: PT012, SIM117

from contextlib import AsyncExitStack
from dataclasses import replace

import anyio
import pytest
from anyio.lowlevel import checkpoint

from laminar.cluster.kv import SHUFFLE_ADDR_KEY
from laminar.cluster.memory import InMemoryKv
from laminar.errors import (
    ClosedError,
    ConfigError,
    HandshakeRefusedError,
    PeerLostError,
    PeerRestartedError,
    StreamError,
)
from laminar.model import CheckpointBarrier, CheckpointId
from laminar.shuffle.frames import Kind, encode_frame, encode_preface
from laminar.shuffle.messages import Barrier, Close, Data, End, SchemaChanged, Watermark
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from tests.wiring import (
    KIB,
    QUICK,
    NetworkSpy,
    Proxy,
    Raw,
    eventually,
    hello,
    limited,
    numbered,
    opening,
    resetting_dial,
    rows_of,
)

BARRIER = CheckpointBarrier(CheckpointId(7))
HASTY = replace(QUICK, reconnect_timeout_s=0.1)


async def connect(stack, receiver, node="a", config=QUICK, **how):
    sender = await stack.enter_async_context(ShuffleSender(node, config=config, **how))
    sender.register_peer(receiver.local_id, receiver.local_addr)
    return sender


def received(receiver, peer, channel="default"):
    """How many frames of a peer's channel have arrived."""
    known = receiver.statistics().peers.get(peer)
    return known.channels[channel].frames if known and channel in known.channels else 0


# -- who gets what ----------------------------------------------------------------------------


@limited
async def test_two_consumers_never_see_each_others_rows():
    seen = {"orders": [], "parts": []}

    async def consume(inbox, name):
        async for peer, message in inbox:
            if isinstance(message, End):
                return
            seen[name] += [(peer, message.channel, row) for row in rows_of(message.batch)]

    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        async with anyio.create_task_group() as tasks:
            for name in seen:
                tasks.start_soon(consume, receiver.channel(name), name)
            async with ShuffleSender("a", config=QUICK) as sender:
                sender.register_peer("b", receiver.local_addr)
                for start in range(100):
                    await sender.send_to("b", Data(numbered(start, 1), "orders"))
                    await sender.send_to("b", Data(numbered(-start, 1), "parts"))
                    await sender.send_to("b", Watermark(start, "unclaimed"))
                for name in seen:
                    await sender.send_to("b", End(name))
        unclaimed = [m.timestamp for _, m in receiver.drain_available() if isinstance(m, Watermark)]
    assert seen["orders"] == [("a", "orders", row) for row in range(100)]
    assert seen["parts"] == [("a", "parts", -row) for row in range(100)]
    assert unclaimed == list(range(100))


@limited
async def test_a_channel_claimed_late_brings_what_waited_for_it():
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("b", config=QUICK))
        sender = await connect(stack, receiver)
        for number in range(3):
            await sender.send_to("b", Watermark(number, "orders"))
            await sender.send_to("b", Watermark(-number, "other"))
        await sender.flush()
        orders = receiver.channel("orders")
        assert receiver.channel("orders") is orders
        await sender.send_to("b", Watermark(3, "orders"))
        await sender.flush()
        assert [m.timestamp for _, m in orders.drain_available()] == [0, 1, 2, 3]
        assert [m.timestamp for _, m in receiver.drain_available()] == [0, -1, -2]


@limited
async def test_draining_returns_barriers_too_and_never_waits():
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("b", config=QUICK))
        assert receiver.drain_available() == []
        sender = await connect(stack, receiver)
        sent = [Data(numbered(0, 3)), Barrier(BARRIER), Watermark(1), Data(numbered(3, 3)), End()]
        for message in sent:
            await sender.send_to("b", message)
        await sender.flush()
        assert receiver.drain_available() == [("a", message) for message in sent]
        assert receiver.drain_available() == []


@limited
async def test_messages_are_tagged_with_the_peer_they_came_from():
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("b", config=QUICK))
        for number, node in enumerate(("x", "y", "z")):
            sender = await connect(stack, receiver, node)
            await sender.send_to("b", Watermark(number))
            await sender.flush()
        assert receiver.drain_available() == [
            ("x", Watermark(0)),
            ("y", Watermark(1)),
            ("z", Watermark(2)),
        ]


@limited
async def test_a_cancelled_recv_loses_nothing():
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("b", config=QUICK))
        sender = await connect(stack, receiver)
        received = []

        async def one():
            received.append((await receiver.recv())[1].timestamp)

        for number in range(30):
            await sender.send_to("b", Watermark(number))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one)
                for _ in range(number):
                    await checkpoint()
                tasks.cancel_scope.cancel()
        await sender.flush()
        received += [m.timestamp for _, m in receiver.drain_available()]
        assert received == list(range(30))


# -- open and closed --------------------------------------------------------------------------


@limited
async def test_the_address_is_published_and_withdrawn():
    kv = InMemoryKv("b")
    async with ShuffleReceiver.bind("b", kv=kv, config=QUICK) as receiver:
        assert await kv.read_from("b", SHUFFLE_ADDR_KEY) == receiver.local_addr
    assert await kv.read_from("b", SHUFFLE_ADDR_KEY) is None
    bind = ShuffleReceiver.bind("b", kv=kv, config=QUICK, advertise="b.example:1")
    async with bind:
        assert await kv.read_from("b", SHUFFLE_ADDR_KEY) == "b.example:1"


@limited
async def test_the_address_is_withdrawn_when_the_block_is_cancelled_or_fails():
    kv = InMemoryKv("b")
    with anyio.CancelScope() as scope:
        async with ShuffleReceiver.bind("b", kv=kv, config=QUICK) as receiver:
            scope.cancel()
            await receiver.recv()
    assert scope.cancelled_caught
    assert await kv.read_from("b", SHUFFLE_ADDR_KEY) is None
    with pytest.raises(ValueError, match="the user's own"):
        async with ShuffleReceiver.bind("b", kv=kv, config=QUICK):
            raise ValueError("the user's own")
    assert await kv.read_from("b", SHUFFLE_ADDR_KEY) is None


@limited
async def test_a_taken_address_is_an_error_and_publishes_nothing():
    kv = InMemoryKv("c")
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        with pytest.raises(StreamError, match="cannot listen"):
            async with ShuffleReceiver.bind("c", receiver.local_addr, kv=kv):
                pass
    assert await kv.read_from("c", SHUFFLE_ADDR_KEY) is None


@limited
async def test_outside_its_block_a_receiver_is_closed():
    receiver = ShuffleReceiver.bind("b", config=QUICK)
    with pytest.raises(ClosedError):
        _ = receiver.local_addr
    for inbox in (receiver, receiver.channel("claimed early")):
        with pytest.raises(ClosedError, match="not open; use it inside its async with"):
            await inbox.recv()
    async with receiver:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Watermark(1))
            await sender.send_to("b", End())
    assert await receiver.recv() == ("a", Watermark(1))  # what is here is still delivered
    assert await receiver.recv() == ("a", End())
    for inbox in (receiver, receiver.channel("claimed early"), receiver.channel("late")):
        with pytest.raises(ClosedError, match="the receiver is closed"):
            await inbox.recv()
    assert [envelope async for envelope in receiver] == []
    with pytest.raises(ClosedError):
        async with receiver:
            pass


@limited
async def test_closing_wakes_those_who_wait():
    woken = []

    async def wait(inbox):
        with pytest.raises(ClosedError):
            await inbox.recv()
        woken.append(inbox)

    async with anyio.create_task_group() as tasks:
        async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
            tasks.start_soon(wait, receiver)
            tasks.start_soon(wait, receiver.channel("orders"))
            await checkpoint()
            await checkpoint()
    assert len(woken) == 2


@limited
async def test_an_exception_of_the_block_comes_out_as_it_is():
    with pytest.raises(ValueError, match="the user's own"):
        async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
            async with ShuffleSender("a", config=QUICK) as sender:
                sender.register_peer("b", receiver.local_addr)
                await sender.send_to("b", Watermark(1))
                await sender.flush()
                raise ValueError("the user's own")


@limited
async def test_an_interrupt_comes_out_as_it_is():
    """Ctrl-C is caught as KeyboardInterrupt by whoever runs the program."""
    with pytest.raises(KeyboardInterrupt):
        async with ShuffleReceiver.bind("b", config=QUICK):
            raise KeyboardInterrupt
    with pytest.raises(SystemExit):
        async with ShuffleSender("a", config=QUICK):
            raise SystemExit(3)


def test_addresses_and_ids_are_checked():
    with pytest.raises(ConfigError):
        ShuffleReceiver.bind("b", "nowhere")
    with pytest.raises(ConfigError):
        ShuffleReceiver.bind("b b")


# -- accepting --------------------------------------------------------------------------------


@limited
async def test_accepting_survives_failures():
    spy = NetworkSpy()
    spy.accepts_to_fail = 3
    async with ShuffleReceiver.bind("b", config=QUICK, network=spy) as receiver:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Watermark(1))
            await sender.flush()
        assert receiver.statistics().accept_failures == 3
        assert (await receiver.recv())[1] == Watermark(1)


@limited
async def test_a_silent_client_is_dropped_and_holds_up_nobody():
    config = replace(QUICK, handshake_timeout_s=0.1)
    async with ShuffleReceiver.bind("b", config=config) as receiver:
        silent = await Raw.dial(receiver.local_addr)
        half = await Raw.dial(receiver.local_addr)
        await half.send(encode_preface(), hello()[:10])
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Watermark(1))
            await sender.flush()
            await silent.cut_off()
            await half.cut_off()
            await sender.send_to("b", Watermark(2))
            await sender.flush()
        assert receiver.statistics().drops == {"timeout": 2}


@limited
async def test_strangers_are_served_only_so_many_at_once():
    config = replace(QUICK, handshakes_max=3, handshake_timeout_s=0.2)
    async with ShuffleReceiver.bind("b", config=config) as receiver:
        silent = [await Raw.dial(receiver.local_addr) for _ in range(5)]
        await eventually(lambda: receiver.statistics().drops.get("handshakes") == 2)
        for stranger in silent:
            await stranger.cut_off()
        assert receiver.statistics().drops == {"handshakes": 2, "timeout": 3}
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", End())


@limited
async def test_more_peers_than_allowed_are_refused_until_one_leaves():
    config = replace(QUICK, peers_max=1)
    async with ShuffleReceiver.bind("b", config=config) as receiver:
        first = await Raw.greeted(receiver.local_addr, "first")
        second = await Raw.dial(receiver.local_addr)
        await second.send(encode_preface(), hello("second"))
        await second.cut_off()
        assert receiver.statistics().drops == {"peers": 1}
        await first.send(encode_frame(Kind.CLOSE, b"\x81\xa6reason\xa0"))
        await first.cut_off()
        assert (await receiver.recv())[1] == Close("")
        third = await Raw.greeted(receiver.local_addr, "third")
        third.stream.close()


# -- the life of a peer -----------------------------------------------------------------------


@limited
async def test_a_newer_connection_supersedes_and_nothing_is_mixed_up():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        old = await Raw.greeted(receiver.local_addr, "a", round=1)
        await old.send_batch(numbered(0, 1))
        assert rows_of((await receiver.recv())[1].batch) == [0]
        new = await Raw.greeted(receiver.local_addr, "a", round=2, channel=None)
        # The new one sends again what it cannot know to have arrived, and more.
        again = new.data(numbered(0, 1))
        await new.send(opening("default"), again, new.data(numbered(1, 1)))
        await old.cut_off()
        assert rows_of((await receiver.recv())[1].batch) == [1]
        late = await Raw.dial(receiver.local_addr)
        await late.send(encode_preface(), hello("a", round=2))
        await late.cut_off()
        await new.send_batch(numbered(2, 1))
        assert rows_of((await receiver.recv())[1].batch) == [2]
        statistics = receiver.statistics()
        assert statistics.drops == {"round": 1}
        peer = statistics.peers["a"]
        assert (peer.alive, peer.connections, peer.duplicates) == (True, 2, 1)
        new.stream.close()


@limited
async def test_a_new_life_of_a_peer_is_told_once_behind_what_the_old_one_sent():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        old = await Raw.greeted(receiver.local_addr, "a", incarnation=1)
        await old.send_batch(numbered(0, 1))
        await eventually(lambda: received(receiver, "a") == 1)
        new = await Raw.greeted(receiver.local_addr, "a", incarnation=2)
        await new.send_batch(numbered(1, 1))
        await old.cut_off()
        assert rows_of((await receiver.recv())[1].batch) == [0]
        with pytest.raises(PeerRestartedError) as told:
            await receiver.recv()
        assert told.value.peer == "a"
        assert rows_of((await receiver.recv())[1].batch) == [1]
        ghost = await Raw.dial(receiver.local_addr)
        await ghost.send(encode_preface(), hello("a", incarnation=1, round=9))
        await ghost.cut_off()
        assert receiver.statistics().drops == {"incarnation": 1}
        assert receiver.drain_available() == []
        new.stream.close()


@limited
async def test_a_sender_whose_clock_went_back_is_let_in_once_it_knows_its_last_life():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        last = await Raw.greeted(receiver.local_addr, "a", incarnation=2_000)
        async with ShuffleSender("a", config=QUICK, incarnation=1_000) as sender:
            sender.register_peer("b", receiver.local_addr)
            with pytest.raises(HandshakeRefusedError, match="a newer life of a"):
                await sender.send_to("b", Data(numbered(0, 1)))
                await sender.flush()
            sender.outlive(2_000)
            sender.outlive(1_500)
            await sender.send_to("b", Data(numbered(1, 1)))
            with pytest.raises(PeerRestartedError):
                await receiver.recv()
            assert rows_of((await receiver.recv())[1].batch) == [1]
        last.stream.close()


@limited
async def test_a_peer_that_vanishes_is_told_once_to_those_who_miss_something():
    async with ShuffleReceiver.bind("b", config=HASTY) as receiver:
        orders, parts = receiver.channel("orders"), receiver.channel("parts")
        peer = await Raw.greeted(receiver.local_addr, "a", channel="orders")
        await peer.send_batch(numbered(0, 1))
        await peer.send(opening("parts", 1))
        await peer.send(encode_frame(Kind.END, channel=1, sequence=1))
        await eventually(lambda: received(receiver, "a", "parts") == 1)
        peer.stream.close()
        assert rows_of((await orders.recv())[1].batch) == [0]
        with pytest.raises(PeerLostError, match="peer a is gone"):
            await orders.recv()
        assert orders.drain_available() == []
        assert parts.drain_available() == [("a", End("parts"))]
        assert receiver.drain_available() == []
        assert receiver.statistics().peers == {}


@limited
async def test_a_frame_cut_in_half_is_a_broken_connection_and_resumes():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        first = await Raw.greeted(receiver.local_addr, "a", round=1)
        await first.send_batch(numbered(0, 1))
        frame = first.data(numbered(1, 1000, KIB))
        await first.send(frame[: len(frame) // 2])
        first.stream.close()
        second = await Raw.greeted(receiver.local_addr, "a", round=2)
        second.sequence, second.encoder = 1, first.encoder
        await second.send(encode_frame(Kind.DATA, frame[16:], flags=frame[5], sequence=2))
        assert rows_of((await receiver.recv())[1].batch) == [0]
        assert (await receiver.recv())[1] == SchemaChanged(numbered(1, 1000, KIB).schema)
        assert rows_of((await receiver.recv())[1].batch) == list(range(1, 1001))
        assert receiver.statistics().drops == {}
        second.stream.close()


@limited
async def test_a_peer_that_vanishes_while_it_comes_back_is_told_all_the_same():
    """The second connection dies before it is welcomed; the first was superseded by then."""
    async with ShuffleReceiver.bind("b", config=HASTY) as receiver:
        first = await Raw.greeted(receiver.local_addr, "a", round=1)
        await first.send_batch(numbered(0, 1))
        assert rows_of((await receiver.recv())[1].batch) == [0]
        resetting_dial(receiver.local_addr, encode_preface(), hello("a", round=2))
        first.stream.close()
        with anyio.fail_after(3), pytest.raises(PeerLostError):
            await receiver.recv()
        await eventually(lambda: not receiver.statistics().peers)


@limited
async def test_a_stranger_that_vanishes_in_the_handshake_leaves_nothing_behind():
    config = replace(HASTY, peers_max=2)
    async with ShuffleReceiver.bind("b", config=config) as receiver:
        for number in range(4):
            resetting_dial(receiver.local_addr, encode_preface(), hello(f"passer-by-{number}"))
        with anyio.fail_after(3):
            await eventually(lambda: receiver.statistics().drops == {"peers": 2})
            await eventually(lambda: not receiver.statistics().peers)
            async with ShuffleSender("a", config=QUICK) as sender:
                sender.register_peer("b", receiver.local_addr)
                await sender.send_to("b", End())


@limited
async def test_a_peer_that_comes_back_in_time_is_not_told():
    async with AsyncExitStack() as stack:
        config = replace(QUICK, reconnect_timeout_s=0.2)
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("b", config=config))
        proxy = await stack.enter_async_context(Proxy(receiver.local_addr).running())
        sender = await stack.enter_async_context(ShuffleSender("a", config=QUICK))
        sender.register_peer("b", proxy.addr)
        for number in range(5):
            await sender.send_to("b", Watermark(number))
            await sender.flush()
            proxy.cut()
        # Longer than the loss of the first connection would take to be told.
        until = anyio.current_time() + 0.3
        await eventually(lambda: anyio.current_time() > until)
        await sender.send_to("b", End())
        await sender.flush()
        assert receiver.drain_available() == [
            *(("a", Watermark(number)) for number in range(5)),
            ("a", End()),
        ]


# -- numbers ----------------------------------------------------------------------------------


@limited
async def test_statistics_count_what_was_received():
    async with AsyncExitStack() as stack:
        config = replace(QUICK, coalesce_bytes=1)
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("b", config=config))
        assert receiver.statistics().peers == {}
        sender = await connect(stack, receiver, config=config)
        for start in range(5):
            await sender.send_to("b", Data(numbered(start, 1), "orders"))
        await sender.send_to("b", Watermark(1, "orders"))
        await sender.flush()
        before = receiver.statistics()
        peer = before.peers["a"]
        channel = peer.channels["orders"]
        assert (peer.alive, peer.connections, peer.duplicates) == (True, 1, 0)
        assert (channel.frames, channel.batches) == (6, 0)
        assert channel.window_used_bytes == channel.bytes > 0
        assert channel.credit_bytes == config.window_bytes - channel.bytes
        assert channel.window_used_frames == 6
        assert channel.bytes == sender.statistics().peers["b"].channels["orders"].bytes
        assert len(receiver.drain_available()) == 6
        channel = receiver.statistics().peers["a"].channels["orders"]
        assert (channel.frames, channel.batches, channel.window_used_bytes) == (6, 5, 0)
        assert before.peers["a"].channels["orders"].batches == 0  # a snapshot
        assert (before.drops, before.accept_failures) == ({}, 0)
        assert before.peers["a"].silent_s >= 0
        assert receiver.heard().keys() == {"a"}


@limited
async def test_leaving_does_not_wait_for_a_client_that_says_nothing():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        stranger = await Raw.dial(receiver.local_addr)
        peer = await Raw.greeted(receiver.local_addr, "a")
    await stranger.cut_off()
    await peer.cut_off()
