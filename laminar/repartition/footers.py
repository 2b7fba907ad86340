"""What a file tells about itself without being read: its schema, pieces and encodings."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from laminar.errors import InputError
from laminar.repartition.hive import Keys
from laminar.repartition.protocol import OUT_OF_MEMORY
from laminar.repartition.sources import SourceFile, locate, reason

SAMPLED_ROW_GROUPS: Final = 32
"""Encodings are looked up in this many row groups of a file, spread over it."""

DICTIONARY_BYTES_MAX: Final = 16 << 10
"""A column whose dictionary page is larger is not held as dictionary indices."""

DICTIONARY_SHARE_MAX: Final = 0.25
"""Nor is one whose dictionary is more than this share of its data."""

ARROW_FILE_MAGIC: Final = b"ARROW1"
FEATHER_V1_MAGIC: Final = b"FEA1"
CSV_SAMPLE_BYTES: Final = 1 << 20
UNKNOWN_VALUE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file that can be read on its own: a row group, or a record batch."""

    index: int
    rows: int | None
    size_bytes: int
    """Its share of the file."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What planning needs to know about one file."""

    source: SourceFile
    schema: pa.Schema
    pieces: tuple[Piece, ...]
    row_bytes: float
    """Estimated size of a row in memory."""
    low_cardinality: frozenset[str] = field(default_factory=frozenset)
    """Text columns that are small dictionaries in the file."""
    decimals_as_integers: bool = False
    """Whether decimals are stored as integers (Parquet)."""
    constants: Keys = ()
    """The last columns of the schema, which the file's folders say and not the file."""
    integers: tuple[str, ...] = ()
    """Columns with fractions that are whole numbers in this (CSV) file."""


READ_ERRORS: Final = (pa.ArrowException, OSError, EOFError, ValueError)
"""What Arrow raises for a file that is missing, corrupt or of another kind."""


