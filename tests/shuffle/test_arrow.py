"""Batches cross as they are: the same values, types and metadata, in the same memory."""

import struct
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from laminar.errors import BatchTooLargeError, ProtocolError
from laminar.shuffle.arrow import (
    SMALL_BUFFER_BYTES,
    BatchDecoder,
    BatchEncoder,
    batches_of,
    concat,
    fixed_row_bits,
    has_dictionaries,
    single_batch,
    size_of,
    split_rows,
)

LIMIT = 64 << 20


def body_of(buffers):
    return b"".join(bytes(buffer) for buffer in buffers)


class Wire:
    """One channel's encoder and decoder."""

    def __init__(self, limit=LIMIT, compression=None):
        self.encoder = BatchEncoder(limit, compression)
        self.decoder = BatchDecoder(LIMIT)
        self.sizes = []
        self.starts = []

    def __call__(self, batch, start=0):
        starts, buffers, size = self.encoder.encode(batch)
        body = body_of(buffers)
        assert size == len(body)
        self.sizes.append(size)
        self.starts.append(starts)
        return self.decoder.decode(bytes(start) + body, start, starts)


def check_same(out, batch):
    out.validate(full=True)
    assert out.schema.equals(batch.schema, check_metadata=True)
    assert out.num_rows == batch.num_rows
    assert out.to_pylist() == batch.to_pylist()


def column(values, kind):
    return pa.RecordBatch.from_arrays([pa.array(values, kind)], ["x"])


STRINGS = ["", None, "short", "something longer than twelve bytes", "ünï€😀"] * 3
INTS = [1, None, 3, 4, None] * 3
TYPES = {
    "null": (pa.null(), [None] * 15),
    "bool": (pa.bool_(), [True, None, False] * 5),
    "int8": (pa.int8(), INTS),
    "uint64": (pa.uint64(), [2**64 - 1, None, 0] * 5),
    "float16": (pa.float16(), [np.float16(1.5), None] * 7),
    "decimal": (pa.decimal128(20, 2), [1, None, 3] * 5),
    "decimal256": (pa.decimal256(60, 2), [1, None, 3] * 5),
    "date": (pa.date32(), INTS),
    "timestamp": (pa.timestamp("ns", "Europe/Berlin"), INTS),
    "duration": (pa.duration("us"), INTS),
    "time": (pa.time64("us"), INTS),
    "interval": (pa.month_day_nano_interval(), [pa.MonthDayNano([1, 2, 3]), None] * 7),
    "string": (pa.string(), STRINGS),
    "large_string": (pa.large_string(), STRINGS),
    "string_view": (pa.string_view(), STRINGS),
    "binary_view": (pa.binary_view(), [b"", None, b"x" * 40] * 5),
    "fixed_binary": (pa.binary(3), [b"abc", None] * 7),
    "list": (pa.list_(pa.string()), [[], None, ["a", None]] * 5),
    "list_of_view": (pa.list_(pa.string_view()), [[], None, ["a", None, "b" * 30]] * 5),
    "large_list": (pa.large_list(pa.int8()), [[], None, [1, None]] * 5),
    "fixed_list": (pa.list_(pa.int8(), 2), [[1, 2], None, [None, 4]] * 5),
    "list_view": (pa.list_view(pa.int32()), [[1], None, [], [2, 3]] * 4),
    "map": (pa.map_(pa.string(), pa.int8()), [[("a", 1)], None, []] * 5),
    "struct": (
        pa.struct([pa.field("a", pa.int8(), metadata={"k": "v"}), ("b", pa.string_view())]),
        [{"a": 1, "b": "x" * 20}, None, {"a": None, "b": None}] * 5,
    ),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), STRINGS),
    "ordered_dictionary": (pa.dictionary(pa.int8(), pa.string(), ordered=True), STRINGS),
    "uuid": (pa.uuid(), [bytes(16), None] * 7),
}


def example_batch(name):
    kind, values = TYPES[name]
    return column(values, kind)


