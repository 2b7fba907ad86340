"""Splits record batches by the range that their key falls into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from laminar.errors import ConfigError, UnsupportedKeyError
from laminar.model import NodeId
from laminar.shuffle.gather import gather
from laminar.shuffle.partition import (
    Parts,
    checked_nodes,
    column_index,
    key_names,
    split_by_node,
)

Order: TypeAlias = Literal["ascending", "descending"]
Nulls: TypeAlias = Literal["at_start", "at_end"]

_ORDERS: Final = ("ascending", "descending")
_PLACES: Final = ("at_start", "at_end")


class RangePartitioner:
    """Sends rows to nodes by ranges of their key: node *i* has keys below those of node *i* + 1.

    ``by`` names the key columns, most significant first, or maps each to ``"ascending"``
    (the default) or ``"descending"``. ``boundaries`` holds one row fewer than there are
    ``nodes``, in that order and with the key columns: row *i* is the first key of node
    *i* + 1. Rows with equal keys go to the same node, also where boundaries are equal.

    Nulls come last, or first with ``nulls="at_start"``, also in descending order; NaN lies
    between the numbers and the nulls; −0.0 equals 0.0.

    Raises :class:`~laminar.errors.ConfigError` when the arguments make no sense together, and
    :class:`~laminar.errors.UnsupportedKeyError` for keys that have no order.
    """

    def __init__(
        self,
        by: Sequence[str] | Mapping[str, Order],
        nodes: Sequence[str],
        boundaries: pa.RecordBatch | pa.Table,
        *,
        nulls: Nulls = "at_end",
    ) -> None:
        self.by = _orders(by)
        self.nodes: tuple[NodeId, ...] = checked_nodes(nodes)
        if nulls not in _PLACES:
            raise ConfigError(f"nulls go 'at_start' or 'at_end', got {nulls!r}")
        self.nulls = nulls
        self._bounds = _key_columns(boundaries, self.by)
        self.boundaries = pa.table(dict(zip(self.by, self._bounds, strict=True)))
        if boundaries.num_rows != len(self.nodes) - 1:
            raise ConfigError(
                f"{len(self.nodes)} nodes need {len(self.nodes) - 1} boundaries, "
                f"got {boundaries.num_rows}"
            )
        places = self._places([column.slice(0, 0) for column in self._bounds])[0]
        if (places[1:] < places[:-1]).any():
            raise ConfigError("the boundaries are not in the order of the key")

    @classmethod
    def from_sample(
        cls,
        batches: Iterable[pa.RecordBatch | pa.Table],
        by: Sequence[str] | Mapping[str, Order],
        nodes: Sequence[str],
        *,
        nulls: Nulls = "at_end",
    ) -> Self:
        """Ranges that would hold about the same number of rows of the sample each.

        Of a key that is more frequent than that, all rows still go to one node, and the rest
        is divided among the others as evenly as the sample allows. Every node of an exchange
        must use the same boundaries: compute them on one, and pass on :attr:`boundaries`.

        Raises :class:`ConfigError` when the sample has no rows.
        """
        orders = _orders(by)
        tables = [_key_table(batch, orders) for batch in batches]
        if not sum(table.num_rows for table in tables):
            raise ConfigError("ranges cannot be computed from a sample without rows")
        sample = pa.concat_tables(tables).combine_chunks()
        columns = [_one_array(column) for column in sample.columns]
        places = _combined(
            [_ranks(c, o, nulls) for c, o in zip(columns, orders.values(), strict=True)]
        )
        sorted_rows = np.argsort(places, kind="stable")
        firsts = _first_rows(places[sorted_rows], len(nodes))
        return cls(orders, nodes, sample.take(sorted_rows[firsts]), nulls=nulls)

    def check(self, schema: pa.Schema) -> None:
        """Raise :class:`UnsupportedKeyError` unless batches of ``schema`` can be split."""
        for bound, name in zip(self._bounds, self.by, strict=True):
            kind = _comparable_type(schema.field(column_index(schema, name)).type, name)
            if kind != bound.type:
                raise UnsupportedKeyError(
                    f"key column {name!r} is {kind}, but its boundaries are {bound.type}: "
                    "cast one of them"
                )

    def split(self, batch: pa.RecordBatch) -> Parts:
        """See :class:`~laminar.shuffle.partition.Partitioner`.

        Raises :class:`UnsupportedKeyError` like :meth:`check`.
        """
        self.check(batch.schema)
        if batch.num_rows == 0:
            return []
        bounds, rows = self._places(_key_columns(batch, self.by))
        return split_by_node(batch, np.searchsorted(bounds, rows, side="right"), len(self.nodes))

    def _places(
        self, columns: Sequence[pa.Array[Any]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Numbers that compare like the keys: of the boundaries, and of the rows."""
        ranks = [
            _ranks(pa.concat_arrays([bound, column]), order, self.nulls)
            for bound, column, order in zip(self._bounds, columns, self.by.values(), strict=True)
        ]
        places = _combined(ranks)
        count = len(self.nodes) - 1
        return places[:count], places[count:]


