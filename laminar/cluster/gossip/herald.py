"""What cannot wait for the next round: news that is told to a few at once, who tell it on.

Each who hears something new tells it to a few others, and once more after a pause, unless it
has been told of it by another one meanwhile: then it is on its way. (Rumour mongering with
feedback: A. Demers et al., *Epidemic Algorithms for Replicated Database Maintenance*, 1987.)
Who was left out hears of it in a round.
"""

from __future__ import annotations

from typing import Final

from laminar.cluster.gossip.view import Versions
from laminar.model import NodeId

TIMES: Final = 2
"""How often something is told."""

PAUSES: Final = 10
"""Least time between two tellings is an interval divided by this."""

BURST: Final = 6
"""So many times that is all the pause there is."""

TIMES_PER_INTERVAL: Final = 4
"""After them it is told so often, that news of trouble makes no more of it."""


class Herald:
    """What one node has yet to tell."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._told_at = float("-inf")
        self.stretch = 1.0
        """By how much all pauses are longer, where this process has no time."""
        self._saved = float(BURST)
        """How often it may still be told in a burst, as of then."""
        self._left: dict[NodeId, int] = {}
        self._changes: dict[NodeId, Versions] = {}
        self._accused: dict[NodeId, None] = {}

    def __len__(self) -> int:
        return len(self._left) + len(self._accused)

    @property
    def due(self) -> float:
        """When something is to be told."""
        return self.next_at if self._left or self._accused else float("inf")

    @property
    def next_at(self) -> float:
        """Not before that."""
        wanting = max(1.0 / PAUSES, (1 - self._saved) / TIMES_PER_INTERVAL)
        return self._told_at + wanting * self._interval_s * self.stretch

    def changed(self, node: NodeId, before: Versions) -> None:
        """Tell what changed in the slot of ``node`` since then."""
        self._changes.setdefault(node, before)
        self._left[node] = TIMES

    def lives(self, node: NodeId) -> None:
        """Tell the heartbeat of ``node``."""
        self._left[node] = TIMES
        self._accused.pop(node, None)

    def accused(self, node: NodeId) -> None:
        """Tell that ``node`` does not answer; once, as all who hear it will see for themselves."""
        self._accused[node] = None

    def heard(self, node: NodeId) -> None:
        """Another one tells of ``node`` what is no news here."""
        if self._left.get(node, TIMES) < TIMES:
            del self._left[node]
            self._changes.pop(node, None)

    def take(self, now: float) -> tuple[dict[NodeId, Versions | None], list[NodeId]]:
        """Whom to talk about, since which versions; and who does not answer.

        Without versions, all that there is to tell of a node is that it lives.
        """
        if self._told_at > float("-inf"):
            passed = (now - self._told_at) / self._interval_s / self.stretch
            self._saved = min(BURST, self._saved + passed * TIMES_PER_INTERVAL)
        self._saved -= 1
        self._told_at = now
        told: dict[NodeId, Versions | None] = {node: self._changes.get(node) for node in self._left}
        accused = list(self._accused)
        self._left = {node: left - 1 for node, left in self._left.items() if left > 1}
        self._accused.clear()
        self._changes = {
            node: before for node, before in self._changes.items() if node in self._left
        }
        return told, accused
