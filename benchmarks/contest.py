"""Contestants that run alternately (A B C A B C ...), and what came out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from benchmarks.process import ChildError, PeerMissing
from benchmarks.stats import Verdict, judge

T = TypeVar("T")

Notes = dict[str, float]
"""Further numbers of a trial, by name, such as the seconds without process start."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one trial measured, in the contest's unit."""

    value: float
    notes: Notes = field(default_factory=dict)


Trial = Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One system under test: ``start`` readies it, and each call of the result is one trial."""

    name: str
    start: Callable[[], AbstractContextManager[Trial]]
    ours: bool = False

    @classmethod
    def afresh(cls, name: str, trial: Trial, *, ours: bool = False) -> Contestant:
        """One that needs no readying: every trial starts from nothing."""
        return cls(name, lambda: nullcontext(trial), ours)


@dataclass(frozen=True, slots=True)
class Measure:
    """One more figure of a trial, from its notes, that is compared as the value is."""

    note: str
    higher_is_better: bool = False
    count: bool = False
    """It may be 0; both sides are taken one higher, so that none against none is 1."""
    target: float | None = None
    """How many times better the median pair has to be."""


@dataclass(frozen=True, slots=True)
class Contest:
    """What is compared. The contestants of a group alternate; the groups run one by one."""

    title: str
    unit: str
    higher_is_better: bool
    groups: Sequence[Sequence[Contestant]]
    targets: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By (our name, their name): how many times better the median pair has to be."""
    measures: Sequence[Measure] = ()
    remark: str = ""
    repeats: int | None = None
    """How many trials of each, when it is not what the command line says."""
    warm_ups: int = 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """One of ours against one peer, pair by pair."""

    ours: str
    theirs: str
    verdict: Verdict
    measure: str | None = None
    """The note that is compared; ``None``: the value."""


@dataclass(slots=True)
class Outcome:
    """All that a contest measured. What did not run is listed, with the reason."""

    contest: Contest
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def hold(contest: Contest, repeats: int) -> Outcome:
    """Run the whole contest: warm-ups and then ``repeats`` trials of each, alternately.

    A contestant that is missing is skipped and one that fails is dropped, both told loudly;
    the rest go on.
    """
    say(f"== {contest.title}")
    outcome = Outcome(contest)
    for group in contest.groups:
        left = [contestant for contestant in group if contestant.name not in outcome.skipped]
        _hold_group(outcome, left, contest.repeats or repeats)
    return outcome


def _hold_group(outcome: Outcome, group: Sequence[Contestant], repeats: int) -> None:
    contest = outcome.contest
    taken: dict[str, list[Sample]] = {}
    with ExitStack() as stack:
        trials: dict[str, Trial] = {}
        for contestant in group:
            trial = _attempt(
                outcome, contestant.name, partial(stack.enter_context, contestant.start())
            )
            if trial is not None:
                trials[contestant.name] = trial
        for turn in range(-contest.warm_ups, repeats):
            for name in list(trials):
                sample = _attempt(outcome, name, trials[name])
                if sample is None:
                    del trials[name]
                    continue
                what = "warm-up " if turn < 0 else ""
                say(f"   {name}: {what}{sample.value:,.4g} {contest.unit}")
                if turn >= 0:
                    taken.setdefault(name, []).append(sample)
    whole = {name: samples for name, samples in taken.items() if len(samples) == repeats}
    for name, samples in whole.items():
        outcome.samples.setdefault(name, []).extend(samples)
    outcome.comparisons.extend(_compare(contest, group, whole))


def _attempt(outcome: Outcome, name: str, action: Callable[[], T]) -> T | None:
    try:
        return action()
    except PeerMissing as missing:
        outcome.skipped[name] = str(missing)
        say(f"!! SKIPPED {name}: {missing}")
    except ChildError as error:
        outcome.failed[name] = str(error)
        say(f"!! FAILED {name}: {error}")
    return None


def _compare(
    contest: Contest, group: Sequence[Contestant], taken: Mapping[str, list[Sample]]
) -> list[Comparison]:
    ran = [contestant for contestant in group if contestant.name in taken]
    return [
        comparison
        for ours in ran
        if ours.ours
        for theirs in ran
        if not theirs.ours
        for comparison in _compare_pair(contest, ours.name, theirs.name, taken)
    ]


def _compare_pair(
    contest: Contest, ours: str, theirs: str, taken: Mapping[str, list[Sample]]
) -> Iterator[Comparison]:
    verdict = judge(
        [sample.value for sample in taken[ours]],
        [sample.value for sample in taken[theirs]],
        higher_is_better=contest.higher_is_better,
        target=contest.targets.get((ours, theirs)),
    )
    yield Comparison(ours, theirs, verdict)
    for measure in contest.measures:
        verdict = judge(
            [sample.notes[measure.note] + measure.count for sample in taken[ours]],
            [sample.notes[measure.note] + measure.count for sample in taken[theirs]],
            higher_is_better=measure.higher_is_better,
            target=measure.target,
        )
        yield Comparison(ours, theirs, verdict, measure.note)


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)