def _first_rows(places: npt.NDArray[np.int64], nodes: int) -> list[int]:
    """Where in the sorted ``places`` each node but the first begins."""
    starts = np.flatnonzero(np.diff(places, prepend=places[0] - 1))  # of each distinct key
    firsts: list[int] = []
    begin = 0
    for left in range(nodes, 1, -1):
        wanted = begin + (len(places) - begin) / left
        near = int(np.searchsorted(starts, wanted))
        candidates = [int(start) for start in starts[max(0, near - 1) : near + 1] if start > begin]
        if candidates:
            begin = min(candidates, key=lambda start: abs(start - wanted))
        firsts.append(begin if candidates else len(places) - 1)
    return sorted(firsts)


def _combined(ranks: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """One number per row that compares like the row's ranks from left to right."""
    whole = ranks[0]
    for more in ranks[1:]:
        # Dense ranks again, lest the product outgrows 64 bits.
        pairs = whole * (int(more.max(initial=0)) + 1) + more
        whole = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    return whole


def _ranks(column: pa.Array[Any], order: Order, nulls: Nulls) -> npt.NDArray[np.int64]:
    """Numbers that compare like the values of ``column``, equal ones being equal."""
    if pat.is_null(column.type):
        return np.zeros(len(column), np.int64)
    keys: Any = [("", order, nulls)]
    ranks = pc.rank(column, sort_keys=keys, tiebreaker="dense")
    return ranks.to_numpy().astype(np.int64)


def _orders(by: Sequence[str] | Mapping[str, Order]) -> dict[str, Order]:
    orders: dict[str, Order] = (
        dict(by) if isinstance(by, Mapping) else dict.fromkeys(key_names(by), "ascending")
    )
    key_names(list(orders))
    for name, order in orders.items():
        if order not in _ORDERS:
            raise ConfigError(f"{name!r} goes 'ascending' or 'descending', got {order!r}")
    return orders


def _key_columns(data: pa.RecordBatch | pa.Table, by: Iterable[str]) -> list[pa.Array[Any]]:
    return [_one_array(column) for column in _key_table(data, by).columns]


def _key_table(data: pa.RecordBatch | pa.Table, by: Iterable[str]) -> pa.Table:
    """The key columns of ``data``, as types that pyarrow compares."""
    columns = {}
    for name in by:
        column: Any = data.column(column_index(data.schema, name))
        columns[name] = _comparable(column, name)
    return pa.table(columns)


def _one_array(column: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    whole: Any = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _comparable(column: Any, name: str) -> Any:
    """``column`` as :func:`_comparable_type`."""
    kind: Any = _comparable_type(column.type, name)
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([_comparable(chunk, name) for chunk in column.chunks], kind)
    while isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pat.is_dictionary(column.type):
        return _comparable(column.dictionary_decode(), name)
    if pat.is_run_end_encoded(column.type):
        ends = column.run_ends.to_numpy()
        runs = np.searchsorted(ends, np.arange(len(column)) + column.offset, side="right")
        return gather(_comparable(column.values, name), runs)
    return column if column.type == kind else column.cast(kind)


def _comparable_type(kind: Any, name: str) -> pa.DataType:
    """The plain type in which keys of type ``kind`` are compared.

    Raises :class:`UnsupportedKeyError` for types whose values have no order.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return _comparable_type(kind.storage_type, name)
    if pat.is_dictionary(kind) or pat.is_run_end_encoded(kind):
        return _comparable_type(kind.value_type, name)
    if pat.is_string(kind) or pat.is_large_string(kind) or pat.is_string_view(kind):
        return pa.large_string()
    if pat.is_binary(kind) or pat.is_large_binary(kind) or pat.is_binary_view(kind):
        return pa.large_binary()
    if pat.is_float16(kind):
        return pa.float32()
    if pat.is_decimal32(kind) or pat.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if kind.num_fields or pat.is_interval(kind):
        raise UnsupportedKeyError(
            f"key column {name!r}: values of type {kind} have no order; "
            "choose or derive another column"
        )
    ordered: pa.DataType = kind
    return ordered