REE = pa.RecordBatch.from_arrays(
    [
        pa.RunEndEncodedArray.from_arrays(
            pa.array([5, 9, 15], pa.int32()), pa.array(["a", None, "c"])
        )
    ],
    ["x"],
)
UNION = pa.RecordBatch.from_arrays(
    [
        pa.UnionArray.from_dense(
            pa.array([0, 1] * 7, pa.int8()),
            pa.array(sorted([*range(7)] * 2), pa.int32()),
            [pa.array(range(7)), pa.array(list("abcdefg"))],
        )
    ],
    ["x"],
)
BATCHES = {**{name: example_batch(name) for name in TYPES}, "run_end": REE, "union": UNION}
ONE_OF_EACH = [pytest.param(batch, id=name) for name, batch in BATCHES.items()]


@pytest.mark.parametrize("batch", ONE_OF_EACH)
class TestEveryType:
    @pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
    def test_survives(self, batch, compression):
        wire = Wire(compression=compression)
        for _ in range(3):
            check_same(wire(batch), batch)
        assert wire.starts == [True, False, False]

    def test_slices_survive(self, batch):
        wire = Wire()
        for offset, length in [(0, 5), (3, 7), (8, 1), (9, 0), (1, 13)]:
            piece = batch.slice(offset, length)
            check_same(wire(piece), piece)

    def test_without_rows(self, batch):
        wire = Wire()
        for rows in (0, 4, 0):
            check_same(wire(batch.slice(0, rows)), batch.slice(0, rows))

    def test_can_be_joined_by_the_sender(self, batch):
        joined = concat([batch, batch.slice(2, 3)])
        check_same(Wire()(joined), joined)

    def test_behind_a_prefix(self, batch):
        check_same(Wire()(batch, start=8), batch)

    def test_has_a_size_and_can_be_split(self, batch):
        pieces = list(split_rows(batch, 200, LIMIT))
        assert pa.Table.from_batches(pieces).to_pylist() == batch.to_pylist()


class TestSchema:
    def test_rows_without_columns(self):
        batch = pa.RecordBatch.from_arrays([], schema=pa.schema([])).slice(0, 0)
        check_same(Wire()(batch), batch)
        rows = column([1, 2, 3], pa.int8()).select([])
        assert rows.num_rows == 3
        check_same(Wire()(rows), rows)
        assert concat([rows, rows]).num_rows == 6

    def test_metadata_and_nullability(self):
        fields = [
            pa.field("a", pa.int8(), nullable=False, metadata={"unit": "m", b"\xff": b"\0"}),
            pa.field("a", pa.string()),
            pa.field("", pa.struct([pa.field("in", pa.int8(), metadata={"deep": "1"})])),
        ]
        schema = pa.schema(fields, metadata={"pandas": "{}", "x": ""})
        arrays = [pa.array([1]), pa.array(["x"]), pa.array([{"in": 3}])]
        arrays = [array.cast(field.type) for array, field in zip(arrays, fields, strict=True)]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        out = Wire()(batch)
        out.validate(full=True)
        assert out.schema.equals(schema, check_metadata=True)
        assert out.schema.field(0).nullable is False
        assert out.schema.field(2).type.field(0).metadata == {b"deep": b"1"}
        assert out.equals(batch)

    def test_travels_once_and_again_when_it_changes(self):
        plain = column([1, 2], pa.int64())
        noted = plain.replace_schema_metadata({"k": "v"})
        renamed = plain.rename_columns(["y"])
        wire = Wire()
        for batch in (plain, plain, noted, noted, renamed, plain, plain):
            check_same(wire(batch), batch)
        assert wire.starts == [True, False, True, False, True, True, False]
        assert wire.sizes[1] < wire.sizes[0]
        assert wire.sizes[1] == wire.sizes[6] == size_of(plain)

    def test_only_field_metadata_changes(self):
        wire = Wire()
        for unit in ("m", "km"):
            field = pa.field("x", pa.int8(), metadata={"unit": unit})
            batch = pa.RecordBatch.from_arrays(
                [pa.array([1], pa.int8())], schema=pa.schema([field])
            )
            check_same(wire(batch), batch)
        assert wire.starts == [True, True]


