import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from laminar.repartition.fabric import Router
from laminar.repartition.placement import owners
from laminar.shuffle.hash_partitioner import HashPartitioner, runs


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 300))
def test_parts_are_whole_in_order_and_independent(workers, partitions, rows):
    nodes = [f"n{i}" for i in range(workers)]
    placement = owners(partitions, workers)
    hashing = HashPartitioner(["k"], nodes, vnodes=partitions, placement=placement)
    batch = pa.record_batch(
        {"k": np.arange(rows) // 3, "s": pa.array([f"row {i}" for i in range(rows)], pa.string())}
    )
    parts = Router(hashing).split(batch)
    found = [(partition, row) for _, part in parts for partition, row in _rows(hashing, part)]
    expected = zip(hashing.vnodes(batch).tolist(), batch.to_pylist(), strict=True)
    assert sorted(found, key=str) == sorted(expected, key=str)
    for owner, part in parts:
        partitions_in_order = [partition for partition, _, _ in runs(hashing.vnodes(part))]
        assert partitions_in_order == sorted(set(partitions_in_order))
        assert {placement[partition] for partition in partitions_in_order} == {owner}
        assert part.get_total_buffer_size() <= part.nbytes + 64 * part.num_columns


def _rows(hashing, part):
    return zip(hashing.vnodes(part).tolist(), part.to_pylist(), strict=True)
