"""When a silence is suspicious, and whose fault it may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.cluster.gossip.liveness import Lateness, Liveness, deviations_at


def beating(intervals, expected_s=1.0):
    now = 0.0
    liveness = Liveness(now, expected_s)
    for interval in intervals:
        now += interval
        liveness.hear(now)
    return liveness, now


@given(st.lists(st.floats(0.01, 5.0), min_size=1, max_size=50), st.floats(1.0, 12.0))
def test_patience_ends_when_phi_reaches_the_threshold(intervals, threshold):
    liveness, now = beating(intervals)
    patience = liveness.patience_s(deviations_at(threshold), 0.5)
    assert liveness.phi(now + patience * 0.999, 0.5) < threshold + 0.1
    assert liveness.phi(now + patience * 1.001, 0.5) > threshold - 0.1


def test_phi_grows_with_silence():
    liveness, now = beating([1.0] * 20)
    phis = [liveness.phi(now + silence, 0.2) for silence in (0.5, 1.0, 1.5, 2.0, 100.0)]
    assert phis == sorted(phis)
    assert phis[1] == pytest.approx(0.3, abs=0.05)
    assert phis[-1] == float("inf")


def test_the_irregular_are_given_more_time():
    regular, _ = beating([1.0] * 50)
    irregular, _ = beating([0.2, 1.8] * 25)
    assert irregular.patience_s(5.0, 0.1) > 2 * regular.patience_s(5.0, 0.1)


def test_one_long_silence_teaches_little():
    liveness, _ = beating([1.0] * 50 + [10_000.0])
    assert liveness.patience_s(5.6, 0.5) < 30


def test_lateness_stops_the_clock_of_silences():
    lateness = Lateness(0.0, 1.0)
    lateness.tick(1.0, 2.0)
    assert lateness.listened(1.5) == 1.5
    lateness.tick(101.0, 102.0)
    assert lateness.latest_s == 99.0
    assert lateness.listened(101.0) == 2.5
    assert lateness.listened(101.5) == 3.0
    assert lateness.at(3.0) == 101.5
    assert lateness.stretch == 2.0
    lateness.tick(102.0, 103.0)
    assert lateness.stretch == 1.0


def test_while_no_tick_comes_the_clock_rests():
    lateness = Lateness(0.0, 1.0)
    assert lateness.listened(50.0) == 1.5


@given(st.lists(st.floats(0.0, 10.0), max_size=50))
def test_the_clock_never_goes_back_and_never_overtakes(pauses):
    lateness, now, before = Lateness(0.0, 1.0), 0.0, 0.0
    for pause in pauses:
        now += pause
        for heard in (
            lateness.listened(now),
            (lateness.tick(now, now + 1.0), lateness.listened(now))[1],
        ):
            assert before - 1e-9 <= heard <= now + 1e-9
            before = heard
    assert lateness.score <= Lateness.SCORE_MAX
