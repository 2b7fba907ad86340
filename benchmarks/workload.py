"""The batches and messages that every contestant sends: the same for all."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

DISTINCT_BATCHES = 32
SMALL_MESSAGE_BYTES = 32


def stream_batches(rows: int) -> list[pa.RecordBatch]:
    """A few batches of int64, two float64 and a short string: about 36 bytes a row."""
    random = np.random.default_rng(7)
    return [
        pa.record_batch(
            {
                "key": random.integers(0, 1 << 40, rows),
                "price": random.random(rows),
                "weight": random.random(rows),
                "tag": [f"tag-{number:04d}" for number in random.integers(0, 10_000, rows)],
            }
        )
        for _ in range(DISTINCT_BATCHES)
    ]


def stream_bytes(rows: int) -> int:
    """What one batch of :func:`stream_batches` holds, in bytes."""
    return stream_batches(rows)[0].nbytes


def small_batches(count: int = 1024) -> list[pa.RecordBatch]:
    """Record batches of one column of four int64: 32 bytes each."""
    return [
        pa.record_batch({"value": pa.array(range(number, number + 4))}) for number in range(count)
    ]
