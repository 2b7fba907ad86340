"""Whatever a member says of another one: once it is silent, all read what that one wrote."""

import pytest

from laminar.cluster.gossip.codec import NUMBER_MAX
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.messages import BULK, PRIORITY, Grave, Item, Kind, LaneDelta
from laminar.config import GossipConfig
from laminar.testing.gossip import GossipWorld

pytestmark = pytest.mark.slow

CONFIG = GossipConfig(interval_s=1.0)
SEED = "10.0.0.9:1"
RESTS_S = 25
"""After that many rounds nothing is left of what a liar said."""
HOUR_NS = 3600 * 10**9


def changed(victim, lane, end, *items, start=None, gc=0, ahead_ns=0):
    """A change of the victim's, as if it were its newest."""
    digest = victim.core._own.digest
    known = digest.priority_max if lane == PRIORITY else digest.bulk_max
    start = known if start is None else start
    life = digest.incarnation + ahead_ns
    items = [Item(key, start + 1 + place, value) for place, (key, value) in enumerate(items)]
    end = items[-1].version if end is None else end
    return LaneDelta(victim.node, life, lane, start, end, gc, items)


# What is said in each lie: digests, deltas, graves.


def a_later_value(victim):
    return [], [changed(victim, BULK, None, ("k", "forged"))], []


def the_last_version_there_is(victim):
    return [], [changed(victim, BULK, NUMBER_MAX, ("k", "forged"))], []


def that_all_was_deleted_long_ago(victim):
    return [], [changed(victim, BULK, NUMBER_MAX, start=0, gc=NUMBER_MAX)], []


def that_its_key_is_deleted(victim):
    return [], [changed(victim, BULK, None, ("k", None))], []


def that_it_said_goodbye(victim):
    return [], [changed(victim, PRIORITY, None, ("gossip:left", "1"))], []


def that_it_is_elsewhere(victim):
    return [], [changed(victim, PRIORITY, None, ("gossip:addr", "10.9.9.9:9"))], []


def that_it_never_was_anywhere(victim):
    return [], [changed(victim, PRIORITY, NUMBER_MAX, ("gossip:addr", None))], []


def the_last_heartbeat_there_is(victim):
    return [victim.core._own.digest._replace(heartbeat=NUMBER_MAX)], [], []


def versions_that_nobody_has(victim):
    last = {"priority_max": NUMBER_MAX, "bulk_max": NUMBER_MAX}
    return [victim.core._own.digest._replace(**last)], [], []


def a_later_life(victim):
    digest = victim.core._own.digest
    digest = digest._replace(incarnation=digest.incarnation + HOUR_NS, bulk_max=1, priority_max=0)
    forged = changed(victim, BULK, None, ("k", "forged"), start=0, ahead_ns=HOUR_NS)
    return [digest], [forged], []


def a_life_that_nobody_can_outlive(victim):
    return [victim.core._own.digest._replace(incarnation=NUMBER_MAX)], [], []


def that_a_later_life_is_over(victim):
    return [], [], [Grave(victim.node, victim.core.incarnation + HOUR_NS)]


LIES = [
    a_later_value,
    the_last_version_there_is,
    that_all_was_deleted_long_ago,
    that_its_key_is_deleted,
    that_it_said_goodbye,
    that_it_is_elsewhere,
    that_it_never_was_anywhere,
    the_last_heartbeat_there_is,
    versions_that_nobody_has,
    a_later_life,
    a_life_that_nobody_can_outlive,
    that_a_later_life_is_over,
]


class Village:
    """Some nodes, one of whom is lied about by another."""

    def __init__(self):
        self.world = GossipWorld(7, CONFIG)
        self.world.after = lambda node: node.core.take_events()
        first = self.world.start("liar", addr=SEED)
        self.victim = self.world.start("victim", seeds=[SEED])
        self.others = [self.world.start(f"other-{n}", seeds=[SEED]) for n in range(4)]
        self.liar = first
        self.victim.write("k", "true")
        self.victim.write("l", "true")
        self.world.run(30)

    def tell(self, lie, *nodes):
        """Have the liar say it, once, in well sealed datagrams."""
        exchange = self.liar.core._exchange
        digests, deltas, graves = lie(self.victim)
        for node in nodes:
            writer = exchange.writer(Kind.PUSH, node.addr, b"", 1000, self.liar.now)
            for add, said in (
                (writer.add_digest, digests),
                (writer.add_delta, deltas),
                (writer.add_grave, graves),
            ):
                for each in said:
                    add(each)
            self.world.inject(self.liar.addr, node.addr, exchange.send(node.addr, writer).datagram)

    def check(self, **keys):
        for node in [self.victim, *self.others]:
            member = node.core.members()["victim"]
            assert (member.state, member.addr) == (MemberState.ALIVE, self.victim.addr)
            assert node.core.scan("", node.now)["victim"] == keys, node.node
        assert self.victim.core.error is None


@pytest.mark.parametrize("known", [1, 4], ids=["one", "all"])
@pytest.mark.parametrize("lie", LIES, ids=[lie.__name__ for lie in LIES])
def test_a_lie_lasts_only_as_long_as_the_liar(lie, known):
    """What is said of a node's keys, its life or its whereabouts freezes nothing of it."""
    village = Village()
    for _ in range(5):
        village.tell(lie, *village.others[:known])
        village.world.run(1.0)
    village.world.crash(village.liar)
    village.world.run(RESTS_S)
    village.check(k="true", l="true")
    village.victim.write("k", "newer")
    village.victim.delete("l")
    village.world.run(2.0)
    village.check(k="newer")
