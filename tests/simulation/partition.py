"""Rows that say themselves where they go, so that a lane knows what it is to carry."""

import pyarrow as pa

from laminar.model import node_id


class ByTarget:
    """A partitioner that sends a row to the node its last column names."""

    def __init__(self, nodes) -> None:
        self.nodes = tuple(map(node_id, nodes))

    def split(self, batch: pa.RecordBatch) -> list[tuple[int, pa.RecordBatch]]:
        targets = batch.column(batch.num_columns - 1).to_pylist()
        parts = []
        for index in range(len(self.nodes)):
            rows = [row for row, target in enumerate(targets) if target == index]
            if rows:
                part = batch.take(pa.array(rows, pa.int64()))
                parts.append((index, part.drop_columns(["target"])))
        return parts


def mixed(batches: list[pa.RecordBatch], nodes) -> pa.RecordBatch:
    """One batch of the rows of all, in turn, each with the index of its target."""
    parts = [
        batch.append_column("target", pa.array([index] * batch.num_rows, pa.int8()))
        for index, batch in enumerate(batches)
    ]
    table = pa.Table.from_batches(parts).unify_dictionaries().combine_chunks()
    found = table.to_batches()
    return found[0] if found else parts[0]
