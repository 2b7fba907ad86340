"""An operator's view: every row once at the node of its key, and never a hang."""

# Blocks nest here, and what raises is often a whole block.
# ruff: noqa: PT012, SIM117

from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import anyio
import pyarrow as pa
import pytest
from anyio.lowlevel import checkpoint

from laminar.cluster.memory import InMemoryKv
from laminar.errors import (
    ChannelEndedError,
    ConfigError,
    PeerLostError,
    PeerRestartedError,
    PeerUnreachableError,
    RemoteError,
    UnknownPeerError,
    UnsupportedKeyError,
)
from laminar.model import CheckpointBarrier, CheckpointId
from laminar.shuffle import control
from laminar.shuffle.aligner import Superseded
from laminar.shuffle.exchange import Exchange
from laminar.shuffle.frames import Kind
from laminar.shuffle.hash_partitioner import HashPartitioner
from laminar.shuffle.liveness import PeerState
from laminar.shuffle.messages import Barrier, Data, End, Watermark
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from laminar.shuffle.spread import CustomPartitioner, SinglePartitioner
from tests.wiring import (
    KIB,
    QUICK,
    NetworkSpy,
    Raw,
    eventually,
    free_addr,
    limited,
    numbered,
    rows_of,
)

NODES = ("a", "b", "c")
BARRIER = CheckpointBarrier(CheckpointId(7))
SMALL = replace(QUICK, window_bytes=64 * KIB, target_frame_bytes=8 * KIB, coalesce_bytes=1)
HASTY = replace(QUICK, reconnect_timeout_s=0.1)


@dataclass
class Node:
    sender: ShuffleSender | None
    receiver: ShuffleReceiver
    spy: NetworkSpy | None

    def exchange(self, nodes=NODES, name="orders", partitioner=None, **how):
        partitioner = partitioner or HashPartitioner(["row"], nodes)
        how.setdefault("sender", self.sender)
        return Exchange(name, receiver=self.receiver, partitioner=partitioner, **how)


def by_row(nodes):
    """Row n goes to node n modulo the number of nodes."""
    return CustomPartitioner(lambda batch: [n % len(nodes) for n in rows_of(batch)], nodes)


async def cluster(stack, names=NODES, config=QUICK):
    """Nodes that know one another, in one process, over real sockets."""
    nodes = {}
    for name in names:
        receiver = ShuffleReceiver.bind(name, config=config)
        nodes[name] = Node(None, await stack.enter_async_context(receiver), NetworkSpy())
    for name, node in nodes.items():
        sender = ShuffleSender(name, config=config, network=node.spy)
        node.sender = await stack.enter_async_context(sender)
        for other in nodes.values():
            sender.register_peer(other.receiver.local_id, other.receiver.local_addr)
    return nodes


@limited
async def test_every_row_arrives_once_at_the_node_of_its_key():
    sent, received, envelopes = Counter(), {}, Counter()

    async def run(name, node, number):
        exchange = node.exchange()

        async def send():
            for start in range(0, 10_000, 500):
                batch = numbered(10_000 * number + start, 500, 10)
                sent.update(rows_of(batch))
                await exchange.send(batch)
            await exchange.end()

        received[name] = Counter()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            async for peer, message in exchange:
                if isinstance(message, End):
                    envelopes[name, peer] += 1
                else:
                    received[name].update(rows_of(message.batch))
        with pytest.raises(StopAsyncIteration):
            await anext(exchange)

    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, config=SMALL)
        async with anyio.create_task_group() as tasks:
            for number, (name, node) in enumerate(nodes.items()):
                tasks.start_soon(run, name, node, number)
    assert sum(received.values(), Counter()) == sent
    assert set(sent.values()) == {1}
    assert all(len(rows) > 5000 for rows in received.values())
    assert envelopes == {(to, by): 1 for to in NODES for by in NODES}
    # The partitioner says the same on every node.
    partitioner = HashPartitioner(["row"], NODES)
    for index, part in partitioner.split(numbered(0, 30_000)):
        assert received[NODES[index]].keys() == set(rows_of(part))


