"""Whom to talk to in a round."""

from __future__ import annotations

from collections.abc import Container
from random import Random

from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.slot import Slot
from laminar.cluster.gossip.view import View
from laminar.config import GossipConfig
from laminar.model import NodeId


class Partners:
    """Chooses others to talk to.

    In every other round that is the next one in the ring of all names, so each node has one who
    asks for it regularly. In the rounds between, it is whoever has waited longest, in an order of
    one's own. Where views differ, more.
    """

    def __init__(self, config: GossipConfig, view: View) -> None:
        self.seeds: tuple[str, ...] = ()
        self._config = config
        self._view = view

    def choose(
        self, round_: int, busy: Container[NodeId], differ: bool, rng: Random
    ) -> list[Slot | str]:
        """Slots of nodes that are there, or may be; and seeds, by address.

        ``busy`` are those who are asked anyhow.
        """
        view = self._view
        ring = self._ring(busy)
        chosen: list[Slot] = ring[:1] if round_ % 2 else []
        if not chosen:
            chosen = self._next_in_turn(busy)
        if differ and ring:
            chosen += rng.sample(ring, min(self._config.fanout_max - 1, len(ring)))
        dead = [slot for slot in view.others() if slot.state is MemberState.DEAD]
        live = max(1, len(view.roll))
        if dead and rng.random() < len(dead) / live:
            chosen.append(rng.choice(dead))
        targets: list[Slot | str] = list(dict.fromkeys(s for s in chosen if self._addr(s)))
        return targets + self._some_seed({self._addr(slot) for slot in ring}, len(dead), rng)

    def sample(self, busy: Container[NodeId], rng: Random) -> list[Slot]:
        """Those to tell something at once: the next one in the ring, and some others.

        If all do that, all hear of it. Who does not answer would break the ring.
        """
        ring = self._ring(busy)
        others = rng.sample(ring[1:], min(self._config.fanout_max - 1, len(ring[1:])))
        return ring[:1] + others

    def _ring(self, busy: Container[NodeId]) -> list[Slot]:
        ring = self._view.roll.after(self._view.own.node)
        return [
            slot for slot in ring if not slot.unheard and slot.node not in busy and self._addr(slot)
        ]

    def _next_in_turn(self, busy: Container[NodeId]) -> list[Slot]:
        chosen: list[Slot] = []

        def passes(node: NodeId) -> bool:
            if chosen:
                return False
            slot = self._view.slots[node]
            if not slot.state.gone and node not in busy and self._addr(slot):
                chosen.append(slot)
            return True

        self._view.partners.take(passes)
        return chosen

    def _some_seed(self, known: set[str | None], dead: int, rng: Random) -> list[str]:
        """A seed that is nobody known: always while alone, and now and then later."""
        strange = [addr for addr in self.seeds if addr not in known]
        often = len(self.seeds) / (len(known) + dead) if known else 1.0
        if strange and rng.random() < often:
            return [rng.choice(strange)]
        return []

    def _addr(self, slot: Slot) -> str | None:
        """Where the node is, unless that is here."""
        addr = slot.addr
        return None if addr == self._view.own.addr else addr
