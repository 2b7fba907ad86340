"""The driver: agents over real UDP on every event loop."""

import random
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from laminar.cluster.gossip.agent import GossipAgent
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.keyring import Keyring
from laminar.config import GossipConfig
from laminar.errors import ClosedError, ConfigError, NodeIdTakenError, StreamBrokenError
from laminar.net.udp import UdpNetwork
from tests.wiring import eventually, free_addr, limited

QUICK = GossipConfig(interval_s=0.01)
SEARCHING = GossipConfig(interval_s=0.01, resolve_interval_s=0.02, leave_timeout_s=0.01)
KEY = bytes(range(32))


@asynccontextmanager
async def agents(*names, **settings):
    """One seed, and the others know it."""
    async with AsyncExitStack() as stack:
        started = []
        for name in names:
            seeds = [started[0].local_addr] if started else []
            agent = GossipAgent(name, "127.0.0.1:0", seeds=seeds, config=QUICK, **settings)
            started.append(await stack.enter_async_context(agent))
        yield started


def states(agent):
    return {node: member.state for node, member in agent.members().items()}


@limited
async def test_one_seed_is_enough():
    async with agents("a", "b", "c") as cluster:
        alive = dict.fromkeys("abc", MemberState.ALIVE)
        await eventually(lambda: all(states(agent) == alive for agent in cluster))
        addrs = {agent._node: agent.local_addr for agent in cluster}
        for agent in cluster:
            await eventually(
                lambda agent=agent: (
                    {name: member.addr for name, member in agent.members().items()} == addrs
                )
            )


@limited
async def test_a_key_is_asked_for():
    async with agents("a", "b", keyring=Keyring([KEY])) as (a, b):
        await eventually(lambda: states(b).get("a") is MemberState.ALIVE)
        stranger = GossipAgent("c", "127.0.0.1:0", seeds=[a.local_addr], config=QUICK)
        async with stranger:
            await eventually(lambda: a.seal_statistics().refused.get("unsealed", 0) > 3)
            assert states(stranger) == {"c": MemberState.JOINING}
        assert "c" not in a.members()


@limited
async def test_leaving_is_told():
    async with agents("a") as (a,), a.watch_members() as members:
        async with GossipAgent("b", "127.0.0.1:0", seeds=[a.local_addr], config=QUICK) as b:
            await eventually(lambda: states(a).get("b") is MemberState.ALIVE and len(states(b)) > 1)
        while (member := await anext(members)).state is not MemberState.LEFT:
            assert member.state is not MemberState.SUSPECT
        assert member.node == "b"
        assert b.statistics().rounds < 100


@limited
@pytest.mark.parametrize("end", [MemberState.LEFT, MemberState.DEAD])
async def test_a_guest_is_shown_while_it_is_there_only(end, monkeypatch):
    async with agents("a") as (a,), a.watch_members() as members:
        guest = GossipAgent(
            "g", "127.0.0.1:0", seeds=[a.local_addr], guest=True, config=QUICK, keyring=None
        )
        async with guest:
            await eventually(lambda: states(a).get("g") is MemberState.ALIVE)
            await eventually(lambda: "a" in guest.members())
            if end is MemberState.DEAD:
                monkeypatch.setattr(guest, "_say_goodbye", _nothing)
        while (member := await anext(members)).state is not end:
            pass
        assert (member.node, "g" in guest.members()) == ("g", True)
        assert states(a) == {"a": MemberState.ALIVE}
        assert not any(a.statistics().members[state] for state in (MemberState.LEFT, end))
        async with a.watch_members() as fresh:
            assert (await anext(fresh)).node == "a"


async def _nothing():
    """In place of a goodbye."""


@limited
async def test_a_node_whose_block_is_cancelled_says_goodbye_too():
    met = anyio.Event()
    async with agents("a") as (a,), a.watch_members() as members:

        async def live():
            async with GossipAgent("b", "127.0.0.1:0", seeds=[a.local_addr], config=QUICK) as b:
                await eventually(lambda: len(states(b)) > 1)
                met.set()
                await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live)
            await met.wait()
            await eventually(lambda: states(a).get("b") is MemberState.ALIVE)
            tasks.cancel_scope.cancel()
        while (member := await anext(members)).state is not MemberState.LEFT:
            assert member.state is not MemberState.DEAD


