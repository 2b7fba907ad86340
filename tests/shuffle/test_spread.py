"""In turn, to all, to one, or as a function says: every row, in order, with its schema."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laminar.errors import ConfigError
from laminar.shuffle.spread import (
    BroadcastPartitioner,
    CustomPartitioner,
    RoundRobinPartitioner,
    SinglePartitioner,
)
from tests.strategies import SEEDS, TYPES, batch_of

NODES = ("a", "b", "c")


def numbered(start, rows):
    return pa.record_batch({"row": pa.array(range(start, start + rows), pa.int64())})


def rows_by_node(parts):
    return {index: part["row"].to_pylist() for index, part in parts}


@given(st.integers(0, 2), st.lists(st.integers(0, 10), max_size=6))
def test_rows_go_round_over_batches(start, sizes):
    partitioner = RoundRobinPartitioner(NODES, start=start)
    first = 0
    for size in sizes:
        found = rows_by_node(partitioner.split(numbered(first, size)))
        for row in range(first, first + size):
            assert row in found[(start + row) % 3]
        assert sum(map(len, found.values())) == size
        assert all(rows == sorted(rows) and rows for rows in found.values())
        assert list(found) == sorted(found)
        first += size
    assert partitioner.next == (start + first) % 3


def test_batches_go_round_whole_and_empty_ones_do_not_count():
    partitioner = RoundRobinPartitioner(NODES, by="batches", start=2)
    batches = [numbered(0, 2), numbered(0, 0), numbered(2, 3), numbered(5, 1), numbered(6, 1)]
    found = [partitioner.split(batch) for batch in batches]
    assert [[index for index, _ in parts] for parts in found] == [[2], [], [0], [1], [2]]
    assert found[0][0][1] is batches[0]
    assert partitioner.next == 0


def test_one_that_starts_where_another_stopped_goes_on_as_it_would():
    first = RoundRobinPartitioner(NODES)
    first.split(numbered(0, 4))
    second = RoundRobinPartitioner(NODES, start=first.next)
    assert rows_by_node(first.split(numbered(4, 5))) == rows_by_node(second.split(numbered(4, 5)))


@given(kind=TYPES, rng=SEEDS)
@settings(max_examples=40)
def test_rows_of_any_type_can_be_dealt_out(kind, rng):
    batch = batch_of(pa.schema([pa.field("x", kind), ("row", pa.int64())]), 7, rng)
    batch = batch.set_column(1, "row", pa.array(range(7)))
    for index, part in RoundRobinPartitioner(NODES).split(batch):
        part.validate(full=True)
        rows = part["row"].to_pylist()
        assert rows == list(range(index, 7, 3))
        for place, row in enumerate(rows):
            assert part["x"].slice(place, 1).equals(batch["x"].slice(row, 1))


def test_rows_without_columns_can_be_dealt_out():
    batch = numbered(0, 7).select([])
    parts = RoundRobinPartitioner(NODES).split(batch)
    assert [(index, part.num_rows) for index, part in parts] == [(0, 3), (1, 2), (2, 2)]


def test_a_broadcast_is_the_same_batch_for_all():
    batch = numbered(0, 3)
    parts = BroadcastPartitioner(NODES).split(batch)
    assert [index for index, _ in parts] == [0, 1, 2]
    assert all(part is batch for _, part in parts)
    assert BroadcastPartitioner(NODES).split(numbered(0, 0)) == []


def test_all_goes_to_one():
    batch = numbered(0, 3)
    partitioner = SinglePartitioner("b")
    assert partitioner.nodes == ("b",)
    assert partitioner.split(batch) == [(0, batch)]
    assert partitioner.split(numbered(0, 0)) == []


@pytest.mark.parametrize(
    "indices",
    [
        [2, 0, 2, 0],
        np.array([2, 0, 2, 0], np.uint8),
        pa.array([2, 0, 2, 0], pa.int16()),
        pa.chunked_array([[2, 0], [2, 0]]),
    ],
    ids=["list", "numpy", "arrow", "chunked"],
)
def test_rows_go_where_the_function_says(indices):
    partitioner = CustomPartitioner(lambda batch: indices, NODES)
    assert rows_by_node(partitioner.split(numbered(0, 4))) == {0: [1, 3], 2: [0, 2]}


def test_the_function_is_not_asked_about_nothing():
    assert CustomPartitioner(lambda batch: 1 / 0, NODES).split(numbered(0, 0)) == []


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 1], "returns 4 integers"),
        ([0.0, 1.0, 0.0, 1.0], "but returned float64"),
        ([True] * 4, "but returned bool"),
        ([[0, 1, 0, 1]], "of shape"),
        ([0, 1, 2, 3], "indices 0 to 2, but returned 0 to 3"),
        ([0, -1, 2, 0], "returned -1 to 2"),
        (pa.array([0, None, 2, 0]), "returned 1 nulls"),
        (None, "but returned object"),
    ],
)
def test_what_the_function_returns_is_checked(indices, message):
    partitioner = CustomPartitioner(lambda batch: indices, NODES)
    with pytest.raises(ConfigError, match=message):
        partitioner.split(numbered(0, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RoundRobinPartitioner([]), "number of nodes"),
        (lambda: BroadcastPartitioner(["a", "a"]), "listed once"),
        (lambda: BroadcastPartitioner("abc"), r"write \['abc'\]"),
        (lambda: CustomPartitioner(len, ["a b"]), "printable"),
        (lambda: SinglePartitioner(""), "1 to"),
        (lambda: RoundRobinPartitioner(NODES, start=3), "start must be 0 to 2"),
        (lambda: RoundRobinPartitioner(NODES, by="keys"), "'rows' or 'batches'"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_any_schema_will_do():
    for partitioner in (
        RoundRobinPartitioner(NODES),
        BroadcastPartitioner(NODES),
        SinglePartitioner("a"),
        CustomPartitioner(len, NODES),
    ):
        partitioner.check(pa.schema([("x", pa.map_(pa.string(), pa.string()))]))
