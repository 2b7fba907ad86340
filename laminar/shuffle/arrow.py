"""Arrow batches as frame bodies, without copying.

Each channel carries one Arrow IPC stream, cut at batch boundaries: the schema travels with the
first batch, dictionaries when they change or grow. pyarrow writes to and reads from small
Python file objects here, which hand its buffers on as they are: what goes to the socket is the
batch's own memory, and what comes out points into the memory it was received into.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, Protocol, cast, runtime_checkable

import pyarrow as pa

from laminar.config import Compression
from laminar.errors import BatchTooLargeError, ProtocolError
from laminar.shuffle.gather import no_rows
from laminar.shuffle.inflation import inflated_bytes
from laminar.shuffle.ipc_limits import check_carried
from laminar.shuffle.schema_watch import KnownSchema
from laminar.shuffle.trim import dragging_columns, trim

SMALL_BUFFER_BYTES = 512
"""Buffers up to this size are joined: cheaper than an entry in the system call's list."""


@runtime_checkable
class SupportsArrowArray(Protocol):
    """A record batch or struct array of another library (the Arrow PyCapsule interface)."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """See the Arrow PyCapsule interface."""


@runtime_checkable
class SupportsArrowStream(Protocol):
    """A table of another library: polars, pandas, DuckDB (the Arrow PyCapsule interface)."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """See the Arrow PyCapsule interface."""


ArrowData = pa.RecordBatch | pa.Table | SupportsArrowArray | SupportsArrowStream


def batches_of(data: ArrowData) -> Iterator[pa.RecordBatch]:
    """The record batches of anything that speaks Arrow, without copying; at least one.

    Raises ``TypeError`` when ``data`` does not have the Arrow PyCapsule interface.
    """
    if isinstance(data, pa.RecordBatch):
        yield data
    elif isinstance(data, SupportsArrowStream):
        reader = pa.RecordBatchReader.from_stream(data)
        empty = True
        for batch in reader:
            empty = False
            yield batch
        if empty:  # the schema is worth telling also without rows
            columns = [no_rows(field.type) for field in reader.schema]
            yield pa.RecordBatch.from_arrays(columns, schema=reader.schema)
    elif isinstance(data, SupportsArrowArray):
        yield pa.record_batch(data)
    else:
        raise TypeError(
            f"expected a pyarrow.RecordBatch or an object with the Arrow PyCapsule interface "
            f"(polars, pandas, DuckDB), got {type(data).__name__}"
        )


def single_batch(data: ArrowData) -> pa.RecordBatch:
    """``data`` as one record batch; copies when it comes in several chunks.

    Raises ``TypeError`` as :func:`batches_of` does.
    """
    batches = list(batches_of(data))
    return batches[0] if len(batches) == 1 else concat(batches)


def concat(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch of the rows of all; they have the same schema."""
    # The stubs of pyarrow do not know this function yet.
    whole: pa.RecordBatch = pa.concat_batches(batches)  # type: ignore[attr-defined]
    return whole


class _Sink:
    """A file that keeps the buffers written to it."""

    closed = False

    def __init__(self) -> None:
        self._written: list[bytes | pa.Buffer] = []
        self._keep = self._written.append

    def write(self, buffer: bytes | pa.Buffer) -> int:
        self._keep(buffer)
        return len(buffer)

    def take(self) -> tuple[list[bytes | pa.Buffer], int]:
        """Everything written since the last call, runs of small buffers joined; its bytes."""
        buffers: list[bytes | pa.Buffer] = []
        small: list[bytes | pa.Buffer] = []
        total = 0
        for buffer in self._written:
            size = len(buffer)
            total += size
            if size <= SMALL_BUFFER_BYTES:
                small.append(buffer)
                continue
            if small:
                buffers.append(b"".join(small))
                small = []
            buffers.append(buffer)
        if small:
            buffers.append(b"".join(small))
        self._written.clear()
        return buffers, total

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True


class EncodedBatch(NamedTuple):
    """The body of a batch."""

    starts: bool
    """Whether it starts a new stream."""
    buffers: list[bytes | pa.Buffer]
    size: int
    """Bytes of the buffers together."""


