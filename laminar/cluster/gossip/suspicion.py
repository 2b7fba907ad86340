"""Who is taken for dead, and when: the transitions of a member's state that time brings.

::

    JOINING ──sign of life──▶ ALIVE ──silence──▶ SUSPECT ──more silence──▶ DEAD ──forget_s──▶ ∅
       └──────silence──────▶ DEAD     ◀──sign of life── SUSPECT, DEAD      LEFT ──forget_s──▶ ∅

A sign of life is a heartbeat higher than any before, whoever tells it, a word from the node
itself, or direct evidence. What this node saw for itself counts for more than what it is told: a
node that it reached a moment ago is not suspected whatever the silence, and one that it failed to
reach is suspected at once. But nobody is taken for dead whose heartbeat goes on.

Who does not answer is asked again and again (:mod:`.asking`), and when some of that was in vain
others are told. They ask, too, and each believes its own ears. (That others look before a node
is accused: A. Das, I. Gupta, A. Motivala, *SWIM*, 2002.)
"""

from __future__ import annotations

from math import log10

from laminar.cluster.gossip.asking import Asking, Question
from laminar.cluster.gossip.herald import Herald
from laminar.cluster.gossip.liveness import Lateness, deviations_at
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.messages import Hint
from laminar.cluster.gossip.slot import Slot
from laminar.cluster.gossip.view import View
from laminar.config import GossipConfig
from laminar.model import Incarnation, NodeId

QUESTIONS_MAX = 64
"""Nodes that are asked at a time; more are not because of what others say."""

CALM = 3
"""By how much questions are rarer once others ask, too, where nothing is lost."""

SUSPECT_INTERVALS = 1.5
"""How long one must have been silent to be suspect, besides having not answered."""


