"""Copies of a lane against its owner's log: whatever was exchanged, no copy says what is not so."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from laminar.cluster.gossip.lane import NEVER, Lane
from laminar.cluster.gossip.messages import BULK, Item, LaneDelta, LaneDigest
from laminar.model import Incarnation, NodeId

A = NodeId("a")
LIFE = Incarnation(1)
COPIES = 4
KEYS = "abcd"


def delta_of(lane, other, now=0.0, cut=None):
    """What ``lane`` has for a copy at ``other``, cut short after ``cut`` items."""
    start = lane.start_for(other)
    if start is None:
        return None
    items = lane.since(start, now)
    end = lane.max_version
    if cut is not None and cut < len(items):
        items = items[:cut]
        end = items[-1].version if items else start
    if end <= start:
        return None
    return LaneDelta(A, LIFE, BULK, start, end, lane.gc_version, items)


class LaneMachine(RuleBasedStateMachine):
    """An owner and copies that exchange deltas, whole, cut, late and twice, and drop tombstones."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.copies = [Lane() for _ in range(COPIES)]
        self.owner = self.copies[0]
        self.log = []
        self.late = []
        self.told = [{} for _ in range(COPIES)]

    @rule(key=st.sampled_from(KEYS), value=st.sampled_from([None, "1", "2", "3"]))
    def change(self, key, value):
        if value is None and self.owner.read(key, self.now) is None:
            return
        self.owner.set(key, value, self.now)
        self.log.append((key, value))
        self.told[0][key] = value

    @rule(
        giver=st.integers(0, COPIES - 1),
        taker=st.integers(1, COPIES - 1),
        cut=st.none() | st.integers(1, 3),
        late=st.booleans(),
    )
    def exchange(self, giver, taker, cut, late):
        delta = delta_of(self.copies[giver], self.copies[taker].digest, self.now, cut)
        if delta is not None:
            self.late.append(delta)
            if not late:
                self.take(taker, delta)

    @rule(taker=st.integers(1, COPIES - 1), index=st.integers(0, 50))
    def exchange_late(self, taker, index):
        if self.late:
            self.take(taker, self.late[index % len(self.late)])

    @rule(copy=st.integers(0, COPIES - 1), age=st.integers(0, 3), most=st.integers(0, 3))
    def collect(self, copy, age, most):
        self.copies[copy].collect(self.now - age, most)

    @rule()
    def pass_time(self):
        self.now += 1

    def take(self, taker, delta):
        if self.copies[taker].accepts(delta):
            for key, value in self.copies[taker].apply(delta, self.now):
                assert self.told[taker].get(key) != value
                self.told[taker][key] = value

    def state_at(self, version):
        state = dict(self.log[:version])
        return {key: value for key, value in state.items() if value is not None}

    @invariant()
    def a_copy_holds_what_it_claims(self):
        """Of keys that were changed later it may hold what they were before, or nothing."""
        for copy in self.copies:
            if copy.complete:
                state, held = self.state_at(copy.max_version), dict(copy.items(self.now))
                later = {key for key, _ in self.log[copy.max_version :]}
                assert {key for key, _ in held.items() ^ state.items()} <= later
                assert held.items() <= set(self.log)

    @invariant()
    def events_tell_the_state(self):
        for copy, told in zip(self.copies, self.told, strict=True):
            shown = {key: value for key, value in told.items() if value is not None}
            assert shown == dict(copy.items(self.now))

    @invariant()
    def books_are_right(self):
        for copy in self.copies:
            entries = [*copy._entries.items(), *(copy._stale or {}).items()]
            assert copy.size_bytes == sum(len(k) + len(e.value or "") for k, e in entries)
            assert copy.tombstones == sum(e.value is None for e in copy._entries.values())
            versions = [entry.version for entry in copy._entries.values()]
            assert versions == sorted(versions)
            assert len(copy) == len(entries)

    def teardown(self):
        """Whatever happened: once all talk to the owner, all are equal."""
        for copy in self.copies[1:]:
            for _ in range(len(self.log) + 1):
                delta = delta_of(self.owner, copy.digest, self.now, 1)
                if delta is None:
                    # The owner gives when it has dropped what the copy began without.
                    if copy.max_version < self.owner.max_version:
                        self.owner.collect(self.now, 0)
                        continue
                    break
                assert copy.accepts(delta)
                copy.apply(delta, self.now)
            assert dict(copy.items(self.now)) == dict(self.owner.items(self.now))


