"""Whom a node talks to."""

from random import Random

import pytest

from laminar.cluster.gossip.lane import Lane
from laminar.cluster.gossip.liveness import Liveness
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.messages import Digest
from laminar.cluster.gossip.partners import Partners
from laminar.cluster.gossip.slot import ADDR_KEY, Slot
from laminar.cluster.gossip.view import View
from laminar.config import GossipConfig

NAMES = "abcdefgh"
OWN = "d"


def partners_of(names=NAMES, own=OWN, fanout=3):
    rng, config = Random(1), GossipConfig(fanout_max=fanout)
    slot = Slot(own, 1, 0, Liveness(0.0, 1.0))
    slot.state = MemberState.ALIVE
    view = View(config, slot, 1000, 0, 0.0)
    view.write(ADDR_KEY, own, 0.0, None)
    for name in names:
        if name != own:
            other = view.meet(Digest(name, 1, 0, 0, 0, 0, 0), 0.0, 0.0, rng)
            other.priority.set(ADDR_KEY, name, 0.0)
            view.become(other, MemberState.ALIVE, 0.0)
    return Partners(config, view), view


def choose(partners, round_, busy=(), differ=False, rng=None):
    chosen = partners.choose(round_, busy, differ, rng or Random(round_))
    return [target if isinstance(target, str) else target.node for target in chosen]


def test_the_next_in_the_ring_is_asked_in_every_other_round():
    for own, following in zip(NAMES, NAMES[1:] + NAMES[:1], strict=True):
        partners, _ = partners_of(own=own)
        assert [choose(partners, round_) for round_ in (1, 3, 5)] == [[following]] * 3


def test_all_others_have_their_turn_in_the_rounds_between():
    partners, _ = partners_of()
    rounds = range(0, 2 * (len(NAMES) - 1), 2)
    turn = [node for round_ in rounds for node in choose(partners, round_)]
    assert sorted(turn) == sorted(set(NAMES) - {OWN})


@pytest.mark.parametrize("round_", [0, 1])
def test_who_is_asked_anyhow_is_left_out(round_):
    partners, _ = partners_of()
    busy = set(NAMES) - {OWN, "b"}
    assert choose(partners, round_, busy) == ["b"]


def test_more_are_talked_to_where_views_differ():
    partners, _ = partners_of(fanout=4)
    assert len({*choose(partners, 1, differ=True, rng=Random(3))}) in (3, 4)


def test_the_gone_are_talked_to_now_and_then():
    partners, view = partners_of()
    for name in "bc":
        view.become(view.slots[name], MemberState.DEAD, 0.0)
    view.become(view.slots["e"], MemberState.LEFT, 0.0)
    chosen = [choose(partners, round_) for round_ in range(200)]
    times = sum(1 for names in chosen if {"b", "c"} & set(names))
    assert 30 < times < 120  # two of seven
    assert not any("e" in names for names in chosen)
    assert choose(partners, 1)[0] == "f"


def test_seeds_are_talked_to_while_nobody_else_is_known():
    partners, _ = partners_of(names=OWN)
    partners.seeds = ("seed",)
    assert all(choose(partners, round_) == ["seed"] for round_ in range(10))


def test_seeds_are_talked_to_while_nobody_has_an_address():
    """Or else one that has lost much while it joined would stay alone for long."""
    partners, view = partners_of()
    partners.seeds = ("seed",)
    for slot in view.others():
        slot.priority = Lane()
        view.become(slot, MemberState.DEAD, 0.0)
    assert all(choose(partners, round_) == ["seed"] for round_ in range(10))


def test_a_seed_that_is_a_member_needs_no_extra_word():
    partners, _ = partners_of()
    partners.seeds = ("a", "x")
    strange = [choose(partners, round_) for round_ in range(200)]
    assert all(len(names) == 1 or names[1:] == ["x"] for names in strange)
    assert 20 < sum("x" in names for names in strange) < 120


def test_news_is_told_to_the_next_in_the_ring_and_to_some_others():
    partners, _ = partners_of()
    for seed in range(20):
        told = [slot.node for slot in partners.sample((), Random(seed))]
        assert told[0] == "e"
        assert partners.sample({"e"}, Random(seed))[0].node == "f"
        assert len(set(told)) == 3
        assert OWN not in told
