"""Partitioners that look at no key: in turn, to all, to one, or as a function says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from laminar.errors import ConfigError
from laminar.model import node_id
from laminar.shuffle.partition import Parts, checked_nodes, split_by_node


class RoundRobinPartitioner:
    """Deals rows, or whole batches, out to ``nodes`` in turn.

    What was dealt so far decides where the next row goes: :attr:`next` is the index of the
    node whose turn it is. One that starts with the ``next`` of another goes on as that one
    would.

    Raises :class:`~laminar.errors.ConfigError` when the arguments make no sense.
    """

    def __init__(
        self, nodes: Sequence[str], *, by: Literal["rows", "batches"] = "rows", start: int = 0
    ) -> None:
        self.nodes = checked_nodes(nodes)
        if by not in ("rows", "batches"):
            raise ConfigError(f"round robin goes by 'rows' or 'batches', got {by!r}")
        if not 0 <= start < len(self.nodes):
            raise ConfigError(f"start must be 0 to {len(self.nodes) - 1}, got {start}")
        self.by = by
        self.next = start

    def check(self, schema: pa.Schema) -> None:
        """Any schema will do."""

    def split(self, batch: pa.RecordBatch) -> Parts:
        """See :class:`~laminar.shuffle.partition.Partitioner`."""
        if batch.num_rows == 0:
            return []
        count, first = len(self.nodes), self.next
        if self.by == "batches":
            self.next = (first + 1) % count
            return [(first, batch)]
        self.next = (first + batch.num_rows) % count
        return split_by_node(batch, (np.arange(batch.num_rows) + first) % count, count)


class BroadcastPartitioner:
    """Sends every row to each of ``nodes``, encoded once for all of them."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes = checked_nodes(nodes)

    def check(self, schema: pa.Schema) -> None:
        """Any schema will do."""

    def split(self, batch: pa.RecordBatch) -> Parts:
        """The batch itself for every node."""
        return [(index, batch) for index in range(len(self.nodes))] if batch.num_rows else []


class SinglePartitioner:
    """Sends all rows to one node."""

    def __init__(self, node: str) -> None:
        self.nodes = (node_id(node),)

    def check(self, schema: pa.Schema) -> None:
        """Any schema will do."""

    def split(self, batch: pa.RecordBatch) -> Parts:
        """The batch itself."""
        return [(0, batch)] if batch.num_rows else []


class CustomPartitioner:
    """Sends each row to the node that ``function`` says.

    ``function`` is given a batch and returns one index in ``nodes`` for each row: a numpy or
    Arrow array, or a list, of integers. The same row must always go to the same node only if
    whoever receives it relies on that.
    """

    def __init__(self, function: Callable[[pa.RecordBatch], Any], nodes: Sequence[str]) -> None:
        self.nodes = checked_nodes(nodes)
        self._function = function

    def check(self, schema: pa.Schema) -> None:
        """What the function needs only it knows."""

    def split(self, batch: pa.RecordBatch) -> Parts:
        """See :class:`~laminar.shuffle.partition.Partitioner`.

        Raises :class:`~laminar.errors.ConfigError` when the function returns anything but an
        index for each row, and whatever the function raises.
        """
        if batch.num_rows == 0:
            return []
        indices = self._function(batch)
        if isinstance(indices, pa.Array | pa.ChunkedArray):
            if indices.null_count:
                raise ConfigError(f"the partition function returned {indices.null_count} nulls")
            indices = indices.to_numpy()
        destinations = np.asarray(indices)
        if destinations.shape != (batch.num_rows,) or destinations.dtype.kind not in "iu":
            raise ConfigError(
                f"the partition function returns {batch.num_rows} integers for so many rows, "
                f"but returned {destinations.dtype} of shape {destinations.shape}"
            )
        least, most = int(destinations.min()), int(destinations.max())
        if least < 0 or most >= len(self.nodes):
            raise ConfigError(
                f"the partition function returns node indices 0 to {len(self.nodes) - 1}, "
                f"but returned {least} to {most}"
            )
        return split_by_node(batch, destinations, len(self.nodes))
