"""Whole nodes in virtual time, with the settings they come with and nothing to send."""

import random

import anyio
import pytest

from laminar.cluster.gossip.member import MemberState
from laminar.config import GossipConfig, ShuffleConfig
from laminar.node.config import NodeConfig
from laminar.node.node import Node
from laminar.shuffle.messages import Data
from laminar.testing.datagram_network import SimulatedDatagrams
from laminar.testing.datagrams import DatagramFaults, DatagramWeather
from laminar.testing.simulation import simulate
from tests.wiring import numbered

ADDRS = {"a": "a:7946", "b": "b:7946"}
KEYED = ShuffleConfig(keys=(bytes(range(32)),))


async def nodes_whose_gossip_is_cut(
    simulation, connected, then=lambda network: None, interval_s=1.0
):
    """What ``a`` says of ``b`` in four minutes after nothing but TCP is left, and when."""
    config = GossipConfig(interval_s=interval_s)
    gossip = SimulatedDatagrams(DatagramWeather(random.Random(simulation.seed), DatagramFaults()))

    def node(name, *seeds):
        return Node(
            NodeConfig(name, ADDRS[name], seeds=seeds, shuffle=KEYED, gossip=config),
            network=simulation.network.host(name),
            datagram_network=gossip,
        )

    told = []
    async with node("a") as a, node("b", ADDRS["a"]) as b:
        await a.ready(2)
        await b.ready(2)
        if connected:
            await a.sender.send_to("b", Data(numbered(0, 1)))
            await b.receiver.recv()
            await a.sender.flush()
        await anyio.sleep(30 * interval_s)
        gossip.weather.cut([ADDRS["a"]], [ADDRS["b"]])
        gossip.weather.cut([ADDRS["b"]], [ADDRS["a"]])
        began = anyio.current_time()
        then(simulation.network)
        async with a.watch_members() as members:
            with anyio.move_on_after(240):
                async for member in members:
                    if member.node == "b":
                        told.append((member.state, round(anyio.current_time() - began, 1)))
        gossip.weather.heal()
        for one, other in (("a", "b"), ("b", "a")):
            simulation.network.heal(one, other)
    return told


@pytest.mark.parametrize("interval_s", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(2))
def test_keepalive_alone_keeps_a_node_alive(seed, interval_s):
    outcome = simulate(
        seed, lambda s: nodes_whose_gossip_is_cut(s, connected=True, interval_s=interval_s)
    )
    assert outcome.result == [(MemberState.ALIVE, 0.0)]


@pytest.mark.parametrize("seed", range(3))
def test_without_a_connection_it_is_dead(seed):
    outcome = simulate(seed, lambda s: nodes_whose_gossip_is_cut(s, connected=False))
    assert [state for state, _ in outcome.result[:3]] == [
        MemberState.ALIVE,
        MemberState.SUSPECT,
        MemberState.DEAD,
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_host_that_vanishes_with_its_connections_is_dead_soon(seed):
    def vanish(network):
        network.cut("a", "b")

    outcome = simulate(seed, lambda s: nodes_whose_gossip_is_cut(s, connected=True, then=vanish))
    times = dict(reversed(outcome.result))
    assert times[MemberState.DEAD] < 20.0
