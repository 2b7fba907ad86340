"""Nodes of an exchange that die, restart and come back: they are inputs again, with all they sent.

A node is killed by cancelling it: it says no goodbye.
"""

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import anyio
import pyarrow as pa
import pytest
from anyio.lowlevel import checkpoint

from laminar.cluster.memory import InMemoryKv
from laminar.errors import ConfigError, PeerLostError, PeerRestartedError, RemoteError
from laminar.model import CheckpointBarrier, CheckpointId
from laminar.shuffle.exchange import Exchange
from laminar.shuffle.frames import Kind
from laminar.shuffle.messages import Barrier, Data, End, Watermark
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from laminar.shuffle.spread import BroadcastPartitioner, CustomPartitioner
from tests.wiring import KIB, QUICK, Raw, eventually, limited, numbered, rows_of

NODES = ("a", "b", "c")
HASTY = replace(QUICK, reconnect_timeout_s=0.1)
OTHER = pa.record_batch({"another schema": [1]})
SMALL = replace(QUICK, window_bytes=64 * KIB, target_frame_bytes=8 * KIB, coalesce_bytes=1)


@dataclass
class Node:
    """One life of a node."""

    sender: ShuffleSender
    receiver: ShuffleReceiver
    life: anyio.CancelScope
    dead: anyio.Event

    def exchange(self, partitioner=None, **how):
        return Exchange(
            "orders",
            sender=self.sender,
            receiver=self.receiver,
            partitioner=partitioner or BroadcastPartitioner(NODES),
            **how,
        )

    def holds(self, peer):
        """Bytes of ``peer`` that nobody has consumed."""
        channels = self.channels(peer)
        return channels["orders"].window_used_bytes if "orders" in channels else 0

    def channels(self, peer):
        """Those that ``peer`` has opened."""
        peers = self.receiver.statistics().peers
        return peers[peer].channels if peer in peers else {}

    async def kill(self):
        self.life.cancel()
        await self.dead.wait()


class Cluster:
    """Nodes that find one another in a KV, each in a task of its own."""

    def __init__(self, tasks, config):
        self.kvs = InMemoryKv.cluster(NODES)
        self.tasks = tasks
        self.config = config

    async def start(self, name, config=None):
        """Begin a life of ``name``."""
        return await self.tasks.start(self._live, name, config or self.config)

    async def _live(self, name, config, *, task_status):
        dead = anyio.Event()
        with anyio.CancelScope() as life:
            kv = self.kvs[name]
            async with (
                ShuffleReceiver.bind(name, kv=kv, config=config) as receiver,
                ShuffleSender(name, kv=kv, config=config) as sender,
            ):
                task_status.started(Node(sender, receiver, life, dead))
                await anyio.sleep_forever()
        dead.set()


@asynccontextmanager
async def cluster(config=QUICK):
    async with anyio.create_task_group() as tasks:
        yield Cluster(tasks, config)
        tasks.cancel_scope.cancel()


def barrier(number):
    return CheckpointBarrier(CheckpointId(number))


def told(event):
    peer, message = event
    return peer, sorted(rows_of(message.batch)) if isinstance(message, Data) else message


async def follow(exchange, got, *, take_back=True):
    """Note all that comes out; whoever is gone is taken back at once."""
    while True:
        try:
            async for event in exchange:
                got.append(told(event))
        except RemoteError as error:
            got.append(type(error))
            if take_back:
                exchange.readmit("a")
        else:
            return


async def send_on(exchange):
    """Send until that fails: it is told when the next connection is made."""
    while True:
        await exchange.watermark(0)
        await checkpoint()


def of(got, *peers):
    """What came of these peers but for watermarks, errors included."""
    return [
        event
        for event in got
        if isinstance(event, type) or (event[0] in peers and not isinstance(event[1], Watermark))
    ]


@limited
async def test_a_node_that_restarts_is_an_input_again():
    """One of three is killed; the others take it back, and all three end together."""
    async with cluster() as nodes:
        lives = [await nodes.start(name) for name in NODES]
        a, b, c = (life.exchange() for life in lives)
        got = {exchange: [] for exchange in (b, c)}
        async with anyio.create_task_group() as tasks:
            for exchange, events in got.items():
                tasks.start_soon(follow, exchange, events)
                await exchange.send(numbered(100, 1))
            await a.send(numbered(0, 1))
            await eventually(lambda: all(("a", [0]) in events for events in got.values()))

            await lives[0].kill()
            a = (await nodes.start("a")).exchange()
            own = []
            tasks.start_soon(follow, a, own)
            await a.send(numbered(1, 1))
            await a.barrier(barrier(1))
            await a.send(numbered(2, 1))
            for events in got.values():
                await eventually(lambda events=events: ("a", [1]) in events)
                assert of(events, "a") == [("a", [0]), PeerRestartedError, ("a", [1])]
            for exchange in (b, c):
                with pytest.raises(PeerRestartedError):
                    await send_on(exchange)
                await exchange.send(numbered(200, 1))
            await b.barrier(barrier(1))
            await eventually(lambda: c.statistics().missing == {"c"})
            assert (None, Barrier(barrier(1), "orders")) not in got[c]
            await c.barrier(barrier(1))
            for exchange in (a, b, c):
                await exchange.end()
        for events in got.values():
            assert of(events, "a", None)[3:] == [
                (None, Barrier(barrier(1), "orders")),
                ("a", [2]),
                ("a", End("orders")),
            ]
        for peer in ("b", "c"):
            assert of(own, peer) == [(peer, [200]), (peer, End("orders"))]


