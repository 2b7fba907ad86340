"""The pairing and the statistics of the benchmarks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stats import judge, paired_ratios, percentile, summarise

POSITIVE = st.floats(min_value=1e-6, max_value=1e6)
PAIRS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=20)


def test_a_summary_has_the_median_and_the_extremes() -> None:
    summary = summarise([5.0, 1.0, 2.0, 4.0])
    assert (summary.median, summary.minimum, summary.maximum) == (3.0, 1.0, 5.0)
    assert summary.count == 4


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(200, 0, -1)]
    assert [percentile(values, share) for share in (0.1, 50, 99, 100)] == [1.0, 100.0, 198.0, 200.0]
    assert percentile([7.0], 1) == percentile([7.0], 99) == 7.0


@pytest.mark.parametrize(("values", "share"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_there_is_no_such_percentile(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_nothing_cannot_be_summarised() -> None:
    with pytest.raises(ValueError, match="no values"):
        summarise([])


def test_a_higher_rate_is_better() -> None:
    assert paired_ratios([8.0, 6.0], [2.0, 3.0], higher_is_better=True) == [4.0, 2.0]


def test_fewer_seconds_are_better() -> None:
    assert paired_ratios([2.0, 3.0], [8.0, 6.0], higher_is_better=False) == [4.0, 2.0]


def test_the_ratio_is_taken_pair_by_pair_and_not_of_the_medians() -> None:
    # The machine slowed down for both in the second and third round.
    verdict = judge([90.0, 10.0, 20.0], [30.0, 5.0, 10.0], higher_is_better=True)
    assert verdict.ratio.median == 2.0
    assert (verdict.ratio.minimum, verdict.ratio.maximum) == (2.0, 3.0)


@pytest.mark.parametrize(("target", "met"), [(2.0, True), (2.01, False), (None, None)])
def test_a_target_is_met_by_the_median_pair(target: float | None, met: bool | None) -> None:
    verdict = judge([2.0, 9.0, 1.0], [1.0, 1.0, 1.0], higher_is_better=True, target=target)
    assert verdict.met is met


def test_unequal_numbers_of_samples_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="2 samples cannot be paired with 1"):
        paired_ratios([1.0, 2.0], [1.0], higher_is_better=True)


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_a_ratio_needs_positive_samples(bad: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        paired_ratios([1.0], [bad], higher_is_better=True)


@given(PAIRS)
def test_the_ratios_of_swapped_sides_are_reciprocal(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = zip(*pairs, strict=True)
    there = paired_ratios(ours, theirs, higher_is_better=True)
    back = paired_ratios(theirs, ours, higher_is_better=True)
    assert [a * b for a, b in zip(there, back, strict=True)] == pytest.approx([1.0] * len(pairs))


@given(PAIRS)
def test_the_direction_of_the_unit_only_turns_the_ratio(
    pairs: list[tuple[float, float]],
) -> None:
    ours, theirs = zip(*pairs, strict=True)
    rates = judge([1 / a for a in ours], [1 / b for b in theirs], higher_is_better=True)
    seconds = judge(ours, theirs, higher_is_better=False)
    assert rates.ratio.median == pytest.approx(seconds.ratio.median)
    assert rates.ratio.minimum <= rates.ratio.median <= rates.ratio.maximum