_new_body = tuple.__new__
"""Makes a named tuple at half the price of calling it."""


class BatchEncoder:
    """Turns the batches of one channel into bodies of its IPC stream."""

    def __init__(self, limit_bytes: int, compression: Compression | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._compressed = compression is not None
        self._options = pa.ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=True)
        self._sink = _Sink()
        self._known = KnownSchema(pa.schema([]))
        self._dragging: list[int] = []
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def encode(self, batch: pa.RecordBatch) -> EncodedBatch:
        """The body of ``batch``.

        Raises :class:`~laminar.errors.BatchTooLargeError` when it exceeds the limit, which
        then is due to its dictionaries, and :class:`~laminar.errors.SchemaError` for a schema
        that Arrow IPC does not carry as it is. The batch is not part of the stream.
        """
        writer = self._writer
        starts = writer is None or not self._known.matches(batch.schema)
        if writer is None or starts:
            writer = self._open(batch.schema)
        # Of no rows, every column may drag the offsets of its parent.
        columns = self._dragging if batch.num_rows else range(batch.num_columns)
        self._writer = None  # half a batch must not be followed by another
        try:
            writer.write_batch(trim(batch, columns) if columns else batch)
        finally:
            buffers, size = self._sink.take()
        self._writer = writer
        largest = size
        if self._compressed:
            largest = max(size, inflated_bytes(b"".join(buffers)))
        if largest > self._limit_bytes:
            self.restart()
            raise BatchTooLargeError(
                f"a batch of {batch.num_rows} rows takes {largest:,} bytes with its schema and "
                f"dictionaries, more than the largest frame of {self._limit_bytes:,}; raise "
                "max_frame_bytes on both sides, or send smaller dictionaries"
            )
        return _new_body(EncodedBatch, (starts, buffers, size))

    def restart(self) -> None:
        """The next batch starts a new stream, with its schema and dictionaries."""
        self._writer = None

    def _open(self, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
        check_carried(schema)
        self._known = KnownSchema(schema)
        self._dragging = dragging_columns(schema)
        return pa.ipc.new_stream(_file(self._sink, "w"), schema, options=self._options)


def _file(handle: object, mode: Literal["r", "w"]) -> pa.PythonFile:
    """``handle`` as pyarrow sees it; it has the few methods that pyarrow calls."""
    return pa.PythonFile(cast(io.IOBase, handle), mode)


class _Source:
    """A file over one body at a time, whose reads are views of the body's memory."""

    closed = False

    def __init__(self) -> None:
        self._body = memoryview(b"")
        self._position = 0

    def feed(self, body: bytes | pa.Buffer, start: int) -> None:
        self._body = memoryview(body)
        self._position = start

    @property
    def exhausted(self) -> bool:
        return self._position >= len(self._body)

    def read(self, size: int = -1) -> memoryview:
        start = self._position
        stop = len(self._body) if size < 0 else min(start + size, len(self._body))
        self._position = stop
        return self._body[start:stop]

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


class BatchDecoder:
    """Turns the bodies of one channel back into batches."""

    def __init__(self, inflated_bytes_max: int, *, validate_full: bool = False) -> None:
        self._inflated_bytes_max = inflated_bytes_max
        self._validate_full = validate_full
        self._source = _Source()
        self._reader: pa.ipc.RecordBatchStreamReader | None = None

    def decode(self, body: bytes | pa.Buffer, start: int, starts_stream: bool) -> pa.RecordBatch:
        """The batch in ``body`` from byte ``start`` on; it points into the body's memory.

        Raises :class:`~laminar.errors.ProtocolError` (``arrow``) when it holds anything but
        exactly one batch of the channel's stream.
        """
        if self._validate_full:
            self._check_inflated(body, start)
        self._source.feed(body, start)
        try:
            if starts_stream:
                self._reader = _open_stream(self._source)
            if self._reader is None:
                raise ProtocolError("arrow", "a batch came before the schema")
            batch = self._reader.read_next_batch()
            batch.validate(full=self._validate_full)
        except (pa.ArrowException, StopIteration, OSError, ValueError) as error:
            raise ProtocolError("arrow", f"the batch cannot be read: {error}") from error
        if not self._source.exhausted:
            raise ProtocolError("arrow", "bytes follow the batch")
        if batch.num_rows < 0:  # without columns nothing contradicts it
            raise ProtocolError("arrow", f"a batch of {batch.num_rows} rows")
        return batch

    def _check_inflated(self, body: bytes | pa.Buffer, start: int) -> None:
        """Before pyarrow allocates what the body says."""
        size = inflated_bytes(body, start)
        if size > self._inflated_bytes_max:
            raise ProtocolError(
                "arrow",
                f"a body of {len(body):,} bytes inflates to {size:,}, more than the largest frame "
                f"of {self._inflated_bytes_max:,}",
            )


def _open_stream(source: _Source) -> pa.ipc.RecordBatchStreamReader:
    reader = pa.ipc.open_stream(_file(source, "r"))
    for field in reader.schema:
        _check_field(field)
    return reader


def _check_field(field: pa.Field[pa.DataType]) -> None:
    """Refuse what pyarrow reads, and then raises on wherever the column is touched.

    Raises ``UnicodeDecodeError`` when a name is not UTF-8, and ``ProtocolError``.
    """
    _ = field.name
    _check_type(field.type)


def _check_type(kind: pa.DataType) -> None:
    if isinstance(kind, pa.BaseExtensionType):
        _check_type(kind.storage_type)
    elif pa.types.is_dictionary(kind):
        _check_type(kind.value_type)
    elif pa.types.is_timestamp(kind):
        _ = kind.tz
    elif kind.id in _UNREADABLE:
        raise ProtocolError("arrow", f"Python cannot read a column of type {kind}")
    for index in range(kind.num_fields):
        _check_field(kind.field(index))


_UNREADABLE = (21, 22)
"""``INTERVAL_MONTHS`` and ``INTERVAL_DAY_TIME`` of Arrow's C++, which Python has no class for."""


def size_of(batch: pa.RecordBatch) -> int:
    """Bytes of ``batch`` as a frame body, without dictionaries and before compression."""
    size: int = pa.ipc.get_record_batch_size(batch)
    return size


def fixed_row_bits(schema: pa.Schema) -> int:
    """Bits of a row with the validity of its values; 0 unless all rows take the same."""
    bits = 0
    for field in schema:
        if not pa.types.is_primitive(field.type):
            return 0
        bits += field.type.bit_width + 1
    return bits


def has_dictionaries(schema: pa.Schema) -> bool:
    """Whether any column, at any depth, is dictionary-encoded."""
    return any(_any_type(field.type, pa.types.is_dictionary) for field in schema)


def _any_type(kind: pa.DataType, wanted: Callable[[pa.DataType], bool]) -> bool:
    """Whether ``kind``, or a type it is made of, is a wanted one."""
    if isinstance(kind, pa.BaseExtensionType):
        return _any_type(kind.storage_type, wanted)
    if wanted(kind):
        return True
    return any(_any_type(kind.field(index).type, wanted) for index in range(kind.num_fields))


def split_rows(
    batch: pa.RecordBatch, target_bytes: int, limit_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Cut ``batch`` by rows into slices of about ``target_bytes`` each, in order.

    Raises :class:`~laminar.errors.BatchTooLargeError` when a single row exceeds
    ``limit_bytes``.
    """
    batch = trim(batch)
    size = size_of(batch)
    pieces = min(-(-size // target_bytes), batch.num_rows)
    if pieces <= 1:
        if size > limit_bytes:
            raise BatchTooLargeError(
                f"one row takes {size:,} bytes, more than the largest frame of {limit_bytes:,}; "
                "raise max_frame_bytes on both sides"
            )
        yield batch
        return
    rows = -(-batch.num_rows // pieces)
    for offset in range(0, batch.num_rows, rows):
        piece = trim(batch.slice(offset, rows))
        if size_of(piece) > limit_bytes:
            # Its rows differ in size: cut it again, finer.
            yield from split_rows(piece, target_bytes, limit_bytes)
        else:
            yield piece