class Deaf:
    """A network whose sockets can fall silent, as a process does that was killed."""

    def __init__(self):
        self.silent = False
        self._network = UdpNetwork()

    async def bind(self, addr):
        self._socket = await self._network.bind(addr)
        return self

    async def resolve(self, addr):
        return await self._network.resolve(addr)

    @property
    def local_addr(self):
        return self._socket.local_addr

    async def send_to(self, addr, datagram):
        if not self.silent:
            await self._socket.send_to(addr, datagram)

    async def receive(self):
        while True:
            received = await self._socket.receive()
            if not self.silent:
                return received

    def close(self):
        self._socket.close()


@limited
async def test_a_silent_node_is_taken_for_dead_and_back_when_it_speaks():
    network = Deaf()
    config = GossipConfig(interval_s=0.01, leave_timeout_s=0.01)
    async with agents("a", "b") as (a, b):
        deaf = GossipAgent("c", "127.0.0.1:0", seeds=[a.local_addr], config=config, network=network)
        async with deaf:
            await eventually(lambda: states(b).get("c") is MemberState.ALIVE)
            network.silent = True
            await eventually(lambda: states(a)["c"] is states(b)["c"] is MemberState.DEAD)
            network.silent = False
            await eventually(lambda: states(a)["c"] is states(b)["c"] is MemberState.ALIVE)


@limited
async def test_direct_evidence_counts_for_more_than_rumour():
    async with agents("a", "b") as (a, b):
        await eventually(lambda: states(a).get("b") is MemberState.ALIVE)
        a.unreachable("b")
        assert states(a)["b"] is MemberState.SUSPECT
        beats = a.statistics().rounds
        await eventually(lambda: a.statistics().rounds > beats + 20)
        assert states(a)["b"] is MemberState.SUSPECT
        a.reachable("b")
        assert states(a)["b"] is MemberState.ALIVE
        assert b.statistics().suspicions == 0


@limited
async def test_the_later_of_two_with_one_id_stays():
    async with agents("a", "b") as (a, first):
        await eventually(lambda: states(a).get("b") is MemberState.ALIVE)
        await eventually(lambda: first.statistics().rounds > 25)
        async with GossipAgent("b", "127.0.0.1:0", seeds=[a.local_addr], config=QUICK) as second:
            error = await first.wait_stopped()
            assert isinstance(error, NodeIdTakenError)
            assert "another live node has the id 'b' and started later" in str(error)
            with pytest.raises(NodeIdTakenError) as caught:
                await first.kv.write("k", "1")
            assert caught.value is not error  # who handles one may meet the other
            await second.kv.write("k", "2")
            await eventually(lambda: a.members()["b"].addr == second.local_addr)
            assert second.error is None
            assert second.incarnation > first.incarnation


class Names(UdpNetwork):
    """A network in which one name stands for whatever a test says."""

    def __init__(self, *answers):
        self.answers = answers
        self.asked = 0

    async def resolve(self, addr):
        assert addr == "seed.example:1"
        self.asked += 1
        if not self.answers:
            raise StreamBrokenError("no such name")
        return list(self.answers)

    def agent(self, name, config=SEARCHING):
        seeds = ["seed.example:1"]
        return GossipAgent(name, "127.0.0.1:0", seeds=seeds, config=config, network=self)


@limited
@pytest.mark.parametrize("known", [False, True], ids=["no_such_name", "nobody_there"])
async def test_seeds_are_looked_up_again_while_nobody_is_there(known):
    network = Names(*([free_addr()] if known else []))
    async with agents("a") as (a,), network.agent("b") as b:
        await eventually(lambda: network.asked > 3 and b.statistics().rounds > 3)
        assert states(b) == {"b": MemberState.JOINING}
        assert (b.network_errors.get("resolve", 0) > 2) is not known
        network.answers = (a.local_addr,)
        await eventually(lambda: states(b).get("a") is states(b)["b"] is MemberState.ALIVE)


