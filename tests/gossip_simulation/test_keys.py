"""Keys are replaced in any weather, and the production code does it."""

from random import Random

import pytest

from laminar.cluster.gossip.key_messages import Stage
from laminar.cluster.gossip.key_rotation import GRACE_INTERVALS, SETTLE_INTERVALS, KeyRotation
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.keyring import Keyring, key_id
from laminar.cluster.seal import LIFE_BYTES, DatagramSealer
from laminar.config import GossipConfig
from laminar.testing.datagrams import DatagramFaults
from laminar.testing.gossip import GossipWorld

pytestmark = pytest.mark.slow

CONFIG = GossipConfig(interval_s=1.0, forget_s=1000.0)
OLD = b"o" * 32
NEW = [bytes([number]) * 32 for number in range(1, 4)]
SEED = "10.0.0.9:1"
STORM = DatagramFaults(delay_s=(0.001, 1.0), loss=0.3, duplication=0.2, corruption=0.1)


class KeyedWorld(GossipWorld):
    """Nodes with keyrings, which follow orders as the driver does."""

    def __init__(self, seed, faults=None):
        super().__init__(seed, CONFIG, faults)
        self.rings = {}
        """Of each node, over its lives: what its file would hold."""
        self.rotations = {}
        self.sealers = {}
        self.after = self.follow

    def sealer(self, node):
        ring = self.rings[node] = Keyring(self.rings[node].keys if node in self.rings else [OLD])
        life = self.rng.randbytes(LIFE_BYTES)
        self.sealers[node] = DatagramSealer("simulated", node, life, ring, self.datagrams)
        return self.sealers[node]

    def follow(self, node):
        rotation = self.rotations.get(node.core)
        if rotation is None:
            interval_s = self.config.interval_s
            rotation = self.rotations[node.core] = KeyRotation(
                node.node,
                self.rings[node.node],
                settle_s=SETTLE_INTERVALS * interval_s,
                grace_s=GRACE_INTERVALS * interval_s,
            )
        for event in node.core.take_events():
            rotation.on_event(event, node.now)
        rotation.advance(node.core.members(), node.now)
        rotation.saved()
        rotation.publish(node.core, node.now)
        if rotation.superseded:
            rotation.withdraw()
        rotation.proceed(node.core.members(), node.now)
        rotation.publish(node.core, node.now)
        self.check()

    def begin(self, node, key):
        how = {"retired": None, "skip_dead": False, "tag": self.rng.getrandbits(64)}
        self.rotations[node.core].begin(key_id(key), key, Stage.REMOVE, **how)

    def check(self):
        """Any two that run can read each other."""
        running = [self.rings[node.node] for node in self.nodes.values()]
        for primary in {ring.primary for ring in running}:
            assert all(ring.key(primary) for ring in running), running

    def refused(self):
        """Datagrams refused for their key, but for those that were damaged on the way."""
        return sum(one.statistics().refused.get("key", 0) for one in self.sealers.values())


def started(seed, count, faults=None):
    world = KeyedWorld(seed)
    names = [f"n{number}" for number in range(count)]
    nodes = [world.start(names[0], addr=SEED)]
    nodes += [world.start(name, seeds=[SEED]) for name in names[1:]]
    world.run(SETTLE_INTERVALS + 10.0)
    assert all(len(node.core.members()) == count for node in nodes)
    world.weather.faults = faults or DatagramFaults()
    return world, nodes


def run_until_done(world, *nodes, limit_s=400):
    for _ in range(limit_s):
        if all(world.rotations[node.core].order is None for node in nodes):
            return
        world.run(1.0)
    lacking = [world.rotations[node.core].lacking(node.core.members()) for node in nodes]
    raise AssertionError(f"still waiting for {lacking}")


@pytest.mark.parametrize("seed", range(2))
def test_in_calm_weather_no_datagram_is_refused(seed):
    world, nodes = started(seed, 12)
    world.begin(nodes[seed], NEW[0])
    run_until_done(world, nodes[seed], limit_s=60)
    assert {ring.keys for ring in world.rings.values()} == {(NEW[0],)}
    world.run(20.0)
    assert world.refused() == 0


@pytest.mark.parametrize("seed", range(6))
def test_in_any_weather_the_key_is_replaced(seed):
    """Loss, delay, duplicates, damage, and half of the time a cluster in two parts."""
    world, nodes = started(seed, 6, STORM)
    rng = Random(seed)
    one, other = rng.sample(nodes, 2)
    world.begin(one, NEW[0])
    world.run(rng.uniform(0, 10))
    world.begin(other, NEW[1])
    for _ in range(4):
        addrs = [node.addr for node in nodes]
        rng.shuffle(addrs)
        world.weather.cut(addrs[:3], addrs[3:])
        world.weather.cut(addrs[3:], addrs[:3])
        world.run(20.0)
        world.weather.heal()
        world.run(20.0)
    run_until_done(world, one, other)
    primaries = {ring.primary for ring in world.rings.values()}
    assert len(primaries) == 1
    assert OLD not in {key for ring in world.rings.values() for key in ring.keys}
    assert world.weather.struck["partition"] > 0
    assert world.weather.struck["loss"] > 0


@pytest.mark.parametrize("stage", [Stage.INSTALL, Stage.USE, Stage.REMOVE])
def test_a_coordinator_dies_and_another_one_finishes(stage):
    world, nodes = started(7, 5)
    first, second, *_ = nodes
    world.begin(first, NEW[0])
    while world.rotations[first.core].order.stage is not stage:
        world.run(0.1)
    world.run(1.0)
    world.crash(first)
    world.run(60.0)
    assert second.core.members()["n0"].state is MemberState.DEAD
    first = world.start("n0", addr=SEED, seeds=[second.addr])  # with the ring that it had
    world.run(SETTLE_INTERVALS + 10.0)
    world.begin(second, NEW[1])
    run_until_done(world, second)
    assert {ring.keys for ring in world.rings.values()} == {(NEW[1],)}
    assert len(world.nodes) == 5


def test_nothing_is_removed_while_one_is_out_of_reach():
    world, nodes = started(3, 5)
    lost, *rest = nodes
    others = [node.addr for node in rest]
    world.weather.cut([lost.addr], others)
    world.weather.cut(others, [lost.addr])
    world.begin(rest[0], NEW[0])
    world.run(100.0)
    assert rest[0].core.members()[lost.node].state is MemberState.DEAD
    assert world.rotations[rest[0].core].lacking(rest[0].core.members()) == {
        lost.node: "it has not heard of the change (dead)"
    }
    assert all(ring.primary == key_id(OLD) for ring in world.rings.values())
    world.weather.heal()
    run_until_done(world, rest[0])
    assert {ring.keys for ring in world.rings.values()} == {(NEW[0],)}


def test_who_joins_in_the_middle_ends_with_the_new_key():
    world, nodes = started(9, 5)
    world.begin(nodes[0], NEW[0])
    while world.rotations[nodes[0].core].order.stage is not Stage.USE:
        world.run(0.1)
    world.check = lambda: None  # the new one cannot read all at first, only answers
    world.start("late", seeds=[nodes[3].addr])
    run_until_done(world, nodes[0])
    world.run(10.0)
    KeyedWorld.check(world)
    assert world.rings["late"].keys == (NEW[0],)
