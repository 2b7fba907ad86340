import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from laminar.repartition.holding import SMALL_RUNS_MAX, Holding, copied, unshared

SCHEMA = pa.schema([("x", pa.int64())])


def run(start, rows):
    return pa.record_batch({"x": np.arange(start, start + rows)}, schema=SCHEMA)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 900)), max_size=120),
    st.integers(2_000, 40_000),
)
def test_every_row_comes_out_once_in_order_and_the_limit_holds(adds, limit):
    holding = Holding(SCHEMA, limit)
    given_rows, taken_rows, start = {}, {}, 0

    def take(tables):
        for partition, table in tables.items():
            taken_rows.setdefault(partition, []).extend(table["x"].to_pylist())

    for partition, rows in adds:
        batch = run(start, rows)
        given_rows.setdefault(partition, []).extend(batch["x"].to_pylist())
        holding.add(partition, batch, batch.nbytes)
        before = holding.size_bytes
        due = holding.due()
        assert bool(due) == (before >= limit)
        if due:
            assert holding.size_bytes <= before / 2
        take(due)
        start += rows
    take(holding.rest())
    assert taken_rows == given_rows
    assert holding.size_bytes == 0


def test_small_partitions_stay_when_a_large_one_goes():
    holding = Holding(SCHEMA, 100_000)
    holding.add(1, run(0, 10), 80)
    holding.add(0, run(0, 20_000), 160_000)
    assert list(holding.due()) == [0]
    assert list(holding.rest()) == [1]


def test_what_stays_does_not_keep_written_rows_alive():
    arrived = run(0, 20_010)  # one batch for two partitions: its runs share its buffers
    holding = Holding(SCHEMA, 100_000)
    holding.add(0, arrived.slice(0, 20_000), 160_000)
    holding.add(1, arrived.slice(20_000), 80)
    assert list(holding.due()) == [0]
    kept = holding.rest()[1]["x"].chunk(0).buffers()[1]
    assert kept.size <= 1024


def test_many_small_runs_are_merged():
    holding = Holding(SCHEMA, 1 << 30)
    for _ in range(SMALL_RUNS_MAX):
        holding.add(0, run(0, 2), 16)
    assert holding.size_bytes < 16 * SMALL_RUNS_MAX + 2 * 256
    assert holding.rest()[0]["x"].num_chunks == 1


def test_a_copy_keeps_nothing_else_alive():
    large = run(0, 100_000)
    small = large.slice(10, 100)
    assert unshared(small).equals(small)
    assert unshared(small).get_total_buffer_size() <= 1024
    assert unshared(large) is large


def test_copies_of_dictionaries_are_merged():
    batches = [
        pa.record_batch({"d": pa.array(values).dictionary_encode()}) for values in ("ab", "bc")
    ]
    assert copied(batches).column(0).to_pylist() == ["a", "b", "b", "c"]
