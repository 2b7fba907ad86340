"""How long to wait between two attempts to connect."""

from __future__ import annotations

import random

from laminar.config import ShuffleConfig


def backoff_s(attempt: int, config: ShuffleConfig, rng: random.Random) -> float:
    """Seconds to pause after failed attempt number ``attempt`` (from 0).

    Doubles up to the maximum; half of it is random, so that peers which lost the same node
    do not come back in step ("equal jitter", M. Brooker, Exponential Backoff And Jitter).
    """
    ceiling = min(config.backoff_max_s, config.backoff_initial_s * 2.0 ** min(attempt, 30))
    return ceiling / 2 + rng.random() * ceiling / 2