class Suspicion:
    """Judges the nodes of a view. ``listened`` is as in :class:`~.view.View`."""

    def __init__(self, config: GossipConfig, view: View, lateness: Lateness) -> None:
        self._config = config
        self._view = view
        self._lateness = lateness
        self._deviations = deviations_at(config.phi_threshold)
        self.asking = Asking(config.interval_s)
        self.accused: list[NodeId] = []
        """Of whom others are to be told that they do not answer."""
        self.cleared: list[NodeId] = []
        """Of whom others are to be told that they live after all."""
        self.suspected = 0
        """How often a node became suspect."""
        self.died = 0
        """How often a node was taken for dead."""

    # -- what is seen and heard -------------------------------------------------------------------

    def heard(
        self,
        slot: Slot,
        incarnation: Incarnation,
        heartbeat: int,
        direct: bool,
        listened: float,
    ) -> None:
        """Somebody told of a life of the node of ``slot``; if ``direct``, the node itself."""
        if incarnation != slot.incarnation:
            return
        grew = heartbeat > slot.heartbeat
        if grew:
            slot.heartbeat = heartbeat
            slot.liveness.hear(listened)
        # What is older than what is known may have waited for long in the network.
        spoke = direct and heartbeat == slot.heartbeat
        if spoke:
            slot.spoke = listened
            slot.liveness.spoke(listened)
            slot.unheard = False
            self._clear(slot)
            self.asking.answered(slot.node)
        elif grew:
            self._clear(slot)
        if grew or (spoke and slot.state is not MemberState.DEAD):
            self._live(slot, listened)

    def hinted(self, slot: Slot, hint: Hint, listened: float) -> bool:
        """Somebody says that this node does not answer. Returns whether it will be asked now.

        That is all that comes of it, so a lie costs a question.
        """
        if slot.state.gone or hint.incarnation != slot.incarnation:
            return False
        if self.spoke_lately(slot, listened):
            return False
        # That it is known to have lived till then is no sign that it lives now.
        slot.heartbeat = max(slot.heartbeat, hint.heartbeat)
        question = self.asking.question(slot.node)
        if question is None and len(self.asking) >= QUESTIONS_MAX:
            return False
        question = question or self.asking.ask_now(slot.node, listened)
        if question.told:
            return False
        question.told = True
        self.accused.append(slot.node)
        return True

    def spoke_lately(self, slot: Slot, listened: float) -> bool:
        """Whether there is no need to ask the node whether it lives."""
        return listened < slot.spoke + self._config.interval_s / 2

    def asked(self, slot: Slot, listened: float) -> None:
        """A message was sent to this node that it is to answer."""
        if not slot.state.gone and not slot.unheard:
            self.asking.asked(slot.node, listened, self._lateness.stretch)

    def reached(self, slot: Slot, now: float) -> None:
        """This node has heard from that one over another way than gossip."""
        listened = self._lateness.listened(now)
        slot.reached_until = listened + self._config.direct_evidence_s
        slot.unreached_until = -1.0
        slot.liveness.spoke(listened)
        self._clear(slot)
        self.asking.drop(slot.node)
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

    def hand_over(self, herald: Herald) -> None:
        """Have others told of who does not answer, and of who lives after all."""
        for node in self.accused:
            herald.accused(node)
        for node in self.cleared:
            herald.lives(node)
        self.accused.clear()
        self.cleared.clear()

    # -- judging ----------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """To be called once per round."""
        listened = self._lateness.listened(now)
        stretch = self._lateness.stretch
        for slot in list(self._view.others()):
            state = slot.state
            if state is MemberState.ALIVE:
                if self._silent(slot, listened, stretch):
                    self._suspect(slot, listened)
            elif state is MemberState.SUSPECT:
                self.asking.ask_now(slot.node, listened)
            elif state is MemberState.JOINING:
                if self._silent(slot, listened, stretch):
                    self._bury(slot, listened)
            elif listened - slot.since > self._config.forget_s:
                self.asking.drop(slot.node)
                self._view.forget(slot, now)

    @property
    def due(self) -> float:
        """When :meth:`take_unanswered` is to be called."""
        return self._lateness.at(self.asking.due)

    def take_unanswered(self, now: float) -> list[Slot]:
        """Judge those who have not answered yet, and return whom of them to ask again now."""
        listened = self._lateness.listened(now)
        again: list[Slot] = []
        for node, question in self.asking.take_due(listened):
            slot = self._view.slots.get(node)
            if slot is None or slot.state.gone or self._judge(slot, question, listened):
                self.asking.drop(node)
            else:
                # Others ask now, too; where nothing is lost there is no hurry.
                calm = question.told and self.asking.extra_intervals == 0
                stretch = self._lateness.stretch * (CALM if calm else 1)
                self.asking.again(question, listened, self._judged_at(slot, question), stretch)
                again.append(slot)
        return again

    def _judge(self, slot: Slot, question: Question, listened: float) -> bool:
        """Draw conclusions from silence; return whether asking on is of no use."""
        if not self.asking.in_vain(question):
            return False
        if slot.state is MemberState.JOINING:
            return True
        if not question.told:
            question.told = True
            self.accused.append(slot.node)
        if slot.state is MemberState.ALIVE:
            if listened >= self._judged_at(slot, question):
                self._suspect(slot, listened)
                # Some may not have heard it, and some may hear the node all the same.
                self.accused.append(slot.node)
            elif listened >= question.since + 2 * self._respite():
                slot.unheard = True
                return True
        if slot.state is MemberState.SUSPECT and listened >= self._judged_at(slot, question):
            self._bury(slot, listened)
            return True
        return False

    def _judged_at(self, slot: Slot, question: Question) -> float:
        """When the node of ``slot`` is suspect, or dead if it is, if nothing is heard."""
        if slot.state is MemberState.SUSPECT:
            patience = self._respite()
            if slot.liveness.heard > question.since + self._config.interval_s:
                patience *= 2  # it has shown that it lives although it does not answer
        else:
            patience = SUSPECT_INTERVALS * self._config.interval_s * self._lateness.stretch
        return self._since(slot, question) + patience

    def _since(self, slot: Slot, question: Question) -> float:
        """Since when there has been neither an answer nor any other sign of life."""
        return max(question.since, slot.liveness.heard, slot.reached_until)

    def _respite(self) -> float:
        config = self._config
        size = max(1.0, log10(max(1, len(self._view.slots))) / 2)
        intervals = config.suspicion_intervals_max * size + self.asking.extra_intervals
        return intervals * config.interval_s * self._lateness.stretch

    def _silent(self, slot: Slot, listened: float, stretch: float) -> bool:
        if listened < slot.reached_until:
            return False
        silence = listened - slot.liveness.heard
        if silence <= self._config.interval_s:
            return False
        patience = slot.liveness.patience_s(self._deviations, self._config.interval_s)
        longest = self._config.silence_intervals_max * self._view.expected_s
        return silence > min(patience, longest) * stretch

    def _live(self, slot: Slot, listened: float) -> None:
        if slot.state is MemberState.ALIVE or slot.state is MemberState.LEFT:
            return
        if listened < slot.unreached_until:
            slot.since = listened  # it lives, but out of reach: not dead, and still suspect
        else:
            if slot.state in (MemberState.DEAD, MemberState.JOINING):
                self.cleared.append(slot.node)
            self._view.become(slot, MemberState.ALIVE, listened)

    def _clear(self, slot: Slot) -> None:
        """Tell others once that it lives, if it is said not to answer."""
        question = self.asking.question(slot.node)
        if question is not None and question.told and not question.cleared:
            question.cleared = True
            self.cleared.append(slot.node)

    def _suspect(self, slot: Slot, listened: float) -> None:
        self.suspected += 1
        self.asking.ask_now(slot.node, listened)
        self._view.become(slot, MemberState.SUSPECT, listened)

    def _bury(self, slot: Slot, listened: float) -> None:
        self.died += 1
        self._view.become(slot, MemberState.DEAD, listened)
