"""Whole nodes: over loopback, on every event loop."""

# Blocks nest here, and what raises is often a whole block.
# ruff: noqa: PT012

import socket
from dataclasses import replace

import anyio
import pytest

from laminar.cluster import keyring_file
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.kv import SHUFFLE_ADDR_KEY
from laminar.cluster.memory import InMemoryKv
from laminar.config import ShuffleConfig
from laminar.errors import (
    ClosedError,
    ConfigError,
    HandshakeRefusedError,
    NodeIdTakenError,
    PeerLostError,
    PeerRestartedError,
    StreamBrokenError,
)
from laminar.net.address import parse_addr
from laminar.node.config import NodeConfig
from laminar.node.node import Node
from laminar.shuffle.hash_partitioner import HashPartitioner
from laminar.shuffle.liveness import PeerState
from laminar.shuffle.messages import Data
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from tests.node.clusters import QUICK, cluster, config_of
from tests.wiring import TEST_LIMIT_S, Proxy, eventually, free_addr, limited, numbered, rows_of

KEY = bytes(range(32))


@limited
async def test_one_seed_is_enough_to_send_to_all():
    async with cluster("a", "b", "c") as nodes:
        ids = {node.id for node in nodes}
        for node in nodes:
            assert set(node.alive()) == ids
            for other in ids - {node.id}:
                await node.sender.send_to(other, Data(numbered(0, 3)))
        for node in nodes:
            others = ids - {node.id}
            assert {(await node.receiver.recv())[0] for _ in others} == others


@limited
async def test_a_key_is_replaced_for_data_and_gossip_at_once(tmp_path):
    old = keyring_file.create(tmp_path / "a")
    for name in "bc":
        keyring_file.save(tmp_path / name, old)

    def node(name, *seeds):
        return Node(config_of(name, *seeds, keys_file=str(tmp_path / name)))

    async with node("a") as a, node("b", a.local_addr) as b:
        await a.ready(2)
        await a.sender.send_to("b", Data(numbered(0, 3)))
        assert (await b.receiver.recv())[0] == "a"
        await b.gossip.rotate_key()
        new = keyring_file.load(tmp_path / "a")
        assert new.keys == keyring_file.load(tmp_path / "b").keys != old.keys
        await a.sender.send_to("b", Data(numbered(0, 3)))  # on the connection that there was
        assert (await b.receiver.recv())[0] == "a"
        await b.sender.send_to("a", Data(numbered(0, 3)))  # on a new one
        assert (await a.receiver.recv())[0] == "b"
        stranger = ShuffleSender("c", keyring=old)
        with pytest.raises(HandshakeRefusedError):
            async with stranger:
                stranger.register_peer("b", b.local_addr)
                await stranger.send_to("b", Data(numbered(0, 3)))
                await stranger.flush()
        keyring_file.save(tmp_path / "c", new)
        async with node("c", a.local_addr) as c:
            assert await c.ready(3) == ["a", "b", "c"]
            await c.sender.send_to("b", Data(numbered(0, 3)))
            assert (await b.receiver.recv())[0] == "c"


@limited
async def test_only_gossip_replaces_keys():
    async with Node(config_of("a", gossip=QUICK, peers={"b": "127.0.0.1:1"})) as node:
        with pytest.raises(ConfigError, match="does not gossip"):
            node.gossip.key_reports()


@limited
async def test_data_and_gossip_share_an_address():
    async with cluster("a", "b") as (a, b):
        assert a.members()["b"].addr == b.local_addr
        assert await a.kv.read_from("b", SHUFFLE_ADDR_KEY) == b.local_addr


@limited
async def test_a_port_that_is_taken_for_data_is_not_chosen():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        node = Node(config_of("a", listen=addr))
        with pytest.raises(StreamBrokenError, match=r"cannot (listen|bind)"):
            async with node:
                pass
    async with Node(config_of("a", listen=addr)) as node:  # nothing of the first one is left
        assert node.local_addr == addr


