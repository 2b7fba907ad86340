"""Rendezvous placement: golden, independent of order, and moving only what must move."""

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from laminar.errors import ConfigError
from laminar.shuffle.placement import PLACEMENT_VERSION, place

MASK = 2**64 - 1

node_sets = st.lists(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8),
    min_size=1,
    max_size=8,
    unique=True,
)
counts = st.integers(1, 300)


def mix(word):
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def reference_owner(vnode, nodes):
    def score(node):
        digest = blake2b(node.encode(), digest_size=8, person=b"laminar-place-1").digest()
        spread = mix((vnode + 1) * 0x9E3779B97F4A7C15 & MASK)
        return mix(spread ^ int.from_bytes(digest, "little"))

    return max(sorted(nodes), key=score)


def owners(vnodes, nodes):
    return [nodes[index] for index in place(vnodes, nodes)]


def test_golden_placement():
    assert PLACEMENT_VERSION == 1
    assert "".join(owners(64, ["a", "b", "c"])) == (
        "babccbbcbcaccbbacbbcbcabbcabcabcccbcbcaaabcbaaabcaaabbcbbcbaccaa"
    )


@given(counts, node_sets)
def test_agrees_with_the_reference(vnodes, nodes):
    assert owners(vnodes, nodes) == [reference_owner(vnode, nodes) for vnode in range(vnodes)]


@given(counts, node_sets, st.randoms(use_true_random=False))
def test_the_order_of_nodes_does_not_matter(vnodes, nodes, random):
    shuffled = random.sample(nodes, len(nodes))
    assert owners(vnodes, nodes) == owners(vnodes, shuffled)


@given(counts, node_sets, st.data())
def test_a_vnode_moves_only_to_the_node_that_came_or_from_the_one_that_left(vnodes, nodes, data):
    assume(len(nodes) > 1)
    changed = data.draw(st.sampled_from(nodes))
    with_it = owners(vnodes, nodes)
    without_it = owners(vnodes, [node for node in nodes if node != changed])
    for before, after in zip(with_it, without_it, strict=True):
        assert before in (after, changed)


@given(node_sets)
def test_more_vnodes_leave_the_first_ones_where_they_are(nodes):
    assert owners(300, nodes)[:100] == owners(100, nodes)


def test_the_load_is_what_chance_gives():
    counted = np.bincount(place(65_536, [f"node-{number}" for number in range(16)]))
    # 4096 each, with a deviation of 62.
    assert counted.min() > 3800
    assert counted.max() < 4400


@pytest.mark.parametrize(
    ("vnodes", "nodes", "message"),
    [
        (0, ["a"], "vnodes must be 1 to"),
        (65_537, ["a"], "vnodes must be 1 to"),
        (4, [], "number of nodes must be 1 to"),
        (4, ["a", "b", "a"], "listed once.*: a$"),
    ],
)
def test_arguments_are_checked(vnodes, nodes, message):
    with pytest.raises(ConfigError, match=message):
        place(vnodes, nodes)