class TestDictionaries:
    KIND = pa.dictionary(pa.int16(), pa.string())

    def coded(self, codes, words):
        array = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int16()), pa.array(words))
        return pa.RecordBatch.from_arrays([array], ["x"])

    def test_travel_once(self):
        batch = self.coded([0, 1], ["x" * 5000, "y" * 5000])
        wire = Wire()
        check_same(wire(batch), batch)
        check_same(wire(batch.slice(1)), batch.slice(1))
        assert wire.sizes[0] > 10_000
        assert wire.sizes[1] < 1000

    def test_grow_by_what_is_new(self):
        wire = Wire()
        words = ["x" * 5000]
        for word in "abc":
            words = [*words, word]
            batch = self.coded([len(words) - 1, 0, None], words)
            check_same(wire(batch), batch)
        assert wire.starts == [True, False, False]
        assert all(size < 2000 for size in wire.sizes[1:])

    def test_are_replaced(self):
        wire = Wire()
        for words in (["a", "b"], ["c"], ["a", "b"], ["d", "b", "e"]):
            batch = self.coded([0, len(words) - 1], words)
            check_same(wire(batch), batch)

    def test_of_earlier_batches_stay_as_they_were(self):
        """A replacement must not show in a batch that the user still holds."""
        wire = Wire()
        first = self.coded([0, 1], ["a", "b"])
        out = wire(first)
        wire(self.coded([0, 1], ["c", "d"]))
        wire(self.coded([0, 1, 2], ["c", "d", "e"]))
        check_same(out, first)

    def test_several_and_nested(self):
        words = pa.array(["a", "b", "a"]).dictionary_encode()
        nested = pa.StructArray.from_arrays([words, words], ["p", "q"])
        listed = pa.ListArray.from_arrays(pa.array([0, 1, 3, 3], pa.int32()), words)
        batch = pa.RecordBatch.from_arrays([nested, listed, words], ["s", "l", "d"])
        wire = Wire()
        for _ in range(2):
            check_same(wire(batch), batch)
        assert has_dictionaries(batch.schema)

    @settings(max_examples=60)
    @given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=6), min_size=1, max_size=8))
    def test_any_sequence(self, batches):
        wire = Wire()
        for values in batches:
            batch = column(values, pa.string())
            batch = pa.RecordBatch.from_arrays([batch["x"].dictionary_encode()], ["x"])
            check_same(wire(batch), batch)

    def test_too_large_leaves_the_stream_as_it_was(self):
        wire = Wire(limit=5000)
        small = self.coded([0], ["a"])
        large = self.coded([0], ["x" * 10_000])
        check_same(wire(small), small)
        for _ in range(2):
            with pytest.raises(BatchTooLargeError, match="max_frame_bytes"):
                wire(large)
        for batch in (small, self.coded([0, 1], ["a", "b"]), column([1], pa.int8())):
            check_same(wire(batch), batch)
        with pytest.raises(BatchTooLargeError):
            wire(large)

    @pytest.mark.parametrize(
        ("kind", "has"),
        [
            (pa.string(), False),
            (pa.dictionary(pa.int8(), pa.string()), True),
            (pa.list_(pa.dictionary(pa.int8(), pa.string())), True),
            (pa.struct([("a", pa.int8()), ("b", pa.map_(pa.string(), pa.string()))]), False),
            (pa.map_(pa.string(), pa.dictionary(pa.int8(), pa.string())), True),
            (pa.run_end_encoded(pa.int32(), pa.dictionary(pa.int8(), pa.string())), True),
        ],
        ids=str,
    )
    def test_are_found_at_any_depth(self, kind, has):
        assert has_dictionaries(pa.schema([("a", pa.int8()), ("x", kind)])) is has