@limited
async def test_nodes_that_are_done_leave_one_after_another():
    """Each has seen every end. Nobody owes anything to those who have left already."""
    kvs = InMemoryKv.cluster(NODES)
    here, left = [], []

    async def run(name, number):
        async with (
            ShuffleReceiver.bind(name, kv=kvs[name], config=QUICK) as receiver,
            ShuffleSender(name, kv=kvs[name], config=QUICK) as sender,
        ):
            here.append(name)
            await eventually(lambda: len(here) == len(NODES))
            exchange = Node(sender, receiver, None).exchange()
            await exchange.send(numbered(0, 1000))
            await exchange.end()
            assert len([m async for _, m in exchange if isinstance(m, Data)]) == 3
            await eventually(lambda: len(left) == number)
        left.append(name)

    with anyio.fail_after(3):
        async with anyio.create_task_group() as tasks:
            for number, name in enumerate(NODES):
                tasks.start_soon(run, name, number)


@limited
async def test_rows_of_the_own_node_never_touch_a_socket():
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b"))
        node = nodes["a"]
        exchange = node.exchange(("a", "b"), partitioner=by_row(("a", "b")))
        odd = pa.RecordBatch.from_pydict({"row": range(0, 2000, 2)})
        for _ in range(10):
            await exchange.send(odd)  # rows of "a" only
        own = node.receiver.channel("orders")
        arrived = own.drain_available()
        assert arrived == [("a", Data(odd, "orders"))] * 10
        await node.sender.flush()
        assert node.receiver.statistics().peers == {}
        assert node.sender.statistics().peers.keys() == {"b"}
        assert node.sender.statistics().peers["b"].bytes_sent == 0
        assert node.spy.sent.keys() == {nodes["b"].receiver.local_addr}
        assert sum(node.spy.sent.values()) < 300  # a greeting, and the name of the channel


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary_view(), pa.list_view(pa.binary())])
@limited
async def test_rows_of_the_own_node_do_not_pin_what_they_were_part_of(kind):
    ballast = pa.array([b"x" * 1000] * 4096).cast(pa.binary())
    if kind == pa.list_view(pa.binary()):
        ones = pa.array([1] * 4096, pa.int32())
        ballast = pa.ListViewArray.from_arrays(pa.array(range(4096), pa.int32()), ones, ballast)
    else:
        ballast = ballast.cast(kind)
    batch = pa.record_batch({"row": range(4096), "ballast": ballast})
    before = pa.total_allocated_bytes()
    async with AsyncExitStack() as stack:
        node = (await cluster(stack, ("a",)))["a"]
        exchange = node.exchange(("a",), partitioner=SinglePartitioner("a"))
        await exchange.send(batch.slice(4000, 5))
        await exchange.send(batch)
        _, small = await anext(exchange)
        _, whole = await anext(exchange)
        assert small.batch.equals(batch.slice(4000, 5))
        assert whole.batch is batch  # not copied for nothing
        sizes = {}
        for buffer in [b for column in small.batch.columns for b in column.buffers() if b]:
            root = buffer
            while root.parent is not None:
                root = root.parent
            sizes[root.address] = root.size
        assert sum(sizes.values()) < 20_000
        assert pa.total_allocated_bytes() - before < 100_000


@limited
async def test_a_node_alone_needs_no_network():
    spy = NetworkSpy()
    async with ShuffleReceiver.bind("a", config=QUICK) as receiver:
        async with ShuffleSender("a", config=QUICK, network=spy) as sender:
            exchange = Node(sender, receiver, spy).exchange(("a",))
            await exchange.send(numbered(0, 100))
            await exchange.barrier(BARRIER)
            await exchange.watermark(5)
            await exchange.end()
            events = [message async for _, message in exchange]
            assert sorted(rows_of(events[0].batch)) == list(range(100))
            assert events[1:] == [
                Barrier(BARRIER, "orders"),
                Watermark(5, "orders"),
                End("orders"),
            ]
    assert spy.sent == {}


