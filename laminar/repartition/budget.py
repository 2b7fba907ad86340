"""How one worker divides its memory limit. Pure arithmetic; every driver obeys the result.

The limit covers the rows a worker holds, wherever they are::

    reading     batches on the way from the file to the fabric      1/4
    fabric      frames sent and not yet consumed, or the reverse    1/8
    holding     rows that wait for their row group, and the row     1/2
                groups that are being encoded
    slack       encoders, allocator, file buffers                   1/8

The process itself (interpreter, Arrow, numpy, polars) is not covered: it is a fixed part
that does not depend on the input, see ``FIXED_PART_BYTES``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20

FIXED_PART_BYTES: Final = 256 * MIB
"""What a worker process may take beyond its memory limit, whatever the input's size."""

READING_BATCHES: Final = 5
"""Copies of a batch alive at once: decoded, cast, queued, in hand, and ordered by partition."""

BATCH_BYTES_MAX: Final = 16 * MIB
BATCH_ROWS_MIN: Final = 256
BATCH_ROWS_MAX: Final = 131_072
WINDOW_BYTES_MIN: Final = 128 << 10
WINDOW_BYTES_MAX: Final = 8 * MIB
FRAME_BYTES_MAX: Final = MIB


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one worker, in bytes unless the name says otherwise."""

    batch_bytes: int
    """Size that batches from a file aim for."""
    window_bytes: int
    """Of every channel to or from another worker."""
    frame_bytes: int
    """Size that data frames aim for."""
    holding_bytes: int
    """Rows waiting for their row group; the row groups being encoded may hold as much again."""

    def batch_rows(self, row_bytes: float) -> int:
        """Rows per batch when a row takes ``row_bytes`` in memory."""
        rows = int(self.batch_bytes / max(row_bytes, 1.0))
        return max(BATCH_ROWS_MIN, min(BATCH_ROWS_MAX, rows))


def divide(memory_limit_bytes: int, workers: int) -> Budget:
    """Divide one worker's limit; ``workers`` is the number of all workers of the job."""
    reading = memory_limit_bytes // 4
    fabric = memory_limit_bytes // 8
    holding = memory_limit_bytes // 2
    lanes = 2 * max(1, workers - 1) + 1  # out to and in from every other worker, and to itself
    window = max(WINDOW_BYTES_MIN, min(WINDOW_BYTES_MAX, fabric // lanes))
    return Budget(
        batch_bytes=min(BATCH_BYTES_MAX, reading // READING_BATCHES),
        window_bytes=window,
        frame_bytes=min(FRAME_BYTES_MAX, window // 4),
        holding_bytes=holding // 2,
    )
