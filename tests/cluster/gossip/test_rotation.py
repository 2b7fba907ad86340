"""Everybody gets a turn."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.gossip.rotation import Rotation


def taken(rotation, room):
    turn = []

    def fits(node):
        if len(turn) == room:
            return False
        turn.append(node)
        return True

    rotation.take(fits)
    return turn


@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 2**32))
def test_all_have_their_turn_once_per_round_trip(size, room, seed):
    rotation, rng = Rotation(), Random(seed)
    names = [f"n{number}" for number in range(size)]
    for name in names:
        rotation.add(name, rng)
        rotation.add(name, rng)
    assert len(rotation) == size
    turns = []
    while len(turns) < size:
        turns += taken(rotation, min(room, size))
    assert sorted(turns[:size]) == sorted(names)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60), st.integers(0, 2**32))
def test_who_comes_and_goes(changes, seed):
    rotation, rng, there = Rotation(), Random(seed), set()
    for comes, node in changes:
        if comes:
            rotation.add(node, rng)
            there.add(node)
        else:
            rotation.discard(node)
            there.discard(node)
        taken(rotation, 2)
        assert set(taken(rotation, 100)) == there
        assert len(rotation) == len(there)
