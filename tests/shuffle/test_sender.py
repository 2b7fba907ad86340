"""The sending end over real sockets: nothing lost, doubled or reordered, nobody held up."""

# Blocks nest here, and what raises is often a whole block.
# ruff: noqa: PT012, SIM117

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace

import anyio
import pyarrow as pa
import pytest
from anyio.lowlevel import checkpoint

from laminar.cluster.kv import SHUFFLE_ADDR_KEY
from laminar.cluster.memory import InMemoryKv
from laminar.errors import (
    BatchTooLargeError,
    ChannelEndedError,
    ClosedError,
    ConfigError,
    FanOutError,
    HandshakeRefusedError,
    NoCreditError,
    PeerLostError,
    PeerRestartedError,
    PeerUnreachableError,
    UnknownPeerError,
)
from laminar.model import CheckpointBarrier, CheckpointId
from laminar.net.stream import receive_exactly
from laminar.net.tcp import TcpNetwork
from laminar.shuffle import control
from laminar.shuffle.frames import PREFACE, Kind, encode_frame, encode_preface
from laminar.shuffle.messages import Barrier, Close, Data, End, Watermark, Welcome
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from tests.wiring import (
    KIB,
    MIB,
    QUICK,
    NetworkSpy,
    Proxy,
    eventually,
    free_addr,
    limited,
    numbered,
    random_cuts,
    rows_of,
    silent_listener,
)

SMALL = replace(QUICK, window_bytes=64 * KIB, target_frame_bytes=8 * KIB, coalesce_bytes=1)
IMPATIENT = replace(QUICK, reconnect_timeout_s=0.1)
BARRIER = CheckpointBarrier(CheckpointId(7))


async def receive_rows(inbox, count):
    """The next ``count`` rows that arrive."""
    rows = []
    while len(rows) < count:
        _, message = await inbox.recv()
        rows += rows_of(message.batch)
    return rows


def fill(sender, peer, channel="default", row_bytes=KIB):
    """Send rows until there is no credit left; how many."""
    sent = 0
    while True:
        try:
            sender.try_send(peer, Data(numbered(sent, 1, row_bytes), channel))
        except NoCreditError:
            return sent
        sent += 1


# -- finding peers ----------------------------------------------------------------------------


@limited
async def test_what_is_sent_arrives_in_order_and_unchanged():
    batch = numbered(0, 1000).replace_schema_metadata({"of": "the schema"})
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Data(batch))
            await sender.send_to("b", Watermark(-5))
            await sender.send_to("b", Data(batch.slice(10, 20), vnode=9))
            await sender.send_to("b", Barrier(BARRIER))
            await sender.send_to("b", End())
        assert await receiver.recv() == ("a", Data(batch))
        assert await receiver.recv() == ("a", Watermark(-5))
        assert await receiver.recv() == ("a", Data(batch.slice(10, 20), vnode=9))
        assert await receiver.recv() == ("a", Barrier(BARRIER))
        assert await receiver.recv() == ("a", End())
        assert receiver.drain_available() == []


@limited
async def test_nobody_has_the_address_of_an_unknown_peer():
    async with ShuffleSender("a", kv=InMemoryKv("a"), config=QUICK) as sender:
        with pytest.raises(UnknownPeerError, match="register_peer"):
            await sender.send_to("b", End())
        with pytest.raises(UnknownPeerError):
            sender.try_send("b", End())
        with pytest.raises(UnknownPeerError):
            await sender.open_channel("b", "orders")
        await sender.flush()
        assert sender.statistics().peers == {}


@limited
async def test_the_kv_finds_a_peer_that_nobody_registered_and_beats_what_is_registered():
    kvs = InMemoryKv.cluster(["a", "b"])
    async with ShuffleReceiver.bind("b", kv=kvs["b"], config=QUICK) as receiver:
        async with ShuffleSender("a", kv=kvs["a"], config=QUICK) as sender:
            await sender.send_to("b", Watermark(1))
            assert await receiver.recv() == ("a", Watermark(1))
        async with ShuffleSender("a", kv=kvs["a"], config=QUICK) as sender:
            sender.register_peer("b", free_addr())
            await sender.send_to("b", Watermark(2))
            await sender.flush()


@limited
async def test_a_peer_that_restarts_elsewhere_is_told_once_and_found_again():
    kvs = InMemoryKv.cluster(["a", "b"])
    async with ShuffleSender("a", kv=kvs["a"], config=QUICK) as sender:
        async with ShuffleReceiver.bind("b", kv=kvs["b"], config=QUICK) as receiver:
            first_addr = receiver.local_addr
            await sender.send_to("b", Watermark(1))
            await receiver.recv()
            await sender.flush()
        # The old address is still what the sender was told by hand.
        sender.register_peer("b", first_addr)
        async with ShuffleReceiver.bind("b", kv=kvs["b"], config=QUICK) as receiver:
            assert receiver.local_addr != first_addr
            with pytest.raises(PeerRestartedError) as told:
                while True:
                    await sender.send_to("b", Watermark(2))
                    await sender.flush()
            assert told.value.peer == "b"
            receiver.drain_available()
            for number in (3, 4, 5):
                await sender.send_to("b", Watermark(number))
            await sender.flush()
            assert [await receiver.recv() for _ in range(3)] == [
                ("a", Watermark(number)) for number in (3, 4, 5)
            ]