@limited
async def test_the_restart_is_told_between_both_lives_also_behind_a_barrier():
    """Nothing of the new life is consumed before: its sender feels that nobody takes it."""
    async with cluster() as nodes:
        node = await nodes.start("c")
        into = node.exchange(BroadcastPartitioner(["c"]), inputs=["a", "b"])
        got = []
        a = await Raw.greeted(node.receiver.local_addr, "a", channel="orders")
        b = await Raw.greeted(node.receiver.local_addr, "b", channel="orders")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, into, got)
            await a.send(a.data(numbered(0, 1)), a.barrier(barrier(1)), a.data(numbered(1, 1)))
            await eventually(lambda: into.statistics().held_messages == 1)
            again = await Raw.greeted(
                node.receiver.local_addr, "a", channel="orders", incarnation=2
            )
            await again.send(again.data(numbered(2, 1)), again.frame(Kind.END))
            await eventually(lambda: into.statistics().returned == {"a"})
            assert node.holds("a") > 0
            await b.send(b.barrier(barrier(1)), b.frame(Kind.END))
        assert of(got, "a", None) == [
            ("a", [0]),
            (None, Barrier(barrier(1), "orders")),
            ("a", [1]),
            PeerRestartedError,
            ("a", [2]),
            ("a", End("orders")),
        ]
        assert into.statistics().drops == {}


@pytest.mark.parametrize("readmitted", ["before it is back", "after"])
@limited
async def test_a_node_that_was_lost_can_come_back_much_later(readmitted):
    """The others go on without it meanwhile, checkpoints included."""
    async with cluster(HASTY) as nodes:
        lives = [await nodes.start(name) for name in NODES]
        a, b, c = (life.exchange(BroadcastPartitioner(["c"]), inputs=NODES) for life in lives)
        got = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(follow, c, got, take_back=False))
            await a.send(numbered(0, 1))
            await eventually(lambda: ("a", [0]) in got)
            await lives[0].kill()
            await eventually(lambda: PeerLostError in got)
            for exchange in (b, c):
                await exchange.barrier(barrier(1))
            await eventually(lambda: (None, Barrier(barrier(1), "orders")) in got)

            if readmitted != "after":
                c.readmit("a")
                for exchange in (b, c):
                    await exchange.barrier(barrier(2))
                await eventually(lambda: c.statistics().missing == {"a"})
            a = (await nodes.start("a")).exchange(BroadcastPartitioner(["c"]))
            await a.send(numbered(1, 1))
            await a.barrier(barrier(2))
            if readmitted == "after":
                await eventually(lambda: c.statistics().returned == {"a"})
                c.readmit("a")
                for exchange in (b, c):
                    await exchange.barrier(barrier(2))
            await eventually(lambda: (None, Barrier(barrier(2), "orders")) in got)
            for exchange in (a, b, c):
                await exchange.end()
        assert of(got, "a", None) == [
            ("a", [0]),
            PeerLostError,
            (None, Barrier(barrier(1), "orders")),
            ("a", [1]),
            (None, Barrier(barrier(2), "orders")),
            ("a", End("orders")),
        ]


@limited
async def test_what_waits_to_be_readmitted_is_bounded_by_its_window():
    async with cluster(SMALL) as nodes:
        node = await nodes.start("c")
        into = node.exchange(BroadcastPartitioner(["c"]), inputs=["a"])
        a = await Raw.greeted(node.receiver.local_addr, "a", channel="orders")
        a.stream.close()
        sender = (await nodes.start("a")).sender
        rows = numbered(0, 1000, KIB)
        sent, got = [], []

        async def send():
            await sender.send_to("c", Data(rows, "orders"))
            await sender.send_to("c", End("orders"))
            sent.append(True)

        await sender.open_channel("c", "orders")
        with pytest.raises(PeerRestartedError):
            await anext(into)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            with anyio.move_on_after(0.1):  # nothing comes out of an exchange without inputs
                async for event in into:
                    got.append(event)
            await eventually(lambda: node.holds("a") > 32 * KIB)
            await anyio.wait_all_tasks_blocked()
            assert (sent, got) == ([], [])
            into.readmit("a")
            async for event in into:
                got += told(event)[1] if isinstance(event[1], Data) else []
        assert got == list(range(1000))


