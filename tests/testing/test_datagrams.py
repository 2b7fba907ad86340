"""The simulated network of datagrams, and the gossip's driver in it."""

import random

import anyio
import pytest

from laminar.cluster.gossip.agent import GossipAgent
from laminar.cluster.gossip.member import MemberState
from laminar.errors import StreamBrokenError, StreamClosedError
from laminar.testing.datagram_network import SimulatedDatagrams
from laminar.testing.datagrams import FAULTS, DatagramFaults, DatagramWeather
from laminar.testing.simulation import simulate

A, B = "10.0.0.1:1", "10.0.0.2:1"


def weather(**faults):
    return DatagramWeather(random.Random(1), DatagramFaults(**faults))


@pytest.mark.parametrize(
    ("faults", "struck"),
    [
        ({"loss": 1.0}, "loss"),
        ({"duplication": 1.0}, "duplication"),
        ({"delay_s": (0.1, 5.0)}, "delay"),
        ({"delay_s": (0.1, 5.0)}, "reordering"),
        ({"mtu_bytes": 4}, "mtu"),
        ({"corruption": 1.0}, "corruption"),
    ],
)
def test_faults_strike_and_are_counted(faults, struck):
    sky = weather(**faults)
    arrived = [sky.carry(A, B, b"hello", float(number)) for number in range(20)]
    assert sky.struck[struck] > 0
    if struck in ("loss", "mtu"):
        assert arrived == [[]] * 20
    if struck == "duplication":
        assert {len(copies) for copies in arrived} == {2}
    if struck == "corruption":
        assert all(datagram != b"hello" for ((_, datagram),) in arrived)
    if struck == "reordering":
        times = [when for ((when, _),) in arrived]
        assert times != sorted(times)


def test_ways_are_cut_and_healed():
    sky = weather(delay_s=(0.001, 0.001))
    sky.cut([A], [B])
    assert sky.carry(A, B, b"x", 0.0) == []
    assert len(sky.carry(B, A, b"x", 0.0)) == 1
    sky.cut([B], [A])
    assert sky.carry(B, A, b"x", 0.0) == []
    assert sky.struck == {"one_way_partition": 1, "partition": 1}
    sky.heal()
    assert len(sky.carry(A, B, b"x", 0.0)) == 1
    assert set(sky.struck) <= set(FAULTS)


def test_datagrams_take_virtual_time():
    async def scenario(simulation):
        network = SimulatedDatagrams(weather(delay_s=(60.0, 60.0)))
        a, b = await network.bind("10.0.0.1:0"), await network.bind(B)
        with pytest.raises(StreamBrokenError, match="cannot bind"):
            await network.bind(B)
        begun = anyio.current_time()
        await a.send_to(B, b"hello")
        await a.send_to("10.0.0.9:9", b"to nobody")
        assert await b.receive() == (a.local_addr, b"hello")
        assert anyio.current_time() - begun == pytest.approx(60.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close_soon, b)
            with pytest.raises(StreamClosedError):
                await b.receive()
        assert (await network.bind(B)).local_addr == B

    async def close_soon(sock):
        await anyio.sleep(1)
        sock.close()

    simulate(1, scenario)


def test_agents_find_one_another_through_bad_weather():
    async def scenario(simulation):
        network = SimulatedDatagrams(weather(loss=0.2, duplication=0.2, corruption=0.1))
        network.names["seed:7946"] = ["10.0.0.1:7946"]
        first = GossipAgent("n1", "10.0.0.1:7946", network=network)
        second = GossipAgent("n2", "10.0.0.2:7946", seeds=["seed:7946"], network=network)
        async with first, second:
            async with first.kv.watch() as events:
                await second.kv.write("k", "1")
                assert (await anext(events)).value == "1"
            network.weather.cut(["10.0.0.1:7946"], ["10.0.0.2:7946"])
            network.weather.cut(["10.0.0.2:7946"], ["10.0.0.1:7946"])
            begun = anyio.current_time()
            async with first.watch_members() as members:
                while (await anext(members)).state is not MemberState.DEAD:
                    pass
                assert 3 < anyio.current_time() - begun < 20
                network.weather.heal()
                while (member := await anext(members)).state is not MemberState.ALIVE:
                    pass
                assert member.node == "n2"

    simulate(1, scenario)