@limited
async def test_nonsense_in_the_kv_hurts_only_the_peer_that_published_it():
    kvs = InMemoryKv.cluster(["a", "b", "c"])
    await kvs["c"].write(SHUFFLE_ADDR_KEY, "nowhere")
    async with ShuffleReceiver.bind("b", kv=kvs["b"], config=QUICK) as receiver:
        async with ShuffleSender("a", kv=kvs["a"], config=IMPATIENT) as sender:
            with pytest.raises(PeerUnreachableError, match="nowhere"):
                await sender.send_to("c", Watermark(1))
                await sender.flush()
            await sender.send_to("b", Watermark(2))
            await sender.flush()
        assert await receiver.recv() == ("a", Watermark(2))


@limited
async def test_an_unreachable_peer_is_told_once_and_tried_anew():
    addr = free_addr()
    async with ShuffleSender("a", config=IMPATIENT) as sender:
        sender.register_peer("b", addr)
        await sender.send_to("b", Watermark(1))
        with pytest.raises(
            PeerUnreachableError, match=r"peer b is unreachable after 0\.1 s"
        ) as told:
            await sender.flush()
        assert told.value.peer == "b"
        assert not sender.is_alive("b")
        async with ShuffleReceiver.bind("b", addr, config=QUICK) as receiver:
            await sender.send_to("b", Watermark(2))
            await sender.flush()
            assert sender.is_alive("b")
            assert receiver.drain_available() == [("a", Watermark(2))]


@limited
async def test_a_failure_nobody_waited_for_is_told_by_the_next_call():
    async with ShuffleSender("a", config=IMPATIENT) as sender:
        sender.register_peer("b", free_addr())
        sender.try_send("b", Watermark(1))
        await eventually(lambda: _gave_up(sender, "b"))
        with pytest.raises(PeerUnreachableError):
            await sender.send_to("b", Watermark(2))
        await sender.send_to("b", Watermark(3))  # told once
        with pytest.raises(PeerUnreachableError):
            await sender.flush()


@limited
async def test_each_channel_is_told_that_the_peer_restarted():
    """Two operators use one sender: what the other one is told does not help either."""
    async with ShuffleSender("a", config=QUICK) as sender:
        async with (
            ShuffleReceiver.bind("b", config=QUICK) as receiver,
            Proxy(receiver.local_addr).running() as proxy,  # ends first: there is no goodbye
        ):
            sender.register_peer("b", proxy.addr)
            for channel in ("red", "blue", "done"):
                await sender.send_to("b", Watermark(1, channel))
            await sender.send_to("b", End("done"))
            await sender.flush()
            for _ in range(4):
                await receiver.recv()
            await eventually(lambda: sender._links["b"].session.channels["done"].finished)
        async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
            sender.register_peer("b", receiver.local_addr)
            with pytest.raises(PeerRestartedError):
                await _send_on(sender, "red")
            await sender.send_to("b", Watermark(3, "red"))
            await sender.send_to("b", Watermark(3, "green"))
            with pytest.raises(PeerRestartedError):
                await sender.send_to("b", Watermark(3, "blue"))
            sender.try_send("b", Watermark(4, "blue"))
            await sender.open_channel("b", "done")
            await sender.flush()
            got = {message for _, message in receiver.drain_available()}
            assert got == {Watermark(3, "red"), Watermark(3, "green"), Watermark(4, "blue")}


async def _send_on(sender, channel):
    while True:
        await sender.send_to("b", Watermark(2, channel))
        await checkpoint()


def _gave_up(sender, peer):
    return peer not in sender.statistics().peers


@limited
async def test_a_peer_that_never_answers_is_unreachable_in_time():
    config = replace(IMPATIENT, dial_timeout_s=0.2)
    with silent_listener() as addr:
        async with ShuffleSender("a", config=config) as sender:
            sender.register_peer("b", addr)
            await sender.send_to("b", Watermark(1))
            with pytest.raises(PeerUnreachableError):
                await sender.flush()


@limited
async def test_a_refused_handshake_says_why():
    async with ShuffleReceiver.bind("b", config=replace(QUICK, cluster="other")) as receiver:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Watermark(1))
            with pytest.raises(HandshakeRefusedError, match="cluster is not 'laminar'"):
                await sender.flush()
        assert receiver.statistics().drops == {"cluster": 1}


@limited
async def test_somebody_else_at_the_address_is_not_taken_for_the_peer():
    async with ShuffleReceiver.bind("c", config=QUICK) as receiver:
        async with ShuffleSender("a", config=IMPATIENT) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Watermark(1))
            with pytest.raises(PeerUnreachableError, match="expected peer b, found c"):
                await sender.flush()
        assert receiver.drain_available() == []


# -- the window -------------------------------------------------------------------------------


@limited
async def test_try_send_without_credit_queues_nothing():
    async with ShuffleReceiver.bind("b", config=SMALL) as receiver:
        async with ShuffleSender("a", config=SMALL) as sender:
            sender.register_peer("b", receiver.local_addr)
            sent = fill(sender, "b")
            before = sender.statistics().peers["b"].channels
            for _ in range(3):
                with pytest.raises(NoCreditError):
                    sender.try_send("b", Data(numbered(sent, 1, KIB)))
            # Larger than a frame: all or nothing.
            with pytest.raises(NoCreditError):
                sender.try_send("b", Data(numbered(sent, 200, KIB)))
            assert sender.statistics().peers["b"].channels == before
            await sender.flush()
            with pytest.raises(NoCreditError):  # received, but not consumed
                sender.try_send("b", Data(numbered(sent, 1, KIB)))
            await sender.send_to("b", Watermark(1))  # control has an allowance of its own
            assert await receive_rows(receiver, sent) == list(range(sent))
            assert await receiver.recv() == ("a", Watermark(1))
            await eventually(lambda: _has_credit(sender, sent))
            assert await receive_rows(receiver, 1) == [sent]


