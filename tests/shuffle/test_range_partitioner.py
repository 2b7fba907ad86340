"""Keys in ranges: below, between and above, equal ones together, in any layout."""

import functools
import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.errors import ConfigError, UnsupportedKeyError
from laminar.shuffle.range_partitioner import RangePartitioner

NODES = ("a", "b", "c", "d")
VALUES = st.none() | st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, math.nan])


def compare(one, other, orders, nulls):
    """The order of two keys as the documentation has it."""
    for left, right, order in zip(one, other, orders, strict=True):
        places = [_place(value, nulls) for value in (left, right)]
        if places[0] != places[1]:
            return places[0] - places[1]
        if places[0] == 0 and left != right:
            return (1 if left > right else -1) * (1 if order == "ascending" else -1)
    return 0


def _place(value, nulls):
    place = 2 if value is None else 1 if value != value else 0
    return -place if nulls == "at_start" else place


@given(
    rows=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30),
    bounds=st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=3),
    orders=st.tuples(*[st.sampled_from(["ascending", "descending"])] * 2),
    nulls=st.sampled_from(["at_start", "at_end"]),
)
def test_a_row_is_at_the_node_of_its_range(rows, bounds, orders, nulls):
    sort_key = functools.cmp_to_key(lambda x, y: compare(x, y, orders, nulls))
    bounds = sorted(bounds, key=sort_key)
    table = {name: pa.array([row[n] for row in rows], pa.float64()) for n, name in enumerate("xy")}
    batch = pa.record_batch({"row": range(len(rows)), **table})
    boundaries = pa.record_batch(
        {name: pa.array([row[n] for row in bounds], pa.float64()) for n, name in enumerate("xy")}
    )
    by = dict(zip("xy", orders, strict=True))
    partitioner = RangePartitioner(by, NODES, boundaries, nulls=nulls)
    found = {}
    for index, part in partitioner.split(batch):
        assert part.schema.equals(batch.schema, check_metadata=True)
        here = part["row"].to_pylist()
        assert here == sorted(here)
        found |= dict.fromkeys(here, index)
    expected = [sum(compare(bound, row, orders, nulls) <= 0 for bound in bounds) for row in rows]
    assert [found[row] for row in range(len(rows))] == expected