def test_copies_hold_what_they_claim():
    run_state_machine_as_test(
        LaneMachine, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )


def test_a_deletion_reaches_who_slept_past_the_tombstone():
    owner, copy = Lane(), Lane()
    owner.set("k", "1", 0)
    owner.set("x", "1", 0)
    copy.apply(delta_of(owner, copy.digest), 0)
    owner.set("k", None, 1)
    owner.set("y", "1", 1)
    assert owner.collect(2, 100) == 1
    assert (owner.gc_version, len(owner)) == (3, 2)
    delta = delta_of(owner, copy.digest)
    assert delta.start == 0
    assert copy.apply(delta, 2) == [("y", "1"), ("k", None)]
    assert dict(copy.items(2)) == {"x": "1", "y": "1"}


def test_keys_stay_readable_while_a_copy_begins_anew():
    owner, copy = Lane(), Lane()
    for key in "abc":
        owner.set(key, "1", 0)
    copy.apply(delta_of(owner, copy.digest), 0)
    owner.set("c", None, 1)
    owner.set("d", "1", 1)
    owner.collect(2, 100)
    assert copy.apply(delta_of(owner, copy.digest, cut=1), 2) == []
    assert not copy.complete
    assert dict(copy.items(2)) == {"a": "1", "b": "1", "c": "1"}
    assert copy.start_for(LaneDigest(0, 0)) is None
    assert copy.apply(delta_of(owner, copy.digest), 2) == [("d", "1"), ("c", None)]


def test_an_incomplete_copy_refuses_who_still_has_tombstones():
    owner, behind, copy = Lane(), Lane(), Lane()
    owner.set("a", "1", 0)
    owner.set("k", "1", 0)
    behind.apply(delta_of(owner, behind.digest), 0)
    owner.set("k", None, 1)
    owner.set("b", "1", 1)
    owner.collect(2, 100)
    copy.apply(delta_of(owner, copy.digest, cut=1), 2)
    assert copy.digest == (1, 3)
    assert behind.start_for(copy.digest) is None
    assert not copy.accepts(LaneDelta(A, LIFE, BULK, 1, 2, 0, [Item("k", 2, "1")]))


@pytest.mark.parametrize(
    ("start", "end"), [(0, 2), (1, 2), (3, 5), (2, 2)], ids=["old", "known", "gap", "empty"]
)
def test_deltas_that_do_not_continue_the_copy_are_refused(start, end):
    copy = Lane()
    copy.set("a", "1", 0)
    copy.set("b", "1", 0)
    assert not copy.accepts(LaneDelta(A, LIFE, BULK, start, end, 0, []))


@given(ttl=st.floats(0.001, 1e6))
def test_a_time_to_live_travels(ttl):
    owner, copy = Lane(), Lane()
    owner.set("k", "1", 10.0, 10.0 + ttl)
    copy.apply(delta_of(owner, copy.digest, now=10.0), 500.0)
    (remaining,) = [entry.expires - 500.0 for entry in copy._entries.values()]
    assert ttl - 1e-6 <= remaining <= ttl + 0.0011
    assert copy.read("k", 500.0 + remaining) is None


def test_keys_expire_once():
    lane = Lane()
    lane.set("k", "1", 0.0, 5.0)
    lane.set("l", "1", 0.0)
    assert lane.next_expiry_after(0.0) == 5.0
    assert lane.expire(4.0, 0.0) == []
    assert lane.expire(6.0, 4.0) == [("k", None)]
    assert lane.expire(7.0, 6.0) == []
    assert lane.next_expiry_after(7.0) == NEVER
    assert dict(lane.items(7.0)) == {"l": "1"}


def test_too_many_tombstones_go_early():
    lane = Lane()
    for number in range(10):
        lane.set(str(number), "1", 0.0)
        lane.set(str(number), None, 0.0)
    assert lane.collect(-1.0, 4) == 6
    assert (lane.tombstones, lane.gc_version) == (4, 12)
