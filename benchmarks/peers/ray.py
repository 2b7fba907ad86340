"""Ray Data: hash shuffle on two CPUs."""

from __future__ import annotations

import time

import ray
import ray.data
from ray.data.context import DataContext, ShuffleStrategy

from benchmarks.child import Link

OBJECT_STORE_BYTES = 6 << 30


def repartition(
    link: Link, *, source: str, by: str, partitions: int, workers: int, scratch: str
) -> None:
    """Load and materialise; then, every time when told, shuffle and count what arrived."""
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    try:
        context = DataContext.get_current()
        context.shuffle_strategy = ShuffleStrategy.HASH_SHUFFLE
        context.enable_progress_bars = False
        loaded = ray.data.read_parquet(source, override_num_blocks=partitions).materialize()
        link.report(ready=True)
        while link.heard() is not None:
            started = time.monotonic()
            shuffled = loaded.repartition(partitions, keys=[by]).materialize()
            seconds = time.monotonic() - started
            link.report(seconds=seconds, rows=shuffled.count())
            del shuffled
    finally:
        ray.shutdown()
