"""Lineitem in the memory of two workers, by l_orderkey into 16 partitions: rows per second.

Every system has loaded its input before the clock starts, stays up between its trials, and is
measured against Laminar two by two, so that no third system takes a share of the cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import pyarrow.dataset

from benchmarks import data
from benchmarks.contest import Contest, Contestant, Sample, Trial
from benchmarks.process import Child, ChildError
from benchmarks.settings import Settings

KEY = "l_orderkey"
PARTITIONS = 16
WORKERS = 2
SCALE, SCALE_QUICK = 1.0, 0.1
LOAD_TIMEOUT_SECONDS = 300.0
TRIAL_TIMEOUT_SECONDS = 300.0
OURS = "Laminar Exchange"
DASK, RAY, SPARK = "Dask P2P shuffle", "Ray Data hash shuffle", "Spark local[2]"
TARGETS = {DASK: 10.0, RAY: 8.0, SPARK: 4.0}


def contests(settings: Settings) -> Iterator[Contest]:
    """The one contest: Laminar against each of three."""
    scale = SCALE_QUICK if settings.quick else SCALE
    source = data.lineitem(settings.cache, scale)
    plain = data.lineitem_plain_strings(settings.cache, scale)
    rows = pyarrow.dataset.dataset(source).count_rows()
    peers = [
        Contestant(DASK, _peer("dask:repartition", source, rows, settings)),
        Contestant(RAY, _peer("ray:repartition", plain, rows, settings)),
        Contestant(SPARK, _peer("spark:repartition", source, rows, settings)),
    ]
    ours = Contestant(OURS, _ours(source, rows, settings), ours=True)
    yield Contest(
        title=f"In memory: lineitem SF {scale:g} by {KEY} into {PARTITIONS}, two workers",
        unit="rows/s",
        higher_is_better=True,
        groups=[[ours, peer] for peer in peers],
        targets={(OURS, peer): times for peer, times in TARGETS.items()},
        remark=(
            f"{rows:,} rows with tpchgen-cli's string_view columns, except for Ray Data, which "
            "refuses views: it gets the same rows as plain strings. Half of the rows are in the "
            "memory of each of two workers beforehand (Dask: persisted, Ray: materialised, "
            "Spark: cached); what arrives is counted in its partition and dropped (Ray: kept in "
            "its object store, Spark: its noop sink)."
        ),
    )


def _peer(
    entry: str, source: Path, rows: int, settings: Settings
) -> Callable[[], AbstractContextManager[Trial]]:
    @contextmanager
    def start() -> Iterator[Trial]:
        child = Child(
            entry,
            settings.logs,
            source=str(source),
            by=KEY,
            partitions=PARTITIONS,
            workers=WORKERS,
            scratch=str(settings.scratch),
        )
        try:
            child.expect(LOAD_TIMEOUT_SECONDS)

            def trial() -> Sample:
                child.say(go=True)
                report = child.expect(TRIAL_TIMEOUT_SECONDS)
                if report["rows"] != rows:
                    raise ChildError(f"{entry} moved {report['rows']} of {rows} rows")
                return Sample(rows / report["seconds"])

            yield trial
        finally:
            child.stop()

    return start


def _ours(
    source: Path, rows: int, settings: Settings
) -> Callable[[], AbstractContextManager[Trial]]:
    @contextmanager
    def start() -> Iterator[Trial]:
        nodes = [f"worker-{number}" for number in range(WORKERS)]
        with ExitStack() as stack:
            workers: list[Child] = []
            for node in nodes:
                workers.append(
                    Child(
                        "laminar:repartition",
                        settings.logs,
                        source=str(source),
                        by=KEY,
                        partitions=PARTITIONS,
                        nodes=nodes,
                        me=node,
                        backend="asyncio",
                    )
                )
                stack.callback(workers[-1].stop)
            addresses = [worker.expect(LOAD_TIMEOUT_SECONDS)["address"] for worker in workers]
            for worker in workers:
                worker.say(**dict(zip(nodes, addresses, strict=True)))
            for worker in workers:
                worker.expect(LOAD_TIMEOUT_SECONDS)
            yield partial(_our_trial, workers, count(), rows)

    return start


def _our_trial(workers: list[Child], turns: Iterator[int], rows: int) -> Sample:
    turn = next(turns)
    started = time.monotonic()
    for worker in workers:
        worker.say(turn=turn)
    arrived = [sum(worker.expect(TRIAL_TIMEOUT_SECONDS)["rows"]) for worker in workers]
    seconds = time.monotonic() - started
    if sum(arrived) != rows:
        raise ChildError(f"Laminar moved {sum(arrived)} of {rows} rows")
    return Sample(rows / seconds)
