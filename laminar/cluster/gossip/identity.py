"""Which life of a node this process is, and whether another one claims to be it.

Lives of a node are told apart by their incarnation, and the highest counts. A node that hears
of itself under a higher one has either lived before, with a clock that was ahead, or is slandered,
or has a double: a second process under its name. In the first two cases it takes a higher
incarnation still. The double differs from them in that its heartbeat goes on.

- A node that has just started takes the higher number at once: it is the later of two.
- One that is settled watches the claim. When its heartbeat still grows after ``CLAIM_ROUNDS``,
  and has grown in ``CLAIM_BEATS`` of them, it is alive, came later, and has the name: some who
  tell of it late do not make it live. When it grows no more, it is outbid.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from laminar.model import Incarnation

SETTLED_ROUNDS: Final = 20
"""A node that has started no longer ago takes itself for the later one of two."""

CLAIM_ROUNDS: Final = 8
"""How long a claim's heartbeat has to grow, or to rest."""

CLAIM_BEATS: Final = 4
"""In how many of these rounds it has to have grown at least."""


class Verdict(Enum):
    """What is to be done about a claim."""

    NOTHING = "nothing"
    RENEW = "renew"
    """Take the incarnation after the claimed one."""
    YIELD = "yield"
    """Another live process has the name, and came later."""


def start_incarnation(wall_ns: int, last: int = 0) -> Incarnation:
    """The incarnation of a process that starts now; ``last`` is that before it, if known."""
    return Incarnation(max(wall_ns, last + 1))


class Identity:
    """Claims to a node's name by others. Rounds are counted from its start."""

    def __init__(self) -> None:
        self.claimed = Incarnation(0)
        """The highest incarnation that somebody else is said to have."""
        self._heartbeat = 0
        self._first: int | None = None
        self._grown = 0
        self._beats = 0
        """In how many rounds it grew since it was first heard of."""

    def hear(self, claimed: Incarnation, heartbeat: int, round_: int) -> Verdict:
        """The node is said to have that incarnation and heartbeat, both not issued by it."""
        if self._first is None:
            self._first = self._grown = round_
            self.claimed, self._heartbeat, self._beats = claimed, heartbeat, 0
        elif (claimed, heartbeat) > (self.claimed, self._heartbeat):
            self.claimed, self._heartbeat = claimed, heartbeat
            self._beats += round_ > self._grown
            self._grown = round_
        if round_ < SETTLED_ROUNDS:
            return self._settle()
        if self._grown - self._first >= CLAIM_ROUNDS and self._beats >= CLAIM_BEATS:
            return Verdict.YIELD
        return Verdict.NOTHING

    def tick(self, round_: int) -> Verdict:
        """Whether a claim has rested for long enough to be none."""
        if self._first is not None and round_ - self._grown >= CLAIM_ROUNDS:
            return self._settle()
        return Verdict.NOTHING

    def _settle(self) -> Verdict:
        self._first = None
        return Verdict.RENEW