@limited
async def test_the_way_to_the_own_node_is_bounded_and_fair():
    """Also with several senders waiting at once: none is forgotten."""
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a",), SMALL)
        exchange = nodes["a"].exchange(("a",))
        done = []

        async def send(number):
            for _ in range(8):
                await exchange.send(numbered(number, 20, KIB))
            done.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(send, number)
            for _ in range(20):
                await checkpoint()
            assert done == []  # 640 KiB do not fit 64
            rows = 0
            while rows < 4 * 8 * 20:
                _, message = await anext(exchange)
                rows += message.batch.num_rows
        assert sorted(done) == [0, 1, 2, 3]


@limited
async def test_a_slow_node_does_not_hold_the_parts_of_others():
    got = {name: [] for name in NODES}
    sent = 0

    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, config=SMALL)
        partitioner = by_row(NODES)
        exchanges = {n: node.exchange(partitioner=partitioner) for n, node in nodes.items()}

        async def send():
            nonlocal sent
            for start in range(0, 3000, 30):
                sent += 30
                await exchanges["a"].send(numbered(start, 30, KIB))
            await exchanges["a"].end()

        async def consume(name):
            async for peer, message in exchanges[name]:
                if isinstance(message, Data):
                    got[name] += rows_of(message.batch)
                elif peer == "a":
                    return

        def stuck():
            slow = nodes["a"].sender.statistics().peers.get("c")
            lane = slow and slow.channels.get("orders")
            return lane and lane.window_used_bytes > SMALL.window_bytes - 12 * KIB

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            tasks.start_soon(consume, "a")
            tasks.start_soon(consume, "b")
            await eventually(stuck)
            # The batch that waits for c included: a and b have all their rows of it.
            await eventually(lambda: len(got["a"]) == len(got["b"]) == sent / 3)
            assert sent < 600
            assert got["c"] == []
            tasks.start_soon(consume, "c")
    for index, name in enumerate(NODES):
        assert got[name] == list(range(index, 3000, 3))


@limited
async def test_barriers_watermarks_and_ends_come_behind_the_rows_on_every_node():
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack)
        exchanges = {
            name: node.exchange(partitioner=by_row(NODES), inputs=["a"])
            for name, node in nodes.items()
        }
        exchange = exchanges["a"]
        await exchange.send(numbered(0, 30))
        await exchange.barrier(BARRIER)
        await exchange.send(numbered(30, 30))
        await exchange.watermark(60)
        await exchange.end()
        for index, name in enumerate(NODES):
            events = [m async for _, m in exchanges[name]]
            kinds = [rows_of(e.batch) if isinstance(e, Data) else e for e in events]
            assert kinds == [
                list(range(index, 30, 3)),
                Barrier(BARRIER, "orders"),
                list(range(30 + index, 60, 3)),
                Watermark(60, "orders"),
                End("orders"),
            ]


@limited
async def test_two_exchanges_of_one_node_keep_apart():
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b"))
        exchanges = {
            (name, node): nodes[node].exchange(("a", "b"), name, inputs=["a"])
            for name in ("orders", "parts")
            for node in nodes
        }
        for name, start in (("orders", 0), ("parts", 100)):
            exchange = exchanges[name, "a"]
            await exchange.send(numbered(start, 100))
            await exchange.end()
        for name, start in (("orders", 0), ("parts", 100)):
            rows = []
            for node in nodes:
                async for _, message in exchanges[name, node]:
                    rows += rows_of(message.batch) if isinstance(message, Data) else []
            assert sorted(rows) == list(range(start, start + 100))


# -- alignment --------------------------------------------------------------------------------


def told(event):
    """An event as its peer and what can be compared."""
    peer, message = event
    return peer, sorted(rows_of(message.batch)) if isinstance(message, Data) else message