def _has_credit(sender, start):
    try:
        sender.try_send("b", Data(numbered(start, 1, KIB)))
    except NoCreditError:
        return False
    return True


@limited
async def test_control_frames_are_bounded_too():
    config = replace(QUICK, control_frames_max=10)
    async with ShuffleReceiver.bind("b", config=config) as receiver:
        async with ShuffleSender("a", config=config) as sender:
            sender.register_peer("b", receiver.local_addr)
            for number in range(10):
                sender.try_send("b", Watermark(number))
            with pytest.raises(NoCreditError):
                sender.try_send("b", Watermark(10))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.send_to, "b", Watermark(10))
                for number in range(11):
                    assert await receiver.recv() == ("a", Watermark(number))


@limited
async def test_a_stalled_channel_is_bounded_and_holds_up_nothing_else():
    window = MIB
    config = replace(QUICK, window_bytes=window, target_frame_bytes=128 * KIB)
    rows, per_batch = 12 * KIB, 128  # 12 MiB, in batches of 128 KiB

    async def push(sender):
        for start in range(0, rows, per_batch):
            await sender.send_to("b", Data(numbered(start, per_batch, KIB), "slow"))

    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(ShuffleReceiver.bind("b", config=config))
        c = await stack.enter_async_context(ShuffleReceiver.bind("c", config=config))
        slow, fast, other = b.channel("slow"), b.channel("fast"), c.channel("fast")
        sender = await stack.enter_async_context(ShuffleSender("a", config=config))
        sender.register_peer("b", b.local_addr)
        sender.register_peer("c", c.local_addr)

        def used():
            ends = sender.statistics().peers.get("b"), b.statistics().peers.get("a")
            lanes = [end and end.channels.get("slow") for end in ends]
            return [lane.window_used_bytes if lane else 0 for lane in lanes]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(push, sender)
            await eventually(lambda: min(used()) > window - 2 * per_batch * KIB)
            for number in range(100):
                for peer, inbox in (("b", fast), ("c", other)):
                    await sender.send_to(peer, Data(numbered(number, 100, KIB), "fast"))
                    assert await receive_rows(inbox, 100) == list(range(number, number + 100))
                assert max(used()) <= window
            assert await receive_rows(slow, rows) == list(range(rows))


@limited
async def test_a_peer_that_stops_reading_fills_the_kernel_and_holds_up_no_other():
    """Real kernel buffers, really full: the frozen peer never receives another byte."""
    window = 24 * MIB
    config = replace(QUICK, window_bytes=window, close_timeout_s=0.2)
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(ShuffleReceiver.bind("b", config=config))
        frozen = await stack.enter_async_context(frozen_receiver("frozen", window))
        with pytest.raises(PeerLostError, match="frozen did not confirm") as told:
            async with ShuffleSender("a", config=config) as sender:
                sender.register_peer("b", b.local_addr)
                sender.register_peer("frozen", frozen)
                sent = fill(sender, "frozen", row_bytes=512 * KIB)
                assert 23 * MIB < sent * 512 * KIB <= 24 * MIB
                await eventually(lambda: _sent_to(sender, "frozen") > 0)
                for number in range(100):
                    await sender.send_to("b", Data(numbered(number, 100, KIB)))
                    assert await receive_rows(b, 100) == list(range(number, number + 100))
                # All that time the kernel took no more: the rest waits in the window.
                assert _sent_to(sender, "frozen") < 16 * MIB
                with pytest.raises(NoCreditError):
                    sender.try_send("frozen", Data(numbered(0, 1, 512 * KIB)))
                used = sender.statistics().peers["frozen"].channels["default"].window_used_bytes
                assert used <= window
        assert told.value.peer == "frozen"


def _sent_to(sender, peer):
    return sender.statistics().peers[peer].bytes_sent


@asynccontextmanager
async def frozen_receiver(node, window_bytes):
    """A receiver that says Welcome and then never reads again."""
    welcome = Welcome(
        node=node,
        incarnation=1,
        window_bytes=window_bytes,
        control_frames=100,
        resumed=False,
        channels={},
    )
    body = control.encode_welcome(welcome)

    async def serve(listener):
        with closing(await listener.accept()) as stream:
            await receive_exactly(stream, PREFACE.size)
            await stream.send_vectored([encode_preface(), encode_frame(Kind.WELCOME, body)])
            await anyio.sleep_forever()

    with closing(await TcpNetwork().listen("127.0.0.1:0")) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, listener)
            yield listener.local_addr
            tasks.cancel_scope.cancel()


@limited
async def test_concurrent_senders_to_a_full_window_all_get_their_turn_in_order():
    async with ShuffleReceiver.bind("b", config=SMALL) as receiver:
        async with ShuffleSender("a", config=SMALL) as sender:
            sender.register_peer("b", receiver.local_addr)

            async def send(number):
                for start in range(20):
                    batch = numbered(1000 * number + start, 1, 4 * KIB)
                    await sender.send_to("b", Data(batch))

            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(send, number)
                rows = await receive_rows(receiver, 100)
            for number in range(5):
                own = [row for row in rows if row // 1000 == number]
                assert own == list(range(1000 * number, 1000 * number + 20))


@limited
async def test_a_batch_larger_than_the_window_passes_in_slices():
    async with ShuffleReceiver.bind("b", config=SMALL) as receiver:
        async with ShuffleSender("a", config=SMALL) as sender:
            sender.register_peer("b", receiver.local_addr)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.send_to, "b", Data(numbered(0, 2000, 256)))
                assert await receive_rows(receiver, 2000) == list(range(2000))


