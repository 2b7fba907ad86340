"""Whose turn it is to be talked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from laminar.model import NodeId


class Rotation:
    """Goes round all nodes in an order of its own, from where it stopped the last time.

    So whatever part of them fits a datagram, each gets its turn once per round trip; the order
    is random, so that no two nodes talk about the same ones in step.
    """

    def __init__(self) -> None:
        self._order: list[NodeId] = []
        self._place: dict[NodeId, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._order)

    def add(self, node: NodeId, rng: Random) -> None:
        """``node`` gets a random place."""
        if node in self._place:
            return
        self._order.append(node)
        self._place[node] = len(self._order) - 1
        self._swap(len(self._order) - 1, rng.randrange(len(self._order)))

    def discard(self, node: NodeId) -> None:
        """``node`` is no longer in it."""
        place = self._place.get(node)
        if place is None:
            return
        self._swap(place, len(self._order) - 1)
        self._order.pop()
        del self._place[node]

    def take(self, fits: Callable[[NodeId], bool]) -> None:
        """Offer nodes in turn until one does not fit, or each was offered once."""
        for node in self._round():
            if not fits(node):
                break
            self._next += 1

    def _round(self) -> Iterator[NodeId]:
        for _ in range(len(self._order)):
            self._next %= len(self._order)
            yield self._order[self._next]

    def _swap(self, a: int, b: int) -> None:
        order, place = self._order, self._place
        order[a], order[b] = order[b], order[a]
        place[order[a]], place[order[b]] = a, b
