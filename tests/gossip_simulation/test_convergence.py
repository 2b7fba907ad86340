"""How many rounds a changed key takes to reach everybody."""

import os
from math import log

import pytest

from laminar.cluster.gossip.lane import Lane
from laminar.cluster.gossip.liveness import Liveness
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.messages import LaneDelta
from laminar.cluster.gossip.slot import Slot
from laminar.config import GossipConfig
from laminar.testing.datagrams import DatagramFaults
from laminar.testing.gossip import GossipWorld

pytestmark = pytest.mark.slow


def acquainted(world, size):
    """Nodes that know one another as if they had gossiped for long."""
    nodes = [world.start(f"node-{number}") for number in range(size)]
    for node in nodes:
        node.core.take_events()
    for node in nodes:
        view = node.core._view
        view.expected_s = world.config.interval_s * 10
        for other in nodes:
            if other is not node:
                own = other.core._own
                slot = Slot(own.node, own.incarnation, 0, Liveness(node.now, view.expected_s))
                copy(own.priority, slot.priority, own.node)
                slot.state = MemberState.ALIVE
                view.slots[own.node] = slot
                view.rotation.add(own.node, world.rng)
                view.partners.add(own.node, world.rng)
        view.roll.changed()
        view.take_news()
    return nodes


def copy(lane: Lane, to: Lane, node):
    items = lane.since(0, 0.0)
    to.apply(LaneDelta(node, 0, 0, 0, lane.max_version, 0, items), 0.0)


def rounds_until_all_know(size, fanout, loss, seed):
    config = GossipConfig(fanout_max=fanout)
    world = GossipWorld(seed, config, DatagramFaults(loss=loss))
    nodes = acquainted(world, size)
    world.run(2 * config.interval_s)
    first = nodes[world.rng.randrange(size)]
    first.write("shuffle:addr", "10.0.0.9:4000")
    waiting, rounds = nodes, 0
    while waiting:
        world.run(config.interval_s)
        rounds += 1
        waiting = [
            node
            for node in waiting
            if node.core.read(first.node, "shuffle:addr", node.now) != "10.0.0.9:4000"
        ]
        assert rounds <= 100
    assert all(node.core.statistics().deaths == 0 for node in nodes)
    return rounds


def bound(size, fanout):
    return 2 * log(size, fanout + 1) + 2


@pytest.mark.parametrize("fanout", [1, 3])
@pytest.mark.parametrize("size", [2, 10, 60])
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_change_spreads_in_few_rounds(size, fanout, loss):
    for seed in range(max(1, 20 // size)):
        rounds = rounds_until_all_know(size, fanout, loss, seed)
        assert rounds <= bound(size, fanout) * (2 if loss else 1)


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_change_spreads_where_digests_do_not_fit_a_datagram(loss):
    rounds = rounds_until_all_know(200, 3, loss, seed=7)
    assert rounds <= bound(200, 3) * (2 if loss else 1)


@pytest.mark.slow
@pytest.mark.skipif("LAMINAR_THOUSAND_NODES" not in os.environ, reason="make simulate-gossip")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_change_spreads_to_a_thousand_nodes(loss):
    """A digest of all would need thirty datagrams here; one is sent."""
    rounds = rounds_until_all_know(1000, 3, loss, seed=7)
    assert rounds <= bound(1000, 3) * (2 if loss else 1)
