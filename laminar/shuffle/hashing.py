"""The hash contract: key columns to 64-bit hashes to vnodes, the same on every machine.

Two nodes that disagree about one hash send equal keys to different places, so what is
computed here is a promise, named by :data:`HASH_VERSION`. Any change of a value, a family or
a constant makes a new version; ``docs/design/partitioning.md`` states the contract in full.

The rule behind it: **equal values hash equally, however Arrow lays them out.** Values fall
into families (integers, floats, decimals, instants, …); widths, units, scales, offsets,
dictionaries and run ends of one family never matter, and a null is a null in all of them.

Sources: the finaliser of SplitMix64 (Steele, Lea, Flood 2014) for fixed-width values,
XXH3-64 (Collet) for bytes, the multiply-shift range reduction (Lemire 2019) for vnodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pat

from laminar.errors import ConfigError, UnsupportedKeyError
from laminar.shuffle.gather import gather

HASH_VERSION: Final = 1
"""Version of the contract. Nodes with different versions must not share an exchange."""

VNODES_MAX: Final = 65_536
"""Most vnodes a hash can be reduced to; a vnode fits ``uint16``."""

Hashes: TypeAlias = npt.NDArray[np.uint64]
VNodes: TypeAlias = npt.NDArray[np.uint16]

# Families keep equal bits of different kinds apart. The numbers are the first outputs of
# SplitMix64 seeded with 0: arbitrary, and easy to check.
_NULL: Final = np.uint64(0xE220A8397B1DCDAF)
_INTEGER: Final = np.uint64(0x6E789E6AA1B965F4)
_INTEGER_ABOVE_INT64: Final = np.uint64(0x06C45D188009454F)
_BOOLEAN: Final = np.uint64(0xF88BB8A8724C81EC)
_FLOAT: Final = np.uint64(0x1B39896A51A8749B)
_DECIMAL: Final = np.uint64(0x53CB9F0C747EA2EA)
_INSTANT: Final = np.uint64(0x2C829ABE1F4532E1)
_TIME_OF_DAY: Final = np.uint64(0xC584133AC916AB3C)
_DURATION: Final = np.uint64(0x3EE5789041C98AC3)
_STRUCT: Final = np.uint64(0xF3B8488C368CB0A6)
_LIST: Final = np.uint64(0x657EECDD3CB13D09)

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2: Final = np.uint64(0x94D049BB133111EB)
_NAN_BITS: Final = np.uint64(0x7FF8000000000000)
_MIX_BLOCK_ROWS: Final = 16_384  # the block and its scratch stay in the L2 cache

_NANOSECONDS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY_NANOSECONDS: Final = 86_400 * 10**9

_PRIME: Final = 2**61 - 1
_PRIME_U64: Final = np.uint64(_PRIME)
_INT64_DIGITS: Final = 18  # a decimal of so many digits fits its lowest 64-bit word


def hash_columns(columns: Sequence[pa.Array[Any]]) -> Hashes:
    """Hash each row of one or more key columns of equal length ``n``: ``uint64[n]``.

    A single column gives the hash of its values; further ones are mixed in, and their order
    matters. Raises :class:`UnsupportedKeyError` without columns or for a type outside the
    contract (see :func:`check_key_type`).
    """
    if not columns:
        raise UnsupportedKeyError("a key needs at least one column, got none")
    hashes = hash_array(columns[0])
    for column in columns[1:]:
        _combine(hashes, hash_array(column))
    return hashes


def hash_array(array: pa.Array[Any]) -> Hashes:
    """Hash each value of ``array``, nulls included: a fresh ``uint64[len(array)]``.

    Raises :class:`UnsupportedKeyError` for a type outside the contract.
    """
    hasher = _hasher(array.type)
    if len(array) == 0:
        check_key_type(array.type)
        return np.empty(0, np.uint64)
    hashes = hasher(array)
    # A column of type null, or an extension of it, has nulls and no bitmap.
    if array.null_count and array.buffers()[0] is not None:
        hashes[_is_null(array)] = _NULL
    return hashes


def vnodes_of(hashes: Hashes, vnodes: int) -> VNodes:
    """Reduce ``uint64[n]`` hashes to vnodes ``0 … vnodes - 1``: ``uint16[n]``.

    ``((hash >> 32) * vnodes) >> 32``: unbiased, no division, and the vnodes of twice the
    number are halves of the old ones. Raises :class:`ConfigError` unless
    ``1 <= vnodes <= VNODES_MAX``.
    """
    if not 1 <= vnodes <= VNODES_MAX:
        raise ConfigError(f"vnodes must be 1 to {VNODES_MAX}, got {vnodes}")
    reduced = np.right_shift(hashes, np.uint64(32))
    reduced *= np.uint64(vnodes)
    reduced >>= np.uint64(32)
    return reduced.astype(np.uint16)


def check_key_type(key_type: pa.DataType, name: str = "") -> None:
    """Raise :class:`UnsupportedKeyError` when the contract has no place for ``key_type``.

    Outside are maps, unions and calendar intervals, alone or nested: the equality of their
    values is not settled. ``name`` is the column to name in the message.
    """
    try:
        for inner in _inner_types(key_type):
            check_key_type(inner)
        _hasher(key_type)
    except UnsupportedKeyError as error:
        if not name:
            raise
        raise UnsupportedKeyError(f"column {name!r} ({key_type}): {error}") from None


def mix64(values: Hashes) -> Hashes:
    """Finalise ``values`` (``uint64[n]``) with SplitMix64, in place; returns ``values``."""
    scratch = np.empty(min(len(values), _MIX_BLOCK_ROWS), np.uint64)
    for start in range(0, len(values), _MIX_BLOCK_ROWS):
        block = values[start : start + _MIX_BLOCK_ROWS]
        shifted = scratch[: len(block)]
        block ^= np.right_shift(block, np.uint64(30), out=shifted)
        block *= _MULTIPLIER_1
        block ^= np.right_shift(block, np.uint64(27), out=shifted)
        block *= _MULTIPLIER_2
        block ^= np.right_shift(block, np.uint64(31), out=shifted)
    return values


def _combine(hashes: Hashes, more: Hashes) -> None:
    """Mix ``more`` into ``hashes`` in place; not symmetric."""
    hashes *= _GOLDEN
    hashes += more
    mix64(hashes)


def _values(array: pa.Array[Any], dtype: npt.DTypeLike, width: int = 1) -> npt.NDArray[Any]:
    """The data buffer as ``dtype[len(array) * width]``, whatever the nulls hide. No copy."""
    data: Any = array.buffers()[1]
    count = len(array) * width
    if data is None:  # Arrow may leave the buffer out when there is nothing in it
        return np.zeros(count, dtype)
    offset = array.offset * width * np.dtype(dtype).itemsize
    values: npt.NDArray[Any] = np.frombuffer(data, dtype, count, offset)
    return values


def _is_null(array: pa.Array[Any]) -> npt.NDArray[np.bool_]:
    """The nulls of an array that has a validity bitmap: ``bool[len(array)]``."""
    bitmap: Any = array.buffers()[0]
    first, skipped = divmod(array.offset, 8)
    bits = np.frombuffer(bitmap, np.uint8, offset=first)
    valid = np.unpackbits(bits, bitorder="little", count=skipped + len(array))
    is_null: npt.NDArray[np.bool_] = valid[skipped:] == 0
    return is_null


def _hash_null(array: pa.Array[Any]) -> Hashes:
    return np.full(len(array), _NULL)


def _hash_boolean(array: pa.Array[Any]) -> Hashes:
    return mix64(_values(array.cast(pa.uint8()), np.uint8) ^ _BOOLEAN)


def _hash_signed(array: pa.Array[Any]) -> Hashes:
    values = _values(array, f"i{array.type.bit_width // 8}")
    return mix64(values.astype(np.int64, copy=False).view(np.uint64) ^ _INTEGER)


def _hash_unsigned(array: pa.Array[Any]) -> Hashes:
    values = _values(array, f"u{array.type.bit_width // 8}")
    words = values ^ _INTEGER
    if array.type.bit_width == 64:
        # The same 64 bits mean a negative number in a signed column: another family.
        flip = _INTEGER ^ _INTEGER_ABOVE_INT64
        np.bitwise_xor(words, flip, out=words, where=values > np.uint64(2**63 - 1))
    return mix64(words)


def _hash_float(array: pa.Array[Any]) -> Hashes:
    values = _values(array, f"f{array.type.bit_width // 8}").astype(np.float64)
    values += 0.0  # turns -0.0 into 0.0
    words = values.view(np.uint64)
    np.copyto(words, _NAN_BITS, where=np.isnan(values))
    words ^= _FLOAT
    return mix64(words)


def _hash_ticks(ticks: npt.NDArray[Any], nanoseconds: int, family: np.uint64) -> Hashes:
    """Hash signed ``ticks`` of ``nanoseconds`` each by their nanoseconds modulo 2**64.

    The product may wrap: equal instants still agree, and two different ones of one unit that
    meet are 2**61 microseconds (73,000 years) apart, in coarser units more.
    """
    words = ticks.astype(np.int64).view(np.uint64)
    if nanoseconds != 1:
        words *= np.uint64(nanoseconds)
    words ^= family
    return mix64(words)


def _hash_date32(array: pa.Array[Any]) -> Hashes:
    return _hash_ticks(_values(array, np.int32), _DAY_NANOSECONDS, _INSTANT)


def _hash_date64(array: pa.Array[Any]) -> Hashes:
    return _hash_ticks(_values(array, np.int64), _NANOSECONDS["ms"], _INSTANT)


def _hash_timestamp(array: pa.Array[Any]) -> Hashes:
    return _hash_ticks(_values(array, np.int64), _NANOSECONDS[array.type.unit], _INSTANT)


def _hash_time(array: pa.Array[Any]) -> Hashes:
    ticks = _values(array, f"i{array.type.bit_width // 8}")
    return _hash_ticks(ticks, _NANOSECONDS[array.type.unit], _TIME_OF_DAY)


def _hash_duration(array: pa.Array[Any]) -> Hashes:
    return _hash_ticks(_values(array, np.int64), _NANOSECONDS[array.type.unit], _DURATION)


def _hash_decimal(array: pa.Array[Any]) -> Hashes:
    """Hash ``unscaled / 10**scale`` as a residue modulo the prime 2**61 - 1.

    10 has an inverse there, so 1.5, 1.50 and 1.500 are one residue, without searching for
    trailing zeros (the idea of Python's own hash of numbers).
    """
    words = _decimal_words(array)
    factor = pow(10, -array.type.scale, _PRIME)
    hashes = np.empty(len(array), np.uint64)
    for start in range(0, len(array), _MIX_BLOCK_ROWS):
        block = slice(start, start + _MIX_BLOCK_ROWS)
        hashes[block] = _multiply(_residues(words[block]), factor)
    hashes ^= _DECIMAL
    return mix64(hashes)


def _decimal_words(array: pa.Array[Any]) -> Hashes:
    """The unscaled values in two's complement: ``uint64[n, words]``, lowest word first."""
    bits = array.type.bit_width
    if bits == 32:
        return _values(array, np.int32).astype(np.int64).view(np.uint64).reshape(-1, 1)
    words = _values(array, np.uint64, bits // 64).reshape(-1, bits // 64)
    return words[:, :1] if array.type.precision <= _INT64_DIGITS else words


def _residues(words: Hashes) -> Hashes:
    """Two's complement numbers ``uint64[n, words]`` modulo the prime: ``uint64[n]``."""
    width = words.shape[1]
    residues = _canonical(words[:, width - 1])
    for word in range(width - 2, -1, -1):  # 2**64 is 8 modulo the prime
        residues = _canonical(_fold(residues * np.uint64(8)) + _fold(words[:, word]))
    negative = words[:, width - 1] >> np.uint64(63)
    return _canonical(residues + negative * np.uint64(_PRIME - 8**width))


def _fold(values: Hashes) -> Hashes:
    """A number below 2**61 + 7 that is congruent to ``values`` modulo the prime."""
    return (values & _PRIME_U64) + (values >> np.uint64(61))


def _canonical(values: Hashes) -> Hashes:
    """``values`` modulo the prime."""
    folded = _fold(values)
    np.subtract(folded, _PRIME_U64, out=folded, where=folded >= _PRIME_U64)
    return folded


def _multiply(values: Hashes, factor: int) -> Hashes:
    """``values * factor`` modulo the prime, both below it, in halves of 32 bits."""
    factor_high, factor_low = np.uint64(factor >> 32), np.uint64(factor & 0xFFFFFFFF)
    high, low = values >> np.uint64(32), values & np.uint64(0xFFFFFFFF)
    cross = high * factor_low + low * factor_high
    product = _fold(low * factor_low)
    product += high * factor_high * np.uint64(8)
    product += cross >> np.uint64(29)
    product += (cross & np.uint64(2**29 - 1)) << np.uint64(32)
    return _canonical(product)


def _hash_bytes(array: pa.Array[Any]) -> Hashes:
    """XXH3-64 of the bytes. Strings are their UTF-8, so text equals the same bytes."""
    import polars  # only programs with such keys pay for the import
    import polars_hash

    if array.type == pa.binary(0):  # polars has no such type
        array = pa.repeat(pa.scalar(b"", pa.binary()), len(array))
    frame = polars.DataFrame({"key": polars.from_arrow(array)})
    hashed = frame.select(polars_hash.col("key").nchash.xxh3_64()).to_series().to_arrow()
    return _values(hashed, np.uint64).copy()


def _hash_dictionary(array: Any) -> Hashes:
    """Hash the dictionary once and look the rows up in it, or only what the rows use of it."""
    dictionary, indices = array.dictionary, array.indices
    positions = _values(indices, indices.type.to_pandas_dtype()).astype(np.int64)
    np.clip(positions, 0, max(0, len(dictionary) - 1), out=positions)  # a null hides anything
    if len(dictionary) > len(array):
        return hash_array(gather(dictionary, positions))
    return np.append(hash_array(dictionary), _NULL)[positions]


def _hash_run_end_encoded(array: Any) -> Hashes:
    """Hash each run once and repeat it; a slice may start and stop within runs."""
    first, count = array.find_physical_offset(), array.find_physical_length()
    ends = _values(array.run_ends, array.run_ends.type.to_pandas_dtype())[first : first + count]
    stops = np.minimum(ends.astype(np.int64) - array.offset, len(array))
    return np.repeat(hash_array(array.values.slice(first, count)), np.diff(stops, prepend=0))


def _hash_extension(array: Any) -> Hashes:
    return hash_array(array.storage)


def _hash_struct(array: Any) -> Hashes:
    hashes = np.full(len(array), _STRUCT)
    for index in range(array.type.num_fields):
        _combine(hashes, hash_array(array.field(index)))
    return hashes


def _hash_list(array: Any) -> Hashes:
    offsets = array.offsets.to_numpy().astype(np.int64)
    items = array.values.slice(offsets[0], offsets[-1] - offsets[0])
    return _hash_items(items, np.diff(offsets))


def _hash_fixed_size_list(array: Any) -> Hashes:
    size = array.type.list_size
    items = array.values.slice(array.offset * size, len(array) * size)
    return _hash_items(items, np.full(len(array), size, np.int64))


def _hash_list_view(array: Any) -> Hashes:
    """Lay the items of each row end to end, then hash as a list."""
    sizes = array.sizes.to_numpy().astype(np.int64)
    if array.null_count:  # offsets and sizes of a null mean nothing
        sizes = np.where(_is_null(array), 0, sizes)
    stops = np.cumsum(sizes)
    shift = array.offsets.to_numpy().astype(np.int64) - (stops - sizes)
    positions = np.arange(stops[-1]) + np.repeat(shift, sizes)
    return _reduce_items(hash_array(array.values)[positions], sizes)


def _hash_items(items: pa.Array[Any], lengths: npt.NDArray[np.int64]) -> Hashes:
    """Hash rows of ``lengths`` consecutive ``items``."""
    return _reduce_items(hash_array(items), lengths)


def _reduce_items(hashes: Hashes, lengths: npt.NDArray[np.int64]) -> Hashes:
    """Sum item hashes, each mixed with its place in the row, and add the row's length.

    Running sums wrap, and differences of them come out right all the same, so that empty
    rows need no case of their own.
    """
    stops = np.cumsum(lengths)
    places = np.arange(1, len(hashes) + 1) - np.repeat(stops - lengths, lengths)
    terms = places.astype(np.uint64)
    terms *= _GOLDEN
    terms += hashes
    sums = np.append(np.uint64(0), np.cumsum(mix64(terms), dtype=np.uint64))
    rows: Hashes = sums[stops] - sums[stops - lengths]
    rows += lengths.astype(np.uint64) * _GOLDEN
    rows ^= _LIST
    return mix64(rows)


_Hasher: TypeAlias = Callable[[Any], Hashes]

_CONTRACT: Final[tuple[tuple[Callable[[pa.DataType], bool], _Hasher], ...]] = (
    (pat.is_signed_integer, _hash_signed),
    (pat.is_unsigned_integer, _hash_unsigned),
    (pat.is_string, _hash_bytes),
    (pat.is_large_string, _hash_bytes),
    (pat.is_string_view, _hash_bytes),
    (pat.is_dictionary, _hash_dictionary),
    (pat.is_timestamp, _hash_timestamp),
    (pat.is_date32, _hash_date32),
    (pat.is_date64, _hash_date64),
    (pat.is_decimal, _hash_decimal),
    (pat.is_floating, _hash_float),
    (pat.is_boolean, _hash_boolean),
    (pat.is_time, _hash_time),
    (pat.is_duration, _hash_duration),
    (pat.is_binary, _hash_bytes),
    (pat.is_large_binary, _hash_bytes),
    (pat.is_fixed_size_binary, _hash_bytes),
    (pat.is_binary_view, _hash_bytes),
    (pat.is_null, _hash_null),
    (pat.is_run_end_encoded, _hash_run_end_encoded),
    (pat.is_struct, _hash_struct),
    (pat.is_list, _hash_list),
    (pat.is_large_list, _hash_list),
    (pat.is_fixed_size_list, _hash_fixed_size_list),
    (pat.is_list_view, _hash_list_view),
    (pat.is_large_list_view, _hash_list_view),
    (lambda key_type: isinstance(key_type, pa.BaseExtensionType), _hash_extension),
)


def _hasher(key_type: pa.DataType) -> _Hasher:
    for matches, hasher in _CONTRACT:
        if matches(key_type):
            return hasher
    raise UnsupportedKeyError(
        f"rows cannot be hashed by a value of type {key_type}; "
        "maps, unions and calendar intervals are not keys: choose or derive another column"
    )


def _inner_types(key_type: Any) -> list[pa.DataType]:
    """The types that ``key_type`` is directly made of."""
    if isinstance(key_type, pa.BaseExtensionType):
        return [key_type.storage_type]
    if pat.is_dictionary(key_type) or pat.is_run_end_encoded(key_type):
        return [key_type.value_type]
    return [key_type.field(index).type for index in range(key_type.num_fields)]
