"""A network of datagrams that does to them what networks do, in simulated time.

Pure: it says what arrives when; whoever has an event loop delivers it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

FAULTS: Final[dict[str, str]] = {
    "loss": "a datagram vanished",
    "duplication": "a datagram arrived twice",
    "reordering": "a datagram overtook one sent earlier on the same way",
    "delay": "a datagram took more than twice the shortest time",
    "partition": "a datagram was sent between nodes that do not reach each other",
    "one_way_partition": "the same, where the other direction works",
    "mtu": "a datagram was larger than the network carries",
    "corruption": "a datagram arrived with bits changed",
}
"""What can happen to a datagram, and what has to happen for it to be counted."""


@dataclass(frozen=True, slots=True)
class DatagramFaults:
    """How often what happens; chances from 0 to 1."""

    delay_s: tuple[float, float] = (0.001, 0.003)
    """Shortest and longest time on the way."""
    loss: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0
    mtu_bytes: int = 65507
    """Larger datagrams vanish."""


class DatagramWeather:
    """Decides the fate of each datagram, and counts the faults that really struck."""

    def __init__(self, rng: Random, faults: DatagramFaults | None = None) -> None:
        self.faults = faults or DatagramFaults()
        self.struck: Counter[str] = Counter()
        self.datagrams = 0
        self._rng = rng
        self._cut: set[tuple[str, str]] = set()
        self._latest: dict[tuple[str, str], float] = {}

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """From now on nothing gets from any of ``sources`` to any of ``targets``."""
        targets = list(targets)
        self._cut.update((source, target) for source in sources for target in targets)

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        self._cut.clear()

    def carry(
        self, source: str, target: str, datagram: bytes, now: float
    ) -> list[tuple[float, bytes]]:
        """When what of ``datagram`` arrives: nothing, once or twice."""
        self.datagrams += 1
        faults, rng = self.faults, self._rng
        if (source, target) in self._cut:
            both = (target, source) in self._cut
            self.struck["partition" if both else "one_way_partition"] += 1
            return []
        if len(datagram) > faults.mtu_bytes:
            self.struck["mtu"] += 1
            return []
        if rng.random() < faults.loss:
            self.struck["loss"] += 1
            return []
        copies = 1
        if rng.random() < faults.duplication:
            self.struck["duplication"] += 1
            copies = 2
        return [self._deliver(source, target, datagram, now) for _ in range(copies)]

    def _deliver(
        self, source: str, target: str, datagram: bytes, now: float
    ) -> tuple[float, bytes]:
        shortest, longest = self.faults.delay_s
        delay = shortest + (longest - shortest) * self._rng.random()
        if delay > 2 * shortest:
            self.struck["delay"] += 1
        way = (source, target)
        if now + delay < self._latest.get(way, 0.0):
            self.struck["reordering"] += 1
        self._latest[way] = max(now + delay, self._latest.get(way, 0.0))
        if self._rng.random() < self.faults.corruption:
            self.struck["corruption"] += 1
            datagram = self._corrupt(datagram)
        return now + delay, datagram

    def _corrupt(self, datagram: bytes) -> bytes:
        garbled = bytearray(datagram)
        for _ in range(self._rng.randint(1, 4)):
            garbled[self._rng.randrange(len(garbled))] ^= 1 << self._rng.randrange(8)
        if self._rng.random() < 0.2:
            del garbled[self._rng.randrange(len(garbled)) :]
        return bytes(garbled)
