"""Arrow types, arrays and batches of any kind, for hypothesis.

Types are drawn by hypothesis, and shrink. Values come from a drawn seed: there are many of
them, and which ones is rarely what matters.
"""

import random
from contextlib import suppress
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from hypothesis import strategies as st

UNITS = ("s", "ms", "us", "ns")

FLAT = (
    pa.null(),
    pa.bool_(),
    *(getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)),
    pa.float16(),
    pa.float32(),
    pa.float64(),
    pa.decimal32(9, 3),
    pa.decimal64(18, 0),
    pa.decimal128(38, 9),
    pa.decimal128(20, -3),
    pa.decimal256(76, 38),
    pa.date32(),
    pa.date64(),
    pa.time32("s"),
    pa.time32("ms"),
    pa.time64("us"),
    pa.time64("ns"),
    *(pa.timestamp(unit) for unit in UNITS),
    *(pa.timestamp(unit, zone) for unit in UNITS for zone in ("UTC", "Europe/Zurich", "+01:30")),
    *(pa.duration(unit) for unit in UNITS),
    pa.month_day_nano_interval(),
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.binary(0),
    pa.binary(7),
)

DICTIONARY_VALUES = tuple(
    kind for kind in FLAT if not pat.is_null(kind) and not pat.is_interval(kind)
)


class Labelled(pa.ExtensionType):
    """An extension type with a parameter, which is registered below."""

    def __init__(self, storage, label):
        self.label = label
        super().__init__(storage, "laminar.tests.labelled")

    def __arrow_ext_serialize__(self):
        return self.label.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls(storage, serialized.decode())


with suppress(pa.ArrowKeyError):  # pytest may import this module more than once
    pa.register_extension_type(Labelled(pa.null(), ""))

METADATA = st.none() | st.dictionaries(
    st.sampled_from(["unit", "note", "ünï"]), st.text("xyzé", max_size=3), min_size=1, max_size=2
)
NAMES = st.sampled_from(["a", "b", "", "item", "ä b"])


@st.composite
def fields(draw, kinds, names=NAMES):
    kind = draw(kinds)
    nullable = draw(st.booleans()) or pat.is_null(kind)
    return pa.field(draw(names), kind, nullable, draw(METADATA))


@st.composite
def maps(draw, kinds):
    """Their keys are not null, and the fields are named as Arrow IPC insists."""
    key = draw(fields(st.sampled_from(FLAT[1:]), st.just("key")))
    value = draw(fields(kinds, st.just("value")))
    return pa.map_(key.with_nullable(False), value, draw(st.booleans()))


def dictionaries(values):
    index = st.sampled_from([pa.int8(), pa.uint16(), pa.int32(), pa.uint64(), pa.int64()])
    return st.builds(pa.dictionary, index, values, st.booleans())


def _extended(kinds):
    named = fields(kinds)
    some = st.lists(named, min_size=1, max_size=3, unique_by=lambda field: field.name)
    return st.one_of(
        st.builds(pa.list_, named),
        st.builds(pa.large_list, named),
        st.builds(pa.list_view, named),
        st.builds(pa.large_list_view, named),
        st.builds(pa.list_, named, st.integers(0, 3)),
        st.builds(pa.struct, some | st.just([])),
        maps(kinds),
        st.builds(pa.sparse_union, some),
        st.builds(lambda f: pa.dense_union(f, [3 * n + 1 for n in range(len(f))]), some),
        st.builds(pa.run_end_encoded, st.sampled_from([pa.int16(), pa.int32(), pa.int64()]), kinds),
        dictionaries(kinds.filter(is_bare)),
        st.builds(Labelled, kinds.filter(is_bare), st.sampled_from("xy")),
    )


def is_bare(kind):
    """Arrow IPC wraps a type in one dictionary or extension directly, not in several."""
    return not isinstance(kind, pa.BaseExtensionType) and not pat.is_dictionary(kind)


EXTENSIONS = (pa.uuid(), pa.json_(), pa.bool8())

TYPES = st.recursive(
    st.sampled_from(FLAT)
    | dictionaries(st.sampled_from(DICTIONARY_VALUES))
    | st.sampled_from(EXTENSIONS),
    _extended,
    max_leaves=4,
)
"""Any type that Arrow IPC carries."""

# --- values ----------------------------------------------------------------------------------

