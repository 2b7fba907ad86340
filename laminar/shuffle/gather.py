"""Picks rows out of Arrow arrays of any layout, into buffers that hold only those rows.

pyarrow's own ``take`` does most of it. It has no kernel for views (``string_view``,
``binary_view``) and run-end-encoded arrays, alone or nested, and for list views it keeps all
items of the source alive; those are rebuilt here. The type of an array, with the metadata
and nullability of the fields inside, never changes.

A view array is 16 bytes a row, with the value inside when it has 12 bytes or fewer and a
reference into shared data otherwise. Picking rows moves the 16 bytes; :func:`compact` then
leaves behind the data that no row refers to, which would travel with every slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

Positions: TypeAlias = npt.NDArray[np.int64]

_VIEW_BYTES: Final = 16
_VIEW_INLINE_BYTES_MAX: Final = 12
_INT32_MAX: Final = 2**31 - 1


def gather(array: pa.Array[Any], positions: Positions) -> pa.Array[Any]:
    """The rows of ``array`` at ``positions``, in that order, in buffers of their own.

    ``positions`` are ``0 … len(array) - 1``, repeats allowed; they are not checked.
    A dictionary is shared, not copied.
    """
    if len(array) == 0:  # its buffers may be missing, which not all of pyarrow expects
        return array if pat.is_dictionary(array.type) else no_rows(array.type)
    if is_plain(array.type):
        return _take(array, positions)
    if is_view(array.type):
        return compact(_take_views(array, positions))
    return _rebuilder(array.type)(array, positions)


def gather_parts(
    array: pa.Array[Any], positions: Positions, cuts: Sequence[int]
) -> list[pa.Array[Any]]:
    """The rows at ``positions[cuts[i] : cuts[i + 1]]`` for each ``i``.

    The parts are slices of one taken array where a slice carries only its own rows when it
    is sent, and arrays of their own otherwise.
    """
    if is_plain(array.type):
        taken = gather(array, positions)
        return [taken.slice(start, stop - start) for start, stop in pairwise(cuts)]
    if is_view(array.type):
        return _view_parts(_take_views(array, positions), cuts)
    return [gather(array, positions[start:stop]) for start, stop in pairwise(cuts)]


def is_view(kind: pa.DataType) -> bool:
    """Whether ``kind`` is ``string_view`` or ``binary_view``."""
    return pat.is_string_view(kind) or pat.is_binary_view(kind)


def is_plain(kind: pa.DataType) -> bool:
    """Whether pyarrow's ``take`` handles ``kind``, and with buffers of the result's own."""
    if isinstance(kind, pa.BaseExtensionType):
        return is_plain(kind.storage_type)
    if is_view(kind) or pat.is_run_end_encoded(kind):
        return False
    if pat.is_list_view(kind) or pat.is_large_list_view(kind):
        return False
    inner: Any = kind
    return all(is_plain(inner.field(index).type) for index in range(kind.num_fields))


def compact(array: pa.Array[Any]) -> pa.Array[Any]:
    """A view array without the data its rows do not refer to; itself when that is little."""
    if not is_loose_view(array):
        return array
    words = _view_words(array)
    refers = _refers(array, words)
    if not refers.any():
        return _without_data(array)
    packed = _cut_data(array, words, refers, words[:, 0] * refers)
    return _pack_views(array, [0, len(array)])[0] if packed is None else packed


def is_loose_view(array: pa.Array[Any]) -> bool:
    """Whether a view array holds clearly more data than its rows refer to, each by itself."""
    data = array.buffers()[2:]
    if not data:
        return False
    words = _view_words(array)
    used = int(np.sum(words[:, 0] * _refers(array, words), dtype=np.int64))
    held = sum(buffer.size for buffer in data if buffer is not None)
    return held * 10 > used * 11  # to copy for less than that is not worth it


def _cut_data(
    array: pa.Array[Any],
    words: npt.NDArray[np.int32],
    refers: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int32],
) -> pa.Array[Any] | None:
    """The view array with a slice of its data, if the rows' values lie in it row by row.

    So they do in slices of what :func:`_pack_views` made: cheaper than to pack them again.
    """
    _, _, *data = array.buffers()
    validity = None
    if len(data) != 1 or data[0] is None:
        return None
    stops = np.cumsum(lengths, dtype=np.int64)
    first = int(words[int(refers.argmax()), 3])
    offsets = stops - lengths
    if not ((words[:, 3] == offsets + first) | ~refers).all():
        return None
    moved = words.copy()
    np.copyto(moved[:, 3], offsets, where=refers, casting="same_kind")
    if array.null_count:
        valid = _valid(array)
        moved[~valid] = 0  # the view of a null may refer to anything
        validity = _bitmap(valid)
    buffers = [validity, _buffer(moved), data[0].slice(first, int(stops[-1]))]
    cut: pa.Array[Any] = pa.Array.from_buffers(array.type, len(array), buffers)
    return cut


def used_items(array: Any) -> npt.NDArray[np.bool_]:
    """Which items of a list view array any of its rows refers to: ``bool[len(values)]``."""
    starts, lengths = _list_view_ranges(array)
    # Ranges may overlap: an item is used where more of them have begun than ended.
    depth = np.zeros(len(array.values) + 1, np.int64)
    np.add.at(depth, starts, 1)
    np.subtract.at(depth, starts + lengths, 1)
    used: npt.NDArray[np.bool_] = np.cumsum(depth)[:-1] > 0
    return used


def _list_view_ranges(array: Any) -> tuple[Positions, Positions]:
    """Where the items of each row start, and how many they are; a null has none."""
    starts = array.offsets.to_numpy().astype(np.int64)
    lengths = array.sizes.to_numpy().astype(np.int64)
    if array.null_count:  # offsets and sizes of a null mean nothing
        nulls = ~_valid(array)
        starts[nulls] = lengths[nulls] = 0
    return starts, lengths


def no_rows(kind: Any) -> pa.Array[Any]:
    """An array of ``kind`` with no rows, and no memory to speak of.

    Not by ``pa.nulls``, which crashes on extensions of unions and on unions without members.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, no_rows(kind.storage_type))
    ends: Any
    empty: pa.Array[Any]
    if pat.is_dictionary(kind):
        indices, values = no_rows(kind.index_type), no_rows(kind.value_type)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered)
    if pat.is_run_end_encoded(kind):
        ends, values = no_rows(kind.run_end_type), no_rows(kind.value_type)
        return pa.RunEndEncodedArray.from_arrays(ends, values, type=kind)
    if kind.num_fields or pat.is_union(kind):
        children = [no_rows(kind.field(index).type) for index in range(kind.num_fields)]
        buffers = [None, *[pa.py_buffer(bytes(8))] * (kind.num_buffers - 1)]
        empty = pa.Array.from_buffers(kind, 0, buffers, children=children)
    else:
        empty = pa.nulls(0, kind)
    return empty


