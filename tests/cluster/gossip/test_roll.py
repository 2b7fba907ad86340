"""Heartbeats without names: right, or not believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.gossip.codec import NUMBER_MAX
from laminar.cluster.gossip.lane import Lane
from laminar.cluster.gossip.liveness import Liveness
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.roll import Roll
from laminar.cluster.gossip.slot import Slot

names = st.text("abc", min_size=1, max_size=3)
rows = st.tuples(st.integers(0, 3), st.integers(0, NUMBER_MAX), st.integers(0, 2))
views = st.dictionaries(names, rows, max_size=12)


def roll_of(view, state=MemberState.ALIVE):
    """A roll of nodes with these incarnations, heartbeats and versions."""
    slots = {}
    for name, (incarnation, heartbeat, version) in view.items():
        slots[name] = slot = Slot(name, incarnation, heartbeat, Liveness(0.0, 1.0))
        slot.state = state
        put(slot.bulk, version)
    return Roll(slots)


def put(lane: Lane, version):
    for number in range(version):
        lane.set("k", str(number), 0.0)


def beats_of(roll):
    return {slot.node: slot.heartbeat for slot in roll.after("")}


@given(views, st.data())
def test_who_has_the_same_view_reads_every_heartbeat(view, data):
    known = {
        name: (incarnation, data.draw(near(beat)), version)
        for name, (incarnation, beat, version) in view.items()
    }
    said = roll_of(view).call(100)
    heard = roll_of(known).hear(said)
    assert {slot.node: beat for slot, beat in heard} == {name: row[1] for name, row in view.items()}


def near(beat):
    return st.integers(max(0, beat - 7), min(NUMBER_MAX, beat + 8))


@given(views, views)
def test_heartbeats_of_another_view_are_not_believed(one, other):
    lives = [
        {name: (inc, version) for name, (inc, _, version) in view.items()} for view in (one, other)
    ]
    heard = roll_of(other).hear(roll_of(one).call(100))
    if lives[0] != lives[1]:
        assert heard is None


@given(views.filter(bool), st.integers(9, 10**6))
def test_heartbeats_that_are_far_off_are_not_misread(view, off):
    name = min(view)
    incarnation, beat, version = view[name]
    known = {**view, name: (incarnation, (beat + off) % NUMBER_MAX, version)}
    heard = roll_of(known).hear(roll_of(view).call(100))
    assert heard is None or {slot.node: beat for slot, beat in heard}[name] == beat


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": (1, 5, 0), "b": (2, 5, 0)}, {"a": (2, 5, 0), "b": (1, 5, 0)}),
        ({"a": (1, 5, 1), "b": (1, 5, 0)}, {"a": (1, 5, 0), "b": (1, 5, 1)}),
        ({"a": (1, 5, 0), "bc": (1, 5, 0)}, {"ab": (1, 5, 0), "c": (1, 5, 0)}),
        ({"a": (1, 5, 0)}, {"a": (1, 5, 0), "b": (1, 5, 0)}),
    ],
    ids=["lives", "versions", "names", "sizes"],
)
def test_views_that_look_alike_are_told_apart(one, other):
    assert roll_of(other).hear(roll_of(one).call(10)) is None
    assert roll_of(one).hear(roll_of(other).call(10)) is None


@given(views, st.integers(1, 5))
def test_all_have_their_turn_where_not_all_fit(view, room):
    roll, known = roll_of(view), roll_of({name: (i, 0, v) for name, (i, _, v) in view.items()})
    seen = set()
    for _ in range(-(-len(view) // (2 * room))):
        said = roll.call(room)
        assert len(said.low) <= room
        told = list(beats_of(roll))[said.start : said.start + 2 * len(said.low)]
        seen |= set(told)
        heard = known.hear(said)
        assert heard is None or len(heard) == len(told)
        assert roll.is_whole(said) is (len(told) == len(view))
    assert seen == set(view)


@given(views, st.integers(0, 2**63 - 1), st.binary(max_size=20), st.binary(min_size=8, max_size=8))
def test_forged_heartbeats_are_refused(view, start, low, tag):
    roll = roll_of(view)
    said = roll.call(100)._replace(start=start, low=low, tag=tag)
    assert roll.hear(said) is None


def test_who_is_gone_does_not_count():
    roll = roll_of({"a": (1, 5, 0), "b": (1, 5, 0)})
    slot = roll.after("a")[0]
    slot.state = MemberState.DEAD
    roll.changed()
    assert len(roll) == 1
    assert roll.hear(roll_of({"a": (1, 6, 0)}).call(10)) == [(roll.after("b")[0], 6)]


@given(views, names)
def test_the_ring_begins_with_whoever_follows(view, name):
    ring = [slot.node for slot in roll_of(view).after(name)]
    order = sorted({*view, name})
    place = order.index(name)
    assert ring == order[place + 1 :] + order[:place]