class TestNothingIsCopied:
    ROWS = 100_000

    def batch(self):
        rows = np.arange(self.ROWS)
        arrays = [pa.array(rows), pa.array(rows * 0.5), pa.array([f"{n:09}" for n in rows])]
        return pa.RecordBatch.from_arrays(arrays, ["i", "f", "s"])

    def test_by_the_encoder(self):
        batch = self.batch()
        own = {
            buffer.address
            for array in batch.columns
            for buffer in array.buffers()
            if buffer is not None
        }
        _, buffers, _ = BatchEncoder(LIMIT).encode(batch)
        large = [buffer for buffer in buffers if isinstance(buffer, pa.Buffer)]
        assert {buffer.address for buffer in large} == own
        small = [buffer for buffer in buffers if not isinstance(buffer, pa.Buffer)]
        assert all(len(buffer) < 5000 for buffer in small)

    def test_by_the_encoder_of_a_slice(self):
        batch = self.batch().slice(1000, 50_000)
        before = pa.total_allocated_bytes()
        _, buffers, size = BatchEncoder(LIMIT).encode(batch)
        addresses = {b.address for b in buffers if isinstance(b, pa.Buffer)}
        assert batch["i"].buffers()[1].address + 8 * 1000 in addresses
        # The offsets of a sliced string column are rebased, and only they are new.
        assert pa.total_allocated_bytes() - before <= 4 * 50_001 + 10_000
        assert size < 1.1 * size_of(batch)

    def test_by_the_decoder(self):
        batch = self.batch()
        starts, buffers, _ = BatchEncoder(LIMIT).encode(batch)
        body = pa.py_buffer(body_of(buffers))
        before = pa.total_allocated_bytes()
        out = BatchDecoder(LIMIT).decode(body, 0, starts)
        assert pa.total_allocated_bytes() - before < 10_000
        for array in out.columns:
            for buffer in array.buffers():
                if buffer is not None:
                    assert body.address <= buffer.address < body.address + body.size
        check_same(out.slice(0, 100), batch.slice(0, 100))

    def test_and_what_arrives_keeps_its_memory_alive(self):
        batch = self.batch()
        out = Wire()(batch)
        pa.allocate_buffer(out.nbytes)
        assert out.equals(batch)

    def test_small_buffers_are_joined(self):
        batch = pa.RecordBatch.from_arrays([pa.array([1, 2, 3])] * 50, [str(n) for n in range(50)])
        encoder = BatchEncoder(LIMIT)
        encoder.encode(batch)
        _, buffers, _ = encoder.encode(batch)
        assert len(buffers) <= 3
        assert SMALL_BUFFER_BYTES < 5000


class TestViews:
    """A slice of a view column shares all its parent's data, and must not drag it along."""

    WORDS = pa.array([f"{n:050}" for n in range(20_000)], pa.string_view())
    WHOLE = pa.RecordBatch.from_arrays([WORDS], ["x"])

    def test_a_slice_does_not_drag_its_parent_along(self):
        piece = self.WHOLE.slice(5000, 10)
        wire = Wire()
        check_same(wire(piece), piece)
        assert wire.sizes[0] < 3000

    def test_nor_does_one_inside_another_column(self):
        views = self.WORDS
        offsets = pa.array(range(0, 20_001, 2), pa.int32())
        batch = pa.RecordBatch.from_arrays(
            [
                pa.ListArray.from_arrays(offsets, views),
                pa.StructArray.from_arrays([views.slice(0, 10_000)], ["v"]),
            ],
            ["l", "s"],
        )
        piece = batch.slice(300, 5)
        wire = Wire()
        check_same(wire(piece), piece)
        assert wire.sizes[0] < 5000

    def test_a_whole_column_is_not_copied(self):
        _, buffers, _ = BatchEncoder(LIMIT).encode(self.WHOLE)
        sent = {buffer.address for buffer in buffers if isinstance(buffer, pa.Buffer)}
        assert {buffer.address for buffer in self.WORDS.buffers() if buffer} <= sent

    def test_are_split_like_other_columns(self):
        pieces = list(split_rows(self.WHOLE, 100_000, 200_000))
        assert pa.Table.from_batches(pieces).equals(pa.Table.from_batches([self.WHOLE]))
        assert 8 <= len(pieces) <= 30
        wire = Wire(limit=210_000)
        for piece in pieces:
            check_same(wire(piece), piece)
        assert sum(wire.sizes) < 1.5 * self.WHOLE.nbytes

    def test_a_piece_counts_for_what_it_is(self):
        """Its size decides whether there is room in the window."""
        for piece in split_rows(self.WHOLE, 100_000, 64 << 20):
            assert size_of(piece) < 200_000