@limited
async def test_of_several_addresses_of_a_name_one_that_answers_is_enough():
    async with agents("a") as (a,):
        network = Names("[::1]:1", free_addr(), a.local_addr)
        async with network.agent("b") as b:
            await eventually(lambda: states(b).get("a") is MemberState.ALIVE)
            # All were looked up when it began; as it is not alone, they are not again.
            asked, rounds = network.asked, b.statistics().rounds
            await eventually(lambda: b.statistics().rounds > rounds + 10)
            assert network.asked == asked


@limited
async def test_a_seed_that_moved_is_found_when_all_others_are_gone():
    deaf = Deaf()
    first = GossipAgent("a", "127.0.0.1:0", config=SEARCHING, network=deaf)
    async with GossipAgent("c", "127.0.0.1:0", config=SEARCHING) as c, first:
        network = Names(first.local_addr)
        async with network.agent("b") as b:
            await eventually(lambda: states(b).get("a") is MemberState.ALIVE)
            deaf.silent, network.answers = True, (c.local_addr,)
            await eventually(lambda: states(b).get("c") is MemberState.ALIVE)
            assert states(b)["a"] is MemberState.DEAD


class Lossy(Deaf):
    """A network in which half of the datagrams are lost on their way out.

    At random: of strictly every other one, it might always be the same legs.
    """

    lost = 0

    def __init__(self):
        super().__init__()
        self._rng = random.Random(7)

    async def send_to(self, addr, datagram):
        if self._rng.random() < 0.5:
            self.lost += 1
        else:
            await super().send_to(addr, datagram)


@limited
async def test_it_works_over_ipv6_where_datagrams_are_lost():
    networks = [Lossy(), Lossy()]
    async with AsyncExitStack() as stack:
        started = []
        for name, network in zip("ab", networks, strict=True):
            seeds = [started[0].local_addr] if started else []
            try:
                agent = GossipAgent(name, "[::1]:0", seeds=seeds, config=QUICK, network=network)
                started.append(await stack.enter_async_context(agent))
            except StreamBrokenError as error:
                pytest.skip(f"no IPv6 here: {error}")
        a, b = started
        await a.kv.write("shuffle:addr", "[::1]:4000")
        await eventually(lambda: states(a) == states(b) == dict.fromkeys("ab", MemberState.ALIVE))
        await eventually(lambda: b.members()["a"].addr == a.local_addr)
        assert a.local_addr.startswith("[::1]:")
        with anyio.fail_after(5):
            while await b.kv.read_from("a", "shuffle:addr") != "[::1]:4000":
                await anyio.lowlevel.checkpoint()
        assert all(network.lost > 0 for network in networks)
        assert a.network_errors == b.network_errors == {}


@limited
async def test_an_address_that_nobody_can_reach_is_refused():
    with pytest.raises(ConfigError, match="advertise"):
        async with GossipAgent("a", "0.0.0.0:0"):
            pass
    addr = free_addr()
    async with GossipAgent("a", "0.0.0.0:0", advertise=addr) as agent:
        assert agent.members()["a"].addr == addr


@limited
async def test_it_works_inside_its_block_only():
    agent = GossipAgent("a", "127.0.0.1:0")
    for use in (lambda: agent.kv, lambda: agent.local_addr, agent.members, agent.statistics):
        with pytest.raises(ClosedError):
            use()
    async with agent:
        with pytest.raises(ClosedError, match="only once"):
            await agent.__aenter__()
    with pytest.raises(ClosedError):
        await agent.wait_stopped()


@limited
async def test_an_error_of_the_user_comes_out_as_it_is():
    with pytest.raises(KeyError):
        async with GossipAgent("a", "127.0.0.1:0", config=QUICK):
            raise KeyError
    with anyio.move_on_after(0.05) as scope:
        async with GossipAgent("a", "127.0.0.1:0", config=QUICK):
            await anyio.sleep_forever()
    assert scope.cancelled_caught
