"""Spark local[n]: repartition by a column."""

from __future__ import annotations

import shutil
import time
from typing import Any

from benchmarks.child import Link
from benchmarks.process import PeerMissing

DRIVER_MEMORY = "8g"


def _session(workers: int, scratch: str) -> Any:
    from pyspark.sql import SparkSession

    if shutil.which("java") is None:
        raise PeerMissing("Spark needs Java, and no java is on the PATH")
    return (
        SparkSession.builder.master(f"local[{workers}]")
        .config("spark.driver.memory", DRIVER_MEMORY)
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.local.dir", scratch)
        .config("spark.sql.warehouse.dir", f"{scratch}/warehouse")
        # One row group is 7 MiB: small splits give both cores work to the end.
        .config("spark.sql.files.maxPartitionBytes", "32m")
        .getOrCreate()
    )


def repartition(
    link: Link, *, source: str, by: str, partitions: int, workers: int, scratch: str
) -> None:
    """Load and cache; then, every time when told, repartition into a sink that drops the rows."""
    spark = _session(workers, scratch)
    try:
        frame = spark.read.parquet(source).cache()
        rows = frame.count()
        link.report(ready=True)
        while link.heard() is not None:
            started = time.monotonic()
            frame.repartition(partitions, by).write.format("noop").mode("overwrite").save()
            link.report(seconds=time.monotonic() - started, rows=rows)
    finally:
        spark.stop()


def parquet(
    link: Link, *, source: str, by: str, partitions: int, workers: int, output: str, scratch: str
) -> None:
    """Read, repartition and write once."""
    spark = _session(workers, scratch)
    try:
        started = time.monotonic()
        frame = spark.read.parquet(source).repartition(partitions, by)
        frame.write.option("compression", "snappy").parquet(output)
        link.report(seconds=time.monotonic() - started)
    finally:
        spark.stop()