class TestWhatComesFromAStranger:
    BATCH = pa.RecordBatch.from_arrays(
        [
            pa.array(range(40)),
            pa.array([f"word {n}" for n in range(40)]),
            pa.array([[n, n] for n in range(40)]),
            pa.array(["p", "q"] * 20).dictionary_encode(),
        ],
        ["i", "s", "l", "d"],
    )

    def body(self, compression=None):
        _, buffers, _ = BatchEncoder(LIMIT, compression).encode(self.BATCH)
        return body_of(buffers)

    def refused(self, body, start=0, starts=True, decoder=None):
        with pytest.raises(ProtocolError) as caught:
            (decoder or BatchDecoder(LIMIT)).decode(body, start, starts)
        assert caught.value.reason == "arrow"

    @pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
    def test_truncated_anywhere(self, compression):
        body = self.body(compression)
        for length in range(0, len(body), 7):
            self.refused(body[:length])

    @pytest.mark.parametrize("tail", [b"\0", b"\0" * 8, b"\xff\xff\xff\xff\0\0\0\0"])
    def test_trailing_bytes(self, tail):
        self.refused(self.body() + tail)

    def test_two_batches(self):
        encoder = BatchEncoder(LIMIT)
        first, second = (body_of(encoder.encode(self.BATCH)[1]) for _ in range(2))
        self.refused(first + second)

    def test_a_batch_before_the_schema(self):
        self.refused(self.body(), starts=False)

    def test_a_schema_without_a_batch(self):
        self.refused(self.BATCH.schema.serialize().to_pybytes())

    def test_the_end_of_the_stream_instead_of_a_batch(self):
        decoder = BatchDecoder(LIMIT)
        decoder.decode(self.body(), 0, True)
        self.refused(b"\xff\xff\xff\xff\0\0\0\0", starts=False, decoder=decoder)

    def test_a_start_beyond_the_body(self):
        self.refused(b"", start=8)

    def test_a_claim_of_huge_metadata(self):
        before = pa.total_allocated_bytes()
        self.refused(b"\xff\xff\xff\xff" + struct.pack("<i", 2**31 - 1) + bytes(100))
        self.refused(struct.pack("<i", 2**31 - 1) + bytes(100))
        assert pa.total_allocated_bytes() - before < 1 << 20

    @settings(max_examples=200)
    @given(st.binary(max_size=300), st.booleans())
    def test_noise(self, noise, framed):
        self.refused((b"\xff\xff\xff\xff\x40\0\0\0" if framed else b"") + noise)

    @settings(max_examples=400)
    @given(st.data(), st.sampled_from([None, "lz4", "zstd"]))
    def test_a_corrupt_batch_is_refused_or_sound(self, data, compression):
        """What is handed out must not make the process read memory that is not its own."""
        body = bytearray(self.body(compression))
        for _ in range(data.draw(st.integers(1, 4))):
            position = data.draw(st.integers(0, len(body) - 1))
            body[position] = data.draw(st.integers(0, 255))
        try:
            batch = BatchDecoder(LIMIT).decode(bytes(body), 0, True)
        except ProtocolError:
            return
        batch.validate()

    def test_offsets_beyond_the_data(self):
        """The structure is that of a sound batch; only ``validate`` sees it."""
        body = bytearray(self.body())
        offsets = struct.pack("<3i", 0, 6, 12)
        where = body.index(offsets) + 4 * 40
        body[where : where + 4] = struct.pack("<i", 1 << 30)
        self.refused(bytes(body))


def rows_of(pieces):
    return [value for piece in pieces for value in piece["x"].to_pylist()]