@given(
    rows=st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=40),
    nodes=st.integers(1, 4),
    pieces=st.integers(1, 3),
)
def test_ranges_of_a_sample_keep_equal_keys_together_and_in_order(rows, nodes, pieces):
    batch = pa.record_batch({"x": pa.array(rows, pa.int64())})
    size = -(-len(rows) // pieces)
    sample = [batch.slice(start, size) for start in range(0, len(rows), size)]
    partitioner = RangePartitioner.from_sample(sample, ["x"], NODES[:nodes])
    parts = {index: part["x"].to_pylist() for index, part in partitioner.split(batch)}
    largest = -1
    for _, values in sorted(parts.items()):
        places = [10 if value is None else value for value in values]
        assert min(places) > largest
        largest = max(places)
    assert sum(map(len, parts.values())) == len(rows)
    if nodes > 1 and len(set(rows)) > 1:
        assert len(parts) > 1


def test_ranges_of_a_sample_are_even():
    values = np.random.default_rng(1).normal(size=10_000)
    batch = pa.record_batch({"x": values})
    partitioner = RangePartitioner.from_sample([batch.slice(0, 2000)], {"x": "descending"}, NODES)
    sizes = [part.num_rows for _, part in partitioner.split(batch)]
    assert all(2200 < size < 2800 for size in sizes)
    first, last = partitioner.split(batch)[0][1], partitioner.split(batch)[-1][1]
    assert np.array(first["x"]).min() > np.array(last["x"]).max()


def test_a_frequent_key_leaves_the_others_to_the_other_nodes():
    values = [5] * 900 + list(range(10, 40)) * 3
    batch = pa.record_batch({"x": values})
    partitioner = RangePartitioner.from_sample([batch], ["x"], NODES)
    assert [part.num_rows for _, part in partitioner.split(batch)] == [900, 30, 30, 30]


def test_boundaries_can_be_passed_on():
    batch = pa.record_batch({"x": pa.array(["b", "a", None, "c"]).dictionary_encode()})
    one = RangePartitioner.from_sample([batch], ["x"], NODES)
    other = RangePartitioner(["x"], NODES, one.boundaries)
    assert one.split(batch) == other.split(batch)


TEXTS = ["b", "d", None, "a", "c"]
LAYOUTS = {
    **{
        str(kind): pa.array(TEXTS, kind)
        for kind in (pa.string(), pa.large_string(), pa.string_view())
    },
    "dictionary": pa.array(TEXTS).dictionary_encode(),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3, 4, 5], pa.int32()), TEXTS),
    "runs of dictionary": pa.RunEndEncodedArray.from_arrays(
        pa.array([1, 2, 3, 4, 5], pa.int32()), pa.array(TEXTS).dictionary_encode()
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("bound", LAYOUTS)
def test_the_layout_does_not_matter(name, bound):
    bounds = LAYOUTS[bound].take(pa.array([3])) if bound == "string" else LAYOUTS[bound].slice(0, 1)
    rows = pa.record_batch([LAYOUTS[name], pa.array(range(5))], ["x", "row"])
    partitioner = RangePartitioner(["x"], ("a", "b"), pa.record_batch([bounds], ["x"]))
    below = [3] if bound != "string" else []
    parts = {index: part["row"].to_pylist() for index, part in partitioner.split(rows)}
    assert parts.get(0, []) == below
    assert parts[1] == [row for row in range(5) if row not in below]


ORDERED = [
    (pa.int8(), [1, 2, 3]),
    (pa.uint64(), [1, 2, 2**63]),
    (pa.float16(), [1, 2, 3]),
    (pa.bool_(), [False, True]),
    (pa.decimal32(5, 2), [Decimal("1.5"), Decimal("2.25")]),
    (pa.decimal64(15, 2), [Decimal("-1.5"), Decimal("2.25")]),
    (pa.decimal256(50, 2), [Decimal("1.5"), Decimal("2.25")]),
    (pa.date32(), [1, 2]),
    (pa.date64(), [86_400_000, 172_800_000]),
    (pa.timestamp("ns", "UTC"), [1, 2]),
    (pa.time32("ms"), [1, 2]),
    (pa.duration("us"), [1, 2]),
    (pa.binary(), [b"a", b"b"]),
    (pa.binary_view(), [b"a", b"b"]),
    (pa.binary(2), [b"aa", b"bb"]),
    (pa.uuid(), [bytes(16), bytes([1]) * 16]),
    (pa.dictionary(pa.int8(), pa.int64()), [1, 2]),
]


@pytest.mark.parametrize(("kind", "values"), ORDERED, ids=lambda value: str(value)[:30])
def test_every_type_with_an_order_can_be_a_key(kind, values):
    batch = pa.record_batch([pa.array(values, kind)], ["x"])
    bounds = batch.slice(1, 1)
    parts = RangePartitioner(["x"], ("a", "b"), bounds).split(batch)
    assert [(index, part.num_rows) for index, part in parts] == [(0, 1), (1, len(values) - 1)]


def test_a_column_of_nulls_is_one_key():
    batch = pa.record_batch([pa.nulls(3)], ["x"])
    partitioner = RangePartitioner.from_sample([batch], ["x"], NODES)
    assert len(partitioner.split(batch)) == 1


def test_no_rows_give_no_parts():
    bounds = pa.record_batch({"x": [1]})
    partitioner = RangePartitioner(["x"], ("a", "b"), bounds)
    assert partitioner.split(bounds.slice(0, 0)) == []


@pytest.mark.parametrize(
    ("by", "nodes", "bounds", "more", "message"),
    [
        ("x", "ab", {"x": [1]}, {}, r"write \['x'\]"),
        ([], "ab", {"x": [1]}, {}, "at least one key column"),
        (["x", "x"], "ab", {"x": [1]}, {}, "named once"),
        ({"x": "up"}, "ab", {"x": [1]}, {}, "'ascending' or 'descending'"),
        (["x"], "ab", {"x": [1, 2]}, {}, "need 1 boundaries, got 2"),
        (["x"], "abc", {"x": [2, 1]}, {}, "not in the order"),
        ({"x": "descending"}, "abc", {"x": [1, 2]}, {}, "not in the order"),
        (["x"], "ab", {"x": [1]}, {"nulls": "first"}, "'at_start' or 'at_end'"),
    ],
)
def test_arguments_are_checked(by, nodes, bounds, more, message):
    with pytest.raises(ConfigError, match=message):
        RangePartitioner(by, list(nodes), pa.record_batch(bounds), **more)


def test_a_sample_needs_rows():
    with pytest.raises(ConfigError, match="without rows"):
        RangePartitioner.from_sample([pa.record_batch({"x": pa.array([], pa.int8())})], ["x"], "ab")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"y": [1]}, "'x': there is none; the columns are y"),
        ({"x": ["text"]}, "'x' is large_string, but its boundaries are int64"),
        ({"x": [[1]]}, "have no order"),
        ({"x": [{"a": 1}]}, "have no order"),
        ({"x": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}, "have no order"),
    ],
)
@pytest.mark.parametrize("rows", [0, 1])
def test_keys_that_cannot_be_are_named(batch, message, rows):
    batch = pa.record_batch(batch).slice(0, rows)
    partitioner = RangePartitioner(["x"], ("a", "b"), pa.record_batch({"x": [1]}))
    for call in (partitioner.split, lambda b: partitioner.check(b.schema)):
        with pytest.raises(UnsupportedKeyError, match=message):
            call(batch)
