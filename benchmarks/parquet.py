"""Parquet files to Parquet files, snappy both, by l_orderkey into 16: seconds."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow.dataset

from benchmarks import data
from benchmarks.contest import Contest, Contestant, Sample
from benchmarks.process import Child, ChildError, laminar_command, run_command
from benchmarks.settings import Settings

KEY = "l_orderkey"
PARTITIONS = 16
WORKERS = 2
SCALE, SCALE_QUICK = 1.0, 0.1
TRIAL_TIMEOUT_SECONDS = 400.0
OURS = "laminar shuffle"
DUCKDB, DASK, SPARK = "DuckDB COPY", "Dask to_parquet", "Spark write.parquet"
TARGETS = {DUCKDB: 1.0, DASK: 4.0, SPARK: 4.0}
WITHOUT_START = "without start"


def contests(settings: Settings) -> Iterator[Contest]:
    """The one contest: Laminar against each of three."""
    scale = SCALE_QUICK if settings.quick else SCALE
    source = data.lineitem(settings.cache, scale)
    rows = pyarrow.dataset.dataset(source).count_rows()
    peers = [
        Contestant.afresh(name, partial(_peer_trial, entry, source, rows, settings))
        for name, entry in (
            (DUCKDB, "duckdb:parquet"),
            (DASK, "dask:parquet"),
            (SPARK, "spark:parquet"),
        )
    ]
    ours = Contestant.afresh(OURS, partial(_our_trial, source, rows, settings), ours=True)
    yield Contest(
        title=f"Parquet to Parquet: lineitem SF {scale:g} by {KEY} into {PARTITIONS}",
        unit="seconds",
        higher_is_better=False,
        groups=[[ours, peer] for peer in peers],
        targets={(OURS, peer): times for peer, times in TARGETS.items()},
        remark=(
            "Whole processes, from their start to their exit; the last column is the time "
            "without that (Laminar: as its own summary tells, its workers' start included). Two "
            "threads for DuckDB (COPY ... PARTITION_BY hash(key) % 16), two workers for the "
            "others. Snappy all. The outputs' rows are counted after each trial."
        ),
    )


def _peer_trial(entry: str, source: Path, rows: int, settings: Settings) -> Sample:
    output = _fresh(settings)
    started = time.monotonic()
    child = Child(
        entry,
        settings.logs,
        source=str(source),
        by=KEY,
        partitions=PARTITIONS,
        workers=WORKERS,
        output=str(output),
        scratch=str(settings.scratch),
    )
    try:
        inner = child.expect(TRIAL_TIMEOUT_SECONDS)["seconds"]
        seconds = child.wait(TRIAL_TIMEOUT_SECONDS) - started
    finally:
        child.stop()
    _check(entry, output, rows)
    return Sample(seconds, {WITHOUT_START: inner})


def _our_trial(source: Path, rows: int, settings: Settings) -> Sample:
    output = _fresh(settings)
    command = [*laminar_command(), "shuffle", str(source), "--by", KEY, "--out", str(output)]
    command += ["--partitions", str(PARTITIONS), "--workers", str(WORKERS)]
    command += ["--compression", "snappy", "--json"]
    finished = run_command(command, timeout_seconds=TRIAL_TIMEOUT_SECONDS)
    _check(OURS, output, rows)
    return Sample(finished.seconds, {WITHOUT_START: json.loads(finished.stdout)["seconds"]})


def _fresh(settings: Settings) -> Path:
    """Room for an output; what the last trial wrote is deleted, and on the disk by now."""
    output = settings.scratch / "parquet"
    shutil.rmtree(output, ignore_errors=True)
    settings.scratch.mkdir(parents=True, exist_ok=True)
    os.sync()
    return output


def _check(name: str, output: Path, rows: int) -> None:
    found = pyarrow.dataset.dataset(output, format="parquet").count_rows()
    if found != rows:
        raise ChildError(f"{name} wrote {found} of {rows} rows")