@limited
async def test_every_node_sees_each_checkpoint_as_one_moment():
    """Rows are numbered by the checkpoint they come before, and each node has its own speed."""
    checkpoints, seen = 5, {}

    async def run(name, node, number):
        exchange = node.exchange()

        async def send():
            for round_number in range(checkpoints):
                for batch in range(4 + 4 * number):
                    start = 1000 * round_number + 100 * batch
                    await exchange.send(numbered(start, 50, 100 * (1 + number)))
                await exchange.watermark(10 * round_number + number)
                await exchange.barrier(CheckpointBarrier(CheckpointId(round_number)))
            await exchange.end()

        seen[name] = [[]]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            async for _, message in exchange:
                if isinstance(message, Data):
                    seen[name][-1] += rows_of(message.batch)
                elif isinstance(message, Barrier):
                    assert message.barrier.checkpoint_id == len(seen[name]) - 1
                    seen[name].append([])
        statistics = exchange.statistics()
        assert (statistics.aligned, statistics.drops) == (checkpoints, {})
        assert (statistics.inputs, statistics.held_messages, statistics.held_bytes) == (0, 0, 0)

    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, config=SMALL)
        async with anyio.create_task_group() as tasks:
            for number, (name, node) in enumerate(nodes.items()):
                tasks.start_soon(run, name, node, number)
    sent = Counter(
        100 * batch + row for number in range(3) for batch in range(4 + 4 * number)
        for row in range(50)
    )  # fmt: skip
    for number in range(checkpoints):
        rows = [row for node in seen.values() for row in node[number]]
        assert Counter(row - 1000 * number for row in rows) == sent
    assert all(node[checkpoints] == [] for node in seen.values())


@limited
async def test_what_is_held_behind_a_barrier_is_not_consumed():
    """The window bounds it; rows of the others still come through, more than a window of them."""
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b", "c"), SMALL)
        out = {name: nodes[name].exchange(("c",), inputs=[]) for name in ("a", "b")}
        into = nodes["c"].exchange(("c",), inputs=["a", "b"])
        got = []

        async def consume():
            async for event in into:
                got.append(told(event))

        async def hurry():
            await out["a"].send(numbered(0, 1, 1))
            await out["a"].barrier(BARRIER)
            for row in range(100):
                await out["a"].send(numbered(row, 1, 4 * KIB))
            await out["a"].end()

        def used():
            a = nodes["c"].receiver.statistics().peers.get("a")
            return a.channels["orders"].window_used_bytes if a and a.channels else 0

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            tasks.start_soon(hurry)
            await eventually(lambda: used() > SMALL.window_bytes - 10 * KIB)
            for row in range(100):
                await out["b"].send(numbered(row, 1, 4 * KIB))
            await eventually(lambda: len(got) == 101)
            held = into.statistics()
            assert (held.aligning, held.missing) == (7, {"b"})
            assert SMALL.window_bytes >= held.held_bytes > SMALL.window_bytes - 10 * KIB
            await eventually(lambda: used() == into.statistics().held_bytes)
            assert ("a", [0]) in got
            assert [event for event in got if event[0] == "b"] == [("b", [n]) for n in range(100)]
            await out["b"].barrier(BARRIER)
            await out["b"].end()
        rest = got[101:]
        assert rest[0] == (None, Barrier(BARRIER, "orders"))
        assert [event for event in rest if event[0] == "a"] == [
            *(("a", [n]) for n in range(100)),
            ("a", End("orders")),
        ]


@limited
async def test_the_own_node_keeps_to_the_same_rules():
    """Its rows wait behind its barrier within its window, and the barrier needs no room."""
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b"), SMALL)
        own = nodes["a"].exchange(("a",), inputs=["a", "b"])
        other = nodes["b"].exchange(("a",), inputs=[])
        sent = []

        async def send():
            await own.send(numbered(0, 15, 4 * KIB))  # the window is full
            await own.barrier(BARRIER)
            sent.append("barrier")
            for row in range(50):
                await own.send(numbered(row, 1, 4 * KIB))
            sent.append("rows")
            await own.end()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await eventually(lambda: sent == ["barrier"])
            got = [told(await anext(own))]
            assert got == [("a", list(range(15)))]
            await other.send(numbered(7, 1))
            assert told(await anext(own)) == ("b", [7])
            await eventually(lambda: sent == ["barrier"])
            await other.barrier(BARRIER)
            await other.end()
            got = [told(event) async for event in own]
        assert got[0] == (None, Barrier(BARRIER, "orders"))
        assert [event for event in got if event[0] == "a"] == [
            *(("a", [n]) for n in range(50)),
            ("a", End("orders")),
        ]


