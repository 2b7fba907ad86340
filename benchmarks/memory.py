"""A small memory limit and inputs of two sizes: the peak RSS of the largest worker, in MiB."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import data
from benchmarks.contest import Contest, Contestant, Sample
from benchmarks.process import ChildError, laminar_command, run_command
from benchmarks.settings import Settings

KEY = "l_orderkey"
LIMIT_MIB = 512
SCALES, SCALES_QUICK = (1.0, 10.0), (0.1, 1.0)
TIMEOUT_SECONDS = 900.0
SAMPLE_SECONDS = 0.05
MIB = 1 << 20
OUTSIDE, SECONDS = "seen from outside", "seconds"


def contests(settings: Settings) -> Iterator[Contest]:
    """The one contest, without peers."""
    scales = SCALES_QUICK if settings.quick else SCALES
    runs = [
        Contestant.afresh(
            f"laminar shuffle, SF {scale:g}",
            partial(_trial, data.lineitem(settings.cache, scale), settings),
            ours=True,
        )
        for scale in scales
    ]
    yield Contest(
        title=f"Bounded memory: lineitem with --memory-limit {LIMIT_MIB}MiB",
        unit="MiB, peak RSS of the largest worker",
        higher_is_better=False,
        groups=[[run] for run in runs],
        remark=(
            "As --json tells; beside it the largest high-water mark that the kernel kept for any "
            "of the command's processes, read from outside while it ran."
        ),
        repeats=1,
        warm_ups=0,
    )


def _trial(source: Path, settings: Settings) -> Sample:
    output = settings.scratch / "memory"
    shutil.rmtree(output, ignore_errors=True)
    settings.scratch.mkdir(parents=True, exist_ok=True)
    command = [*laminar_command(), "shuffle", str(source), "--by", KEY, "--out", str(output)]
    command += ["--memory-limit", f"{LIMIT_MIB}MiB", "--workers", "2", "--json"]
    finished = run_command(command, timeout_seconds=TIMEOUT_SECONDS, sample_seconds=SAMPLE_SECONDS)
    shutil.rmtree(output, ignore_errors=True)
    told = json.loads(finished.stdout)
    if not told["rows"]:
        raise ChildError("no row was moved")
    return Sample(
        told["peak_rss_bytes"] / MIB,
        {OUTSIDE: finished.peak_rss_bytes / MIB, SECONDS: told["seconds"]},
    )