def unreadable(source_name: str, kind: str, error: BaseException) -> InputError:
    """The one line a user gets for a file that cannot be read."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return InputError(f"{source_name}: {reason(error)}")
    if isinstance(error, MemoryError):
        return InputError(f"{source_name}: {OUT_OF_MEMORY}: {reason(error)}")
    return InputError(f"{source_name}: not readable as {kind}: {reason(error)}")


def inspect(source: SourceFile) -> FileFacts:
    """Look at one file. Raises :class:`~laminar.errors.InputError` when it cannot be read."""
    look = {"parquet": _inspect_parquet, "arrow": _inspect_arrow, "csv": _inspect_csv}
    kind = {"parquet": "Parquet", "arrow": "Arrow IPC", "csv": "CSV"}[source.format]
    try:
        return look[source.format](source)
    except InputError:
        raise
    except READ_ERRORS as error:
        raise unreadable(source.name, kind, error) from error


def _inspect_parquet(source: SourceFile) -> FileFacts:
    filesystem, path = locate(source.name)
    with pq.ParquetFile(path, filesystem=filesystem, pre_buffer=False) as file:
        metadata, schema = file.metadata, file.schema_arrow
        columns = file.schema
        decimals = any(
            columns.column(i).logical_type.type == "DECIMAL"
            and columns.column(i).physical_type in ("INT32", "INT64")
            for i in range(len(columns))
        )
        pieces = _parquet_pieces(metadata, source.size_bytes)
        step = max(1, metadata.num_row_groups // SAMPLED_ROW_GROUPS)
        groups = [metadata.row_group(i) for i in range(0, metadata.num_row_groups, step)]
        return FileFacts(
            source,
            schema,
            pieces,
            _parquet_row_bytes(schema, groups),
            _low_cardinality(schema, groups),
            decimals,
        )


def _parquet_pieces(metadata: Any, file_bytes: int) -> tuple[Piece, ...]:
    sizes = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        sizes.append((index, group.num_rows, group.total_byte_size))
    total = sum(size for _, _, size in sizes) or 1
    return tuple(
        Piece(index, rows, file_bytes * size // total) for index, rows, size in sizes if rows > 0
    )


def _low_cardinality(schema: pa.Schema, groups: list[Any]) -> frozenset[str]:
    """Flat text columns whose every (sampled) chunk is a small dictionary and indices.

    Writers give a dictionary up when it grows beyond about a megabyte, so a small dictionary
    page means that the whole chunk is indices.
    """
    text = {
        field.name
        for field in schema
        if pa.types.is_string(field.type) or pa.types.is_string_view(field.type)
        if schema.names.count(field.name) == 1
    }
    if not groups:
        return frozenset()
    for group in groups:
        for index in range(group.num_columns):
            chunk = group.column(index)
            name = chunk.path_in_schema
            if name in text and not _is_small_dictionary(chunk):
                text.discard(name)
    seen = {groups[0].column(i).path_in_schema for i in range(groups[0].num_columns)}
    return frozenset(text & seen)


def _is_small_dictionary(chunk: Any) -> bool:
    if chunk.physical_type != "BYTE_ARRAY" or not chunk.has_dictionary_page:
        return False
    dictionary_bytes = chunk.data_page_offset - chunk.dictionary_page_offset
    share = dictionary_bytes / max(1, chunk.total_compressed_size)
    small = 0 < dictionary_bytes <= DICTIONARY_BYTES_MAX
    return bool(small and (share <= DICTIONARY_SHARE_MAX or dictionary_bytes <= 1024))


def _parquet_row_bytes(schema: pa.Schema, groups: list[Any]) -> float:
    rows = sum(group.num_rows for group in groups)
    if rows == 0:
        return row_bytes_of(schema)
    fixed = sum(_fixed_bytes(field.type) or 0 for field in schema)
    variable = 0
    for group in groups:
        for index in range(group.num_columns):
            chunk = group.column(index)
            top = chunk.path_in_schema.partition(".")[0]
            position = schema.get_field_index(top)
            if position >= 0 and _fixed_bytes(schema.field(position).type) is None:
                variable += chunk.total_uncompressed_size + 8 * chunk.num_values
    return float(fixed + variable / rows)


def _fixed_bytes(kind: pa.DataType) -> int | None:
    try:
        return (kind.bit_width + 7) // 8
    except ValueError:
        return None


def row_bytes_of(schema: pa.Schema) -> float:
    """A guess at the size of a row in memory from the types alone."""
    widths = (_fixed_bytes(field.type) for field in schema)
    return float(sum(UNKNOWN_VALUE_BYTES if width is None else width for width in widths))


def _inspect_arrow(source: SourceFile) -> FileFacts:
    filesystem, path = locate(source.name)
    with filesystem.open_input_file(path) as file:
        magic = file.read(len(ARROW_FILE_MAGIC))
        if magic.startswith(FEATHER_V1_MAGIC):
            raise InputError(f"{source.name}: Feather version 1 is not supported")
        file.seek(0)
        if magic != ARROW_FILE_MAGIC:
            with pa.ipc.open_stream(file) as stream:
                schema = stream.schema
            whole = (Piece(0, None, source.size_bytes),)
            return FileFacts(source, schema, whole, row_bytes_of(schema))
        with pa.ipc.open_file(file) as reader:
            count = reader.num_record_batches
            pieces = tuple(Piece(i, None, source.size_bytes // count) for i in range(count))
            return FileFacts(source, reader.schema, pieces, row_bytes_of(reader.schema))


def is_arrow_stream(file: pa.NativeFile) -> bool:
    """Whether an opened Arrow file is the streaming format; leaves the position at the start."""
    magic = file.read(len(ARROW_FILE_MAGIC))
    file.seek(0)
    return bool(magic != ARROW_FILE_MAGIC)


def _inspect_csv(source: SourceFile) -> FileFacts:
    """Types are inferred from the file's first megabyte; what does not fit later is an error."""
    head = _csv_head(source)
    if not head.strip():
        raise InputError(f"{source.name}: an empty CSV file has no column names")
    try:
        head.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source.name}: not UTF-8 text (byte 0x{head[error.start]:02x} at offset "
            f"{error.start:,}): convert it first, as with iconv"
        ) from error
    table = pacsv.read_csv(io.BytesIO(head))
    schema = pa.schema([f.with_type(_csv_type(f.type)) for f in table.schema])
    row_bytes = table.nbytes / table.num_rows if table.num_rows else row_bytes_of(schema)
    return FileFacts(source, schema, (Piece(0, None, source.size_bytes),), row_bytes)


def _csv_head(source: SourceFile) -> bytes:
    filesystem, path = locate(source.name)
    with filesystem.open_input_stream(path, compression="detect") as stream:
        head = bytes(stream.read(CSV_SAMPLE_BYTES))
        if stream.read(1):
            cut = head.rfind(b"\n")
            if cut < 0:
                raise InputError(f"{source.name}: a CSV line longer than {CSV_SAMPLE_BYTES} bytes")
            head = head[: cut + 1]
    return head


def _csv_type(inferred: pa.DataType) -> pa.DataType:
    """What a column of a CSV is held as: types that Parquet can keep."""
    if pa.types.is_timestamp(inferred) and inferred.unit == "s":
        return pa.timestamp("ms", inferred.tz)
    if pa.types.is_time32(inferred) and inferred.unit == "s":
        return pa.time32("ms")
    return inferred
