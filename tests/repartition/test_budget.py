from hypothesis import given
from hypothesis import strategies as st

from laminar.repartition.budget import (
    BATCH_ROWS_MAX,
    BATCH_ROWS_MIN,
    MIB,
    READING_BATCHES,
    divide,
)
from laminar.repartition.spec import MEMORY_LIMIT_BYTES_MIN, WORKERS_MAX


@given(st.integers(MEMORY_LIMIT_BYTES_MIN, 1 << 40), st.integers(1, 32))
def test_the_parts_fit_into_the_limit(limit, workers):
    budget = divide(limit, workers)
    reading = READING_BATCHES * budget.batch_bytes
    fabric = (2 * (workers - 1) + 1) * budget.window_bytes
    held = 2 * budget.holding_bytes
    assert reading + fabric + held <= limit


@given(st.integers(MEMORY_LIMIT_BYTES_MIN, 1 << 40), st.integers(1, WORKERS_MAX))
def test_the_parts_make_sense(limit, workers):
    budget = divide(limit, workers)
    assert 0 < budget.frame_bytes * 4 <= budget.window_bytes
    assert budget.batch_bytes >= 2 * MIB


def test_batches_are_cut_by_the_size_of_rows():
    budget = divide(512 * MIB, 2)
    assert budget.batch_rows(0) == BATCH_ROWS_MAX
    assert budget.batch_rows(1e9) == BATCH_ROWS_MIN
    assert budget.batch_rows(1024) == budget.batch_bytes // 1024
