"""Pauses grow, stay within their limits, and differ between nodes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.backoff import backoff_s


@given(st.integers(0, 10**9), st.integers(), st.floats(1e-6, 10.0), st.floats(1.0, 1000.0))
def test_between_half_and_all_of_the_doubled_pause(attempt, seed, initial, factor):
    most = initial * factor
    ceiling = min(most, initial * 2.0 ** min(attempt, 60))
    pause = backoff_s(attempt, initial, most, random.Random(seed))
    assert ceiling / 2 <= pause <= ceiling


def test_doubles_up_to_the_maximum():
    class Most(random.Random):
        def random(self):
            return 1.0

    pauses = [backoff_s(attempt, 0.1, 2.0, Most()) for attempt in range(7)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


def test_nodes_do_not_come_back_in_step():
    pauses = {backoff_s(5, 0.1, 2.0, random.Random(seed)) for seed in range(20)}
    assert len(pauses) == 20
    assert max(pauses) - min(pauses) > 0.5