class TestSplit:
    @settings(max_examples=100)
    @given(
        st.lists(st.integers(0, 3000), min_size=1, max_size=60),
        st.integers(500, 20_000),
        st.integers(0, 20_000),
    )
    @example([3000] + [0] * 59, 500, 3200)
    @example([0] * 59 + [3000], 500, 3200)
    def test_every_row_once_in_order_within_the_limit(self, widths, target, above):
        limit = target + above
        batch = column(["x" * width for width in widths], pa.string())
        largest = max(size_of(batch.slice(n, 1)) for n in range(len(widths)))
        if largest > limit:
            with pytest.raises(BatchTooLargeError, match="one row takes"):
                list(split_rows(batch, target, limit))
            return
        pieces = list(split_rows(batch, target, limit))
        assert rows_of(pieces) == batch["x"].to_pylist()
        assert all(size_of(piece) <= limit for piece in pieces)
        assert all(piece.num_rows > 0 for piece in pieces)

    def test_one_piece_when_it_fits(self):
        batch = column(range(10), pa.int64())
        assert list(split_rows(batch, size_of(batch), LIMIT)) == [batch]
        empty = batch.slice(0, 0)
        assert list(split_rows(empty, 1, LIMIT)) == [empty]

    def test_pieces_are_about_the_target_and_share_the_memory(self):
        batch = column(range(1_000_000), pa.int64())
        pieces = list(split_rows(batch, 1 << 20, LIMIT))
        assert len(pieces) == 8
        assert all(size_of(piece) <= 1.05 * (1 << 20) for piece in pieces)
        address = batch["x"].buffers()[1].address
        assert all(piece["x"].buffers()[1].address == address for piece in pieces)

    def test_the_limit_alone_does_not_split(self):
        """A single row larger than the target, but not than the limit, goes as it is."""
        batch = column(["x" * 10_000] * 3, pa.string())
        assert [piece.num_rows for piece in split_rows(batch, 100, LIMIT)] == [1, 1, 1]

    @pytest.mark.parametrize("rows", [1, 2, 50])
    def test_a_row_that_is_too_large(self, rows):
        batch = column(["y"] * (rows - 1) + ["x" * 10_000], pa.string())
        with pytest.raises(BatchTooLargeError, match="max_frame_bytes"):
            list(split_rows(batch, 1000, 5000))


class Foreign:
    """What another library hands over."""

    def __init__(self, data):
        self._data = data


class ForeignArray(Foreign):
    def __arrow_c_array__(self, requested_schema=None):
        return self._data.__arrow_c_array__(requested_schema)


class ForeignStream(Foreign):
    def __arrow_c_stream__(self, requested_schema=None):
        return self._data.__arrow_c_stream__(requested_schema)


