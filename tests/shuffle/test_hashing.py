"""The hash contract: golden vectors, and an independent implementation one value at a time."""

import json
import struct
import subprocess
import sys
from datetime import date
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from laminar.errors import ConfigError, UnsupportedKeyError
from laminar.shuffle.hashing import (
    HASH_VERSION,
    VNODES_MAX,
    check_key_type,
    hash_array,
    hash_columns,
    mix64,
    vnodes_of,
)

# --- the reference: plain Python, from docs/design/partitioning.md --------------------------

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(word):
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


FAMILIES = ["null", "integer", "above", "boolean", "float", "decimal"]
FAMILIES += ["instant", "time", "duration", "struct", "list"]
TAG = {name: mix((number + 1) * GOLDEN & MASK) for number, name in enumerate(FAMILIES)}


def reference_integer(value):
    return mix((value & MASK) ^ TAG["above" if value >= 2**63 else "integer"])


def reference_boolean(value):
    return mix(int(value) ^ TAG["boolean"])


def reference_float(value):
    if value != value:
        bits = 0x7FF8000000000000
    else:
        bits = 0 if value == 0 else struct.unpack("<Q", struct.pack("<d", value))[0]
    return mix(bits ^ TAG["float"])


def reference_decimal(value):
    prime = 2**61 - 1
    exact = Fraction(value)
    return mix(exact.numerator * pow(exact.denominator, -1, prime) % prime ^ TAG["decimal"])


def reference_nanoseconds(family):
    return lambda nanoseconds: mix((nanoseconds & MASK) ^ TAG[family])


def reference_bytes(value):
    return xxhash.xxh3_64_intdigest(value.encode() if isinstance(value, str) else value)


def reference_combined(first, *rest):
    for other in rest:
        first = mix((first * GOLDEN + other) & MASK)
    return first


def reference_struct(*hashes):
    return reference_combined(TAG["struct"], *hashes)


def reference_list(*hashes):
    total = sum(mix((item + place * GOLDEN) & MASK) for place, item in enumerate(hashes, 1))
    return mix(((total + len(hashes) * GOLDEN) & MASK) ^ TAG["list"])


def nullable(reference):
    return lambda value: TAG["null"] if value is None else reference(value)


def hashes_of(array):
    hashes = hash_array(array)
    assert hashes.dtype == np.uint64
    assert len(hashes) == len(array)
    return hashes.tolist()


# --- every type: how to make values, how to make an array, what it hashes to ----------------

UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
DAY = 86_400 * 10**9


def plain(kind):
    return lambda values: pa.array(values, kind)


def ticks(kind):
    storage = pa.int32() if kind.bit_width == 32 else pa.int64()
    return lambda values: pa.array(values, storage).view(kind)


def run_ends(values):
    return pa.RunEndEncodedArray.from_arrays(
        pa.array(range(1, len(values) + 1), pa.int32()), pa.array(values, pa.int16())
    )


def integers(bits, signed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high)


def decimals(digits, scale):
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda unscaled: Decimal(unscaled).scaleb(-scale, WIDE))


WIDE = Context(prec=80)
SIGNED_64 = integers(64, signed=True)

CASES = {}
for bits in (8, 16, 32, 64):
    for signed in (True, False):
        kind = getattr(pa, f"{'' if signed else 'u'}int{bits}")()
        CASES[str(kind)] = (plain(kind), integers(bits, signed), reference_integer)
for bits in (16, 32, 64):
    kind = getattr(pa, f"float{bits}")()
    CASES[f"float{bits}"] = (plain(kind), st.floats(width=bits), reference_float)
for kind in (
    pa.decimal32(9, 3),
    pa.decimal64(18, 0),
    pa.decimal64(15, 2),
    pa.decimal128(18, 6),
    pa.decimal128(19, 0),
    pa.decimal128(38, 9),
    pa.decimal128(20, -3),
    pa.decimal256(76, 38),
    pa.decimal256(76, 0),
):
    CASES[str(kind)] = (plain(kind), decimals(kind.precision, kind.scale), reference_decimal)
