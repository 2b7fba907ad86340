"""What all partitioners share: the protocol, and the split of a batch by row.

A partitioner says which node each row goes to. One stable sort puts the rows in order of
their destination, one gather moves them, and each node's part is a slice of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laminar.errors import ConfigError, UnsupportedKeyError
from laminar.model import NodeId, node_id
from laminar.shuffle.gather import gather_parts, is_plain
from laminar.shuffle.placement import check_counts

_SLACK_BYTES: Final = 64 * 1024

Parts: TypeAlias = list[tuple[int, pa.RecordBatch]]
"""Index of a node, and its rows."""


class Partitioner(Protocol):
    """Decides which node each row goes to."""

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """The nodes that rows are sent to."""

    def check(self, schema: pa.Schema) -> None:
        """Raise a :class:`~laminar.errors.LocalError` if batches of ``schema`` cannot be split."""

    def split(self, batch: pa.RecordBatch) -> Parts:
        """The non-empty parts of ``batch``, each with the index of its node, in order of node.

        Every part has the schema of ``batch``, rows keep their order, and a part holds on to
        no more memory than about the bytes of ``batch``'s rows. Parts that are one and the
        same object are encoded once for all their nodes.
        """


def checked_nodes(nodes: Sequence[str]) -> tuple[NodeId, ...]:
    """``nodes`` as ids; raises :class:`ConfigError` when there is none or one twice."""
    if isinstance(nodes, str):
        raise ConfigError(f"nodes is a list of ids; write [{nodes!r}]")
    ids = tuple(map(node_id, nodes))
    check_counts(1, ids)
    return ids


def split_by_node(
    batch: pa.RecordBatch, destinations: npt.NDArray[np.integer[Any]], nodes: int
) -> Parts:
    """The rows of ``batch`` by ``destinations``, an index below ``nodes`` for each row."""
    ranks = destinations.astype(np.min_scalar_type(nodes), copy=False)
    return split_by_rank(batch, ranks, np.arange(nodes + 1))


def split_by_rank(
    batch: pa.RecordBatch, ranks: npt.NDArray[Any], node_starts: npt.NDArray[np.intp]
) -> Parts:
    """The rows of ``batch`` in order of ``ranks``, cut by node.

    Node ``i`` gets ranks ``node_starts[i]`` to ``node_starts[i + 1]``. Ranks of at most 16
    bits are sorted fastest: numpy uses a radix sort.
    """
    counts = np.bincount(ranks, minlength=int(node_starts[-1]))
    cuts = np.append(0, np.cumsum(counts))[node_starts]
    filled = np.flatnonzero(np.diff(cuts))
    parts = _parts(batch, ranks, [*cuts[filled].tolist(), batch.num_rows])
    return list(zip(filled.tolist(), parts, strict=True))


def key_names(columns: Sequence[str]) -> tuple[str, ...]:
    """``columns`` as a key; raises :class:`ConfigError` when they are none."""
    if isinstance(columns, str):
        raise ConfigError(f"columns is a list of names; write [{columns!r}]")
    names = tuple(columns)
    if not names:
        raise ConfigError("a partitioner needs at least one key column")
    if len(set(names)) != len(names):
        raise ConfigError(f"each key column is named once, got {', '.join(names)}")
    return names


def column_index(schema: pa.Schema, column: str) -> int:
    """Where ``column`` is; raises :class:`UnsupportedKeyError` unless there is exactly one."""
    indices = schema.get_all_field_indices(column)
    if len(indices) != 1:
        found = f"there are {len(indices)} of that name" if indices else "there is none"
        raise UnsupportedKeyError(
            f"key column {column!r}: {found}; the columns are {', '.join(schema.names)}"
        )
    return indices[0]


def _parts(
    batch: pa.RecordBatch, ranks: npt.NDArray[Any], cuts: Sequence[int]
) -> list[pa.RecordBatch]:
    """``batch`` in order of ``ranks``, cut at ``cuts``."""
    in_order = bool((ranks[1:] >= ranks[:-1]).all())
    if in_order and _may_be_shared(batch):
        return _slices(batch, cuts)
    order = np.argsort(ranks, kind="stable")
    if batch.num_columns == 0 or all(is_plain(field.type) for field in batch.schema):
        taken = [gather_parts(column, order, [0, len(order)])[0] for column in batch.columns]
        whole = pa.RecordBatch.from_arrays(taken, schema=batch.schema) if taken else batch
        return _slices(whole, cuts)
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
