"""The simulator is worth its time only if it sees mistakes: here are some, each of them caught."""

import pytest

from laminar.cluster.gossip.codec import MessageWriter
from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.identity import Identity, Verdict
from laminar.cluster.gossip.lane import Lane
from laminar.cluster.gossip.roll import Roll
from laminar.cluster.gossip.view import View
from laminar.cluster.seal import TAG_BYTES, DatagramSealer
from laminar.errors import NodeIdTakenError
from tests.gossip_simulation.plan import Plan

pytestmark = pytest.mark.slow

SEEDS_MAX = 60


def gaps_are_taken(monkeypatch):
    """A delta that starts after what a copy has is applied all the same."""
    monkeypatch.setattr(Lane, "accepts", lambda lane, delta: delta.end > lane.max_version)


def a_cut_delta_claims_to_be_whole(monkeypatch):
    """What did not fit the datagram counts as seen."""
    add_delta = MessageWriter.add_delta

    def claim(writer, delta):
        rest = add_delta(writer, delta)
        if rest is not None and rest is not delta:
            # As if the end had been left as it was: nobody sends what follows.
            writer._deltas.pop()
            whole = delta._replace(items=delta.items[: len(delta.items) - len(rest.items)])
            return add_delta(writer, whole)
        return rest

    monkeypatch.setattr(MessageWriter, "add_delta", claim)


def nobody_begins_anew(monkeypatch):
    """Who missed a deletion that is no longer known is sent what came later, and that is all."""

    def start_for(lane, other):
        return other.max_version if other.max_version < lane.max_version else None

    def accepts(lane, delta):
        return delta.start <= lane.max_version < delta.end

    monkeypatch.setattr(Lane, "start_for", start_for)
    monkeypatch.setattr(Lane, "accepts", accepts)
    monkeypatch.setattr(Lane, "_must_restart", lambda lane, delta: False)


def ghosts_are_believed(monkeypatch):
    """Who forgot a node does not remember that, and all go on telling of the dead."""
    monkeypatch.setattr(View, "tells", lambda view, slot, listened: True)
    monkeypatch.setattr(Roll, "_counts", lambda roll, slot: True)
    forget = View.forget

    def without_a_grave(view, slot, now):
        forget(view, slot, now)
        view.graves.clear()

    monkeypatch.setattr(View, "forget", without_a_grave)


def old_lives_are_not_outbid(monkeypatch):
    """A node that restarts with an older clock stays in the shadow of its last life."""
    monkeypatch.setattr(Identity, "hear", lambda *args: Verdict.NOTHING)
    monkeypatch.setattr(Identity, "tick", lambda *args: Verdict.NOTHING)
    monkeypatch.setattr(Plan, "_double", lambda plan: None)  # they would show it as well


def a_new_life_inherits(monkeypatch):
    """The keys of a node's last life count as those of its next."""
    meet = View.meet

    def inherit(view, digest, now, listened, rng):
        before = view.slots.get(digest.node)
        slot = meet(view, digest, now, listened, rng)
        if before is not None and slot is not before and slot is view.slots.get(digest.node):
            slot.priority, slot.bulk = before.priority, before.bulk
        return slot

    monkeypatch.setattr(View, "meet", inherit)


def any_view_will_do(monkeypatch):
    """Heartbeats count for whoever has the same place in another view."""
    monkeypatch.setattr(Roll, "_tag", lambda roll, start, beats: bytes(8))


def neither_of_two_stops(monkeypatch):
    """A node outbids a double for ever."""
    hear = Identity.hear

    def never_yield(*args):
        return Verdict.NOTHING if (verdict := hear(*args)) is Verdict.YIELD else verdict

    monkeypatch.setattr(Identity, "hear", never_yield)


def the_later_of_two_stops(monkeypatch):
    """A node that hears of an older life that goes on takes itself for the double."""
    hear_of_self = GossipCore._hear_of_self

    def yield_to_older(core, digest, teller, now, rng):
        hear_of_self(core, digest, teller, now, rng)
        before = beats.setdefault(core, (0, digest.heartbeat))
        if digest.incarnation < core.incarnation and digest.heartbeat > before[1]:
            beats[core] = (before[0] + 1, digest.heartbeat)
            if before[0] > 8:
                core.error = NodeIdTakenError("planted")

    beats = {}
    monkeypatch.setattr(GossipCore, "_hear_of_self", yield_to_older)


def rumours_pass_for_a_double(monkeypatch):
    """A node that hears of a later life stops, whether that lives or not."""
    hear = Identity.hear

    def yield_at_once(identity, claimed, heartbeat, round_):
        hear(identity, claimed, heartbeat, round_)
        return Verdict.YIELD

    monkeypatch.setattr(Identity, "hear", yield_at_once)


def damage_is_not_noticed(monkeypatch):
    """A datagram is taken for what its sender said although its checksum is wrong."""

    def believe(sealer, identity, header, body, source):
        return body[:-TAG_BYTES]

    monkeypatch.setattr(DatagramSealer, "_verify", believe)


BUGS = {
    any_view_will_do: "never lived so long",
    gaps_are_taken: "has lost keys of",
    a_cut_delta_claims_to_be_whole: "has lost keys of",
    nobody_begins_anew: "reads what .* deleted or never had",
    ghosts_are_believed: "still sees",
    old_lives_are_not_outbid: "sees .*DEAD.* which is",
    a_new_life_inherits: "told twice|deleted or never had",
    neither_of_two_stops: "still 2 live nodes with the id",
    the_later_of_two_stops: "stopped, and is the later one",
    rumours_pass_for_a_double: "stopped, and there is no other one",
    damage_is_not_noticed: "never lived so long|a life that never was",
}
"""Each with what is seen of it."""


@pytest.mark.parametrize(("plant", "sign"), BUGS.items(), ids=[bug.__name__ for bug in BUGS])
def test_a_planted_bug_is_caught(monkeypatch, plant, sign):
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=sign):
        run_until_something_is_wrong()


def run_until_something_is_wrong():
    for seed in range(SEEDS_MAX):
        Plan(seed).run()