@limited
async def test_a_barrier_that_is_sent_twice_comes_out_once():
    """By the operator and by whoever fans it out over all channels."""
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b"))
        sender = nodes["a"].sender
        out = nodes["a"].exchange(("b",), inputs=[])
        await out.barrier(BARRIER)
        await sender.fan_out_barrier(["b"], BARRIER)
        await out.send(numbered(0, 1))
        await out.end()
        into = nodes["b"].exchange(("b",), inputs=["a"])
        assert [told(event) async for event in into] == [
            (None, Barrier(BARRIER, "orders")),
            ("a", [0]),
            ("a", End("orders")),
        ]
        assert into.statistics().drops == {"duplicate": 1}


@limited
async def test_a_skipped_checkpoint_is_told_and_an_aborted_one_lets_go():
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b", "c"))
        out = {name: nodes[name].exchange(("c",), inputs=[]) for name in ("a", "b")}
        into = nodes["c"].exchange(("c",), inputs=["a", "b"])
        got = []

        async def consume():
            async for event in into:
                got.append(told(event))

        def checkpoint(number):
            return CheckpointBarrier(CheckpointId(number))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            await out["a"].barrier(checkpoint(1))
            await out["a"].send(numbered(1, 1))
            await eventually(lambda: into.statistics().held_messages == 1)
            await out["b"].barrier(checkpoint(2))
            await eventually(lambda: len(got) == 2)
            assert got == [(None, Superseded(1, by=2)), ("a", [1])]
            await out["b"].send(numbered(2, 1))
            await eventually(lambda: into.statistics().held_messages == 1)
            into.abort(2)  # while the consumer waits
            await eventually(lambda: len(got) == 3)
            await out["a"].barrier(checkpoint(2))
            await out["a"].watermark(5)
            for exchange in out.values():
                await exchange.watermark(5)
                await exchange.end()
        assert got[2] == ("b", [2])
        assert (None, Watermark(5, "orders")) in got[3:]
        assert not any(isinstance(message, Barrier) for _, message in got)
        assert into.statistics().drops == {"late": 1}


@limited
async def test_a_node_that_is_no_input_is_told_of_once_and_not_waited_for():
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b", "c"), SMALL)
        out = {name: nodes[name].exchange(("c",), inputs=[]) for name in ("a", "b")}
        into = nodes["c"].exchange(("c",), inputs=["a"])
        for _ in range(3):
            await out["b"].send(numbered(0, 1))
        await nodes["b"].sender.flush()
        await out["a"].send(numbered(1, 1))
        await out["a"].barrier(BARRIER)
        await out["a"].end()
        with pytest.raises(ConfigError, match="peer b sends on 'orders' but is not among the inp"):
            await anext(into)
        assert [told(event) async for event in into] == [
            ("a", [1]),
            (None, Barrier(BARRIER, "orders")),
            ("a", End("orders")),
        ]
        assert into.statistics().drops == {"stranger": 3}


@limited
async def test_all_who_iterate_stop_when_the_last_input_has_ended():
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b"))
        out = nodes["a"].exchange(("b",), inputs=[])
        into = nodes["b"].exchange(("b",), inputs=["a"])
        got = []

        async def consume():
            async for event in into:
                got.append(told(event))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(consume)
            await anyio.wait_all_tasks_blocked()
            await out.end()
        assert got == [("a", End("orders"))]


