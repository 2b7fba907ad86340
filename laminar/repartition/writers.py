"""Writing one partition's file, a row group at a time."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from laminar.errors import OutputError
from laminar.repartition.protocol import OUT_OF_MEMORY
from laminar.repartition.schema import changed_fields, conform, physical_schema, stored_metadata
from laminar.repartition.sources import reason
from laminar.repartition.spec import OutputFormat

SAMPLE_ROWS: Final = 32_768
"""So many rows of the first row group decide which columns get a dictionary."""

DISTINCT_SHARE_MAX: Final = 1 / 8
"""A column with more distinct values than this share of the sample is written plainly: its
dictionary would overflow, which costs two to four times the time and saves nothing."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How partitions are written; the same for all files of a job."""

    logical: pa.Schema
    physical: pa.Schema
    output_format: OutputFormat
    codec: str
    decimals_as_integers: bool


class PartitionFile(Protocol):
    """One output file. Not thread-safe, but may be used from one thread after another.

    All methods raise :class:`~laminar.errors.OutputError`.
    """

    def write(self, rows: pa.Table) -> None:
        """Append rows (physical schema) as one row group."""

    def close(self) -> int:
        """Finish the file, make it durable, and return its size in bytes."""

    def abandon(self) -> None:
        """Let go of the file; it is of no use."""


def open_partition(path: Path, encoding: Encoding) -> PartitionFile:
    """Create the file of a partition. Nothing is written before the first row group."""
    if encoding.output_format == "arrow":
        return ArrowFile(path, encoding)
    return ParquetFile(path, encoding)


def _cannot_write(path: Path, error: BaseException) -> OutputError:
    if isinstance(error, MemoryError):
        return OutputError(f"cannot write {path}: {OUT_OF_MEMORY}: {reason(error)}")
    return OutputError(f"cannot write {path}: {reason(error)}")


def _sync(path: Path) -> int:
    """Wait until the file is on the disk; its size in bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


class ParquetFile:
    """A Parquet file; the dictionary columns are chosen from the first row group."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self._path = path
        self._encoding = encoding
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: pa.Table) -> None:
        """Append ``rows`` as one row group."""
        try:
            if self._writer is None:
                self._writer = self._open(dictionary_columns(rows))
            self._writer.write_table(_unify(rows), row_group_size=max(1, rows.num_rows))
        except (pa.ArrowException, OSError) as error:
            raise _cannot_write(self._path, error) from error

    def close(self) -> int:
        """Write the footer and wait for the disk."""
        try:
            if self._writer is None:
                self._writer = self._open([])
            self._writer.close()
            return _sync(self._path)
        except (pa.ArrowException, OSError) as error:
            raise _cannot_write(self._path, error) from error

    def abandon(self) -> None:
        """Nothing to do: the process ends, or the folder is removed."""

    def _open(self, dictionaries: Sequence[str]) -> pq.ParquetWriter:
        return parquet_writer(str(self._path), self._encoding, dictionaries)


def parquet_writer(where: Any, encoding: Encoding, dictionaries: Sequence[str]) -> pq.ParquetWriter:
    """A writer that leaves the schema as it is: names of list elements, stored types, ids."""
    make_writer: Any = pq.ParquetWriter
    writer: pq.ParquetWriter = make_writer(
        where,
        encoding.physical,
        compression=encoding.codec,
        use_dictionary=list(dictionaries),
        write_statistics=_with_statistics(encoding),
        store_schema=False,
        store_decimal_as_integer=encoding.decimals_as_integers,
        use_compliant_nested_type=False,
    )
    metadata: Any = stored_metadata(encoding.logical)
    writer.add_key_value_metadata(metadata)
    return writer


def _with_statistics(encoding: Encoding) -> list[str]:
    """All columns but text with a few distinct values.

    After a repartition every row group has all of those, so their smallest and largest say
    nothing, and finding them takes as long as writing the column.
    """
    return [
        held.name
        for field, held in zip(encoding.logical, encoding.physical, strict=True)
        if field.type == held.type or not pa.types.is_dictionary(held.type)
    ]


