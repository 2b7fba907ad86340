"""Who is gone is seen so by all, and soon; who is slow, hard to reach or slandered is not."""

from collections import defaultdict

import pytest

from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.exchange import Exchange
from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.gossip.messages import Hint, Kind
from laminar.cluster.gossip.suspicion import Suspicion
from laminar.config import GossipConfig
from laminar.testing.datagrams import DatagramFaults
from laminar.testing.gossip import GossipWorld
from tests.gossip_simulation.test_convergence import acquainted

pytestmark = pytest.mark.slow

CONFIG = GossipConfig(interval_s=1.0)
QUICK = DatagramFaults(delay_s=(0.0002, 0.002))


class Town:
    """Some nodes who know one another, and when who took whom for what."""

    def __init__(self, size, seed=0, loss=0.0):
        faults = DatagramFaults(delay_s=QUICK.delay_s, loss=loss)
        self.world = GossipWorld(seed, CONFIG, faults)
        self.nodes = acquainted(self.world, size)
        self.seen = defaultdict(dict)
        self.world.after = self._after
        self.world.run(20)
        self.seen.clear()

    def _after(self, node):
        for event in node.core.take_events():
            if isinstance(event, Member):
                self.seen[event.node, event.state].setdefault(node.node, self.world.now)

    def any(self):
        return self.world.rng.choice([node for node in self.nodes if node.running])

    def dead(self):
        return {node for node, state in self.seen if state is MemberState.DEAD}


@pytest.mark.parametrize(("size", "longest_s"), [(2, 7.0), (10, 6.5), (50, 6.5)])
def test_a_crash_is_seen_by_all_within_seconds(size, longest_s):
    took = []
    for seed in range(3):
        town = Town(size, seed)
        victim, crashed = town.any(), town.world.now
        town.world.crash(victim)
        town.world.run(20)
        seen = town.seen[victim.node, MemberState.DEAD]
        assert len(seen) == size - 1
        assert town.dead() == {victim.node}
        took += [at - crashed for at in seen.values()]
    assert min(took) > 3.4
    assert max(took) < longest_s


def test_all_of_many_crashes_are_seen():
    town = Town(30)
    victims = {node.node for node in town.nodes[5:17]}
    for node in town.nodes[5:17]:
        town.world.crash(node)
    crashed = town.world.now
    town.world.run(15)
    assert town.dead() == victims
    for victim in victims:
        seen = town.seen[victim, MemberState.DEAD]
        assert len(seen) == 18
        assert max(seen.values()) - crashed < 12.0


def pauses_kill_nobody(size=10, minutes=5, loss=0.0):
    town = Town(size, loss=loss)
    for _ in range(minutes * 20):
        town.any().pause(town.world.rng.uniform(1, 3))
        town.world.run(3)
    assert town.world.struck["pause"] > minutes * 10
    assert town.dead() == set()


@pytest.mark.slow
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_pauses_kill_nobody(loss):
    pauses_kill_nobody(loss=loss)


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 25])
def test_loss_kills_nobody(size):
    town = Town(size, loss=0.3)
    town.world.run(300)
    assert town.world.weather.struck["loss"] > 1000
    assert town.dead() == set()


def one_way_cuts_kill_nobody(minutes=3):
    """Some do not hear one another, and all are heard by most."""
    town = Town(12)
    addrs = [node.addr for node in town.nodes]
    for _ in range(minutes * 3):
        for _ in range(3):
            town.world.weather.cut([town.any().addr], town.world.rng.sample(addrs, 3))
        town.world.run(20)
        town.world.weather.heal()
    assert town.world.weather.struck["one_way_partition"] > 100
    assert town.dead() == set()


@pytest.mark.slow
def test_one_way_cuts_kill_nobody():
    one_way_cuts_kill_nobody()


def slander_kills_nobody(seconds=60):
    """Somebody with the key says of all nodes, again and again, that they do not answer."""
    town = Town(8)
    honest = town.world.weather.datagrams
    town.world.run(seconds)
    honest = town.world.weather.datagrams - honest
    liar, before = town.nodes[0].core, town.world.weather.datagrams
    for _ in range(seconds):
        slots = list(liar._view.others())
        for node in town.nodes[1:]:
            hints = [Hint(slot.node, slot.incarnation, slot.heartbeat) for slot in slots]
            writer = liar._exchange.writer(Kind.PUSH, node.addr, b"", 1000, town.nodes[0].now)
            for hint in hints:
                writer.add_hint(hint)
            town.world.inject(*_sent(town.nodes[0], liar._exchange, node.addr, writer))
        town.world.run(1.0)
    assert town.dead() == set()
    assert not any(state is MemberState.SUSPECT for _, state in town.seen)
    spent = town.world.weather.datagrams - before - honest
    lies = seconds * 7 * 7
    assert spent < 12 * lies  # a question, its answer, and who tells it on


def _sent(node, exchange: Exchange, addr, writer):
    outgoing = exchange.send(addr, writer)
    return node.addr, outgoing.addr, outgoing.datagram


@pytest.mark.slow
def test_slander_kills_nobody():
    slander_kills_nobody()


# -- mistakes that the above would see ----------------------------------------------------------


def a_hint_is_believed(monkeypatch):
    """Who hears that a node does not answer takes it for dead."""
    hinted = Suspicion.hinted

    def bury(suspicion, slot, hint, listened):
        if hinted(suspicion, slot, hint, listened):
            suspicion._bury(slot, listened)
        return False

    monkeypatch.setattr(Suspicion, "hinted", bury)


def nobody_refutes(monkeypatch):
    """A node does not mind that it is said not to answer, and its answers say nothing new."""
    take_hint = GossipCore._take_hint

    def take(core, hint, *rest):
        if hint.node != core.node:
            take_hint(core, hint, *rest)

    monkeypatch.setattr(GossipCore, "_take_hint", take)
    monkeypatch.setattr(Suspicion, "_clear", lambda suspicion, slot: None)
    # Nor do its heartbeats, but for those that it tells itself.
    monkeypatch.setattr(GossipCore, "_compare", lambda *args: None)


def patience_is_short(monkeypatch):
    """Who does not answer has less time than a pause may take."""
    monkeypatch.setattr(Suspicion, "_respite", lambda suspicion: 2.0)


BUGS = [
    (a_hint_is_believed, slander_kills_nobody),
    (nobody_refutes, one_way_cuts_kill_nobody),
    (patience_is_short, pauses_kill_nobody),
]


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "scenario"), BUGS, ids=[bug.__name__ for bug, _ in BUGS])
def test_a_planted_bug_is_caught(monkeypatch, plant, scenario):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        scenario()
