"""Cuts batches loose from the larger ones that they are windows on.

A slice of an Arrow array shares its parent's buffers. When it is written, Arrow leaves out
what lies before and behind the slice, but not everywhere: views and list views keep all the
data of their parent, dense unions their members, and offsets of no rows all offsets. And as
long as it is held, the slice keeps the whole parent alive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from laminar.shuffle.gather import (
    compact,
    gather,
    is_loose_view,
    is_plain,
    is_view,
    no_rows,
    used_items,
)

SLACK_BYTES: Final = 4096
"""What a column may hold beyond a few times its own rows before they are copied."""

PINNED_TIMES_MAX: Final = 4
"""How often its own size: parts for a few nodes share what they were taken into."""

_SMALL_BYTES: Final = 64


def trim(batch: pa.RecordBatch, columns: Iterable[int] | None = None) -> pa.RecordBatch:
    """``batch`` with those columns rewritten that would drag more than their rows along.

    ``columns`` are the indices of those that :func:`may_drag`; found out when not given.
    Itself when there is nothing to trim.
    """
    for index in dragging_columns(batch.schema) if columns is None else columns:
        column = batch.column(index)
        rewritten = _trimmed(column)
        if rewritten is not column:
            batch = batch.set_column(index, batch.schema.field(index), rewritten)
    return batch


def _trimmed(column: pa.Array[Any]) -> pa.Array[Any]:
    if is_view(column.type) and len(column):
        return compact(column)
    return gather(column, np.arange(len(column))) if _drags(column) else column


def unpin(batch: pa.RecordBatch) -> pa.RecordBatch:
    """``batch`` in memory of a few times its own size at most: itself, or a copy of its rows.

    A dictionary that a column refers to is shared, not copied.
    """
    for index, field in enumerate(batch.schema):
        column = batch.column(index)
        held = _held_bytes(column)
        if held > SLACK_BYTES and held > PINNED_TIMES_MAX * _own_bytes(column) + SLACK_BYTES:
            batch = batch.set_column(index, field, _copied(column))
    return batch


def _held_bytes(column: pa.Array[Any]) -> int:
    """Bytes that stay in memory as long as ``column`` does, dictionaries aside."""
    roots = {}
    for buffer in column.buffers():
        root = buffer
        while root is not None and root.parent is not None:
            root = root.parent
        if root is not None:
            roots[root.address] = root.size
    return sum(roots.values())


def _own_bytes(column: pa.Array[Any]) -> int:
    alone = trim(pa.RecordBatch.from_arrays([column], [""]))
    return int(pa.ipc.get_record_batch_size(alone))


def _copied(column: pa.Array[Any]) -> pa.Array[Any]:
    if len(column) == 0:
        return no_rows(column.type)
    if is_plain(column.type):
        return gather(column, np.arange(len(column)))
    # What is rebuilt level by level may still share the data of views.
    schema = pa.schema([pa.field("", column.type)])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(trim(pa.RecordBatch.from_arrays([column], schema=schema)))
    copy: pa.Array[Any] = pa.ipc.open_stream(sink.getvalue()).read_next_batch().column(0)
    if copy.type == column.type:
        return copy
    # An extension type that is not registered comes back as its storage.
    if isinstance(column.type, pa.ExtensionType) and copy.type == column.type.storage_type:
        return pa.ExtensionArray.from_storage(column.type, copy)
    return gather(column, np.arange(len(column)))


def dragging_columns(schema: pa.Schema) -> list[int]:
    """The columns of ``schema`` that :func:`trim` must look at."""
    return [index for index, field in enumerate(schema) if may_drag(field.type)]


def may_drag(kind: pa.DataType) -> bool:
    """Whether slices of ``kind`` with rows may be written with more than those rows."""
    if isinstance(kind, pa.BaseExtensionType):
        return may_drag(kind.storage_type)
    return is_view(kind) or (kind.num_fields > 0 and not pat.is_dictionary(kind))


def _drags(array: Any) -> bool:
    """Whether ``array`` would be written with clearly more than its rows refer to."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _drags(array.storage)
    if len(array) == 0:
        held = 0 if pat.is_dictionary(kind) else array.get_total_buffer_size()
        return bool(held > _SMALL_BYTES)
    if not may_drag(kind):
        return False
    if is_view(kind):
        return is_loose_view(array)
    if pat.is_list_view(kind) or pat.is_large_list_view(kind):
        items = array.values
        return int(used_items(array).sum()) * 10 < len(items) * 9 or _drags(items)
    if pat.is_union(kind) and kind.mode == "dense":
        children = [array.field(index) for index in range(kind.num_fields)]
        return sum(map(len, children)) > len(array) or any(map(_drags, children))
    return any(map(_drags, _children(array)))


def _children(array: Any) -> list[Any]:
    """What the rows of ``array`` are made of, without what lies before and behind them."""
    kind = array.type
    if pat.is_fixed_size_list(kind):
        size = kind.list_size
        return [array.values.slice(array.offset * size, len(array) * size)]
    if pat.is_run_end_encoded(kind):
        return [array.values.slice(array.find_physical_offset(), array.find_physical_length())]
    if pat.is_struct(kind) or pat.is_union(kind):
        return [array.field(index) for index in range(kind.num_fields)]
    if kind.num_fields:
        offsets = array.offsets
        first = offsets[0].as_py()
        return [array.values.slice(first, offsets[-1].as_py() - first)]
    return []
