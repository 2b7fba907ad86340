"""Slices leave their parents behind: when they are written, and when they are kept."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laminar.shuffle.gather import no_rows
from laminar.shuffle.trim import (
    PINNED_TIMES_MAX,
    SLACK_BYTES,
    dragging_columns,
    may_drag,
    trim,
    unpin,
)
from tests.strategies import EXTENSIONS, FLAT, TYPES, Labelled, schemas, windows

ROWS = 20_000
WORDS = pa.array([f"{number:050}" for number in range(ROWS)])
ONES = pa.array([1] * ROWS, pa.int32())
PLACES = pa.array(range(ROWS), pa.int32())
LIST_VIEWS = pa.ListViewArray.from_arrays(PLACES, ONES, WORDS)
UNION = pa.UnionArray.from_dense(pa.array(np.zeros(ROWS, np.int8)), PLACES, [WORDS])
OFFSETS = pa.array(range(ROWS + 1), pa.int32())

DRAGGING = {
    "view": WORDS.cast(pa.string_view()),
    "list view": LIST_VIEWS,
    "large list view": pa.LargeListViewArray.from_arrays(
        PLACES.cast(pa.int64()), ONES.cast(pa.int64()), WORDS
    ),
    "dense union": UNION,
    "struct of list view": pa.StructArray.from_arrays([LIST_VIEWS], ["a"]),
    "list of view": pa.ListArray.from_arrays(OFFSETS, WORDS.cast(pa.string_view())),
    "runs of list view": pa.RunEndEncodedArray.from_arrays(
        pa.array(range(1, ROWS + 1), pa.int32()), LIST_VIEWS
    ),
    "pairs of list view": pa.FixedSizeListArray.from_arrays(LIST_VIEWS, 2),
    "sparse union of dense": pa.UnionArray.from_sparse(pa.array(np.zeros(ROWS, np.int8)), [UNION]),
    "extension": pa.ExtensionArray.from_storage(Labelled(LIST_VIEWS.type, "x"), LIST_VIEWS),
}


def size_of(batch):
    return pa.ipc.get_record_batch_size(batch)


@pytest.mark.parametrize("name", DRAGGING)
@pytest.mark.parametrize("start", [0, 9000])
def test_what_drags_is_trimmed(name, start):
    whole = pa.record_batch({"x": DRAGGING[name], "n": pa.nulls(len(DRAGGING[name]))})
    piece = whole.slice(start, 10)
    trimmed = trim(piece)
    trimmed.validate(full=True)
    assert trimmed.equals(piece)
    assert trimmed.schema.equals(piece.schema, check_metadata=True)
    assert max(size_of(whole.slice(first, 10)) for first in (0, 9000)) > 50_000
    assert size_of(trimmed) < 3000


@pytest.mark.parametrize("name", DRAGGING)
def test_what_is_whole_is_left_as_it_is(name):
    whole = pa.record_batch({"x": DRAGGING[name]})
    assert trim(whole) is whole
    assert unpin(whole) is whole


@pytest.mark.parametrize("name", DRAGGING)
def test_a_window_can_be_cut_loose(name):
    piece = pa.record_batch({"x": DRAGGING[name]}).slice(300, 10)
    loose = unpin(piece)
    loose.validate(full=True)
    assert loose.equals(piece)
    assert held_by(loose) < 5000


def held_by(batch):
    sizes = {}
    for buffer in [b for column in batch.columns for b in column.buffers() if b is not None]:
        root = buffer
        while root.parent is not None:
            root = root.parent
        sizes[root.address] = root.size
    return sum(sizes.values())


@settings(suppress_health_check=list(HealthCheck))
@given(windows(schemas(), rows=3000))
def test_any_window_can_be_cut_loose(batch):
    loose = unpin(batch)
    loose.validate(full=True)
    assert loose.equals(batch)
    assert loose.schema.equals(batch.schema, check_metadata=True)
    own = sum(size_of(trim(loose.select([n]))) for n in range(loose.num_columns))
    assert held_by(loose) <= PINNED_TIMES_MAX * own + SLACK_BYTES * max(1, loose.num_columns)


def test_a_dictionary_is_shared():
    coded = pa.DictionaryArray.from_arrays(pa.array(range(ROWS), pa.int64()), WORDS)
    piece = pa.record_batch({"x": coded}).slice(300, 10)
    loose = unpin(piece)
    assert loose.equals(piece)
    assert held_by(loose) < 1000
    assert loose["x"].dictionary.buffers()[2].address == WORDS.buffers()[2].address


def test_types_are_looked_at_only_where_they_may_drag():
    assert [kind for kind in FLAT if may_drag(kind)] == [pa.string_view(), pa.binary_view()]
    schema = pa.schema([("a", pa.string()), ("b", pa.string_view()), ("c", pa.list_(pa.int8()))])
    assert dragging_columns(schema) == [1, 2]


@given(TYPES | st.sampled_from(EXTENSIONS) | st.sampled_from(FLAT))
@settings(suppress_health_check=list(HealthCheck))
def test_no_rows_of_any_type(kind):
    empty = no_rows(kind)
    empty.validate(full=True)
    assert empty.type == kind
    assert len(empty) == 0
    assert empty.get_total_buffer_size() < 1000