TEXTS = ("", "a", "short", "twelve bytes", "longer than twelve bytes", "ünï€😀" * 3)


def array_of(kind, length, rng, *, nullable=True):
    """An array of ``length`` values of ``kind``, sometimes a window on a longer one."""
    before, behind = (rng.choice([0, 0, 1, 5]) for _ in range(2))
    whole = _whole(kind, before + length + behind, rng, nullable)
    return whole.slice(before, length)


def _whole(kind, length, rng, nullable):
    for matches, build in _BUILDERS:
        if matches(kind):
            return build(kind, length, rng, nullable)
    raise AssertionError(f"no values of {kind}")


def _validity(length, rng, nullable):
    """A bitmap, or ``None``, and which values are null."""
    if not nullable or rng.random() < 0.4:
        return None, np.zeros(length, bool)
    nulls = np.array([rng.random() < 0.2 for _ in range(length)], bool)
    return pa.py_buffer(np.packbits(~nulls, bitorder="little").tobytes()), nulls


def _nulls(kind, length, rng, nullable):
    return pa.nulls(length)


def _fixed(kind, length, rng, nullable):
    bits = kind.bit_width
    validity, _ = _validity(length, rng, nullable)
    if pat.is_boolean(kind):
        values = rng.randbytes(-(-length // 8) or 1)
    elif pat.is_floating(kind):
        values = np.array([rng.choice([0.0, -0.0, 1.5, -2.25, 1024.0]) for _ in range(length)])
        values = values.astype(f"f{bits // 8}").tobytes()
    elif pat.is_integer(kind):
        values = rng.randbytes(length * bits // 8)
    elif pat.is_date64(kind):
        values = _ticks(length, rng, 64, 86_400_000)
    else:
        values = _ticks(length, rng, bits, 1000 if "ns" in str(kind) else 1)
    return pa.Array.from_buffers(kind, length, [validity, pa.py_buffer(values)])


def _ticks(length, rng, bits, step):
    """Days, seconds and the like, of which Python's classes have no fractions."""
    most = min(20_000, 86_399)
    ticks = [rng.randrange(most) * step for _ in range(length)]
    return np.array(ticks, f"i{bits // 8}").tobytes()


def _from_python(kind, length, rng, nullable, value):
    values = [None if nullable and rng.random() < 0.2 else value(rng) for _ in range(length)]
    return pa.array(values, kind)


def _decimal(kind, length, rng, nullable):
    most = 10 ** min(kind.precision, 28) - 1

    def value(rng):
        return Decimal(rng.randrange(-most, most)).scaleb(-kind.scale)

    return _from_python(kind, length, rng, nullable, value)


def _interval(kind, length, rng, nullable):
    def value(rng):
        return pa.MonthDayNano([rng.randrange(9), rng.randrange(9), 1000 * rng.randrange(9)])

    return _from_python(kind, length, rng, nullable, value)


def _text(kind, length, rng, nullable):
    return _from_python(kind, length, rng, nullable, lambda rng: rng.choice(TEXTS))


def _bytes(kind, length, rng, nullable):
    width = kind.byte_width if pat.is_fixed_size_binary(kind) else None

    def value(rng):
        return rng.randbytes(rng.choice([0, 5, 12, 13, 40]) if width is None else width)

    return _from_python(kind, length, rng, nullable, value)


def _dictionary(kind, length, rng, nullable):
    size = rng.choice([1, 3, 20])
    dictionary = array_of(kind.value_type, size, rng)
    indices = pa.array(
        [None if nullable and rng.random() < 0.2 else rng.randrange(size) for _ in range(length)],
        kind.index_type,
    )
    return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=kind.ordered)


def _lists(kind, length, rng, nullable):
    validity, nulls = _validity(length, rng, nullable)
    sizes = np.array([rng.choice([0, 1, 1, 2, 5]) for _ in range(length)], np.int64)
    sizes[nulls] *= rng.randrange(2)  # there may be something under a null
    stops = np.concatenate([[0], np.cumsum(sizes)])
    is_map = pat.is_map(kind)
    item = None if is_map else kind.value_field
    if is_map:
        entries = pa.struct([kind.key_field, kind.item_field])
        items = _struct(entries, int(stops[-1]), rng, False)
    else:
        items = array_of(item.type, int(stops[-1]), rng, nullable=item.nullable)
    wide = np.int64 if pat.is_large_list(kind) else np.int32
    buffers = [validity, pa.py_buffer(stops.astype(wide).tobytes())]
    return pa.Array.from_buffers(kind, length, buffers, children=[items])


def _list_views(kind, length, rng, nullable):
    """Rows may share items, skip some and go backwards."""
    validity, _ = _validity(length, rng, nullable)
    count = rng.choice([1, length, 3 * length]) + 5
    items = array_of(kind.value_type, count, rng, nullable=kind.value_field.nullable)
    sizes = np.array([rng.choice([0, 1, 2, 5]) for _ in range(length)], np.int64)
    offsets = np.array([rng.randrange(count - 5 + 1) for _ in range(length)], np.int64)
    wide = np.int64 if pat.is_large_list_view(kind) else np.int32
    buffers = [pa.py_buffer(values.astype(wide).tobytes()) for values in (offsets, sizes)]
    return pa.Array.from_buffers(kind, length, [validity, *buffers], children=[items])


def _fixed_size_list(kind, length, rng, nullable):
    validity, _ = _validity(length, rng, nullable)
    field = kind.value_field
    items = array_of(field.type, length * kind.list_size, rng, nullable=field.nullable)
    return pa.Array.from_buffers(kind, length, [validity], children=[items])


def _struct(kind, length, rng, nullable):
    validity, _ = _validity(length, rng, nullable)
    children = [array_of(f.type, length, rng, nullable=f.nullable) for f in kind]
    return pa.Array.from_buffers(kind, length, [validity], children=children)


def _union(kind, length, rng, nullable):
    choices = [rng.randrange(kind.num_fields) for _ in range(length)]
    codes = np.array([kind.type_codes[choice] for choice in choices], np.int8)
    buffers = [None, pa.py_buffer(codes.tobytes())]
    sizes = [length] * kind.num_fields
    if kind.mode == "dense":
        sizes = [choices.count(index) for index in range(kind.num_fields)]
        seen = [0] * kind.num_fields
        offsets = []
        for choice in choices:
            offsets.append(seen[choice])
            seen[choice] += 1
        buffers.append(pa.py_buffer(np.array(offsets, np.int32).tobytes()))
    children = [
        array_of(kind.field(index).type, size, rng, nullable=kind.field(index).nullable)
        for index, size in enumerate(sizes)
    ]
    return pa.Array.from_buffers(kind, length, buffers, children=children)


def _run_ends(kind, length, rng, nullable):
    ends = []
    while not ends or ends[-1] < length:
        ends.append((ends[-1] if ends else 0) + rng.choice([1, 1, 3, 20]))
    values = array_of(kind.value_type, len(ends), rng, nullable=nullable)
    ends = pa.array(ends, kind.run_end_type)
    return pa.RunEndEncodedArray.from_arrays(ends, values, type=kind).slice(0, length)


def _extension(kind, length, rng, nullable):
    if kind == pa.json_():
        storage = pa.array(["{}"] * length, kind.storage_type)
    else:
        storage = array_of(kind.storage_type, length, rng, nullable=nullable)
    return pa.ExtensionArray.from_storage(kind, storage)


_BUILDERS = (
    (lambda kind: isinstance(kind, pa.BaseExtensionType), _extension),
    (pat.is_null, _nulls),
    (pat.is_decimal, _decimal),
    (pat.is_interval, _interval),
    (
        lambda kind: "string" in str(kind) and kind.num_fields == 0 and not pat.is_dictionary(kind),
        _text,
    ),
    (
        lambda kind: "binary" in str(kind) and kind.num_fields == 0 and not pat.is_dictionary(kind),
        _bytes,
    ),
    (pat.is_dictionary, _dictionary),
    (lambda kind: pat.is_list(kind) or pat.is_large_list(kind) or pat.is_map(kind), _lists),
    (lambda kind: pat.is_list_view(kind) or pat.is_large_list_view(kind), _list_views),
    (pat.is_fixed_size_list, _fixed_size_list),
    (pat.is_struct, _struct),
    (pat.is_union, _union),
    (pat.is_run_end_encoded, _run_ends),
    (pat.is_primitive, _fixed),
)


# --- batches ---------------------------------------------------------------------------------


@st.composite
def schemas(draw, max_columns=3):
    columns = draw(st.lists(fields(TYPES), max_size=max_columns))
    return pa.schema(columns, metadata=draw(METADATA))


def batch_of(schema, rows, rng):
    """A batch of ``rows`` rows, also without columns."""
    if len(schema) == 0:
        counted = pa.RecordBatch.from_arrays([pa.nulls(rows)], ["x"])
        return counted.select([]).replace_schema_metadata(schema.metadata)
    arrays = [array_of(field.type, rows, rng, nullable=field.nullable) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


SEEDS = st.integers(0, 2**32 - 1).map(random.Random)


@st.composite
def windows(draw, schemas=schemas(), rows=400):  # noqa: B008 - a strategy is a value
    """A slice of a batch of ``rows`` rows: often a few, sometimes many, sometimes none."""
    batch = batch_of(draw(schemas), rows, draw(SEEDS))
    start = draw(st.integers(0, rows))
    return batch.slice(start, draw(st.integers(0, 20) | st.integers(0, rows)))


# --- what they take --------------------------------------------------------------------------


def arrays_in(kind):
    """How many arrays one of ``kind`` consists of; a dictionary's values are not among them."""
    if isinstance(kind, pa.BaseExtensionType):
        return arrays_in(kind.storage_type)
    return 1 + sum(arrays_in(kind.field(index).type) for index in range(kind.num_fields))


def referenced_bytes(array):
    """Bytes that the rows of ``array`` refer to, each row by itself; no dictionaries."""
    kind, length = array.type, len(array)
    if isinstance(kind, pa.BaseExtensionType):
        return referenced_bytes(array.storage)
    if pat.is_null(kind):
        return 0
    if pat.is_run_end_encoded(kind):
        first, count = array.find_physical_offset(), array.find_physical_length()
        runs = count * kind.run_end_type.bit_width // 8
        return runs + referenced_bytes(array.values.slice(first, count))
    if pat.is_union(kind):
        return _referenced_by_union(array)
    bitmap = length / 8 if array.null_count else 0
    if pat.is_dictionary(kind):
        return bitmap + length * kind.index_type.bit_width // 8
    if pat.is_struct(kind):
        return bitmap + sum(referenced_bytes(array.field(n)) for n in range(kind.num_fields))
    if pat.is_fixed_size_list(kind):
        size = kind.list_size
        return bitmap + referenced_bytes(array.values.slice(array.offset * size, length * size))
    if pat.is_list_view(kind) or pat.is_large_list_view(kind):
        valid = np.array(array.is_valid())
        offsets, sizes = np.array(array.offsets)[valid], np.array(array.sizes)[valid]
        used = {
            n
            for start, size in zip(offsets, sizes, strict=True)
            for n in range(start, start + size)
        }
        items = sum(referenced_bytes(array.values.slice(n, 1)) for n in used)
        return bitmap + 2 * length * array.offsets.type.bit_width // 8 + items
    if pat.is_list(kind) or pat.is_large_list(kind) or pat.is_map(kind):
        offsets = np.array(array.offsets)
        width = array.offsets.type.bit_width // 8
        items = array.values.slice(offsets[0], offsets[-1] - offsets[0])
        return bitmap + (length + 1) * width + referenced_bytes(items)
    return bitmap + _referenced_by_flat(array)


def _referenced_by_flat(array):
    kind, length = array.type, len(array)
    if pat.is_string_view(kind) or pat.is_binary_view(kind):
        sizes = [len(value) for value in array.cast(pa.large_binary()).to_pylist() if value]
        return 16 * length + sum(size for size in sizes if size > 12)
    if kind in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary()):
        wide = pat.is_large_string(kind) or pat.is_large_binary(kind)
        content = sum(len(v) for v in array.cast(pa.large_binary()).to_pylist() if v)
        return (length + 1) * (8 if wide else 4) + content
    return length * kind.bit_width / 8


def _referenced_by_union(array):
    kind, length = array.type, len(array)
    children = range(kind.num_fields)
    if kind.mode == "sparse":
        return length + sum(referenced_bytes(array.field(n)) for n in children)
    codes = np.frombuffer(array.buffers()[1], np.int8)[array.offset : array.offset + length]
    offsets = np.frombuffer(array.buffers()[2], np.int32)[array.offset : array.offset + length]
    total = 5 * length
    for index in children:
        here = offsets[codes == kind.type_codes[index]]
        total += sum(referenced_bytes(array.field(index).slice(int(n), 1)) for n in here)
    return total
