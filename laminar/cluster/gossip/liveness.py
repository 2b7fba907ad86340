"""How long a node may be silent: a phi accrual failure detector.

The silence of a node is judged by how regular its signs of life were. Their intervals are
taken as normally distributed with the mean and variance seen so far, newer ones counting for
more, and phi is minus the decimal logarithm of the chance of a silence as long as the present
one. (N. Hayashibara, X. Défago, R. Yared, T. Katayama, *The φ Accrual Failure Detector*, 2004;
the sliding window is replaced by exponential weights, which need two numbers for each node.)

A threshold of phi is a moment in time, known as soon as a sign of life was seen; so a look at a
node costs one comparison.
"""

from __future__ import annotations

from math import erfc, inf, log10, sqrt
from statistics import NormalDist

WEIGHT = 0.1
"""Of the newest interval in mean and variance."""

LONGEST_INTERVALS = 10.0
"""An interval counts as at most this many times the mean: one long silence teaches nothing."""


class Liveness:
    """The signs of life of one node, in seconds of a clock that rests while nobody listens."""

    __slots__ = ("_mean_s", "_variance", "heard")

    def __init__(self, now: float, expected_s: float) -> None:
        """Signs of life are expected every ``expected_s`` until they say otherwise."""
        self.heard = now
        """When the last one was seen."""
        self._mean_s = expected_s
        self._variance = (expected_s / 2) ** 2

    def hear(self, now: float) -> None:
        """A sign of life was seen."""
        interval = min(now - self.heard, self._mean_s * LONGEST_INTERVALS)
        self.heard = now
        off = interval - self._mean_s
        self._mean_s += WEIGHT * off
        self._variance = (1 - WEIGHT) * (self._variance + WEIGHT * off * off)

    def spoke(self, now: float) -> None:
        """The node was heard between two signs of life: that ends a silence, no more."""
        self.heard = now

    def phi(self, now: float, deviation_s_min: float) -> float:
        """How suspicious the silence is at ``now``; see the top of the module."""
        deviation = max(deviation_s_min, sqrt(self._variance))
        chance = erfc((now - self.heard - self._mean_s) / deviation / sqrt(2)) / 2
        return -log10(chance) if chance > 0 else inf

    def patience_s(self, deviations: float, deviation_s_min: float) -> float:
        """The longest silence that is not suspicious; see :func:`deviations_at`."""
        return self._mean_s + deviations * max(deviation_s_min, sqrt(self._variance))


def deviations_at(phi: float) -> float:
    """By how many standard deviations an interval exceeds the mean when phi is reached."""
    return -NormalDist().inv_cdf(10.0**-phi)


class Lateness:
    """How well this process keeps time itself.

    The main cause of false suspicion is one's own pause: what others said meanwhile lies unread.
    So the time by which a tick comes late counts as nobody's silence, and for a while after it
    more patience is had with everybody. (A. Dadgar, J. Phillips, J. Currey, *Lifeguard: Local
    Health Awareness for More Accurate Failure Detection*, 2018.)
    """

    SCORE_MAX = 8
    LATE_INTERVALS = 0.5
    """A tick that is later than that is late; the clock rests from then on until it comes."""

    def __init__(self, now: float, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due = now + interval_s
        self._missed_s = 0.0
        self.score = 0
        """0 when all is well; grows with every late tick, and shrinks with every other."""
        self.latest_s = 0.0
        """By how much the last tick was late."""

    def tick(self, now: float, due: float) -> None:
        """A tick; the next one is due at ``due``."""
        self.latest_s = max(0.0, now - self._due)
        late = self.latest_s - self._interval_s * self.LATE_INTERVALS
        self._due = max(due, self._due)
        if late > 0:
            self._missed_s += late
            self.score = min(self.SCORE_MAX, self.score + 1)
        else:
            self.score = max(0, self.score - 1)

    def listened(self, now: float) -> float:
        """The time on a clock that rests while this process does."""
        return min(now, self._due + self._interval_s * self.LATE_INTERVALS) - self._missed_s

    def at(self, listened: float) -> float:
        """When that clock will show that time, if it does not rest."""
        return listened + self._missed_s

    @property
    def stretch(self) -> float:
        """By how much all timeouts are longer now."""
        return 1.0 + self.score
