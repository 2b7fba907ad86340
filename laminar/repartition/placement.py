"""Which worker owns which partition."""

from __future__ import annotations


def owners(partitions: int, workers: int) -> list[int]:
    """The worker of each partition: dealt out in turn, so that all own about as many."""
    return [partition % workers for partition in range(partitions)]


def owned(worker: int, partitions: int, workers: int) -> range:
    """The partitions of one worker."""
    return range(worker, partitions, workers)
