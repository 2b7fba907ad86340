"""Dask: the P2P shuffle on a local cluster of two workers with one thread each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
from distributed import Client, LocalCluster, wait

from benchmarks.child import Link

WORKER_MEMORY = "8GiB"


@contextmanager
def _cluster(workers: int, scratch: str) -> Iterator[Client]:
    settings = {
        "dataframe.shuffle.method": "p2p",
        "distributed.logging.distributed": "error",
        "temporary-directory": scratch,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=WORKER_MEMORY,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _read(source: str) -> Any:
    # A partition for a few row groups each, as Dask's own guide advises for large files.
    return dd.read_parquet(source, split_row_groups="adaptive", blocksize="32MiB")


def repartition(
    link: Link, *, source: str, by: str, partitions: int, workers: int, scratch: str
) -> None:
    """Load and persist; then, every time when told, shuffle and count what arrived."""
    with _cluster(workers, scratch):
        frame = _read(source).persist()
        wait(frame)
        link.report(ready=True)
        while link.heard() is not None:
            started = time.monotonic()
            shuffled = frame.shuffle(by, npartitions=partitions)
            # An opaque function: the optimiser cannot leave columns or rows out of the shuffle.
            rows = int(shuffled.map_partitions(_rows, meta=("rows", "int64")).compute().sum())
            link.report(seconds=time.monotonic() - started, rows=rows)


def _rows(part: Any) -> Any:
    import pandas as pd

    return pd.Series([len(part)], dtype="int64")


def parquet(
    link: Link, *, source: str, by: str, partitions: int, workers: int, output: str, scratch: str
) -> None:
    """Read, shuffle and write once."""
    with _cluster(workers, scratch):
        started = time.monotonic()
        frame = _read(source).shuffle(by, npartitions=partitions)
        frame.to_parquet(Path(output), compression="snappy", write_index=False)
        link.report(seconds=time.monotonic() - started)