def _view_parts(array: pa.Array[Any], cuts: Sequence[int]) -> list[pa.Array[Any]]:
    """Slices of a view array at ``cuts``, each without the data of the others."""
    if len(cuts) == 2:
        return [compact(array)]
    if _refers(array, _view_words(array)).any():
        return _pack_views(array, cuts)
    array = _without_data(array)
    return [array.slice(start, stop - start) for start, stop in pairwise(cuts)]


def _view_words(array: pa.Array[Any]) -> npt.NDArray[np.int32]:
    """The views of an array as rows of length, prefix, buffer, offset: ``int32[n, 4]``."""
    views: Any = array.buffers()[1]
    if len(array) == 0:
        return np.empty((0, 4), np.int32)
    flat = np.frombuffer(views, np.int32, 4 * len(array), _VIEW_BYTES * array.offset)
    return flat.reshape(-1, 4)


def _refers(array: pa.Array[Any], words: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which rows refer to data outside their view: those neither short nor null."""
    refers: npt.NDArray[np.bool_] = words[:, 0] > _VIEW_INLINE_BYTES_MAX
    if array.null_count:
        refers = refers & _valid(array)
    return refers


def _pack_views(array: pa.Array[Any], cuts: Sequence[int]) -> list[pa.Array[Any]]:
    """Slices of a view array at ``cuts``, each with just the data that its rows refer to."""
    words = _view_words(array).copy()
    refers = _refers(array, words)
    if array.null_count:
        words[~_valid(array)] = 0
    stripped = words.copy()  # with all but the values outside of views emptied
    stripped[:, 0] *= refers
    if stripped[:, 0].sum(dtype=np.int64) > _INT32_MAX:  # more than one buffer can hold
        return [array.slice(start, stop - start) for start, stop in pairwise(cuts)]
    outside: Any = pa.Array.from_buffers(
        pa.binary_view(), len(array), [None, _buffer(stripped), *array.buffers()[2:]]
    ).cast(pa.binary())
    _, offset_buffer, data = outside.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, len(array) + 1)
    bases = np.repeat(offsets[cuts[:-1]], np.diff(cuts))
    keep = refers.astype(np.int32) - 1  # all bits where the value is within the view
    words[:, 2] &= keep
    words[:, 3] &= keep
    words[:, 3] |= (offsets[:-1] - bases) & ~keep
    validity = _bitmap(_valid(array)) if array.null_count else None
    views = _buffer(words)
    parts = []
    for start, stop in pairwise(cuts):
        first, count = int(offsets[start]), int(offsets[stop] - offsets[start])
        buffers = [validity, views, data.slice(first, count)] if count else [validity, views]
        parts.append(pa.Array.from_buffers(array.type, stop - start, buffers, offset=start))
    return parts


def _without_data(array: pa.Array[Any]) -> pa.Array[Any]:
    """A view array whose rows refer to nothing, without its data buffers."""
    bare: pa.Array[Any] = pa.Array.from_buffers(
        array.type, len(array), array.buffers()[:2], array.null_count, array.offset
    )
    return bare


def _array(values: npt.NDArray[Any]) -> Any:
    """``values`` as an Arrow array, without a copy.

    Not by ``pa.array``, which imports pandas where that is installed, to see whether it was
    given a series: half a second for every worker process.
    """
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, _buffer(values)])


def _take(array: pa.Array[Any], positions: Positions) -> pa.Array[Any]:
    indices = _array(positions)
    taken: pa.Array[Any] = pc.take(array, indices, boundscheck=False)
    return taken


def _take_views(array: pa.Array[Any], positions: Positions) -> pa.Array[Any]:
    """Take the views as opaque 16-byte values; the data they refer to stays shared."""
    if len(positions) == 0:
        empty: pa.Array[Any] = pa.nulls(0, array.type)
        return empty
    validity, views, *data = array.buffers()
    opaque: Any = pa.Array.from_buffers(
        pa.binary(_VIEW_BYTES), len(array), [validity, views], array.null_count, array.offset
    )
    taken: Any = _take(opaque, positions)
    views_taken: pa.Array[Any] = pa.Array.from_buffers(
        array.type, len(taken), [*taken.buffers(), *data]
    )
    return views_taken


def _valid(array: pa.Array[Any]) -> npt.NDArray[np.bool_]:
    flags: Any = array.is_valid()
    first, skipped = divmod(flags.offset, 8)
    bits = np.frombuffer(flags.buffers()[1], np.uint8, offset=first)
    valid = np.unpackbits(bits, bitorder="little", count=skipped + len(array))
    return valid[skipped:].view(np.bool_)


def _buffer(values: npt.NDArray[Any]) -> pa.Buffer:
    contiguous: Any = np.ascontiguousarray(values)
    return pa.py_buffer(contiguous)


def _bitmap(valid: npt.NDArray[np.bool_]) -> pa.Buffer:
    return _buffer(np.packbits(valid, bitorder="little"))


def _validity(
    array: pa.Array[Any], positions: Positions
) -> tuple[pa.Buffer | None, npt.NDArray[np.bool_] | None]:
    """The validity of the rows at ``positions``, as a bitmap and as booleans."""
    if array.null_count == 0:
        return None, None
    valid: npt.NDArray[np.bool_] = _valid(array)[positions]
    return _bitmap(valid), valid


def _ranges(starts: Positions, lengths: Positions) -> Positions:
    """``starts[0], starts[0] + 1, …`` for ``lengths[0]`` positions, then the next range."""
    stops = np.cumsum(lengths)
    shift = np.repeat(starts - (stops - lengths), lengths)
    positions: Positions = np.arange(len(shift), dtype=np.int64) + shift
    return positions


def _gather_struct(array: Any, positions: Positions) -> pa.Array[Any]:
    validity, _ = _validity(array, positions)
    children = [gather(array.field(index), positions) for index in range(array.type.num_fields)]
    return pa.Array.from_buffers(array.type, len(positions), [validity], children=children)


def _gather_list(array: Any, positions: Positions) -> pa.Array[Any]:
    """Lists, large lists and maps."""
    offsets = array.offsets.to_numpy()
    validity, valid = _validity(array, positions)
    starts = offsets[:-1][positions].astype(np.int64)
    lengths = offsets[1:][positions] - starts
    if valid is not None:
        lengths[~valid] = 0
    items = gather(array.values, _ranges(starts, lengths))
    stops = np.zeros(len(positions) + 1, offsets.dtype)
    np.cumsum(lengths, out=stops[1:])
    buffers = [validity, _buffer(stops)]
    return pa.Array.from_buffers(array.type, len(positions), buffers, children=[items])


def _gather_fixed_size_list(array: Any, positions: Positions) -> pa.Array[Any]:
    size = array.type.list_size
    validity, _ = _validity(array, positions)
    item_positions = np.add.outer((positions + array.offset) * size, np.arange(size)).ravel()
    items = gather(array.values, item_positions)
    return pa.Array.from_buffers(array.type, len(positions), [validity], children=[items])


def _gather_list_view(array: Any, positions: Positions) -> pa.Array[Any]:
    """Items that several rows share stay shared; those that none refers to are left behind."""
    picked = _picked_views(array, positions)
    used = used_items(picked)
    moved = np.append(0, np.cumsum(used))
    starts, lengths = _list_view_ranges(picked)
    wide = array.offsets.type.to_pandas_dtype()
    buffers = [
        picked.buffers()[0],
        _buffer(moved[starts].astype(wide)),
        _buffer(lengths.astype(wide)),
    ]
    items = gather(array.values, np.flatnonzero(used))
    return pa.Array.from_buffers(array.type, len(positions), buffers, children=[items])


def _picked_views(array: Any, positions: Positions) -> Any:
    """The list views at ``positions``, of all the items of ``array``."""
    validity, _ = _validity(array, positions)
    ranges = [array.offsets.to_numpy()[positions], array.sizes.to_numpy()[positions]]
    buffers = [validity, *map(_buffer, ranges)]
    return pa.Array.from_buffers(array.type, len(positions), buffers, children=[array.values])


def _gather_run_end_encoded(array: Any, positions: Positions) -> pa.Array[Any]:
    """Find the run of each row; neighbours from one run become one run again."""
    ends = array.run_ends.to_numpy()
    runs = np.searchsorted(ends, positions + array.offset, side="right")
    starts = np.flatnonzero(np.diff(runs, prepend=-1))
    stops = np.append(starts, len(positions))[1:].astype(ends.dtype)
    values = gather(array.values, runs[starts])
    return pa.RunEndEncodedArray.from_arrays(_array(stops), values, type=array.type)


def _gather_union(array: Any, positions: Positions) -> pa.Array[Any]:
    kind = array.type
    # Not array.type_codes and array.offsets: of a slice, they are those of its parent.
    codes = np.frombuffer(array.buffers()[1], np.int8)[positions + array.offset]
    if kind.mode == "sparse":
        children = [gather(array.field(index), positions) for index in range(kind.num_fields)]
        buffers = [None, _buffer(codes)]
        return pa.Array.from_buffers(kind, len(positions), buffers, children=children)
    sources = np.frombuffer(array.buffers()[2], np.int32)[positions + array.offset]
    offsets = np.empty(len(positions), np.int32)
    children = []
    for index, code in enumerate(kind.type_codes):
        here = codes == code
        children.append(gather(array.field(index), sources[here].astype(np.int64)))
        offsets[here] = np.arange(len(children[-1]))
    buffers = [None, _buffer(codes), _buffer(offsets)]
    return pa.Array.from_buffers(kind, len(positions), buffers, children=children)


def _gather_extension(array: Any, positions: Positions) -> pa.Array[Any]:
    return pa.ExtensionArray.from_storage(array.type, gather(array.storage, positions))


_Rebuilder: TypeAlias = Callable[[Any, Positions], "pa.Array[Any]"]


def _rebuilder(kind: pa.DataType) -> _Rebuilder:
    """What picks rows of a type that is neither plain nor a view."""
    if isinstance(kind, pa.BaseExtensionType):
        return _gather_extension
    if pat.is_struct(kind):
        return _gather_struct
    if pat.is_fixed_size_list(kind):
        return _gather_fixed_size_list
    if pat.is_list_view(kind) or pat.is_large_list_view(kind):
        return _gather_list_view
    if pat.is_run_end_encoded(kind):
        return _gather_run_end_encoded
    if pat.is_union(kind):
        return _gather_union
    return _gather_list