@limited
async def test_a_frame_larger_than_the_window_travels_alone():
    config = replace(QUICK, window_bytes=4 * KIB)
    async with ShuffleReceiver.bind("b", config=config) as receiver:
        async with ShuffleSender("a", config=config) as sender:
            sender.register_peer("b", receiver.local_addr)

            async def send():
                for start in range(10):
                    await sender.send_to("b", Data(numbered(start, 1, 300 * KIB)))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                assert await receive_rows(receiver, 10) == list(range(10))


# -- what the caller got wrong ----------------------------------------------------------------


@limited
async def test_a_mistake_is_the_callers_and_hurts_nobody_else():
    config = replace(
        QUICK, max_frame_bytes=64 * KIB, target_frame_bytes=32 * KIB, coalesce_bytes=16 * KIB
    )
    async with ShuffleReceiver.bind("b", config=config) as receiver:
        async with ShuffleSender("a", config=config) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Watermark(1))
            for bad in (-1, 2**31):
                with pytest.raises(ConfigError):
                    await sender.send_to("b", Data(numbered(0, 1), vnode=bad))
                with pytest.raises(ConfigError):
                    await sender.send_to("b", Watermark(2**64))
                with pytest.raises(ConfigError):
                    await sender.send_to("b", Barrier(CheckpointBarrier(CheckpointId(-1))))
            with pytest.raises(BatchTooLargeError):
                await sender.send_to("b", Data(numbered(0, 1, MIB)))
            with pytest.raises(TypeError):
                await sender.send_to("b", Data("no batch"))
            with pytest.raises(ConfigError):
                await sender.send_to("b", Watermark(1, "x" * 129))
            await sender.send_to("b", End())
            for message in (Data(numbered(0, 1)), Watermark(1), End()):
                with pytest.raises(ChannelEndedError):
                    await sender.send_to("b", message)
            await sender.flush()
        assert receiver.drain_available() == [("a", Watermark(1)), ("a", End())]
        assert receiver.statistics().drops == {}


@limited
async def test_addresses_and_ids_are_checked():
    sender = ShuffleSender("a", config=QUICK)
    sender.register_peer("b", "127.0.0.1:1")
    with pytest.raises(ConfigError):
        sender.register_peer("b", "nowhere")
    with pytest.raises(ConfigError):
        sender.register_peer("b b", "127.0.0.1:1")
    with pytest.raises(ClosedError):
        sender.try_send("b", End())
    with pytest.raises(ClosedError):
        await sender.send_to("b", End())


# -- cancellation -----------------------------------------------------------------------------


@limited
async def test_a_send_cancelled_anywhere_leaves_the_stream_intact():
    """Each batch arrives as far as it was queued; nothing behind it is touched."""
    attempts, rows = 60, 64  # sixteen frames each, twice the window
    config = replace(SMALL, window_bytes=32 * KIB, target_frame_bytes=4 * KIB)
    arrived = {number: [] for number in range(attempts)}
    marks = []

    async def consume(receiver):
        while len(marks) < attempts:
            _, message = await receiver.recv()
            if isinstance(message, Watermark):
                marks.append(message.timestamp)
            else:
                for row in rows_of(message.batch):
                    arrived[row // rows].append(row)

    async with ShuffleReceiver.bind("b", config=config) as receiver:
        async with ShuffleSender("a", config=config) as sender:
            sender.register_peer("b", receiver.local_addr)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consume, receiver)
                for number in range(attempts):
                    batch = numbered(number * rows, rows, KIB)
                    await _cancel_after(number, sender.send_to, "b", Data(batch))
                    await sender.send_to("b", Watermark(number))
        statistics = receiver.statistics()
    assert marks == list(range(attempts))
    for number, found in arrived.items():
        assert found == list(range(number * rows, number * rows + len(found)))
    assert any(0 < len(found) < rows for found in arrived.values())
    assert statistics.drops == {}


