"""Splits record batches by the hash of their key columns.

A row's key hashes to a vnode (:mod:`~laminar.shuffle.hashing`), a vnode belongs to a node
(:mod:`~laminar.shuffle.placement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laminar.errors import ConfigError, UnsupportedKeyError
from laminar.model import NodeId
from laminar.shuffle.hashing import VNodes, check_key_type, hash_columns, vnodes_of
from laminar.shuffle.partition import Parts, column_index, key_names, split_by_rank
from laminar.shuffle.placement import Placement, check_counts, place

DEFAULT_VNODES: Final = 256


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
        self.columns = key_names(columns)
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
            check_key_type(schema.field(column_index(schema, column)).type, column)

    def vnodes(self, batch: pa.RecordBatch) -> VNodes:
        """The vnode of each row: ``uint16[batch.num_rows]``.

        Raises :class:`UnsupportedKeyError` when a key column is missing, ambiguous or of a
        type outside the hash contract.
        """
        indices = [column_index(batch.schema, column) for column in self.columns]
        try:
            hashes = hash_columns([batch.column(index) for index in indices])
        except UnsupportedKeyError:
            self.check(batch.schema)  # the same error, with the name of the column
            raise
        return vnodes_of(hashes, self.vnode_count)

    def split(self, batch: pa.RecordBatch) -> Parts:
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
        return split_by_rank(batch, ranks, self._node_starts)


def runs(vnodes: npt.NDArray[np.integer[Any]]) -> list[tuple[int, int, int]]:
    """The maximal stretches of equal vnodes: ``[(vnode, start, stop), …]`` in row order."""
    if len(vnodes) == 0:
        return []
    starts = np.append(0, np.flatnonzero(vnodes[1:] != vnodes[:-1]) + 1)
    stops = np.append(starts[1:], len(vnodes))
    return list(zip(vnodes[starts].tolist(), starts.tolist(), stops.tolist(), strict=True))


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
