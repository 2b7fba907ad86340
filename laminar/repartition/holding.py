"""The rows a worker holds until they make a row group, and the choice of what to write next.

Invariant: what is held, counted with the memory it keeps alive, is at most the limit plus
one batch; and every choice to write frees at least half of what is held. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

COLUMN_OVERHEAD_BYTES: Final = 256
"""What Arrow keeps for a column of a batch beside its values."""

SMALL_RUN_ROWS: Final = 512
SMALL_RUNS_MAX: Final = 64
"""So many runs of fewer rows than that are merged: their overhead outweighs their values."""

SHARED_FACTOR: Final = 1.25
"""A batch whose buffers are this much larger than its rows is copied, not kept."""


class Holding:
    """Rows by partition; something is due when they reach ``limit_bytes``."""

    def __init__(self, schema: pa.Schema, limit_bytes: int) -> None:
        self._schema = schema
        self._limit = limit_bytes
        self._runs: dict[int, list[pa.RecordBatch]] = {}
        self._small: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        self._total = 0

    @property
    def size_bytes(self) -> int:
        """What all held rows take, the overhead of small runs included."""
        return self._total

    def add(self, partition: int, run: pa.RecordBatch, size_bytes: int) -> None:
        """Hold ``run``, whose values take ``size_bytes``."""
        runs = self._runs.setdefault(partition, [])
        runs.append(run)
        self._grow(partition, size_bytes + self._overhead)
        if run.num_rows < SMALL_RUN_ROWS:
            self._small[partition] = self._small.get(partition, 0) + 1
            if self._small[partition] >= SMALL_RUNS_MAX:
                self._merge(partition)

    def due(self) -> dict[int, pa.Table]:
        """Take out what should be written now; empty when everything may stay.

        When the limit is reached, all partitions go except those so small that their row
        groups would be a nuisance.
        """
        if self._total < self._limit:
            return {}
        fair_share = self._total / (2 * len(self._runs))
        chosen = [p for p, size in self._bytes.items() if size >= fair_share]
        taken = {partition: self._take(partition) for partition in chosen}
        for partition in self._runs:  # what stays must not keep written rows alive
            self._merge(partition)
        return taken

    def rest(self) -> dict[int, pa.Table]:
        """Take out everything."""
        return {partition: self._take(partition) for partition in list(self._runs)}

    @property
    def _overhead(self) -> int:
        return COLUMN_OVERHEAD_BYTES * len(self._schema)

    def _grow(self, partition: int, size_bytes: int) -> None:
        self._bytes[partition] = self._bytes.get(partition, 0) + size_bytes
        self._total += size_bytes

    def _take(self, partition: int) -> pa.Table:
        self._total -= self._bytes.pop(partition)
        self._small.pop(partition, None)
        return pa.Table.from_batches(self._runs.pop(partition), schema=self._schema)

    def _merge(self, partition: int) -> None:
        runs = self._runs[partition]
        merged = copied(runs)
        saved = (len(runs) - 1) * self._overhead
        self._runs[partition] = [merged]
        self._small[partition] = 0
        self._grow(partition, -saved)


def copied(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows of all batches in one, in memory of their own."""
    if len(batches) == 1:
        only = batches[0]
        half = only.num_rows // 2
        batches = [only.slice(0, half), only.slice(half)]  # one batch alone would not be copied
    merged: pa.RecordBatch = pa.concat_batches(batches)  # type: ignore[attr-defined]
    return merged


def unshared(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch itself, or a copy when it is a small part of larger buffers."""
    if batch.get_total_buffer_size() > SHARED_FACTOR * batch.nbytes:
        return copied([batch])
    return batch