@limited
async def test_a_cancelled_consumer_loses_nothing():
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b"), SMALL)
        out = nodes["a"].exchange(("b",), inputs=[])
        into = nodes["b"].exchange(("b",), inputs=["a"])
        got = []

        async def send():
            for row in range(100):
                await out.send(numbered(row, 1, 4 * KIB))
            await out.end()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            while len(got) < 101:
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    got.append(told(await anext(into)))
                await checkpoint()
        assert got == [*(("a", [n]) for n in range(100)), ("a", End("orders"))]


# -- nodes that are not there -----------------------------------------------------------------


@limited
async def test_a_node_that_vanishes_is_an_error_to_its_receivers():
    async with ShuffleReceiver.bind("b", config=HASTY) as receiver:
        async with ShuffleSender("b", config=HASTY) as sender:
            exchange = Node(sender, receiver, None).exchange(("a", "b"))
            peer = await Raw.greeted(receiver.local_addr, "a", channel="orders")
            await peer.send_batch(numbered(0, 5))
            assert rows_of((await anext(exchange))[1].batch) == list(range(5))
            peer.stream.close()
            with pytest.raises(PeerLostError, match="peer a is gone"):
                await anext(exchange)


@limited
async def test_a_node_that_leaves_before_its_end_is_an_error():
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("b", config=QUICK))
        own = await stack.enter_async_context(ShuffleSender("b", config=QUICK))
        exchange = Node(own, receiver, None).exchange(("a", "b"))
        async with ShuffleSender("a", config=QUICK) as sender:
            sender.register_peer("b", receiver.local_addr)
            await sender.open_channel("b", "orders")
        with pytest.raises(PeerLostError, match="peer a left before the end of 'orders'") as told:
            await anext(exchange)
        assert told.value.peer == "a"


async def two_that_send(receiver):
    """Peers made by hand, of whom a has delivered a barrier and a row behind it."""
    a = await Raw.greeted(receiver.local_addr, "a", channel="orders")
    b = await Raw.greeted(receiver.local_addr, "b", channel="orders")
    await a.send_batch(numbered(0, 1))
    await a.send(a.barrier(BARRIER), a.data(numbered(1, 1)))
    return a, b


@pytest.mark.parametrize("how", ["lost", "restarted"])
@limited
async def test_an_input_that_is_gone_is_told_once_behind_all_that_came_of_it(how):
    """Also behind what is held; and nothing of it, nor of its next life, comes unless asked for."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("c", config=HASTY))
        own = await stack.enter_async_context(ShuffleSender("c", config=HASTY))
        into = Node(own, receiver, None).exchange(("c",), inputs=["a", "b"])
        a, b = await two_that_send(receiver)
        assert told(await anext(into)) == ("a", [0])
        got = []

        async def consume():
            try:
                async for event in into:
                    got.append(told(event))
            except RemoteError as error:
                got.append(type(error))
                async for event in into:
                    got.append(told(event))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            await eventually(lambda: into.statistics().held_messages == 1)
            a.stream.close()
            if how == "restarted":
                again = await Raw.greeted(receiver.local_addr, "a", channel="orders", incarnation=2)
                await again.send_batch(numbered(2, 1))
                await eventually(lambda: into.statistics().returned == {"a"})
            await eventually(lambda: into.statistics().held_messages == 2)
            await b.send_batch(numbered(9, 1))
            await eventually(lambda: got == [("b", [9])])
            await b.send(b.barrier(BARRIER), b.frame(Kind.END))
        error = PeerRestartedError if how == "restarted" else PeerLostError
        assert got[1] == (None, Barrier(BARRIER, "orders"))
        assert got.index(("a", [1])) == got.index(error) - 1
        assert sorted(map(str, got[2:])) == sorted(
            map(str, [("a", [1]), error, ("b", End("orders"))])
        )


@limited
async def test_the_loss_of_an_input_that_is_waited_for_is_told_before_the_barrier():
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("c", config=HASTY))
        own = await stack.enter_async_context(ShuffleSender("c", config=HASTY))
        into = Node(own, receiver, None).exchange(("c",), inputs=["a", "b"])
        a, b = await two_that_send(receiver)
        assert told(await anext(into)) == ("a", [0])
        b.stream.close()
        with pytest.raises(PeerLostError, match="peer b is gone"):
            await anext(into)
        await a.send(a.frame(Kind.END))
        assert [told(event) async for event in into] == [
            (None, Barrier(BARRIER, "orders")),
            ("a", [1]),
            ("a", End("orders")),
        ]


@limited
async def test_a_barrier_that_skips_a_frame_never_comes_out():
    """It says which frame it follows; the input that got it wrong is cut off, and told so."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("c", config=HASTY))
        own = await stack.enter_async_context(ShuffleSender("c", config=HASTY))
        into = Node(own, receiver, None).exchange(("c",), inputs=["a"])
        a = await Raw.greeted(receiver.local_addr, "a", channel="orders")
        body = control.encode_barrier(BARRIER, 5)
        await a.send(a.data(numbered(0, 1)), a.frame(Kind.BARRIER, body), a.frame(Kind.END))
        assert told(await anext(into)) == ("a", [0])
        with pytest.raises(PeerLostError, match="gap: barrier 2 says it follows 5"):
            await anext(into)
        with pytest.raises(StopAsyncIteration):
            await anext(into)
        assert receiver.statistics().drops == {"gap": 1}
        await a.cut_off()


