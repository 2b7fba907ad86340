"""Who is taken for dead, and when: the transitions of a member's state that time brings.

::

    JOINING ──sign of life──▶ ALIVE ──silence──▶ SUSPECT ──more silence──▶ DEAD ──forget_s──▶ ∅
       └──────silence──────▶ DEAD     ◀──sign of life── SUSPECT, DEAD      LEFT ──forget_s──▶ ∅

A sign of life is a heartbeat higher than any before, whoever tells it, or direct evidence. What
this node saw for itself counts for more than what it is told: a node that it reached a moment ago
is not suspected whatever the silence, and one that it failed to reach is suspected at once. But
nobody is taken for dead whose heartbeat goes on.
"""

from __future__ import annotations

from math import log10

from laminar.cluster.gossip.liveness import Lateness, deviations_at
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.slot import Slot
from laminar.cluster.gossip.view import View
from laminar.config import GossipConfig


class Suspicion:
    """Judges the nodes of a view."""

    def __init__(self, config: GossipConfig, view: View, lateness: Lateness) -> None:
        self._config = config
        self._view = view
        self._lateness = lateness
        self._deviations = deviations_at(config.phi_threshold)
        self.suspected = 0
        """How often a node became suspect."""
        self.died = 0
        """How often a node was taken for dead."""

    def look(self, now: float) -> None:
        """To be called once per round."""
        listened = self._lateness.listened(now)
        stretch = self._lateness.stretch
        config = self._config
        size = log10(max(10, len(self._view.slots)))
        respite = config.suspicion_intervals_max * config.interval_s * size * stretch
        for slot in list(self._view.others()):
            state = slot.state
            if state is MemberState.ALIVE:
                if self._silent(slot, listened, stretch):
                    self._suspect(slot, listened)
            elif state is MemberState.SUSPECT:
                if listened - slot.since > respite:
                    self._bury(slot, listened)
            elif state is MemberState.JOINING:
                if self._silent(slot, listened, stretch):
                    self._bury(slot, listened)
            elif listened - slot.since > config.forget_s:
                self._view.forget(slot, now)

    def reached(self, slot: Slot, now: float) -> None:
        """This node has heard from that one over another way than gossip."""
        listened = self._lateness.listened(now)
        slot.reached_until = listened + self._config.direct_evidence_s
        slot.unreached_until = -1.0
        if slot.state in (MemberState.JOINING, MemberState.SUSPECT, MemberState.DEAD):
            self._view.become(slot, MemberState.ALIVE, listened)

    def unreached(self, slot: Slot, now: float) -> None:
        """This node tried to reach that one over another way than gossip, and failed."""
        listened = self._lateness.listened(now)
        slot.unreached_until = listened + self._config.direct_evidence_s
        slot.reached_until = -1.0
        if slot.state is MemberState.ALIVE:
            self._suspect(slot, listened)

    def phi(self, slot: Slot, now: float) -> float:
        """How suspicious the silence of a node is."""
        return slot.liveness.phi(self._lateness.listened(now), self._config.interval_s)

    def _silent(self, slot: Slot, listened: float, stretch: float) -> bool:
        if listened < slot.reached_until:
            return False
        silence = listened - slot.liveness.heard
        if silence <= self._config.interval_s:
            return False
        patience = slot.liveness.patience_s(self._deviations, self._config.interval_s)
        longest = self._config.silence_intervals_max * self._view.expected_s
        return silence > min(patience, longest) * stretch

    def _suspect(self, slot: Slot, listened: float) -> None:
        self.suspected += 1
        self._view.become(slot, MemberState.SUSPECT, listened)

    def _bury(self, slot: Slot, listened: float) -> None:
        self.died += 1
        self._view.become(slot, MemberState.DEAD, listened)
