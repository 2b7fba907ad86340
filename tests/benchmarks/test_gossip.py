"""What a fleet reports, as rows of a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.contest import Contest, Contestant, Measure, Sample, hold
from benchmarks.gossip import FALSE, KILL_P99, MEASURES, RETURN, contests, to_sample
from benchmarks.report import to_json, to_markdown, to_text
from benchmarks.settings import Settings

REPORT = {
    "join_seconds": 3.0,
    "resident_bytes": 2 << 20,
    "phases": [
        {"network_bytes": 300.0, "cpu_seconds": 0.001, "waited_seconds": 0.003},
        {"network_bytes": 800.0, "cpu_seconds": 0.002, "waited_seconds": 0.004},
    ],
    "detections": [float(seconds) for seconds in range(1, 101)],
    "convergences": [0.3, 0.1, 0.2],
    "rejoins": [0.5, 0.7],
    "catch_ups": [0.1, 3.0],
    "false_deaths": 2,
    "missed": 0,
}


def contest(ours: list[float], theirs: list[float], counts: tuple[float, float]) -> Contest:
    def contestant(name: str, values: list[float], wrong: float) -> Contestant:
        left = iter(values)
        return Contestant.afresh(
            name,
            lambda: Sample(next(left), {"rate": 10.0, "wrong": wrong, "other": 1.0}),
            ours=name == "us",
        )

    return Contest(
        title="A contest",
        unit="seconds",
        higher_is_better=False,
        groups=[[contestant("us", ours, counts[0]), contestant("them", theirs, counts[1])]],
        targets={("us", "them"): 2.0},
        measures=(
            Measure("rate", higher_is_better=True),
            Measure("wrong", count=True, target=1.0),
        ),
        warm_ups=0,
    )


def test_a_report_has_every_figure_that_is_compared() -> None:
    sample = to_sample(REPORT)
    assert sample.value == 50.0
    assert {measure.note for measure in MEASURES} <= sample.notes.keys()
    assert sample.notes["used a processor, ms a node and second, busy"] == 2.0
    assert sample.notes["waited for a processor, ms a node and second, idle"] == 3.0
    assert (sample.notes[KILL_P99], sample.notes[RETURN], sample.notes[FALSE]) == (99.0, 0.7, 2)


def test_there_is_a_contest_for_each_number_of_agents() -> None:
    settings = Settings(Path("cache"), Path("scratch"), repeats=5, quick=False)
    held = list(contests(settings))
    assert ["10 agents" in held[0].title, "50 agents" in held[1].title] == [True, True]
    assert {one.repeats for one in held} == {3}


@pytest.mark.parametrize(
    ("counts", "ratio", "met"),
    [((0, 0), 1.0, True), ((0, 3), 4.0, True), ((1, 0), 0.5, False)],
)
def test_counts_of_none_can_be_compared(counts, ratio, met) -> None:
    outcome = hold(contest([1.0, 2.0], [4.0, 6.0], counts), 2)
    value, rate, wrong = outcome.comparisons
    assert (value.measure, value.verdict.ratio.median, value.verdict.met) == (None, 3.5, True)
    assert (rate.measure, rate.verdict.ratio.median, rate.verdict.met) == ("rate", 1.0, None)
    assert (wrong.measure, wrong.verdict.ratio.median, wrong.verdict.met) == ("wrong", ratio, met)


def test_each_measure_is_a_row() -> None:
    outcome = hold(contest([1.0, 2.0], [4.0, 6.0], (0, 0)), 2)
    rows = [line.split("|")[1:-1] for line in to_markdown([outcome], {}, 2).splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows if row]
    assert cells[0] == ["median (min-max)", "us", "them", "us / them", "target"]
    assert cells[2:] == [
        ["seconds", "1.50 (1.00-2.00)", "5.00 (4.00-6.00)", "3.50 (3.00-4.00)", ">= 2: met"],
        ["rate", "10.00 (10.00-10.00)", "10.00 (10.00-10.00)", "1.00 (1.00-1.00)", ""],
        ["wrong", "0.00 (0.00-0.00)", "0.00 (0.00-0.00)", "1.00 (1.00-1.00)", ">= 1: met"],
        ["other", "1.00 (1.00-1.00)", "1.00 (1.00-1.00)", "", ""],
    ]
    assert "seconds" in to_text(outcome)
    assert '"measure": "wrong"' in to_json([outcome], {}, 2)


def test_one_side_alone_is_shown_without_a_ratio() -> None:
    whole = contest([1.0], [1.0], (0, 0))
    outcome = hold(replace(whole, groups=[whole.groups[0][:1]]), 1)
    assert outcome.comparisons == []
    assert "us" in to_text(outcome)