class ArrowFile:
    """An Arrow IPC file (random access format), in the logical schema."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self._path = path
        self._encoding = encoding
        self._sink: pa.NativeFile | None = None
        self._writer: pa.RecordBatchFileWriter | None = None
        self._dictionaries: dict[int, Any] = {}

    def write(self, rows: pa.Table) -> None:
        """Append ``rows`` as one record batch."""
        try:
            writer = self._writer or self._open()
            for batch in _unify(rows).combine_chunks().to_batches():
                writer.write_batch(
                    conform(self._extend_dictionaries(batch), self._encoding.logical)
                )
        except (pa.ArrowException, OSError) as error:
            raise _cannot_write(self._path, error) from error

    def close(self) -> int:
        """Write the footer and wait for the disk."""
        try:
            (self._writer or self._open()).close()
            if self._sink is not None:
                self._sink.close()
            return _sync(self._path)
        except (pa.ArrowException, OSError) as error:
            raise _cannot_write(self._path, error) from error

    def abandon(self) -> None:
        """Nothing to do: the process ends, or the folder is removed."""

    def _open(self) -> pa.RecordBatchFileWriter:
        self._sink = pa.OSFile(str(self._path), "wb")
        self._writer = arrow_writer(self._sink, self._encoding.logical, self._encoding.codec)
        return self._writer

    def _extend_dictionaries(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Make every dictionary an extension of the one before it.

        An Arrow file may add to a dictionary (a delta), but never replace it.
        """
        for i, field in enumerate(self._encoding.logical):
            if not pa.types.is_dictionary(field.type):
                continue
            column: Any = batch.column(i)
            before = self._dictionaries.get(i)
            if before is not None:
                none = pa.DictionaryArray.from_arrays(pa.nulls(0, column.type.index_type), before)
                merged = pa.chunked_array([none.cast(column.type), column]).unify_dictionaries()
                column = merged.chunk(merged.num_chunks - 1)
            self._dictionaries[i] = column.dictionary
            batch = batch.set_column(i, batch.schema.field(i), column)
        return batch


def arrow_writer(sink: Any, schema: pa.Schema, codec: str) -> pa.RecordBatchFileWriter:
    """A writer of the random access format that allows dictionaries to grow."""
    compression: Any = None if codec == "none" else codec
    options = pa.ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=True)
    return pa.ipc.new_file(sink, schema, options=options)


def _unify(rows: pa.Table) -> pa.Table:
    """One dictionary per dictionary column, so that a row group has one."""
    if any(pa.types.is_dictionary(field.type) for field in rows.schema):
        return rows.unify_dictionaries()
    return rows


def dictionary_columns(rows: pa.Table) -> list[str]:
    """The flat columns that repeat themselves enough for a dictionary to pay off."""
    chosen = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if pa.types.is_dictionary(field.type) or _repeats(column.slice(0, SAMPLE_ROWS)):
            chosen.append(field.name)
    return chosen


def _repeats(sample: pa.ChunkedArray[Any]) -> bool:
    if pa.types.is_nested(sample.type) or pa.types.is_boolean(sample.type) or not len(sample):
        return False
    try:
        distinct = len(sample.unique())
    except pa.ArrowNotImplementedError:  # a type Arrow cannot compare: extensions, small decimals
        return False
    return distinct <= len(sample) * DISTINCT_SHARE_MAX


def check_writable(
    logical: pa.Schema, dictionaries: Collection[str], output_format: OutputFormat, codec: str
) -> tuple[str, ...]:
    """Write an empty file to memory and read its schema back.

    Returns a note for every field that the format cannot keep exactly. Raises
    :class:`~laminar.errors.OutputError` for a codec or a type that cannot be written at all.
    """
    is_available: Any = pa.Codec.is_available
    if codec != "none" and not is_available(codec):
        raise OutputError(f"this pyarrow was built without {codec}: choose another --compression")
    physical = physical_schema(logical, dictionaries)
    sink = pa.BufferOutputStream()
    try:
        if output_format == "parquet":
            parquet_writer(sink, Encoding(logical, physical, "parquet", codec, False), []).close()
            written = pq.read_schema(pa.BufferReader(sink.getvalue()))
        else:
            with arrow_writer(sink, logical, codec) as writer:
                writer.write_batch(conform(_no_rows(physical), logical))
            written = pa.ipc.open_file(sink.getvalue()).schema
    except (pa.ArrowException, OSError) as error:
        raise OutputError(f"these columns do not fit {output_format}: {reason(error)}") from error
    changes = changed_fields(logical, written)
    return tuple(
        f"column {name!r}: {change} in {output_format}" for name, change in changes.items()
    )


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in schema], schema=schema)
