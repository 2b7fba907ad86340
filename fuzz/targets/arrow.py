"""Arrow bodies: what a validating decoder lets through can be read, sliced, gathered and sent on.

pyarrow is native code and may end the process, so :mod:`fuzz.engine` runs in a child of its own,
and the tests replay this corpus in one. An input is a list of DATA bodies of one channel: flags
(one byte), length (two bytes), body.
"""

from __future__ import annotations

import decimal
import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from fuzz.broken import expect
from fuzz.guidance import note
from fuzz.reading import Bytes
from laminar.errors import BatchTooLargeError, ProtocolError
from laminar.shuffle.arrow import BatchDecoder, BatchEncoder, size_of
from laminar.shuffle.gather import gather

ENTRY = struct.Struct("<BH")
LIMIT_BYTES = 1 << 20
ROWS_READ = 64
"""A batch without buffers may have 2**60 rows: only so many are turned into Python objects."""


def check(data: bytes) -> None:
    """Decode the bodies, and do to every batch what a consumer would."""
    source = Bytes(data)
    decoder = BatchDecoder(LIMIT_BYTES, validate_full=True)
    while not source.exhausted:
        flags, body = source.u8(), source.take(source.u16())
        try:
            batch = decoder.decode(body, 0, bool(flags & 2))
        except ProtocolError as error:
            note(str(error))
            return
        note(str(batch.schema))
        _use(batch)


def _use(batch: pa.RecordBatch) -> None:
    size_of(batch)
    head = batch.slice(0, ROWS_READ)
    try:
        head.to_pylist()
    except (ValueError, OverflowError, decimal.DecimalException, NotImplementedError) as error:
        note(str(error))  # for instance a time that Python's calendar does not have
    if batch.num_rows > ROWS_READ:
        batch.slice(batch.num_rows - ROWS_READ)
    for column in head.columns:
        try:
            gather(column, np.arange(len(column))[::-1])
        except (pa.ArrowException, NotImplementedError) as error:
            note(str(error))
    try:
        _, buffers, _ = BatchEncoder(LIMIT_BYTES).encode(head)
    except (BatchTooLargeError, pa.ArrowException) as error:
        note(str(error))
        return
    again = BatchDecoder(LIMIT_BYTES, validate_full=True).decode(
        b"".join(map(bytes, buffers)), 0, True
    )
    expect(again.num_rows == head.num_rows, "rows got lost on the way on")
    again.validate(full=True)


def encode(batches: list[pa.RecordBatch], compression: str | None = None) -> bytes:
    """An input of these batches, as one channel would send them."""
    encoder = BatchEncoder(LIMIT_BYTES, compression)  # type: ignore[arg-type]
    entries = []
    for batch in batches:
        starts, buffers, size = encoder.encode(batch)
        entries += [ENTRY.pack(2 if starts else 0, size), *map(bytes, buffers)]
    return b"".join(entries)


def seeds() -> Iterator[tuple[str, bytes]]:
    """A small batch of every kind of layout, streams, and compressed bodies."""
    for name, column in _columns().items():
        yield name, encode([pa.RecordBatch.from_arrays([column], ["x"])])
    numbers = pa.RecordBatch.from_pydict({"a": pa.array(range(100)), "b": ["text"] * 100})
    yield "stream", encode([numbers.slice(0, 3), numbers.slice(3, 4)])
    yield "new-schema", encode([numbers.slice(0, 2), numbers.select(["b"]).slice(0, 2)])
    yield "no-columns", encode([numbers.select([]).slice(0, 2)])
    yield "no-rows", encode([numbers.slice(0, 0)])
    yield "lz4", encode([numbers], "lz4")
    yield "zstd", encode([numbers], "zstd")
    words = [pa.array(list(text)).dictionary_encode() for text in ("aab", "bca")]
    grown = [pa.RecordBatch.from_arrays([column], ["x"]) for column in words]
    yield "dictionaries", encode(grown)


def _columns() -> dict[str, pa.Array]:
    numbers, words = pa.array([1, None, 3]), pa.array(["a", None, "longer than twelve bytes"])
    nested = pa.list_(pa.struct([("k", pa.string()), ("v", pa.int32())]))
    return {
        "int64": numbers,
        "bool": pa.array([True, None, False]),
        "null": pa.nulls(3),
        "double": pa.array([1.0, None, float("nan")]),
        "decimal": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(10, 2)),
        "timestamp": pa.array([0, None, 2], pa.timestamp("us", "UTC")),
        "date": pa.array([0, 1], pa.date32()),
        "duration": pa.array([0, None], pa.duration("ns")),
        "interval": pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
        "string": words,
        "large-string": words.cast(pa.large_string()),
        "string-view": words.cast(pa.string_view()),
        "binary-view": pa.array([b"a", None, b"b" * 30], pa.binary_view()),
        "fixed-size-binary": pa.array([b"abc", None], pa.binary(3)),
        "list": pa.array([[1, 2], None, []], pa.list_(pa.int16())),
        "large-list": pa.array([[1, 2], None, []], pa.large_list(pa.int16())),
        "list-view": pa.array([[1, 2], None, []], pa.list_view(pa.int16())),
        "fixed-size-list": pa.array([[1, 2], None], pa.list_(pa.int16(), 2)),
        "nested": pa.array([[{"k": "a", "v": 1}], None], nested),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int32())),
        "dictionary": pa.array(["a", "b", None, "a"]).dictionary_encode(),
        "run-end": pa.RunEndEncodedArray.from_arrays([2, 5], ["a", "b"]),
        "sparse-union": pa.UnionArray.from_sparse(
            pa.array([0, 1], pa.int8()), [numbers[:2], words[:2]]
        ),
        "dense-union": pa.UnionArray.from_dense(
            pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [numbers, words]
        ),
        "extension": pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([b"0" * 16], pa.binary(16))
        ),
    }
