"""How long to wait between two attempts."""

from __future__ import annotations

import random


def backoff_s(attempt: int, initial_s: float, max_s: float, rng: random.Random) -> float:
    """Seconds to pause after failed attempt number ``attempt`` (from 0).

    Doubles from ``initial_s`` up to ``max_s``; half of it is random, so that nodes which lost
    the same one do not come back in step ("equal jitter", M. Brooker, Exponential Backoff And
    Jitter).
    """
    ceiling = min(max_s, initial_s * 2.0 ** min(attempt, 30))
    return ceiling / 2 + rng.random() * ceiling / 2
