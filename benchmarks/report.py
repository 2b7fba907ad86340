"""Outcomes as text, Markdown and JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contest import Comparison, Outcome
from benchmarks.peers import serf
from benchmarks.stats import Summary, summarise

PACKAGES = (
    "laminar-fabric",
    "pyarrow",
    "pyzmq",
    "dask",
    "ray",
    "pyspark",
    "duckdb",
    "uvloop",
    "trio",
)
TEMPLATE = Path(__file__).with_name("docs_template.md")


def environment() -> dict[str, str]:
    """What the figures were measured with."""
    found = {
        "CPU cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / (1 << 30):.0f} GiB",
        "Python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    found["serf"] = serf.version()
    return found


def to_text(outcome: Outcome) -> str:
    """The outcome as tables for a terminal."""
    lines = ["", outcome.contest.title]
    for header, rows in _tables(outcome):
        widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
        for row in (header, *rows):
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  " + "  ".join(cells))
        lines.append("")
    lines += [f"  SKIPPED {name}: {reason}" for name, reason in outcome.skipped.items()]
    lines += [
        f"  FAILED {name}: {reason.splitlines()[0]}" for name, reason in outcome.failed.items()
    ]
    return "\n".join(lines)


def to_markdown(outcomes: Sequence[Outcome], about: dict[str, str], repeats: int) -> str:
    """The whole page ``docs/benchmarks.md``."""
    sections = "\n".join(_section(outcome) for outcome in outcomes)
    machine = ", ".join(f"{name} {value}" for name, value in about.items())
    page = TEMPLATE.read_text()
    for mark, text in (("machine", machine), ("repeats", str(repeats)), ("tables", sections)):
        page = page.replace("{" + mark + "}", text)
    return page.rstrip() + "\n"


def _section(outcome: Outcome) -> str:
    lines = [f"## {outcome.contest.title}", "", outcome.contest.remark, ""]
    for header, rows in _tables(outcome):
        lines.append("| " + " | ".join(header) + " |")
        lines.append("|---" + "|---:" * (len(header) - 1) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines.append("")
    for name, reason in outcome.skipped.items():
        lines += [f"**Skipped:** {name}: {reason}.", ""]
    for name, reason in outcome.failed.items():
        lines += [f"**Failed:** {name}: {reason.splitlines()[0]}.", ""]
    return "\n".join(lines)


Table = tuple[list[str], list[list[str]]]


def _tables(outcome: Outcome) -> list[Table]:
    if outcome.contest.measures:
        return [_by_measure(outcome)]
    unit = outcome.contest.unit
    notes = sorted({n for taken in outcome.samples.values() for s in taken for n in s.notes})
    rows = []
    for name, samples in outcome.samples.items():
        row = [name, *_cells(summarise([sample.value for sample in samples]))]
        for note in notes:
            values = [sample.notes[note] for sample in samples if note in sample.notes]
            row.append(_number(summarise(values).median) if values else "")
        rows.append(row)
    tables: list[Table] = [([unit, "median", "min-max", "n", *notes], rows)]
    if outcome.comparisons:
        header = ["pair by pair", "median ratio", "min-max", "target"]
        tables.append((header, [_row(comparison) for comparison in outcome.comparisons]))
    return tables


def _by_measure(outcome: Outcome) -> Table:
    """A row for each figure of a trial, first those that are compared."""
    names = list(outcome.samples)
    pairs = list(dict.fromkeys((c.ours, c.theirs) for c in outcome.comparisons))
    header = ["median (min-max)", *names]
    for ours, theirs in pairs:
        header += [f"{ours} / {theirs}", "target"]
    noted = sorted({n for taken in outcome.samples.values() for s in taken for n in s.notes})
    compared = [measure.note for measure in outcome.contest.measures]
    rows = []
    for note in (None, *compared, *(note for note in noted if note not in compared)):
        row = [note or outcome.contest.unit]
        for name in names:
            taken = outcome.samples[name]
            row.append(_spread([s.notes[note] if note else s.value for s in taken]))
        for pair in pairs:
            row += _verdict_cells(outcome, pair, note)
        rows.append(row)
    return header, rows


def _spread(values: Sequence[float]) -> str:
    summary = summarise(values)
    return f"{_number(summary.median)} ({_number(summary.minimum)}-{_number(summary.maximum)})"


def _verdict_cells(outcome: Outcome, pair: tuple[str, str], note: str | None) -> list[str]:
    for found in outcome.comparisons:
        if (found.ours, found.theirs, found.measure) == (*pair, note):
            _, median, spread, target = _row(found)
            return [f"{median} ({spread})", target]
    return ["", ""]


def _cells(summary: Summary) -> list[str]:
    spread = f"{_number(summary.minimum)}-{_number(summary.maximum)}"
    return [_number(summary.median), spread, str(summary.count)]


def _row(comparison: Comparison) -> list[str]:
    verdict = comparison.verdict
    spread = f"{verdict.ratio.minimum:.2f}-{verdict.ratio.maximum:.2f}"
    target = ""
    if verdict.target is not None:
        target = f">= {verdict.target:g}: {'met' if verdict.met else 'MISSED'}"
    return [
        f"{comparison.ours} / {comparison.theirs}",
        f"{verdict.ratio.median:.2f}",
        spread,
        target,
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def to_json(outcomes: Sequence[Outcome], about: dict[str, str], repeats: int) -> str:
    """All samples, as they were taken."""
    return json.dumps(
        {
            "environment": about,
            "repeats": repeats,
            "contests": [_plain(outcome) for outcome in outcomes],
        },
        indent=2,
    )


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "title": outcome.contest.title,
        "unit": outcome.contest.unit,
        "higher_is_better": outcome.contest.higher_is_better,
        "samples": {
            name: [{"value": sample.value, **sample.notes} for sample in samples]
            for name, samples in outcome.samples.items()
        },
        "comparisons": [
            {
                "ours": comparison.ours,
                "theirs": comparison.theirs,
                "measure": comparison.measure,
                "median_ratio": comparison.verdict.ratio.median,
                "min_ratio": comparison.verdict.ratio.minimum,
                "max_ratio": comparison.verdict.ratio.maximum,
                "target": comparison.verdict.target,
                "met": comparison.verdict.met,
            }
            for comparison in outcome.comparisons
        ],
        "skipped": outcome.skipped,
        "failed": outcome.failed,
    }
