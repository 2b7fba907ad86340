"""Rows of any layout come out as they went in, of the same type, and alone."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laminar.shuffle.gather import compact, gather, gather_parts, is_plain

TEXT = [
    "",
    "short",
    "exactly 12 b",
    "exactly 13 by",
    None,
    "a value that no view holds inline",
    "é",
]
VIEWS = pa.array(TEXT, pa.string_view())
NUMBERS = pa.array([1, None, 3, 4, 5, None, 7], pa.int16())
ENDS = pa.array([2, 3, 7], pa.int16())


def run_ends(values):
    return pa.RunEndEncodedArray.from_arrays(ENDS, values)


def lists(values, kind):
    rows = [[0, 1], None, [], [2, 3, 4], [5], [6, 0], None]
    items = values.to_pylist()
    return pa.array([row and [items[index] for index in row] for row in rows], kind)


FIELD = pa.field("item", pa.string_view(), nullable=False, metadata={"unit": "none"})
ARRAYS = {
    "int16": NUMBERS,
    "bool": pa.array([True, None, False, True, None, False, True]),
    "decimal": pa.array([Decimal(number) for number in range(7)], pa.decimal64(15, 2)),
    "string": pa.array(TEXT),
    "null": pa.nulls(7),
    "string_view": VIEWS,
    "binary_view": VIEWS.cast(pa.binary_view()),
    "short views": pa.array(["a", None, "b", "", "c", "d", None], pa.string_view()),
    "dictionary": pa.array(TEXT).dictionary_encode(),
    "dictionary of views": pa.DictionaryArray.from_arrays(
        pa.array([6, 5, None, 3, 2, 1, 0], pa.int8()), VIEWS
    ),
    "run ends": run_ends(pa.array([1, None, 3])),
    "run ends of views": run_ends(VIEWS[4:]),
    "struct of views": pa.StructArray.from_arrays(
        [VIEWS, NUMBERS], names=["a", "b"], mask=pa.array([False, True] + [False] * 5)
    ),
    "struct of run ends": pa.StructArray.from_arrays([run_ends(VIEWS[4:])], names=["r"]),
    "list of views": lists(VIEWS, pa.list_(pa.string_view())),
    "large list of views": lists(VIEWS, pa.large_list(pa.string_view())),
    "list with metadata": pa.array([["a" * 20]] * 7).cast(pa.list_(FIELD)),
    "list view": lists(NUMBERS, pa.list_view(pa.int16())),
    "large list view of views": lists(VIEWS, pa.large_list_view(pa.string_view())),
    "overlapping list view": pa.ListViewArray.from_arrays(
        [0, 3, 1, 0, 0, 2, 6], [7, 2, 3, 7, 0, 5, 1], NUMBERS
    ),
    "fixed size list of views": pa.array(
        [["a", "b" * 13], None] + [["c", None]] * 5, pa.list_(pa.string_view(), 2)
    ),
    "map of views": pa.array(
        [[("a", "b" * 20)], None, [], [("c", None), ("d", "e")]] + [[]] * 3,
        pa.map_(pa.string_view(), pa.string_view()),
    ),
    "list of struct of list view": pa.array(
        [[{"x": ["y" * 20, None]}], None, [{"x": None}, None], [], [{"x": []}], [], []],
        pa.list_(pa.struct([("x", pa.list_view(pa.string_view()))])),
    ),
    "sparse union": pa.UnionArray.from_sparse(
        pa.array([0, 1, 0, 1, 0, 1, 1], pa.int8()), [NUMBERS, VIEWS]
    ),
    "dense union": pa.UnionArray.from_dense(
        pa.array([1, 0, 0, 1, 1, 0, 1], pa.int8()),
        pa.array([6, 0, 2, 3, 0, 1, 4], pa.int32()),
        [NUMBERS, VIEWS],
    ),
    "extension": pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([b"u" * 16] * 7, pa.binary(16))
    ),
    "extension of views": pa.ExtensionArray.from_storage(pa.json_(pa.string_view()), VIEWS),
}
PLAIN = {"int16", "bool", "decimal", "string", "null", "dictionary", "dictionary of views"}


def rows_of(array):
    """The values of ``array``; extension types by their storage."""
    return (array.storage if isinstance(array, pa.ExtensionArray) else array).to_pylist()


def check(gathered, array, positions):
    gathered.validate(full=True)
    assert gathered.type.equals(array.type, check_metadata=True)
    rows = rows_of(array)
    assert rows_of(gathered) == [rows[position] for position in positions]


@pytest.mark.parametrize("name", ARRAYS)
@settings(max_examples=settings.default.max_examples // 3)
@given(data=st.data())
def test_rows_come_out_in_order_also_from_slices(name, data):
    start = data.draw(st.integers(0, 7))
    array = ARRAYS[name].slice(start, data.draw(st.integers(0, 7 - start)))
    index = st.integers(0, max(0, len(array) - 1))
    positions = data.draw(st.lists(index, max_size=14 if len(array) else 0))
    check(gather(array, np.array(positions, np.int64)), array, positions)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("cuts", [[0, 7], [0, 1, 4, 7], [0, 3, 5, 6, 7]])
def test_parts_are_the_rows_between_cuts(name, cuts):
    positions = np.array([3, 6, 0, 5, 4, 1, 2])
    parts = gather_parts(ARRAYS[name], positions, cuts)
    assert len(parts) == len(cuts) - 1
    for part, start, stop in zip(parts, cuts[:-1], cuts[1:], strict=True):
        check(part, ARRAYS[name], positions[start:stop])


def test_plain_is_what_pyarrow_takes():
    plain = {name for name, array in ARRAYS.items() if is_plain(array.type)}
    assert plain == PLAIN | {"extension"}


def data_bytes(array):
    return sum(buffer.size for buffer in array.buffers()[2:])


def test_a_part_of_views_holds_only_its_own_data():
    array = pa.array([f"row number {number:09}" for number in range(1000)], pa.string_view())
    parts = gather_parts(array, np.arange(1000)[::-1].copy(), [0, 10, 1000])
    assert [data_bytes(part) for part in parts] == [10 * 20, 990 * 20]
    assert data_bytes(gather(array, np.array([5]))) == 20


def test_views_may_refer_to_several_buffers():
    pieces = [
        pa.array([f"{name} number {n:09}" for n in range(5)], pa.string_view()) for name in "abc"
    ]
    array = pa.concat_arrays(pieces)
    assert len(array.buffers()) == 5
    positions = np.arange(15)[::-1].copy()
    for part, start, stop in zip(
        gather_parts(array, positions, [0, 7, 15]), [0, 7], [7, 15], strict=True
    ):
        check(part, array, positions[start:stop])


def test_a_part_of_short_views_holds_no_data():
    array = pa.array(["x" * 20, "short", None, "also"], pa.string_view())
    assert data_bytes(gather(array, np.array([1, 2, 3]))) == 0
    assert [data_bytes(part) for part in gather_parts(array, np.array([3, 1, 2]), [0, 1, 3])] == [
        0,
        0,
    ]


@pytest.mark.parametrize("name", ["list view", "struct of views", "large list view of views"])
def test_nested_rows_leave_the_others_behind(name):
    many = pa.concat_arrays([ARRAYS[name]] * 100)
    assert gather(many, np.array([3])).get_total_buffer_size() < many.nbytes / 20


def test_overlapping_list_views_stay_shared_rather_than_grow():
    views = pa.ListViewArray.from_arrays([0] * 1000, [1000] * 1000, pa.array(range(1000)))
    gathered = gather(views, np.arange(1000))
    assert gathered.get_total_buffer_size() <= views.get_total_buffer_size()
    assert gathered[999].as_py() == list(range(1000))


def test_empty_arrays_may_lack_their_buffers():
    items = pa.array([], pa.string_view())
    empty = pa.Array.from_buffers(pa.list_(items.type), 0, [None, None], children=[items])
    assert len(gather(empty, np.array([], np.int64))) == 0


def test_what_nulls_hide_is_left_behind():
    views = pa.array(["x" * 20, None, "y" * 30], pa.string_view())
    words = np.frombuffer(views.buffers()[1], np.int32).copy()
    words[4:8] = [99, 0, 7, 12345]
    validity, _, data = views.buffers()
    hiding = pa.Array.from_buffers(views.type, 3, [validity, pa.py_buffer(words), data])
    check(gather(hiding, np.array([1, 0])), hiding, [1, 0])
    assert data_bytes(gather(hiding, np.array([1, 1]))) == 0
    for part in gather_parts(hiding, np.array([1, 0, 2]), [0, 2, 3]):
        part.validate(full=True)
    window = compact(hiding.slice(0, 2))
    check(window, hiding, [0, 1])
    assert data_bytes(window) == 20
    assert not np.frombuffer(window.buffers()[1], np.int32)[4:].any()


def test_lists_under_a_null_are_left_behind():
    bits = pa.py_buffer(b"\x01")
    offsets = pa.py_buffer(np.array([0, 1, 3], np.int32))
    hiding = pa.Array.from_buffers(pa.list_(VIEWS.type), 2, [bits, offsets], children=[VIEWS])
    gathered = gather(hiding, np.array([1, 0]))
    check(gathered, hiding, [1, 0])
    assert len(gathered.values) == 1
    starts, sizes = (pa.py_buffer(np.array(words, np.int32)) for words in ([0, 77], [1, 88]))
    kind = pa.list_view(VIEWS.type)
    hiding = pa.Array.from_buffers(kind, 2, [bits, starts, sizes], children=[VIEWS])
    gathered = gather(hiding, np.array([1, 0]))
    check(gathered, hiding, [1, 0])
    assert gathered.sizes.to_pylist() == [0, 1]


def test_runs_stay_runs():
    array = pa.RunEndEncodedArray.from_arrays(pa.array([500, 1000], pa.int32()), ["a", "b"])
    assert len(gather(array, np.arange(250, 750)).values) == 2


def test_compact_keeps_what_is_compact_and_drops_what_is_not():
    array = pa.array([f"row number {number:09}" for number in range(1000)], pa.string_view())
    assert compact(array) is array
    window = array.slice(990)
    assert data_bytes(window) == 20_000
    check(compact(window), array, range(990, 1000))
    assert data_bytes(compact(window)) == 200


@given(
    st.lists(st.none() | st.text(max_size=30), min_size=1, max_size=60),
    st.tuples(st.integers(0, 60), st.integers(1, 60)),
)
def test_a_slice_of_packed_views_is_compacted_by_cutting_its_data(texts, window):
    packed = gather(pa.array(texts, pa.string_view()), np.arange(len(texts)))
    start, length = window
    part = packed.slice(start, length)
    cut = compact(part)
    cut.validate(full=True)
    assert cut.to_pylist() == texts[start : start + length]
    wanted = sum(len(text.encode()) for text in part.to_pylist() if text and outside(text))
    assert wanted <= data_bytes(cut) <= wanted * 5 / 4
    before, after = packed.buffers()[2:], cut.buffers()[2:]
    if before and after:  # the same memory: nothing was copied
        assert before[0].address <= after[0].address
        assert after[0].address + after[0].size <= before[0].address + before[0].size


def outside(text):
    return len(text.encode()) > 12


def test_views_whose_data_is_out_of_order_are_packed_anew():
    packed = pa.array([f"{number:020}" for number in range(100)], pa.string_view())
    shuffled = pa.Array.from_buffers(
        pa.string_view(),
        3,
        [
            None,
            pa.py_buffer(
                b"".join(bytes(packed.buffers()[1])[16 * at : 16 * at + 16] for at in (7, 9, 8))
            ),
            packed.buffers()[2],
        ],
    )
    assert compact(shuffled).to_pylist() == [f"{number:020}" for number in (7, 9, 8)]
    assert data_bytes(compact(shuffled)) == 60