async def _cancel_after(checkpoints, action, *arguments):
    """Run ``action`` and cancel it after so many turns of the event loop."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(action, *arguments)
        for _ in range(checkpoints):
            await checkpoint()
        tasks.cancel_scope.cancel()


@limited
async def test_a_cancelled_send_gives_up_its_place_in_the_queue():
    async with ShuffleReceiver.bind("b", config=SMALL) as receiver:
        async with ShuffleSender("a", config=SMALL) as sender:
            sender.register_peer("b", receiver.local_addr)
            sent = fill(sender, "b")
            for turns in range(10):
                await _cancel_after(turns, sender.send_to, "b", Data(numbered(-1, 1, KIB)))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.send_to, "b", Data(numbered(sent, 1, KIB)))
                assert await receive_rows(receiver, sent + 1) == list(range(sent + 1))


@limited
async def test_a_cancelled_flush_or_fan_out_can_be_repeated():
    async with ShuffleReceiver.bind("b", config=SMALL) as receiver:
        async with ShuffleSender("a", config=SMALL) as sender:
            sender.register_peer("b", receiver.local_addr)
            for turns in range(10):
                await sender.send_to("b", Watermark(turns))
                await _cancel_after(turns, sender.flush)
            await sender.flush()
            assert receiver.statistics().peers["a"].channels["default"].frames == 10


# -- connections that die ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "compression", "bytes_max"), [(1, None, 60 * KIB), (2, None, 2 * KIB), (3, "lz4", KIB)]
)
@limited
async def test_a_connection_cut_again_and_again_loses_doubles_and_reorders_nothing(
    seed, compression, bytes_max
):
    config = replace(SMALL, compression=compression)
    cuts, batches, per_batch = 25, 200, 20
    received = {"one": [], "two": []}

    async def consume(receiver, name):
        inbox, pause = receiver.channel(name), random.Random(seed)
        async for _, message in inbox:
            if isinstance(message, End):
                return
            received[name].append(message)
            for _ in range(pause.randrange(3)):
                await checkpoint()

    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("b", config=config))
        proxy = Proxy(receiver.local_addr, random_cuts(seed, cuts, bytes_max))
        await stack.enter_async_context(proxy.running())
        sender = await stack.enter_async_context(ShuffleSender("a", config=config))
        sender.register_peer("b", proxy.addr)
        async with anyio.create_task_group() as tasks:
            for name in received:
                tasks.start_soon(consume, receiver, name)
            for number in range(batches):
                for name in received:
                    batch = numbered(number * per_batch, per_batch, 100)
                    await sender.send_to("b", Data(batch, name))
                    if number % 10 == 9:
                        await sender.send_to("b", Watermark(number, name))
            for name in received:
                await sender.send_to("b", End(name))
            await sender.flush()
        connections = sender.statistics().peers["b"].connections
        assert receiver.statistics().drops.keys() <= {"handshake"}
    for messages in received.values():
        _check_rows_and_watermarks(messages, batches * per_batch, per_batch)
    assert proxy.cuts >= cuts
    assert connections > 10


def _check_rows_and_watermarks(messages, total, per_batch):
    rows = []
    for message in messages:
        if isinstance(message, Watermark):
            assert len(rows) == (message.timestamp + 1) * per_batch
        else:
            rows += rows_of(message.batch)
    assert rows == list(range(total))


@limited
async def test_a_connection_that_carried_frames_is_replaced_at_once():
    """Also when nothing came back before it broke: the next Welcome tells what arrived."""
    config = replace(QUICK, backoff_initial_s=6.0, backoff_max_s=6.0)
    async with ShuffleReceiver.bind("b", config=config) as receiver:
        proxy = Proxy(receiver.local_addr)
        async with proxy.running(), ShuffleSender("a", config=config) as sender:
            sender.register_peer("b", proxy.addr)
            for number in range(1, 6):
                await sender.send_to("b", Watermark(number))
                await eventually(lambda: received_frames(receiver) == number)  # noqa: B023
                proxy.cut()
            await sender.send_to("b", Watermark(6))
            assert [(await receiver.recv())[1].timestamp for _ in range(6)] == [1, 2, 3, 4, 5, 6]
            assert proxy.cuts >= 5


def received_frames(receiver):
    peers = receiver.statistics().peers
    return peers["a"].channels["default"].frames if "a" in peers and peers["a"].channels else 0


@limited
async def test_a_peer_that_hangs_up_on_every_greeting_is_not_pestered():
    config = replace(QUICK, backoff_initial_s=0.4, backoff_max_s=0.4)
    dialled = []
    listener = await TcpNetwork().listen("127.0.0.1:0")
    with closing(listener), anyio.CancelScope() as scope:
        async with ShuffleSender("a", config=config) as sender:
            sender.register_peer("b", listener.local_addr)
            sender.try_send("b", Watermark(1))
            for _ in range(3):
                await greet_and_hang_up(await listener.accept(), resumed=bool(dialled))
                dialled.append(anyio.current_time())
            scope.cancel()
            await checkpoint()
    assert dialled[2] - dialled[1] >= 0.2


async def greet_and_hang_up(stream, *, resumed):
    answer = control.encode_welcome(Welcome("b", 1, MIB, 100, resumed, {}))
    with closing(stream):
        await receive_exactly(stream, PREFACE.size)
        await stream.send_vectored([encode_preface(), encode_frame(Kind.WELCOME, answer)])


@limited
async def test_a_lost_peer_is_told_when_it_does_not_come_back():
    async with ShuffleReceiver.bind("b", config=SMALL) as receiver:
        proxy = Proxy(receiver.local_addr)
        async with proxy.running(), ShuffleSender("a", config=IMPATIENT) as sender:
            sender.register_peer("b", proxy.addr)
            await sender.send_to("b", Watermark(1))
            await sender.flush()
            proxy.open = False
            proxy.cut()
            await sender.send_to("b", Watermark(2))
            with pytest.raises(PeerLostError, match=r"peer b is lost after 0\.1 s"):
                await sender.flush()


@limited
async def test_what_the_peer_gave_up_on_is_not_delivered_again():
    """The peer told its consumer of the loss: what comes after must not repeat what came before."""
    patient, hasty = QUICK, replace(QUICK, reconnect_timeout_s=0.1)
    async with ShuffleReceiver.bind("b", config=hasty) as receiver:
        proxy = Proxy(receiver.local_addr)
        async with proxy.running(), ShuffleSender("a", config=patient) as sender:
            sender.register_peer("b", proxy.addr)
            await sender.send_to("b", Data(numbered(0, 5)))
            await sender.flush()  # received, not consumed
            proxy.open = False
            proxy.cut()
            await eventually(lambda: not receiver.statistics().peers)
            proxy.open = True
            with pytest.raises((PeerLostError, HandshakeRefusedError)):
                await sender.send_to("b", Data(numbered(5, 5)))
                await sender.flush()
            assert await receive_rows(receiver, 5) == list(range(5))
            with pytest.raises(PeerLostError):
                await receiver.recv()
            assert receiver.drain_available() == []


# -- barriers to many -------------------------------------------------------------------------


@limited
async def test_a_barrier_goes_to_all_behind_the_data_and_the_failed_are_reported_together():
    kvs = InMemoryKv.cluster(["a"])
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(ShuffleReceiver.bind("b", config=QUICK))
        c = await stack.enter_async_context(ShuffleReceiver.bind("c", config=QUICK))
        sender = await stack.enter_async_context(ShuffleSender("a", kv=kvs["a"], config=IMPATIENT))
        sender.register_peer("b", b.local_addr)
        sender.register_peer("c", c.local_addr)
        sender.register_peer("d", free_addr())
        for name in ("one", "two", "ended"):
            await sender.send_to("b", Data(numbered(0, 3), name))
        await sender.send_to("b", End("ended"))
        await sender.open_channel("b", "three")
        sender.try_send("d", Watermark(1))
        await eventually(lambda: _gave_up(sender, "d"))
        with pytest.raises(FanOutError) as caught:
            await sender.fan_out_barrier(["nobody", "d", "b", "c", "b"], BARRIER)
        failures = caught.value.failures
        assert failures.keys() == {"nobody", "d"}
        assert isinstance(failures["nobody"], UnknownPeerError)
        assert isinstance(failures["d"], PeerUnreachableError)
        assert "nobody" in str(caught.value)
        await sender.flush()
        at_b = [message for _, message in b.drain_available()]
        for name in ("one", "two"):
            assert [m for m in at_b if m.channel == name] == [
                Data(numbered(0, 3), name),
                Barrier(BARRIER, name),
            ]
        assert [m for m in at_b if m.channel == "three"] == [Barrier(BARRIER, "three")]
        assert [m for m in at_b if m.channel == "ended"] == [
            Data(numbered(0, 3), "ended"),
            End("ended"),
        ]
        assert c.drain_available() == [("a", Barrier(BARRIER))]


@limited
async def test_a_barrier_passes_a_full_window_in_its_place():
    async with ShuffleReceiver.bind("b", config=SMALL) as receiver:
        async with ShuffleSender("a", config=SMALL) as sender:
            sender.register_peer("b", receiver.local_addr)
            sent = fill(sender, "b")
            await sender.fan_out_barrier(["b"], BARRIER)  # does not wait for credit
            await sender.flush()
            assert await receive_rows(receiver, sent) == list(range(sent))
            assert await receiver.recv() == ("a", Barrier(BARRIER))


# -- flushing and closing ---------------------------------------------------------------------


@limited
async def test_flush_means_received_and_not_consumed():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            for start in range(0, 1000, 10):  # small ones, which wait for company
                await sender.send_to("b", Data(numbered(start, 10)))
            await sender.flush()
            rows = [row for _, m in receiver.drain_available() for row in rows_of(m.batch)]
            assert rows == list(range(1000))
            await sender.flush()  # nothing new: nothing to wait for


@limited
async def test_closing_delivers_what_was_sent_and_says_goodbye():
    async with ShuffleReceiver.bind("b", config=SMALL) as receiver:
        orders = receiver.channel("orders")
        async with ShuffleSender("a", config=SMALL) as sender:
            sender.register_peer("b", receiver.local_addr)
            sent = fill(sender, "b", "orders")
            sender.try_send("b", End("done"))
        assert await receive_rows(orders, sent) == list(range(sent))
        peer, message = await orders.recv()
        assert (peer, message) == ("a", Close("the sender is done"))
        # The channel that was ended has nothing to wait for, and is told nothing.
        assert receiver.drain_available() == [("a", End("done"))]
        assert receiver.statistics().peers == {}


@limited
async def test_closing_with_a_dead_peer_says_so_in_time():
    with silent_listener() as addr:
        started = anyio.current_time()
        with pytest.raises(PeerLostError, match="peer b did not confirm"):
            async with ShuffleSender("a", config=replace(QUICK, close_timeout_s=0.2)) as sender:
                sender.register_peer("b", addr)
                await sender.send_to("b", Watermark(1))
        assert anyio.current_time() - started < 5


@limited
async def test_closing_reports_every_peer_that_was_lost():
    config = replace(QUICK, close_timeout_s=1.0)
    with silent_listener() as silent:
        with pytest.raises(FanOutError) as caught:
            async with AsyncExitStack() as stack:
                other = replace(QUICK, cluster="other")
                c = await stack.enter_async_context(ShuffleReceiver.bind("c", config=other))
                sender = await stack.enter_async_context(ShuffleSender("a", config=config))
                sender.register_peer("b", silent)
                sender.register_peer("c", c.local_addr)
                for peer in "bc":
                    await sender.send_to(peer, Watermark(1))
    assert {peer: type(error) for peer, error in caught.value.failures.items()} == {
        "b": PeerLostError,
        "c": HandshakeRefusedError,
    }


@limited
async def test_a_closed_sender_takes_nothing_more():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Watermark(1))
        with pytest.raises(ClosedError):
            await sender.send_to("b", Watermark(2))
        with pytest.raises(ClosedError):
            sender.try_send("b", Watermark(2))
        with pytest.raises(ClosedError):
            await sender.open_channel("b", "orders")
        with pytest.raises((ClosedError, FanOutError)):
            await sender.fan_out_barrier(["b"], BARRIER)
        with pytest.raises(ClosedError), anyio.fail_after(2):
            await sender.flush()
        with pytest.raises(ClosedError):
            async with sender:
                pass


@limited
async def test_closing_ends_the_sends_of_others_that_still_wait():
    ended = []

    async def send(sender, waiting):
        waiting.set()
        with pytest.raises(ClosedError):
            await sender.send_to("b", Data(numbered(0, 1, KIB)))
        ended.append(True)

    async with ShuffleReceiver.bind("b", config=SMALL) as receiver:
        async with anyio.create_task_group() as tasks:
            with pytest.raises(ValueError, match="abandon ship"):
                async with ShuffleSender("a", config=SMALL) as sender:
                    sender.register_peer("b", receiver.local_addr)
                    fill(sender, "b")
                    waiting = anyio.Event()
                    tasks.start_soon(send, sender, waiting)
                    await waiting.wait()
                    await sender.flush()
                    raise ValueError("abandon ship")
            with anyio.move_on_after(2):
                await eventually(lambda: ended)
            tasks.cancel_scope.cancel()
    assert ended


@limited
async def test_an_exception_of_the_block_comes_out_as_it_is():
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        with pytest.raises(ValueError, match="the user's own"):
            async with ShuffleSender("a", config=QUICK) as sender:
                sender.register_peer("b", receiver.local_addr)
                await sender.send_to("b", Watermark(1))
                await sender.flush()
                raise ValueError("the user's own")
    with silent_listener() as addr, pytest.raises(ValueError, match="at once"):
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", addr)
            await sender.send_to("b", Watermark(1))
            raise ValueError("at once")  # and does not wait for a peer that is dead


@limited
async def test_a_cancelled_block_ends_at_once():
    with silent_listener() as addr, anyio.CancelScope() as scope:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", addr)
            await sender.send_to("b", Watermark(1))
            scope.cancel()
            await sender.flush()
            pytest.fail("unreachable")
    assert scope.cancelled_caught


@limited
async def test_leaving_a_block_can_be_cancelled():
    """What the sender owns ends all the same: no task of it is left to its surroundings."""
    with silent_listener() as addr:
        sender = ShuffleSender("a", config=QUICK)
        async with anyio.create_task_group() as tasks:

            async def use(task_status):
                with anyio.CancelScope() as scope:
                    async with sender:
                        sender.register_peer("b", addr)
                        await sender.send_to("b", Watermark(1))
                        task_status.started(scope)
                assert scope.cancelled_caught
                with pytest.raises(ClosedError):
                    await sender.send_to("b", Watermark(2))

            scope = await tasks.start(lambda *, task_status: use(task_status))
            await anyio.wait_all_tasks_blocked()
            scope.cancel()


@limited
async def test_an_error_while_being_cancelled_is_not_swallowed():
    with pytest.raises(ValueError, match="while cleaning up"), anyio.CancelScope() as scope:
        async with ShuffleSender("a", config=QUICK):
            scope.cancel()
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("while cleaning up")


@limited
async def test_cancellation_by_asyncio_itself_goes_through(anyio_backend_name):
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio's own cancellation")

    async def use():
        async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
            async with ShuffleSender("a", config=QUICK) as sender:
                sender.register_peer("b", receiver.local_addr)
                await sender.send_to("b", Watermark(1))
                await receiver.recv()
                inside.set()
                await anyio.sleep_forever()

    inside = anyio.Event()
    task = asyncio.get_running_loop().create_task(use())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


# -- numbers ----------------------------------------------------------------------------------


@limited
async def test_statistics_count_what_was_sent():
    spy = NetworkSpy()
    config = replace(QUICK, coalesce_bytes=1)
    async with ShuffleReceiver.bind("b", config=config) as receiver:
        async with ShuffleSender("a", config=config, network=spy) as sender:
            assert sender.statistics().peers == {}
            assert not sender.is_alive("b")
            sender.register_peer("b", receiver.local_addr)
            for start in range(5):
                await sender.send_to("b", Data(numbered(start, 1), "orders"))
            await sender.send_to("b", Barrier(BARRIER, "orders"))
            await sender.flush()
            link = sender.statistics().peers["b"]
            channel = link.channels["orders"]
            assert (link.alive, link.connections, link.frames_sent) == (True, 1, 6)
            assert (channel.frames, channel.batches) == (6, 5)
            assert channel.credit_bytes == config.window_bytes - channel.bytes
            assert (channel.window_used_frames, channel.blocked_s) == (6, 0)
            assert (link.trouble, link.silent_s) == ("", 0)  # its answer to the flush just came
            assert channel.window_used_bytes == channel.bytes > 0
            # Beside the frames of channels: preface, Hello, Open and Ping.
            assert 0 < spy.sent[receiver.local_addr] - link.bytes_sent < 200
            with pytest.raises(AttributeError):
                link.alive = False
            await receive_rows(receiver, 5)
            await receiver.recv()
            await eventually(
                lambda: not sender.statistics().peers["b"].channels["orders"].window_used_bytes
            )
            assert sender.is_alive("b")


@limited
async def test_the_time_that_senders_wait_for_room_is_counted_while_they_wait():
    async with (
        ShuffleReceiver.bind("b", config=SMALL) as receiver,
        ShuffleSender("a", config=SMALL) as sender,
        anyio.create_task_group() as tasks,
    ):

        def blocked_s(channel):
            return sender.statistics().peers["b"].channels[channel].blocked_s

        sender.register_peer("b", receiver.local_addr)
        await sender.send_to("b", Watermark(1, "idle"))
        sent = fill(sender, "b")
        assert blocked_s("default") == 0  # try_send does not wait
        for number in range(2):  # one has its turn, and one waits for that
            tasks.start_soon(sender.send_to, "b", Data(numbered(sent + number, 1, KIB)))
        await anyio.wait_all_tasks_blocked()
        seen, began = blocked_s("default"), anyio.current_time()
        await eventually(lambda: anyio.current_time() - began > 0.02)
        assert blocked_s("default") >= seen + 2 * 0.02
        rows = await receive_rows(receiver.channel("default"), sent + 2)
        assert sorted(rows) == list(range(sent + 2))  # the two came in no order
        await sender.flush()
        await anyio.wait_all_tasks_blocked()
        done = blocked_s("default")
        await anyio.sleep(0.002)
        assert blocked_s("default") == done
        assert blocked_s("idle") == 0


@limited
async def test_a_sender_that_gives_up_waiting_is_counted_no_longer():
    async with (
        ShuffleReceiver.bind("b", config=SMALL) as receiver,
        ShuffleSender("a", config=SMALL) as sender,
    ):
        sender.register_peer("b", receiver.local_addr)
        sent = fill(sender, "b")

        def channels():
            return sender.statistics().peers["b"].channels

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.send_to, "b", Data(numbered(sent, 1, KIB)))
            await eventually(lambda: channels()["default"].blocked_s > 0)
            tasks.cancel_scope.cancel()
        given_up = channels()
        await anyio.sleep(0.002)
        assert channels() == given_up
        await receive_rows(receiver, sent)


@limited
async def test_anything_that_speaks_arrow_can_be_sent():
    import polars

    frame = polars.DataFrame({"row": [1, 2, 3]})
    table = pa.table(frame)
    async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.send_to("b", Data(frame))
            sender.try_send("b", Data(table))
            await sender.send_to("b", Data(table.to_batches()[0]))
            await sender.flush()
        rows = [rows_of(m.batch) for _, m in receiver.drain_available() if isinstance(m, Data)]
        assert [row for part in rows for row in part] == [1, 2, 3] * 3


@limited
async def test_leaving_says_why_a_peer_was_not_reached():
    impatient = replace(QUICK, close_timeout_s=0.2)
    with pytest.raises(
        PeerLostError, match=r"within close_timeout_s \(0\.2 s\): cannot connect to"
    ):
        async with ShuffleSender("a", config=impatient) as sender:
            sender.register_peer("b", free_addr())
            await sender.send_to("b", Watermark(1))


@limited
async def test_what_is_no_message_or_address_is_told_so():
    async with (
        ShuffleReceiver.bind("b", config=QUICK) as receiver,
        ShuffleSender("a", config=QUICK) as sender,
    ):
        with pytest.raises(ConfigError, match="an address is a string"):
            sender.register_peer("b", ("127.0.0.1", 4000))
        sender.register_peer("b", receiver.local_addr)
        for wrong in (numbered(0, 1), "text"):
            for _ in range(2):  # without a connection, and with one
                with pytest.raises(TypeError, match=r"a batch travels as Data\(batch\)"):
                    await sender.send_to("b", wrong)
                with pytest.raises(TypeError, match=r"a batch travels as Data\(batch\)"):
                    sender.try_send("b", wrong)
                await sender.send_to("b", Watermark(1))
                await sender.flush()


@limited
async def test_many_more_channels_than_may_be_open_at_once():
    config = replace(QUICK, channels_max=4)
    async with (
        ShuffleReceiver.bind("b", config=config) as receiver,
        ShuffleSender("a", config=config) as sender,
    ):
        sender.register_peer("b", receiver.local_addr)
        for stage in range(50):
            channel = f"stage-{stage}"
            await sender.send_to("b", Data(numbered(stage, 1), channel))
            await sender.send_to("b", End(channel))
            assert rows_of((await receiver.recv())[1].batch) == [stage]
            assert await receiver.recv() == ("a", End(channel))
            await eventually(lambda: _nothing_outstanding(sender, "b"))
        assert sender.statistics().peers["b"].connections == 1
        assert len(receiver.statistics().peers["a"].channels) <= 4


def _nothing_outstanding(sender, peer):
    return not sender._links[peer].session.outstanding


@limited
async def test_a_receiver_that_leaves_after_the_last_row_is_no_loss():
    """It may be gone before it has answered the flush."""
    for _ in range(20):
        async with ShuffleSender("a", config=QUICK) as sender:
            async with ShuffleReceiver.bind("b", config=QUICK) as receiver:
                sender.register_peer("b", receiver.local_addr)

                async def consume(receiver=receiver):
                    async for _, message in receiver:
                        if isinstance(message, End):
                            return

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(consume)
                    for start in range(0, 1000, 100):
                        await sender.send_to("b", Data(numbered(start, 100)))
                    await sender.send_to("b", End())
            await sender.flush()


@limited
async def test_who_is_dialled_in_vain_is_told_until_somebody_answers():
    addr = free_addr()
    async with ShuffleSender("a", config=QUICK) as sender:
        for peer in ("b", "idle"):
            sender.register_peer(peer, addr)
        assert sender.dialled_in_vain() == []
        await sender.send_to("b", Data(numbered(0, 1)))
        await eventually(lambda: sender.dialled_in_vain() == ["b"])
        async with ShuffleReceiver.bind("b", addr, config=QUICK) as receiver:
            await receiver.recv()
            assert sender.dialled_in_vain() == []