for unit, nanoseconds in UNITS.items():
    for kind in (pa.timestamp(unit), pa.timestamp(unit, "Europe/Zurich"), pa.duration(unit)):
        family = "duration" if pa.types.is_duration(kind) else "instant"
        CASES[str(kind)] = (
            ticks(kind),
            SIGNED_64,
            lambda value, n=nanoseconds, f=family: reference_nanoseconds(f)(value * n),
        )
    kind = (pa.time32 if unit in ("s", "ms") else pa.time64)(unit)
    CASES[str(kind)] = (
        ticks(kind),
        st.integers(0, DAY // nanoseconds - 1),
        lambda value, n=nanoseconds: reference_nanoseconds("time")(value * n),
    )
CASES["date32"] = (
    ticks(pa.date32()),
    integers(32, signed=True),
    lambda days: reference_nanoseconds("instant")(days * DAY),
)
CASES["date64"] = (
    ticks(pa.date64()),
    SIGNED_64,
    lambda milliseconds: reference_nanoseconds("instant")(milliseconds * 10**6),
)
for kind in (pa.string(), pa.large_string(), pa.string_view()):
    CASES[str(kind)] = (plain(kind), st.text(max_size=40), reference_bytes)
for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
    CASES[str(kind)] = (plain(kind), st.binary(max_size=40), reference_bytes)
CASES["fixed_size_binary"] = (
    plain(pa.binary(5)),
    st.binary(min_size=5, max_size=5),
    reference_bytes,
)
CASES["fixed_size_binary[0]"] = (plain(pa.binary(0)), st.just(b""), reference_bytes)
CASES["uuid"] = (plain(pa.uuid()), st.binary(min_size=16, max_size=16), reference_bytes)
CASES["bool"] = (plain(pa.bool_()), st.booleans(), reference_boolean)
CASES["null"] = (plain(pa.null()), st.none(), reference_bytes)
for values in (pa.string(), pa.string_view()):
    for index in (pa.int8(), pa.uint8(), pa.uint64()):
        kind = pa.dictionary(index, values)
        CASES[str(kind)] = (
            lambda items, k=kind: (
                pa.array(items, k.value_type).dictionary_encode().cast(k)
                if k.value_type == pa.string()
                else pa.DictionaryArray.from_arrays(
                    pa.array(range(len(items)), k.index_type), pa.array(items, k.value_type)
                )
            ),
            st.text(max_size=20),
            reference_bytes,
        )
CASES["run_end_encoded"] = (run_ends, integers(16, signed=True), reference_integer)
ITEMS = st.lists(st.none() | integers(16, signed=True), max_size=4)
for kind in (
    pa.list_(pa.int16()),
    pa.large_list(pa.int64()),
    pa.list_view(pa.int32()),
    pa.large_list_view(pa.int16()),
):
    CASES[str(kind)] = (
        plain(kind),
        ITEMS,
        lambda items: reference_list(*map(nullable(reference_integer), items)),
    )
CASES["fixed_size_list"] = (
    plain(pa.list_(pa.int16(), 2)),
    st.lists(integers(16, signed=True), min_size=2, max_size=2),
    lambda items: reference_list(*map(reference_integer, items)),
)
CASES["struct"] = (
    plain(pa.struct([("number", pa.int16()), ("text", pa.string())])),
    st.fixed_dictionaries(
        {"number": st.none() | integers(16, signed=True), "text": st.none() | st.text(max_size=9)}
    ),
    lambda row: reference_struct(
        nullable(reference_integer)(row["number"]), nullable(reference_bytes)(row["text"])
    ),
)
CASES["struct<>"] = (plain(pa.struct([])), st.just({}), lambda row: reference_struct())


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=settings.default.max_examples // 3)
@given(data=st.data())
def test_agrees_with_the_reference_with_nulls_and_in_slices(name, data):
    make, values, reference = CASES[name]
    rows = data.draw(st.lists(st.none() | values, max_size=20))
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    array = make(rows).slice(start, stop - start)
    assert hashes_of(array) == list(map(nullable(reference), rows[start:stop]))


# --- golden vectors --------------------------------------------------------------------------

GOLDEN_VECTORS = json.loads((Path(__file__).parent / "golden_hashes.json").read_text())

GOLDEN_COLUMNS = {
    "null": (plain(pa.null()), lambda text: None),
    "integer": (None, int),
    "boolean": (plain(pa.bool_()), lambda text: text == "true"),
    "float": (plain(pa.float64()), float),
    "decimal": (plain(pa.decimal128(38, 10)), Decimal),
    "date": (plain(pa.date32()), date.fromisoformat),
    "timestamp_ns": (ticks(pa.timestamp("ns")), int),
    "time_ns": (ticks(pa.time64("ns")), int),
    "duration_ns": (ticks(pa.duration("ns")), int),
    "string": (plain(pa.string()), str),
    "binary": (plain(pa.binary()), bytes.fromhex),
    "list_of_integer": (plain(pa.list_(pa.int64())), json.loads),
    "struct_of_integer_and_string": (
        plain(pa.struct([("a", pa.int64()), ("b", pa.string())])),
        lambda text: dict(zip("ab", json.loads(text), strict=True)),
    ),
}


def golden_array(family, text):
    make, parse = GOLDEN_COLUMNS[family]
    value = parse(text)
    if make is None:
        make = plain(pa.uint64() if value >= 2**63 else pa.int64())
    return make([value])


def test_the_version_is_the_one_the_golden_vectors_are_for():
    assert GOLDEN_VECTORS["hash_version"] == HASH_VERSION


@pytest.mark.parametrize("vector", GOLDEN_VECTORS["values"], ids=lambda v: f"{v[0]}-{v[1][:24]}")
def test_golden_value(vector):
    family, text, expected = vector
    assert f"{hash_array(golden_array(family, text))[0]:016x}" == expected


@pytest.mark.parametrize("vector", GOLDEN_VECTORS["keys"], ids=lambda v: str(v[0])[:60])
def test_golden_key(vector):
    columns, expected, vnodes = vector
    hashes = hash_columns([golden_array(family, text) for family, text in columns])
    assert f"{hashes[0]:016x}" == expected
    assert {count: int(vnodes_of(hashes, int(count))[0]) for count in vnodes} == vnodes


def test_xxh3_of_the_empty_string_is_the_published_one():
    assert hashes_of(pa.array([""])) == [0x2D06800538D394C2]


# --- equal values, however they are laid out --------------------------------------------------


def equal(*arrays):
    first, *rest = map(hashes_of, arrays)
    return all(first == other for other in rest)


def test_integers_of_all_widths_are_equal_by_value():
    kinds = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
    assert equal(*(pa.array([0, 1, 127, None], kind) for kind in kinds))


def test_an_unsigned_integer_above_int64_is_no_negative_number():
    unsigned = hashes_of(pa.array([2**64 - 1, 2**63], pa.uint64()))
    assert not set(unsigned) & set(hashes_of(pa.array([-1, -(2**63)], pa.int64())))


def test_zeros_are_equal_and_so_are_all_nans():
    other_nan = np.array([0xFFF8DEADBEEF0001], np.uint64).view(np.float64)[0]
    signs = hashes_of(pa.array([0.0, -0.0, float("nan"), other_nan]))
    assert signs[0] == signs[1]
    assert signs[2] == signs[3]


def test_floats_of_all_widths_are_equal_by_value():
    values = np.array([0.5, -0.0, float("nan"), float("inf"), -65504.0])
    assert equal(*(pa.array(values.astype(f"f{width}")) for width in (2, 4, 8)))


def test_decimals_are_equal_by_value():
    values = [Decimal("1.5"), Decimal(-20), Decimal(0), None]
    kinds = [pa.decimal32(9, 1), pa.decimal64(18, 2), pa.decimal128(38, 4), pa.decimal256(76, 9)]
    assert equal(*(pa.array(values, kind) for kind in kinds))


def test_decimals_around_a_word_are_equal_by_value():
    values = [Decimal(2**63 - 1), Decimal(2**63), Decimal(-(2**63) - 1), Decimal(10**19 - 1)]
    kinds = [pa.decimal128(19, 0), pa.decimal128(20, 0), pa.decimal256(60, 5)]
    assert equal(*(pa.array(values, kind) for kind in kinds))
    assert hashes_of(pa.array(values, kinds[0])) == list(map(reference_decimal, values))


def test_dates_and_timestamps_are_equal_by_instant():
    days = pa.array([date(1969, 12, 31), date(2024, 2, 29), None], pa.date32())
    stamps = [days.cast(pa.timestamp(unit)) for unit in UNITS]
    zoned = stamps[0].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    assert equal(days, days.cast(pa.date64()), *stamps, zoned)


def test_far_instants_are_equal_although_nanoseconds_overflow():
    milliseconds = [10**16, -(10**16)]
    assert equal(
        pa.array([value // 1000 for value in milliseconds]).view(pa.timestamp("s")),
        pa.array(milliseconds).view(pa.timestamp("ms")),
    )


def test_times_and_durations_are_equal_across_units():
    assert equal(
        pa.array([5], pa.int32()).view(pa.time32("s")),
        pa.array([5_000_000], pa.int64()).view(pa.time64("us")),
    )
    assert equal(
        pa.array([-5]).view(pa.duration("s")), pa.array([-5_000_000_000]).view(pa.duration("ns"))
    )


def test_text_and_bytes_are_equal_in_all_layouts():
    text = pa.array(["", "short", "a value that no view holds inline", "é", None])
    layouts = [
        text,
        text.cast(pa.large_string()),
        text.cast(pa.string_view()),
        text.cast(pa.binary()),
        text.cast(pa.large_binary()),
        text.cast(pa.binary_view()),
        text.dictionary_encode(),
    ]
    assert equal(*layouts)
    assert equal(pa.array([b"ab"]), pa.array([b"ab"], pa.binary(2)))


def test_lists_are_equal_in_all_layouts():
    values = [[1, 2], [2, 1], None]
    kinds = [pa.list_(pa.int8()), pa.large_list(pa.uint16()), pa.list_view(pa.int64())]
    fixed = pa.list_(pa.int32(), 2)
    assert equal(*(pa.array(values, kind) for kind in [*kinds, fixed]))


def test_list_views_may_overlap_and_go_backwards():
    items = pa.array([1, 2, 3])
    views = pa.ListViewArray.from_arrays([1, 0, 1], [2, 2, 0], items)
    assert equal(views, pa.array([[2, 3], [1, 2], []]))


def test_an_extension_type_hashes_as_its_storage():
    assert equal(pa.array([b"0" * 16], pa.uuid()), pa.array([b"0" * 16], pa.binary(16)))


def test_families_are_apart():
    ones = [
        pa.array([1]),
        pa.array([True]),
        pa.array([1.0]),
        pa.array([Decimal(1)]),
        pa.array([1]).view(pa.timestamp("ns")),
        pa.array([1]).view(pa.time64("ns")),
        pa.array([1]).view(pa.duration("ns")),
        pa.array(["1"]),
        pa.array([[1]]),
        pa.array([{"a": 1}]),
        pa.nulls(1),
    ]
    assert len({hashes_of(array)[0] for array in ones}) == len(ones)


def test_a_null_is_the_same_in_every_type():
    for name, (make, _, _) in CASES.items():
        assert hashes_of(make([None])) == [TAG["null"]], name


def test_what_nulls_hide_does_not_matter():
    hidden = pa.Array.from_buffers(
        pa.float64(), 3, [pa.py_buffer(b"\x02"), pa.py_buffer(np.array([np.nan, 2.0, 1e300]))]
    )
    assert equal(hidden, pa.array([None, 2.0, None]))
    indices = pa.Array.from_buffers(
        pa.int8(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([0, 99], np.int8))]
    )
    assert equal(pa.DictionaryArray.from_arrays(indices, ["a"], safe=False), pa.array(["a", None]))
    items = pa.array([1, 2, 3], pa.int32())
    offsets, sizes = (pa.py_buffer(np.array(numbers, np.int32)) for numbers in ([1, 7], [2, 9]))
    views = pa.Array.from_buffers(
        pa.list_view(pa.int32()), 2, [pa.py_buffer(b"\x01"), offsets, sizes], children=[items]
    )
    assert equal(views, pa.array([[2, 3], None]))


def test_a_null_in_a_dictionary_is_a_null():
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", None]))
    assert equal(array, pa.array(["a", None, None]))


def test_only_the_used_part_of_a_large_dictionary_is_hashed():
    dictionary = pa.array([f"value {number} is long enough" for number in range(1000)])
    for values in (dictionary, dictionary.cast(pa.string_view())):
        array = pa.DictionaryArray.from_arrays(pa.array([999, None, 3]), values)
        assert equal(array, pa.array([dictionary[999].as_py(), None, dictionary[3].as_py()]))


def test_a_slice_of_run_ends_starts_and_stops_within_runs():
    array = pa.RunEndEncodedArray.from_arrays(
        pa.array([4, 5, 9], pa.int16()), pa.array(["a", None, "b"])
    )
    rows = ["a"] * 4 + [None] + ["b"] * 4
    for start in range(10):
        for stop in range(start, 10):
            assert equal(array.slice(start, stop - start), pa.array(rows[start:stop], pa.string()))


def test_nested_keys_in_slices_of_slices():
    kind = pa.list_(pa.struct([("a", pa.list_(pa.string_view())), ("b", pa.bool_())]))
    rows = [[{"a": ["x", None], "b": True}], None, [], [{"a": None, "b": None}, None]] * 3
    array = pa.array([None, *rows], kind).slice(1).slice(1, 10).slice(2)
    assert equal(array, pa.array(rows[3:11], kind))


# --- keys of several columns, vnodes -----------------------------------------------------------


def test_the_order_of_columns_counts():
    a, b = pa.array([1, 2, None]), pa.array([2, 1, 1])
    assert hash_columns([a, b]).tolist() != hash_columns([b, a]).tolist()
    expected = [
        reference_combined(nullable(reference_integer)(x), reference_integer(y))
        for x, y in zip(a.to_pylist(), b.to_pylist(), strict=True)
    ]
    assert hash_columns([a, b]).tolist() == expected


def test_a_key_needs_a_column():
    with pytest.raises(UnsupportedKeyError, match="at least one column"):
        hash_columns([])


@given(st.lists(st.integers(0, MASK), max_size=20), st.integers(1, VNODES_MAX))
def test_vnodes_are_the_upper_half_scaled(hashes, vnodes):
    reduced = vnodes_of(np.array(hashes, np.uint64), vnodes)
    assert reduced.dtype == np.uint16
    assert reduced.tolist() == [((value >> 32) * vnodes) >> 32 for value in hashes]


@pytest.mark.parametrize("vnodes", [0, -1, VNODES_MAX + 1])
def test_the_number_of_vnodes_is_checked(vnodes):
    with pytest.raises(ConfigError, match="vnodes"):
        vnodes_of(np.zeros(1, np.uint64), vnodes)


def test_vnodes_of_consecutive_integers_are_even():
    counts = np.bincount(vnodes_of(hash_array(pa.array(range(256_000))), 256), minlength=256)
    # 1000 in each, with a deviation of 32 if the hash is as good as chance.
    assert counts.min() > 850
    assert counts.max() < 1150


def test_mix64_is_the_splitmix64_finaliser_over_several_blocks():
    values = np.arange(40_000, dtype=np.uint64) * np.uint64(GOLDEN)
    expected = [mix(value) for value in values.tolist()]
    assert mix64(values) is values
    assert values.tolist() == expected


@pytest.mark.parametrize(
    "kind",
    [
        pa.map_(pa.string(), pa.int64()),
        pa.month_day_nano_interval(),
        pa.dense_union([pa.field("a", pa.int8())]),
        pa.sparse_union([pa.field("a", pa.int8())]),
        pa.list_(pa.map_(pa.string(), pa.int64())),
        pa.struct([("m", pa.map_(pa.string(), pa.int64()))]),
        pa.run_end_encoded(pa.int32(), pa.month_day_nano_interval()),
    ],
    ids=str,
)
def test_types_outside_the_contract_are_refused(kind):
    with pytest.raises(UnsupportedKeyError, match=r"column 'k'.*cannot be hashed"):
        check_key_type(kind, "k")
    with pytest.raises(UnsupportedKeyError, match="cannot be hashed"):
        check_key_type(kind)
    if not pa.types.is_run_end_encoded(kind):
        with pytest.raises(UnsupportedKeyError, match="cannot be hashed"):
            hash_array(pa.array([], kind) if not pa.types.is_union(kind) else EMPTY_UNION)


EMPTY_UNION = pa.UnionArray.from_sparse(pa.array([], pa.int8()), [pa.array([], pa.int8())])


@pytest.mark.parametrize("name", CASES)
def test_types_of_the_contract_pass(name):
    make, _, _ = CASES[name]
    check_key_type(make([None]).type, "k")
    assert hashes_of(make([None]).slice(1)) == []


def test_polars_is_imported_only_for_text_and_bytes():
    code = (
        "import sys, pyarrow as pa\n"
        "from laminar.shuffle.hashing import hash_array\n"
        "hash_array(pa.array([1, None]))\n"
        "assert 'polars' not in sys.modules\n"
        "hash_array(pa.array(['a']))\n"
        "assert 'polars' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- any two encodings of the same values -----------------------------------------------------

TICKS = st.none() | st.integers(-(2**31), 2**31 - 1)
SAME = {
    "integers": (
        st.none() | st.integers(0, 127),
        [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)],
    ),
    "floats": (
        st.none() | st.floats(width=16) | st.sampled_from([0.0, -0.0, float("nan")]),
        [pa.float16(), pa.float32(), pa.float64()],
    ),
    "decimals": (
        st.none() | st.integers(-9999, 9999).map(lambda cents: Decimal(cents).scaleb(-2)),
        [
            pa.decimal32(9, 2),
            pa.decimal64(18, 5),
            pa.decimal128(20, 2),
            pa.decimal128(38, 30),
            pa.decimal256(76, 40),
        ],
    ),
    "text": (
        st.none() | st.text(max_size=20),
        [
            pa.string(),
            pa.large_string(),
            pa.string_view(),
            pa.binary(),
            pa.large_binary(),
            pa.binary_view(),
        ],
    ),
    "fixed bytes": (
        st.none() | st.binary(min_size=16, max_size=16),
        [pa.binary(16), pa.binary(), pa.binary_view(), pa.uuid()],
    ),
    "instants": (
        TICKS,
        [
            pa.timestamp(unit, zone)
            for unit in UNITS
            for zone in (None, "UTC", "Asia/Tokyo", "-03:00")
        ],
    ),
    "durations": (TICKS, [pa.duration(unit) for unit in UNITS]),
    "times": (
        st.none() | st.integers(0, 86_399),
        [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")],
    ),
    "booleans": (st.none() | st.booleans(), [pa.bool_()]),
    "nulls": (st.none(), [pa.null(), pa.int8(), pa.string(), pa.list_(pa.int8())]),
}


def encoded(values, kind, wrapping):
    """``values`` as ``kind``, seconds as its ticks, and perhaps wrapped."""
    if pa.types.is_temporal(kind):
        steps = 10**9 // UNITS[kind.unit]
        ticks_of = [None if value is None else value * steps for value in values]
        array = pa.array(ticks_of, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
    elif pa.types.is_binary(kind) or "binary" in str(kind):
        array = pa.array([v.encode() if isinstance(v, str) else v for v in values], kind)
    else:
        array = pa.array(values, kind)
    count = len(values)
    if wrapping == "dictionary":
        return pa.DictionaryArray.from_arrays(pa.array(range(count), pa.int32()), array)
    if wrapping == "dictionary of nulls in its indices":
        indices = [None if value is None else row for row, value in enumerate(values)]
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.uint16()), array)
    if wrapping == "runs":
        ends = pa.array(range(1, count + 1), pa.int32())
        return pa.RunEndEncodedArray.from_arrays(ends, array)
    if wrapping == "extension":
        return pa.ExtensionArray.from_storage(pa.opaque(array.type, "t", "v"), array)
    if wrapping == "slice":
        return pa.concat_arrays([array, array, array]).slice(count, count)
    return array


WRAPPINGS = [
    "plain",
    "dictionary",
    "dictionary of nulls in its indices",
    "runs",
    "extension",
    "slice",
]


@pytest.mark.parametrize("name", SAME)
@given(data=st.data())
def test_equal_values_hash_equally_in_any_two_encodings(name, data):
    values, kinds = SAME[name]
    rows = data.draw(st.lists(values, max_size=12))
    one, other = (
        encoded(rows, data.draw(st.sampled_from(kinds)), data.draw(st.sampled_from(WRAPPINGS)))
        for _ in range(2)
    )
    assert equal(one, other)
    both = [hash_columns([one, other]), hash_columns([other, one])]
    assert both[0].tolist() == both[1].tolist()