@limited
async def test_rows_go_where_their_partition_is():
    async with cluster("a", "b") as nodes:
        partitioner = HashPartitioner(["row"], ["a", "b"])
        exchanges = [node.exchange("rows", partitioner) for node in nodes]
        got = []

        async def consume(exchange):
            async for _, message in exchange:
                if isinstance(message, Data):
                    got.extend(rows_of(message.batch))

        async with anyio.create_task_group() as tasks:
            for exchange in exchanges:
                tasks.start_soon(consume, exchange)
            for first, exchange in zip((0, 500), exchanges, strict=True):
                await exchange.send(numbered(first, 500))
                await exchange.end()
        assert sorted(got) == list(range(1000))


@limited
async def test_a_key_is_for_data_and_gossip():
    secured = ShuffleConfig(keys=(KEY,))
    async with cluster("a", "b", shuffle=secured) as (a, b):
        await a.sender.send_to("b", Data(numbered(0, 1)))
        assert (await b.receiver.recv())[0] == "a"
        async with Node(config_of("c", a.local_addr)) as stranger:
            await eventually(lambda: a.statistics().discovery.seal.refused.get("unsealed", 0) > 2)
            assert stranger.alive() == []
        assert "c" not in a.members()


@limited
async def test_nobody_gossips_with_the_world_by_accident():
    open_to_all = config_of("a", listen="0.0.0.0:0", advertise="127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"keys_file or shuffle\.keys"):
        async with Node(open_to_all):
            pass
    async with Node(replace(open_to_all, shuffle=ShuffleConfig(keys=(KEY,)))):
        pass


@limited
async def test_leaving_says_goodbye():
    async with cluster("a") as (a,), a.watch_members() as members:
        async with Node(config_of("b", a.local_addr)) as b:
            await b.ready(2)
            await a.ready(2)
        while (member := await anext(members)).state is not MemberState.LEFT:
            assert member.state is not MemberState.DEAD
        assert member.node == "b"
        assert await a.kv.read_from("b", SHUFFLE_ADDR_KEY) is None


@limited
async def test_who_leaves_is_not_suspected_though_it_leaves_rows_behind():
    async with cluster("a") as (a,):
        async with Node(config_of("b", a.local_addr)) as b:
            await a.ready(2)
            await a.sender.send_to("b", Data(numbered(0, 1)))
            await eventually(lambda: b.statistics().receiver.peers)
        assert (await a.sender.wait_dead("b")).state is PeerState.LOST
        await eventually(lambda: a.members()["b"].state is MemberState.LEFT)
        assert a.statistics().discovery.gossip.suspicions == 0
        with pytest.raises(PeerLostError, match="the receiver is done"):
            await a.sender.flush()


@limited
async def test_senders_follow_a_node_to_another_address():
    async with cluster("a") as (a,):
        async with Node(config_of("b", a.local_addr)) as b:
            await a.ready(2)
            await a.sender.send_to("b", Data(numbered(0, 1)))
            await b.receiver.recv()
            first = b.local_addr
        async with Node(config_of("b", a.local_addr)) as b:
            await a.ready(2)
            assert b.local_addr != first
            with pytest.raises(PeerRestartedError):
                await a.sender.send_to("b", Data(numbered(1, 1)))
                await a.sender.flush()
            await a.sender.send_to("b", Data(numbered(1, 1)))
            _, message = await b.receiver.recv()
            assert rows_of(message.batch) == [1]


@limited
async def test_a_sender_leaves_a_connection_to_where_a_peer_is_no_more():
    """Nothing tells it that the old one is dead: it would wait for a sign of life."""
    assert ShuffleConfig().keepalive_timeout_s > TEST_LIMIT_S
    kv = InMemoryKv("a")
    async with (
        Node(NodeConfig("a"), kv=kv) as a,
        ShuffleReceiver.bind("b") as before,
        Proxy(before.local_addr).running() as proxy,
    ):
        await kv.for_node("b").write(SHUFFLE_ADDR_KEY, proxy.addr)
        await a.sender.send_to("b", Data(numbered(0, 1)))
        await before.recv()
        await kv.for_node("b").write(SHUFFLE_ADDR_KEY, proxy.addr)
        await a.sender.flush()
        assert proxy.connections == 1
        proxy.swallowing = True
        async with ShuffleReceiver.bind("b", kv=kv.for_node("b")) as again:
            assert (await a.sender.wait_dead("b")).state is PeerState.RESTARTED
            with pytest.raises(PeerRestartedError):
                await a.sender.send_to("b", Data(numbered(1, 1)))
            await a.sender.send_to("b", Data(numbered(1, 1)))
            assert rows_of((await again.recv())[1].batch) == [1]


@limited
async def test_a_later_node_of_the_same_id_ends_the_earlier_one():
    async with cluster("a") as (a,):
        ended = anyio.Event()

        async def earlier():
            b = Node(config_of("b", a.local_addr))
            with pytest.raises(NodeIdTakenError, match="another live node has the id 'b'"):
                async with b:
                    await eventually(lambda: b.statistics().discovery.gossip.rounds > 30)
                    settled.set()
                    await anyio.sleep_forever()
            assert isinstance(b.error, NodeIdTakenError)
            ended.set()

        settled = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(earlier)
            await settled.wait()
            async with Node(config_of("b", a.local_addr)) as later:
                await ended.wait()
                await later.ready(2)
                assert later.error is None


@limited
async def test_a_node_in_a_fixed_list():
    addrs = {name: free_addr() for name in "abc"}

    def fixed(name):
        others = {node: addr for node, addr in addrs.items() if node != name}
        return Node(NodeConfig(name, addrs[name], peers=others))

    async with fixed("a") as a, fixed("b") as b:
        assert await a.ready(3) == ["a", "b", "c"]
        await a.sender.send_to("b", Data(numbered(0, 1)))
        assert (await b.receiver.recv())[0] == "a"
        assert a.statistics().discovery is None


@limited
async def test_a_node_on_a_kv_of_the_engines_own():
    kvs = InMemoryKv.cluster(["a", "b"])
    async with (
        Node(NodeConfig("a"), kv=kvs["a"]) as a,
        Node(NodeConfig("b"), kv=kvs["b"]) as b,
    ):
        assert await a.ready(2) == ["a", "b"]
        await b.sender.send_to("a", Data(numbered(0, 1)))
        assert (await a.receiver.recv())[0] == "b"


@limited
async def test_what_the_data_plane_sees_counts():
    """The gossip of ``b`` is deaf and dumb to ``a``, but its data connection lives."""
    async with cluster("a", "b") as (a, b):
        await a.sender.send_to("b", Data(numbered(0, 1)))
        await b.receiver.recv()
        a._agent.unreachable("b")
        assert a.members()["b"].state is MemberState.SUSPECT
        await a.sender.send_to("b", Data(numbered(0, 1)))
        await b.receiver.recv()
        a._agent._require_core().on_datagram = lambda *args: []
        await eventually(lambda: a.members()["b"].state is MemberState.ALIVE)


@limited
async def test_the_next_life_is_newer_also_when_the_clock_went_back(tmp_path, monkeypatch):
    state = str(tmp_path / "state")
    async with Node(config_of("a", state_file=state)) as node:
        first = node.members()["a"].incarnation
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000)
    async with Node(config_of("a", state_file=state)) as node:
        assert node.members()["a"].incarnation > first


@limited
async def test_outside_its_block_a_node_says_so():
    node = Node(config_of("a"))
    for use in (node.members, node.statistics, lambda: node.kv, lambda: node.local_addr):
        with pytest.raises(ClosedError):
            use()
    async with node:
        assert parse_addr(node.local_addr)
    with pytest.raises(ClosedError, match="only once"):
        async with node:
            pass


@limited
async def test_an_error_of_the_block_comes_out_as_it_is():
    with pytest.raises(ZeroDivisionError):
        async with Node(config_of("a")):
            raise ZeroDivisionError