@pytest.mark.parametrize("leaves", ["with a goodbye", "without"])
@limited
async def test_a_node_that_leaves_before_it_opened_the_channel_is_an_error(leaves):
    """It was here, for another stage; this one would wait for it for ever."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("b", config=HASTY))
        own = await stack.enter_async_context(ShuffleSender("b", config=QUICK))
        exchange = Node(own, receiver, None).exchange(("a", "b"))
        if leaves == "without":
            peer = await Raw.greeted(receiver.local_addr, "a", channel="earlier")
            peer.stream.close()
        else:
            async with ShuffleSender("a", config=QUICK) as sender:
                sender.register_peer("b", receiver.local_addr)
                await sender.send_to("b", Watermark(1, "earlier"))
        with anyio.fail_after(2), pytest.raises(PeerLostError):
            await anext(exchange)


@limited
async def test_a_node_that_restarted_is_not_told_that_the_others_did():
    """They greet it as they did its last life, find that it is another, and begin anew."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("b", config=QUICK))
        own = await stack.enter_async_context(ShuffleSender("b", config=QUICK))
        exchange = Node(own, receiver, None).exchange(("a", "b"))
        async with receiver.watch_peers() as events:
            before = await Raw.greeted(receiver.local_addr, "a", round=7, channel=None)
            before.stream.close()
            while (await anext(events)).state is not PeerState.DISCONNECTED:
                pass
            again = await Raw.greeted(receiver.local_addr, "a", incarnation=2, channel="orders")
            await again.send_batch(numbered(0, 5))
            assert rows_of((await anext(exchange))[1].batch) == list(range(5))
            event = await anext(events)
            assert (event.state, event.deaths) == (PeerState.CONNECTED, 0)


@limited
async def test_a_node_that_cannot_be_reached_is_an_error_to_its_senders():
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("a", config=HASTY))
        with pytest.raises(PeerUnreachableError, match="peer b is unreachable"):
            async with ShuffleSender("a", config=HASTY) as sender:
                sender.register_peer("b", free_addr())
                exchange = Node(sender, receiver, None).exchange(("a", "b"))
                while True:
                    await exchange.send(numbered(0, 1000, KIB))


@pytest.mark.parametrize("what", ["barrier", "end"])
@limited
async def test_a_failed_node_keeps_no_barrier_and_no_end_from_the_others(what):
    """The first node in the list is the dead one; the others must not wait for ever."""
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b"), HASTY)
        sender = nodes["a"].sender
        sender.register_peer("dead", free_addr())
        exchange = nodes["a"].exchange(("dead", "a", "b"))
        await exchange.watermark(0)
        # Once its failure is known, and not told yet.
        await eventually(lambda: "dead" not in sender.statistics().peers)
        expected = Barrier(BARRIER, "orders") if what == "barrier" else End("orders")
        with pytest.raises(PeerUnreachableError):
            await (exchange.barrier(BARRIER) if what == "barrier" else exchange.end())
        for node in ("a", "b"):
            inbox = nodes[node].receiver.channel("orders")
            with anyio.fail_after(2):
                assert await inbox.recv() == ("a", Watermark(0, "orders"))
                assert await inbox.recv() == ("a", expected)