@limited
async def test_who_is_dismissed_is_not_waited_for_and_its_sender_is_not_held_up():
    async with cluster(SMALL) as nodes:
        lives = [await nodes.start(name) for name in NODES]
        a, b, c = (life.exchange(BroadcastPartitioner(["c"]), inputs=NODES) for life in lives)
        got = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, c, got)
            await a.barrier(barrier(1))
            await b.barrier(barrier(1))
            async with anyio.create_task_group() as sending:
                sending.start_soon(a.send, numbered(0, 1000, KIB))
                await eventually(lambda: c.statistics().held_bytes > 32 * KIB)
                c.dismiss("a")
            await c.barrier(barrier(1))
            await eventually(lambda: (None, Barrier(barrier(1), "orders")) in got)
            for exchange in (b, c):
                await exchange.end()
        assert of(got, "a", None) == [(None, Barrier(barrier(1), "orders"))]
        assert c.statistics().drops["departed"] > 8


@limited
async def test_a_batch_of_a_new_schema_that_is_refused_is_consumed_whole():
    """Such a frame is opened twice; what is left of it would be taken for the next one."""
    async with cluster() as nodes:
        node = await nodes.start("c")
        into = node.exchange(BroadcastPartitioner(["c"]), inputs=["a", "b"])
        into.dismiss("a")
        a = await Raw.greeted(node.receiver.local_addr, "a", channel="orders")
        b = await Raw.greeted(node.receiver.local_addr, "b", channel="orders")
        got = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, into, got)
            await a.send(a.data(numbered(0, 1)), a.data(OTHER), a.data(OTHER))
            await eventually(lambda: into.statistics().drops == {"departed": 3})
            await b.send(b.frame(Kind.END))
        assert got == [("b", End("orders"))]
        assert node.holds("a") == 0


@limited
async def test_a_node_that_is_dismissed_between_a_new_schema_and_its_batch():
    async with cluster() as nodes:
        node = await nodes.start("c")
        into = node.exchange(BroadcastPartitioner(["c"]), inputs=["a", "b"])
        a = await Raw.greeted(node.receiver.local_addr, "a", channel="orders")
        b = await Raw.greeted(node.receiver.local_addr, "b", channel="orders")
        await a.send(a.data(numbered(0, 1)), a.data(OTHER), a.data(OTHER))
        await eventually(lambda: node.channels("a")["orders"].frames == 3)
        assert told(await anext(into)) == ("a", [0])
        assert (await anext(into))[0] == "a"
        into.dismiss("a")
        await b.send(b.frame(Kind.END))
        assert [told(event) async for event in into] == [("b", End("orders"))]
        assert node.holds("a") == 0


@limited
async def test_a_new_life_hears_of_the_channel_before_there_are_rows_for_it():
    """Else it could not tell that this node is gone, and would wait for its end for ever."""
    async with cluster() as nodes:
        lives = [await nodes.start(name) for name in ("a", "b")]
        into_b = CustomPartitioner(lambda batch: [1] * batch.num_rows, ("a", "b"))
        b = lives[1].exchange(into_b)
        await b.send(numbered(0, 1))
        await eventually(lambda: "orders" in lives[0].channels("b"))
        await lives[0].kill()
        a = await nodes.start("a")
        with pytest.raises(PeerRestartedError):
            await send_on(b)
        await b.send(numbered(1, 1))
        await eventually(lambda: "orders" in a.channels("b"))


@limited
async def test_a_session_in_which_nothing_was_opened_is_not_missed():
    """A sender begins such a one to find out that this node is a new life."""
    async with cluster() as nodes:
        node = await nodes.start("c")
        into = node.exchange(BroadcastPartitioner(["c"]), inputs=["a"])
        await Raw.greeted(node.receiver.local_addr, "a", channel=None)
        a = await Raw.greeted(node.receiver.local_addr, "a", channel="orders", incarnation=2)
        await a.send(a.data(numbered(0, 1)), a.frame(Kind.END))
        assert [told(event) async for event in into] == [("a", [0]), ("a", End("orders"))]


@limited
async def test_a_node_that_was_dismissed_and_readmitted_hears_of_the_channel_again():
    async with cluster() as nodes:
        b = (await nodes.start("b")).exchange(BroadcastPartitioner(["a", "b"]), inputs=["a", "b"])
        b.dismiss("a")
        a = await nodes.start("a")
        b.readmit("a")
        await a.exchange(BroadcastPartitioner(["b"]), inputs=[]).watermark(3)
        await b.watermark(4)
        assert await anext(b) == (None, Watermark(3, "orders"))
        await eventually(lambda: "orders" in a.channels("b"))


@limited
async def test_who_cannot_be_readmitted_or_dismissed():
    async with cluster() as nodes:
        b = (await nodes.start("b")).exchange(BroadcastPartitioner(["a", "b"]))
        for action in (b.readmit, b.dismiss):
            with pytest.raises(ConfigError, match="b is this node itself"):
                action("b")
            with pytest.raises(ConfigError, match="c is not among the inputs of 'orders'"):
                action("c")
