"""Two live nodes with one id, on a good day: the later one has it, whatever its clock says."""

import pytest

from laminar.cluster.gossip.member import MemberState
from laminar.config import GossipConfig
from laminar.errors import NodeIdTakenError
from laminar.testing.gossip import GossipWorld

pytestmark = pytest.mark.slow

CONFIG = GossipConfig(interval_s=1.0)
SEED = "10.0.0.1:1"


@pytest.mark.parametrize("clock_s", [0.0, 3600.0, -3600.0], ids=["right", "ahead", "behind"])
@pytest.mark.parametrize("age_s", [3, 60], ids=["young", "settled"])
@pytest.mark.parametrize("others", [1, 4])
def test_the_later_of_two_with_one_id_stays(others, age_s, clock_s):
    world = GossipWorld(seed=others, config=CONFIG)
    known = [world.start(f"o{number}", seeds=[SEED]) for number in range(others)]
    world.run(30)
    earlier = world.start("double", seeds=[known[0].addr])
    world.run(age_s)
    earlier.write("k", "earlier")
    later = world.start("double", seeds=[known[0].addr], wall_offset_s=clock_s)
    later.write("k", "later")
    world.run(60)
    assert isinstance(earlier.core.error, NodeIdTakenError)
    assert "another live node has the id 'double' and started later" in str(earlier.core.error)
    assert later.core.error is None
    for node in known:
        member = node.core.members()["double"]
        assert (member.addr, member.state) == (later.addr, MemberState.ALIVE)
        assert node.core.read("double", "k", node.now) == "later"


def test_three_with_one_id_leave_the_last():
    world = GossipWorld(seed=1, config=CONFIG)
    other = world.start("o", seeds=[SEED])
    doubles = []
    for _ in range(3):
        doubles.append(world.start("double", seeds=[other.addr]))
        world.run(4)
    world.run(80)
    assert [node.core.error is None for node in doubles] == [False, False, True]
    assert other.core.members()["double"].addr == doubles[-1].addr
