"""DuckDB: COPY ... PARTITION_BY in one process."""

from __future__ import annotations

import time

import duckdb

from benchmarks.child import Link


def parquet(
    link: Link, *, source: str, by: str, partitions: int, workers: int, output: str, scratch: str
) -> None:
    """Read, partition and write once."""
    with duckdb.connect(config={"threads": workers, "temp_directory": scratch}) as connection:
        started = time.monotonic()
        connection.execute(
            f"COPY (SELECT *, (hash({by}) % {partitions})::INTEGER AS part "
            f"FROM read_parquet('{source}/*.parquet')) TO '{output}' "
            "(FORMAT parquet, COMPRESSION snappy, PARTITION_BY (part))"
        )
        link.report(seconds=time.monotonic() - started)