class TestBatchesOf:
    BATCH = pa.RecordBatch.from_pydict({"x": [1, 2], "y": ["a", None]})
    TABLE = pa.table({"x": pa.chunked_array([[1, 2], [3], []])})

    def test_a_record_batch_is_itself(self):
        assert [id(batch) for batch in batches_of(self.BATCH)] == [id(self.BATCH)]
        assert single_batch(self.BATCH) is self.BATCH

    def test_a_table_is_its_chunks_without_copies(self):
        out = list(batches_of(self.TABLE))
        assert [value for batch in out for value in batch["x"].to_pylist()] == [1, 2, 3]
        chunk = self.TABLE["x"].chunk(0).buffers()[1].address
        assert out[0]["x"].buffers()[1].address == chunk
        assert single_batch(self.TABLE)["x"].to_pylist() == [1, 2, 3]

    def test_a_reader_is_read_lazily(self):
        read = []

        def produce():
            for number in range(3):
                read.append(number)
                yield self.BATCH

        reader = pa.RecordBatchReader.from_batches(self.BATCH.schema, produce())
        batches = batches_of(reader)
        next(batches)
        assert len(read) < 3
        assert len(list(batches)) == 2

    @pytest.mark.parametrize("wrap", [ForeignArray, ForeignStream])
    def test_anything_with_the_interface(self, wrap):
        schema = self.BATCH.schema.with_metadata({"k": "v"})
        data = self.BATCH.replace_schema_metadata({"k": "v"})
        if wrap is ForeignStream:
            data = pa.Table.from_batches([data])
        (out,) = batches_of(wrap(data))
        assert out.equals(self.BATCH)
        assert out.schema.equals(schema, check_metadata=True)

    def test_polars(self):
        frame = pl.DataFrame(
            {"x": [1, 2], "y": ["a", None], "c": pl.Series(["p", "q"], dtype=pl.Categorical)}
        )
        (out,) = batches_of(frame)
        assert pl.DataFrame(out).equals(frame)
        check_same(Wire()(out), out)

    def test_pandas(self):
        frame = pd.DataFrame({"x": [1, 2], "y": ["a", "b"]})
        (out,) = batches_of(frame)
        assert out.to_pydict() == {"x": [1, 2], "y": ["a", "b"]}

    @pytest.mark.parametrize(
        "empty",
        [
            TABLE.slice(0, 0),
            pa.Table.from_batches([], schema=TABLE.schema),
            BATCH.slice(0, 0),
            pl.DataFrame({"x": []}, schema={"x": pl.Int64}),
            pa.RecordBatchReader.from_batches(pa.schema([("x", pa.int64())]), []),
        ],
        ids=lambda empty: type(empty).__module__.split(".")[0] + type(empty).__name__,
    )
    def test_without_rows_the_schema_remains(self, empty):
        out = list(batches_of(empty))
        assert sum(batch.num_rows for batch in out) == 0
        assert out[0].schema.field("x").type == pa.int64()

    @pytest.mark.parametrize("kind", [kind for kind, _ in TYPES.values()], ids=str)
    def test_an_empty_table_of_any_type(self, kind):
        field = pa.field("x", kind, nullable=pa.types.is_null(kind))
        table = pa.schema([field], metadata={"k": "v"}).empty_table()
        (out,) = batches_of(pa.Table.from_batches([], schema=table.schema))
        check_same(Wire()(out), out)
        assert out.schema.equals(table.schema, check_metadata=True)

    @pytest.mark.parametrize("thing", [None, 1, [1], {"x": [1]}, "x", object()])
    def test_anything_else_is_a_type_error(self, thing):
        with pytest.raises(TypeError, match=type(thing).__name__):
            list(batches_of(thing))


@settings(max_examples=60)
@given(st.data())
def test_any_stream_of_batches(data):
    """Changing schemas, slices and dictionaries, over one channel."""
    wire = Wire(compression=data.draw(st.sampled_from([None, "lz4", "zstd"])))
    names = data.draw(st.lists(st.sampled_from(sorted(BATCHES)), min_size=1, max_size=10))
    for name in names:
        batch = BATCHES[name]
        offset = data.draw(st.integers(0, batch.num_rows))
        piece = batch.slice(offset, data.draw(st.integers(0, batch.num_rows - offset)))
        check_same(wire(piece), piece)
    assume(len(names) > 1)
    assert wire.starts == [True, *(a != b for a, b in pairwise(names))]


class TestFixedRows:
    @pytest.mark.parametrize(
        ("kind", "bits"),
        [(pa.int64(), 65), (pa.int8(), 9), (pa.bool_(), 2), (pa.date32(), 33), (pa.float16(), 17)],
    )
    def test_rows_of_plain_values_take_the_same(self, kind, bits):
        schema = pa.schema([("a", kind), ("b", pa.int32())])
        assert fixed_row_bits(schema) == bits + 33
        batch = pa.RecordBatch.from_arrays([pa.nulls(1000, f.type) for f in schema], schema=schema)
        assert batch.get_total_buffer_size() <= 1000 * fixed_row_bits(schema) / 8 + 4 * 64

    @pytest.mark.parametrize(
        "kind", [pa.string(), pa.binary_view(), pa.list_(pa.int8()), pa.dictionary("int8", "int8")]
    )
    def test_others_do_not(self, kind):
        assert fixed_row_bits(pa.schema([("a", pa.int64()), ("b", kind)])) == 0
