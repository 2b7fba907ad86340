"""Splits record batches by the hash of their key columns.

A row's key hashes to a vnode (:mod:`~laminar.shuffle.hashing`), a vnode belongs to a node
(:mod:`~laminar.shuffle.placement`). One stable sort puts the rows in order of node and
vnode, one gather moves them, and each node's part is a slice of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laminar.errors import ConfigError, UnsupportedKeyError
from laminar.model import NodeId
from laminar.shuffle.gather import gather_parts, is_plain
from laminar.shuffle.hashing import VNodes, check_key_type, hash_columns, vnodes_of
from laminar.shuffle.placement import Placement, check_counts, place

DEFAULT_VNODES: Final = 256

_SLACK_BYTES: Final = 64 * 1024


class HashPartitioner:
    """Sends rows with equal keys to the same node.

    ``columns`` are the key, their order matters; ``nodes`` are the destinations. Every node
    of an exchange is given the same columns, vnodes, and set of nodes. ``placement`` assigns
    each vnode an index in ``nodes``; without it they are placed by rendezvous hashing.

    Raises :class:`ConfigError` when the arguments make no sense together.
    """

    def __init__(
        self,
        columns: Sequence[str],
        nodes: Sequence[NodeId],
        vnodes: int = DEFAULT_VNODES,
        *,
        placement: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None,
    ) -> None:
        self.columns = _key_names(columns)
        self.nodes = tuple(nodes)
        check_counts(vnodes, self.nodes)
        self.vnode_count = vnodes
        self.placement = (
            place(vnodes, self.nodes)
            if placement is None
            else _checked_placement(placement, vnodes, len(self.nodes))
        )
        # The rank of a vnode in the order (node, vnode), and the first rank of each node.
        # Up to 16 bits wide: sorts of so small integers are radix sorts.
        by_node = np.argsort(self.placement, kind="stable")
        self._ranks = np.empty(vnodes, np.min_scalar_type(vnodes - 1))
        self._ranks[by_node] = np.arange(vnodes)
        self._node_starts = np.searchsorted(self.placement[by_node], np.arange(len(self.nodes) + 1))

    def check(self, schema: pa.Schema) -> None:
        """Raise :class:`UnsupportedKeyError` unless batches of ``schema`` can be split."""
        for column in self.columns:
            check_key_type(schema.field(_column_index(schema, column)).type, column)

    def vnodes(self, batch: pa.RecordBatch) -> VNodes:
        """The vnode of each row: ``uint16[batch.num_rows]``.

        Raises :class:`UnsupportedKeyError` when a key column is missing, ambiguous or of a
        type outside the hash contract.
        """
        indices = [_column_index(batch.schema, column) for column in self.columns]
        try:
            hashes = hash_columns([batch.column(index) for index in indices])
        except UnsupportedKeyError:
            self.check(batch.schema)  # the same error, with the name of the column
            raise
        return vnodes_of(hashes, self.vnode_count)

    def split(self, batch: pa.RecordBatch) -> list[tuple[int, pa.RecordBatch]]:
        """The rows of ``batch`` for each node that gets any: ``[(index in nodes, part), …]``.

        In order of node. Within a part rows are in order of vnode, so that it is a few
        :func:`runs`; rows of one vnode keep their order. Every part has the schema of
        ``batch``, and holds on to no more memory than about the bytes of ``batch``'s rows.

        Raises :class:`UnsupportedKeyError` like :meth:`vnodes`.
        """
        if batch.num_rows == 0:
            self.check(batch.schema)
            return []
        ranks = self._ranks.take(self.vnodes(batch))
        rank_starts = np.append(0, np.cumsum(np.bincount(ranks, minlength=self.vnode_count)))
        cuts = rank_starts[self._node_starts]
        filled = np.flatnonzero(np.diff(cuts))
        parts = _parts(batch, ranks, [*cuts[filled].tolist(), batch.num_rows])
        return list(zip(filled.tolist(), parts, strict=True))


def runs(vnodes: npt.NDArray[np.integer[Any]]) -> list[tuple[int, int, int]]:
    """The maximal stretches of equal vnodes: ``[(vnode, start, stop), …]`` in row order."""
    if len(vnodes) == 0:
        return []
    starts = np.append(0, np.flatnonzero(vnodes[1:] != vnodes[:-1]) + 1)
    stops = np.append(starts[1:], len(vnodes))
    return list(zip(vnodes[starts].tolist(), starts.tolist(), stops.tolist(), strict=True))


def _parts(
    batch: pa.RecordBatch, ranks: npt.NDArray[Any], cuts: Sequence[int]
) -> list[pa.RecordBatch]:
    """``batch`` in order of ``ranks``, cut at ``cuts``."""
    in_order = bool((ranks[1:] >= ranks[:-1]).all())
    if in_order and _may_be_shared(batch):
        return _slices(batch, cuts)
    order = np.argsort(ranks, kind="stable")
    if all(is_plain(field.type) for field in batch.schema):
        taken = [gather_parts(column, order, [0, len(order)])[0] for column in batch.columns]
        return _slices(pa.RecordBatch.from_arrays(taken, schema=batch.schema), cuts)
    columns = [gather_parts(column, order, cuts) for column in batch.columns]
    return [
        pa.RecordBatch.from_arrays(list(part), schema=batch.schema)
        for part in zip(*columns, strict=True)
    ]


def _slices(batch: pa.RecordBatch, cuts: Sequence[int]) -> list[pa.RecordBatch]:
    if len(cuts) == 2:
        return [batch]
    return [batch.slice(start, stop - start) for start, stop in pairwise(cuts)]


def _may_be_shared(batch: pa.RecordBatch) -> bool:
    """Whether slices of ``batch`` can be handed on: it is no small window on a large parent."""
    if not all(is_plain(field.type) for field in batch.schema):
        return False
    return batch.get_total_buffer_size() <= 2 * batch.nbytes + _SLACK_BYTES


def _key_names(columns: Sequence[str]) -> tuple[str, ...]:
    if isinstance(columns, str):
        raise ConfigError(f"columns is a list of names; write [{columns!r}]")
    names = tuple(columns)
    if not names:
        raise ConfigError("a partitioner needs at least one key column")
    if len(set(names)) != len(names):
        raise ConfigError(f"each key column is named once, got {', '.join(names)}")
    return names


def _column_index(schema: pa.Schema, column: str) -> int:
    indices = schema.get_all_field_indices(column)
    if len(indices) != 1:
        found = f"there are {len(indices)} of that name" if indices else "there is none"
        raise UnsupportedKeyError(
            f"key column {column!r}: {found}; the columns are {', '.join(schema.names)}"
        )
    return indices[0]


def _checked_placement(
    placement: Sequence[int] | npt.NDArray[np.integer[Any]], vnodes: int, nodes: int
) -> Placement:
    array = np.asarray(placement)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer) or len(array) != vnodes:
        raise ConfigError(f"placement is {vnodes} integers, one node index per vnode")
    if array.min() < 0 or array.max() >= nodes:
        raise ConfigError(
            f"placement holds node indices 0 to {nodes - 1}, got {array.min()} to {array.max()}"
        )
    return array.astype(np.intp)