@limited
async def test_a_node_nobody_knows_is_the_callers_error():
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a",))
        exchange = nodes["a"].exchange(("a", "z"))
        for _ in range(2):
            with pytest.raises(UnknownPeerError):
                await exchange.send(numbered(0, 100))


@limited
async def test_a_batch_without_the_key_is_the_callers_error_and_sends_nothing():
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b"))
        exchange = nodes["a"].exchange(("a", "b"))
        with pytest.raises(UnsupportedKeyError):
            await exchange.send(pa.record_batch({"other": [1]}))
        with pytest.raises(TypeError):
            await exchange.send("no batch")
        await exchange.end()
        assert [m async for _, m in nodes["b"].exchange(inputs=["a"])] == [End("orders")]


@limited
async def test_a_node_that_restarts_elsewhere_is_found_again_through_the_kv():
    kvs = InMemoryKv.cluster(["a", "b"])
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(ShuffleReceiver.bind("a", config=QUICK))
        sender = await stack.enter_async_context(ShuffleSender("a", kv=kvs["a"], config=QUICK))
        exchange = Node(sender, own, None).exchange(("b",), inputs=[])
        async with ShuffleReceiver.bind("b", kv=kvs["b"], config=QUICK) as receiver:
            await exchange.send(numbered(0, 10))
            await sender.flush()
        async with ShuffleReceiver.bind("b", kv=kvs["b"], config=QUICK) as receiver:
            # It left on purpose, with rows that nobody had taken.
            with pytest.raises(PeerLostError, match="the receiver is done"):
                while True:
                    await exchange.send(numbered(10, 10))
                    await sender.flush()
            orders = receiver.channel("orders")
            orders.drain_available()
            await exchange.send(numbered(20, 10))
            await exchange.end()
            await sender.flush()
            rows = [m for _, m in orders.drain_available() if isinstance(m, Data)]
            assert [row for m in rows for row in sorted(rows_of(m.batch))] == list(range(20, 30))


@limited
async def test_anything_that_speaks_arrow_can_be_exchanged():
    import polars

    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, ("a", "b"))
        exchanges = [node.exchange(("a", "b"), inputs=["a"]) for node in nodes.values()]
        exchange = exchanges[0]
        await exchange.send(polars.DataFrame({"row": range(100)}))
        await exchange.send(pa.table({"row": pa.chunked_array([[100, 101], [102]])}))
        await exchange.end()
        rows = []
        for each in exchanges:
            async for _, message in each:
                rows += rows_of(message.batch) if isinstance(message, Data) else []
        assert sorted(rows) == list(range(103))


@limited
async def test_a_name_belongs_to_one_exchange_of_a_receiver():
    async with AsyncExitStack() as stack:
        node = (await cluster(stack, ("a",)))["a"]
        node.exchange(("a",))
        with pytest.raises(ConfigError, match="exchange 'orders' cannot have the channel"):
            node.exchange(("a",))
        with pytest.raises(ConfigError, match="a channel's name has 1 to"):
            node.exchange(("a",), name="")


@limited
async def test_rows_behind_the_end_are_refused_also_if_they_are_ones_own():
    async with AsyncExitStack() as stack:
        node = (await cluster(stack, ("a",)))["a"]
        exchange = node.exchange(("a",))
        await exchange.send(numbered(0, 2))
        await exchange.end()
        with pytest.raises(ChannelEndedError):
            await exchange.send(numbered(2, 5))
        assert [rows_of(m.batch) async for _, m in exchange if isinstance(m, Data)] == [[1, 0]]
