"""Every row once, at the one node of its key, in order, with the schema that went in."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.errors import ConfigError, UnsupportedKeyError
from laminar.shuffle.hash_partitioner import HashPartitioner, runs
from laminar.shuffle.hashing import VNODES_MAX, hash_columns, vnodes_of
from laminar.shuffle.placement import place

KEYS = st.none() | st.integers(0, 30) | st.integers(-(2**63), 2**63 - 1)


def numbered(keys, **more):
    columns = {"key": pa.array(keys, pa.int64()), "row": pa.array(range(len(keys)), pa.int64())}
    return pa.RecordBatch.from_pydict({**columns, **more})


@st.composite
def partitioners(draw):
    vnodes = draw(st.sampled_from([1, 2, 7, 255, 256, 257, 1000, VNODES_MAX]))
    nodes = [f"n{number}" for number in range(draw(st.integers(1, 6)))]
    placement = None
    if draw(st.booleans()):
        seed = draw(st.integers(0, 2**32 - 1))
        placement = np.random.default_rng(seed).integers(0, len(nodes), vnodes)
    return HashPartitioner(["key"], nodes, vnodes, placement=placement)


@given(partitioners(), st.lists(KEYS, max_size=60))
def test_every_row_once_and_in_order(partitioner, keys):
    batch = numbered(keys)
    vnodes = partitioner.vnodes(batch)
    rows = []
    indices = []
    for index, part in partitioner.split(batch):
        part.validate(full=True)
        assert part.num_rows > 0
        assert part.schema.equals(batch.schema, check_metadata=True)
        here = part["row"].to_pylist()
        assert part["key"].to_pylist() == [keys[row] for row in here]
        assert (partitioner.placement[vnodes[here]] == index).all()
        # In order of vnode, and within a vnode as they came.
        assert here == sorted(here, key=lambda row: (vnodes[row], row))
        indices.append(index)
        rows += here
    assert Counter(rows) == Counter(range(len(keys)))
    assert indices == sorted(set(indices))


@pytest.mark.parametrize("vnodes", [4, 1000])
def test_many_rows_of_few_keys_keep_their_order(vnodes):
    keys = np.random.default_rng(1).integers(0, 20, 20_000)
    parts = HashPartitioner(["key"], ["a", "b", "c"], vnodes).split(numbered(keys))
    assert sum(part.num_rows for _, part in parts) == len(keys)
    for _, part in parts:
        for key in set(part["key"].to_pylist()):
            here = part["row"].to_numpy()[part["key"].to_numpy() == key]
            assert (np.diff(here) > 0).all()
            assert (keys[here] == key).all()


@given(partitioners(), st.lists(st.lists(KEYS, max_size=20), max_size=4))
def test_a_key_has_one_vnode_in_all_batches(partitioner, batches):
    found = {}
    for keys in batches:
        for key, vnode in zip(keys, partitioner.vnodes(numbered(keys)).tolist(), strict=True):
            assert found.setdefault(key, vnode) == vnode


def test_vnodes_are_those_of_the_hash_contract():
    batch = numbered([1, None, 3])
    partitioner = HashPartitioner(["row", "key"], ["a", "b"], 1000)
    expected = vnodes_of(hash_columns([batch["row"], batch["key"]]), 1000)
    assert partitioner.vnodes(batch).dtype == np.uint16
    assert partitioner.vnodes(batch).tolist() == expected.tolist()


def test_vnodes_are_placed_by_rendezvous_unless_told_otherwise():
    nodes = ["a", "b", "c"]
    assert HashPartitioner(["key"], nodes).placement.tolist() == place(256, nodes).tolist()
    given_placement = np.arange(16) * 3 // 16
    partitioner = HashPartitioner(["key"], nodes, 16, placement=given_placement)
    assert partitioner.placement.tolist() == given_placement.tolist()
    given_placement[:] = 0
    assert partitioner.placement.max() == 2


def test_schema_and_metadata_survive_in_every_layout():
    schema = pa.schema(
        [
            pa.field("key", pa.int32(), nullable=False, metadata={"role": "key"}),
            pa.field("view", pa.string_view(), metadata={"a": "b"}),
            pa.field("nested", pa.list_(pa.field("it", pa.string_view(), False, {"x": "y"}))),
            pa.field("category", pa.dictionary(pa.int8(), pa.string(), ordered=True)),
            pa.field("runs", pa.run_end_encoded(pa.int16(), pa.string())),
            pa.field("id", pa.uuid()),
        ],
        metadata={"made": "here"},
    )
    dictionary = pa.array(["small", "large", "unused"])
    category = pa.DictionaryArray.from_arrays(
        pa.array([number % 2 for number in range(200)], pa.int8()), dictionary, ordered=True
    )
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(range(200), pa.int32()),
            pa.array([f"number {number} of the rows" for number in range(200)], pa.string_view()),
            pa.array([[str(number) * 9] for number in range(200)]).cast(schema.field(2).type),
            category,
            pa.RunEndEncodedArray.from_arrays(pa.array([200], pa.int16()), ["all"]),
            pa.array([number.to_bytes(16) for number in range(200)], pa.uuid()),
        ],
        schema=schema,
    )
    rows = batch.to_pylist()
    parts = HashPartitioner(["key"], ["a", "b", "c"]).split(batch)
    assert [index for index, _ in parts] == [0, 1, 2]
    for _, part in parts:
        part.validate(full=True)
        assert part.schema.equals(schema, check_metadata=True)
        assert part["category"].dictionary.equals(dictionary)
        assert part.to_pylist() == [rows[key] for key in part["key"].to_pylist()]


def test_no_rows_give_no_parts():
    assert HashPartitioner(["key"], ["a"]).split(numbered([])) == []


def test_rows_in_order_for_one_node_are_not_copied():
    batch = numbered([7] * 100)
    [(_, part)] = HashPartitioner(["key"], ["a", "b"]).split(batch)
    assert part is batch


def test_rows_in_order_for_several_nodes_are_slices():
    partitioner = HashPartitioner(["key"], ["a", "b"], 2, placement=[0, 1])
    keys = np.arange(100)
    order = np.argsort(partitioner.vnodes(numbered(keys)), kind="stable")
    batch = numbered(keys[order])
    parts = partitioner.split(batch)
    assert len(parts) == 2
    addresses = {part["key"].buffers()[1].address for _, part in parts}
    assert addresses == {batch["key"].buffers()[1].address}


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view()], ids=str)
def test_a_small_window_does_not_pin_its_large_parent(kind):
    count = 100_000
    text = pa.array(["text that no view holds inline"] * count).cast(kind)
    window = numbered([7] * count, text=text).slice(500, 10)
    [(_, part)] = HashPartitioner(["key"], ["a", "b"]).split(window)
    assert part.get_total_buffer_size() < 10_000
    assert part.equals(window)


def test_parts_on_the_wire_are_no_larger_than_the_whole():
    count = 4096
    text = pa.array([f"row number {number} of many" for number in range(count)], pa.string_view())
    batch = numbered(range(count), text=text)
    parts = HashPartitioner(["key"], [f"n{number}" for number in range(16)]).split(batch)
    sizes = [pa.ipc.get_record_batch_size(part) for _, part in parts]
    assert len(parts) == 16
    assert sum(sizes) < 1.1 * pa.ipc.get_record_batch_size(batch)


@given(st.lists(st.integers(0, 3), max_size=30))
def test_runs_cover_the_rows_and_are_maximal(vnodes):
    found = runs(np.array(vnodes, np.uint16))
    assert [vnode for vnode, start, stop in found for _ in range(start, stop)] == vnodes
    assert all(start < stop for _, start, stop in found)
    assert all(a[0] != b[0] and a[2] == b[1] for a, b in pairwise(found))


def test_a_part_has_no_more_runs_than_its_node_has_vnodes():
    partitioner = HashPartitioner(["key"], ["a", "b"], 16, placement=np.arange(16) // 8)
    for index, part in partitioner.split(numbered(range(1000))):
        found = [vnode for vnode, _, _ in runs(partitioner.vnodes(part))]
        assert found == list(range(8 * index, 8 * index + 8))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["absent"], "'absent': there is none; the columns are key, row, map, key2, key2"),
        (["key", "key2"], "'key2': there are 2 of that name"),
        (["map"], r"column 'map' \(map<.*cannot be hashed"),
    ],
)
@pytest.mark.parametrize("rows", [0, 1])
def test_keys_that_cannot_be_are_named(columns, message, rows):
    pairs = pa.array([[]], pa.map_(pa.string(), pa.int8()))
    arrays = [pa.array([1]), pa.array([1]), pairs, pa.array([1]), pa.array([1])]
    batch = pa.RecordBatch.from_arrays(arrays, names=["key", "row", "map", "key2", "key2"])
    batch = batch.slice(0, rows)
    partitioner = HashPartitioner(columns, ["a"])
    for call in (partitioner.split, partitioner.vnodes, lambda b: partitioner.check(b.schema)):
        with pytest.raises(UnsupportedKeyError, match=message):
            call(batch)


@pytest.mark.parametrize(
    ("arguments", "more", "message"),
    [
        (("key", ["a"]), {}, r"write \['key'\]"),
        (([], ["a"]), {}, "at least one key column"),
        ((["k", "k"], ["a"]), {}, "named once"),
        ((["k"], []), {}, "number of nodes"),
        ((["k"], ["a", "a"]), {}, "listed once"),
        ((["k"], ["a"], 0), {}, "vnodes must be"),
        ((["k"], ["a"], VNODES_MAX + 1), {}, "vnodes must be"),
        ((["k"], ["a"], 2), {"placement": [0]}, "2 integers"),
        ((["k"], ["a"], 2), {"placement": [0.0, 0.0]}, "2 integers"),
        ((["k"], ["a"], 2), {"placement": [0, 1]}, "indices 0 to 0, got 0 to 1"),
        ((["k"], ["a"], 2), {"placement": [-1, 0]}, "indices 0 to 0, got -1 to 0"),
    ],
)
def test_arguments_are_checked(arguments, more, message):
    with pytest.raises(ConfigError, match=message):
        HashPartitioner(*arguments, **more)
