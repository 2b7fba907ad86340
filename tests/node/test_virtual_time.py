"""Whole nodes in virtual time, with the settings they come with."""

import random
import time
from functools import partial

import anyio
import pytest

from laminar.cluster.gossip.member import MemberState
from laminar.config import GossipConfig, ShuffleConfig
from laminar.errors import PeerRestartedError
from laminar.node.config import NodeConfig
from laminar.node.node import Node
from laminar.shuffle.messages import Data
from laminar.testing.datagram_network import SimulatedDatagrams
from laminar.testing.datagrams import DatagramFaults, DatagramWeather
from laminar.testing.simulation import simulate
from tests.wiring import numbered

A, B, ELSEWHERE = "a:7946", "b:7946", "elsewhere:7946"
KEYED = ShuffleConfig(keys=(bytes(range(32)),))


class Hosts:
    """Where nodes can be, and what is between them."""

    def __init__(self, simulation):
        weather = DatagramWeather(random.Random(simulation.seed), DatagramFaults())
        self.streams, self.datagrams = simulation.network, SimulatedDatagrams(weather)

    def node(self, name, listen, *seeds, interval_s=1.0):
        gossip = GossipConfig(interval_s=interval_s)
        return Node(
            NodeConfig(name, listen, seeds=seeds, shuffle=KEYED, gossip=gossip),
            network=self.streams.host(listen.partition(":")[0]),
            datagram_network=self.datagrams,
        )

    def cut_datagrams(self):
        self.datagrams.weather.cut([A], [B])
        self.datagrams.weather.cut([B], [A])

    def cut(self):
        self.cut_datagrams()
        self.cut_streams()

    def cut_streams(self):
        self.streams.cut("a", "b")

    def heal(self):
        self.datagrams.weather.heal()
        for one, other in (("a", "b"), ("b", "a")):
            self.streams.heal(one, other)


async def send_a_row(one, other):
    await one.sender.send_to(other.id, Data(numbered(0, 1)))
    while True:
        _, message = await other.receiver.recv()
        if isinstance(message, Data):
            break
    await one.sender.flush()


# -- nothing to send ----------------------------------------------------------------------------


async def watch_while_cut(simulation, cut, connected=True, interval_s=1.0):
    """What ``a`` says of ``b`` in four minutes after ``cut``, and when."""
    hosts, told = Hosts(simulation), []
    async with (
        hosts.node("a", A, interval_s=interval_s) as a,
        hosts.node("b", B, A, interval_s=interval_s) as b,
    ):
        await a.ready(2)
        await b.ready(2)
        if connected:
            await send_a_row(a, b)
        await anyio.sleep(30 * interval_s)
        cut(hosts)
        began = anyio.current_time()
        async with a.watch_members() as members:
            with anyio.move_on_after(240):
                async for member in members:
                    if member.node == "b":
                        told.append((member.state, round(anyio.current_time() - began, 1)))
        hosts.heal()
    return told


@pytest.mark.parametrize("interval_s", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(2))
def test_keepalive_alone_keeps_a_node_alive(seed, interval_s):
    watch = partial(watch_while_cut, cut=Hosts.cut_datagrams, interval_s=interval_s)
    assert simulate(seed, watch).result == [(MemberState.ALIVE, 0.0)]


@pytest.mark.parametrize("seed", range(2))
def test_without_a_connection_it_is_dead(seed):
    watch = partial(watch_while_cut, cut=Hosts.cut_datagrams, connected=False)
    states = [state for state, _ in simulate(seed, watch).result]
    assert states[:3] == [MemberState.ALIVE, MemberState.SUSPECT, MemberState.DEAD]


@pytest.mark.parametrize("seed", range(3))
def test_a_host_that_vanishes_with_its_connections_is_dead_soon(seed):
    told = simulate(seed, partial(watch_while_cut, cut=Hosts.cut)).result
    assert dict(reversed(told))[MemberState.DEAD] < 20.0


@pytest.mark.parametrize("seed", range(2))
def test_who_is_dialled_in_vain_is_suspect_for_so_long_whatever_the_gossip_says(seed):
    """The keepalive gives the connection up; then there are so many seconds of dialling."""
    told = simulate(seed, partial(watch_while_cut, cut=Hosts.cut_streams)).result
    (first, _), (second, broken), (third, over) = told
    assert (first, second, third) == (MemberState.ALIVE, MemberState.SUSPECT, MemberState.ALIVE)
    assert broken <= KEYED.keepalive_timeout_s + 2 * KEYED.keepalive_interval_s
    assert over - broken > KEYED.reconnect_timeout_s


# -- a clock that went back ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_crashed_node_can_send_again_though_its_clock_went_back(seed, monkeypatch):
    """It kept nothing, and those it sends to still hold its last life."""

    async def crash_and_come_back(simulation):
        hosts = Hosts(simulation)
        async with hosts.node("a", A) as a:
            async with hosts.node("b", B, A) as b:
                await a.ready(2)
                await b.ready(2)
                await send_a_row(b, a)
                hosts.cut()  # so that nobody hears it go
            now = time.time_ns()
            monkeypatch.setattr("time.time_ns", lambda: now - 3600 * 10**9)
            async with hosts.node("b", ELSEWHERE, A) as b:
                await b.ready(2)
                with pytest.raises(PeerRestartedError):  # says the receiver
                    await send_a_row(b, a)
                await send_a_row(b, a)
                await a.ready(2)
                await send_a_row(a, b)
                hosts.heal()

    simulate(seed, crash_and_come_back)
