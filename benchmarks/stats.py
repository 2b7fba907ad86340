"""Samples to medians and paired ratios. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Summary:
    """Median and extremes of a list of numbers."""

    median: float
    minimum: float
    maximum: float
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Summarise at least one value; raises ``ValueError`` on none."""
    if not values:
        raise ValueError("no values to summarise")
    return Summary(median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of the values do not exceed.

    Raises ``ValueError`` on no values, or when ``percent`` is not above 0 and at most 100.
    """
    if not values or not 0 < percent <= 100:
        raise ValueError(f"no {percent:g}th percentile of {len(values)} values")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def paired_ratios(
    ours: Sequence[float], theirs: Sequence[float], *, higher_is_better: bool
) -> list[float]:
    """How many times better ``ours[i]`` is than ``theirs[i]``, for every ``i``.

    The two lists were measured alternately, so element ``i`` of both saw the same machine;
    a ratio above 1 is in our favour whichever way the unit points. Raises ``ValueError`` when
    the lists differ in length or hold a value that is not positive.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} samples cannot be paired with {len(theirs)}")
    if any(value <= 0 for value in (*ours, *theirs)):
        raise ValueError("a ratio needs positive samples")
    if higher_is_better:
        return [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return [other / mine for mine, other in zip(ours, theirs, strict=True)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A paired comparison, and whether its median reaches the target (None: no target)."""

    ratio: Summary
    target: float | None

    @property
    def met(self) -> bool | None:
        """True when the median ratio is at least the target; None without a target."""
        return None if self.target is None else self.ratio.median >= self.target


def judge(
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    higher_is_better: bool,
    target: float | None = None,
) -> Verdict:
    """Compare alternately measured samples; raises ``ValueError`` as :func:`paired_ratios`."""
    ratios = paired_ratios(ours, theirs, higher_is_better=higher_is_better)
    return Verdict(summarise(ratios), target)
