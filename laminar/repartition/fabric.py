"""The worker's side of the fabric: rows go in by key, rows of the own partitions come out.

All that the job uses of :mod:`laminar.shuffle` while rows flow is in this module.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

import anyio
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laminar.errors import PeerUnreachableError
from laminar.model import NodeId
from laminar.node.node import Node
from laminar.repartition.placement import owners
from laminar.shuffle.gather import gather
from laminar.shuffle.hash_partitioner import HashPartitioner, runs
from laminar.shuffle.messages import Data
from laminar.shuffle.partition import Parts

CHANNEL: Final = "rows"


class Router:
    """Splits batches by owner like its partitioner, but gives every part memory of its own.

    Workers hold on to what arrives; a part that is a slice of all the rows would hold on to
    the rows of all other workers too.
    """

    def __init__(self, partitioner: HashPartitioner) -> None:
        self.nodes = partitioner.nodes
        self._partitioner = partitioner
        self._owners = partitioner.placement
        by_owner = np.argsort(self._owners, kind="stable")
        self._ranks = np.empty(len(self._owners), np.uint16)
        self._ranks[by_owner] = np.arange(len(self._owners))

    def check(self, schema: pa.Schema) -> None:
        """See :class:`~laminar.shuffle.partition.Partitioner`."""
        self._partitioner.check(schema)

    def split(self, batch: pa.RecordBatch) -> Parts:
        """The part of every owner that gets rows, in order of partition."""
        partitions = self._partitioner.vnodes(batch)
        order = np.argsort(self._ranks[partitions], kind="stable")
        counts = np.bincount(self._owners[partitions], minlength=len(self.nodes))
        stops = np.cumsum(counts)
        return [
            (owner, _take(batch, order[stop - count : stop]))
            for owner, (count, stop) in enumerate(zip(counts, stops, strict=True))
            if count
        ]


def _take(batch: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    columns = [gather(column, rows) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


class Fabric:
    """One exchange among all workers, of which ``node`` is one."""

    def __init__(self, node: Node, workers: int, by: Sequence[str], partitions: int) -> None:
        nodes = [node_name(worker) for worker in range(workers)]
        placement = owners(partitions, workers)
        self._node = node
        self._workers = workers
        self._partitioner = HashPartitioner(by, nodes, vnodes=partitions, placement=placement)
        self._exchange = node.exchange(CHANNEL, Router(self._partitioner))

    async def join(self) -> None:
        """Wait until all workers have found each other; nothing can be sent before.

        Raises :class:`~laminar.errors.PeerUnreachableError` when that takes too long.
        """
        timeout_s = self._node.config.shuffle.reconnect_timeout_s
        try:
            with anyio.fail_after(timeout_s):
                await self._node.ready(min_members=self._workers)
        except TimeoutError:
            raise PeerUnreachableError(
                f"{self._node.id} found {len(self._node.alive())} of {self._workers} workers "
                f"within {timeout_s:g} s"
            ) from None

    async def send(self, batch: pa.RecordBatch) -> None:
        """Ship every row to the worker that owns its partition; waits for room."""
        await self._exchange.send(batch)

    async def end(self) -> None:
        """Tell all workers that nothing follows from here."""
        await self._exchange.end()

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        """What arrives, until every worker has ended. To be iterated in a task of its own."""
        async for _, message in self._exchange:
            if isinstance(message, Data):
                yield message.batch

    def runs(self, batch: pa.RecordBatch) -> list[tuple[int, int, int]]:
        """The stretches of one partition in an arrived batch: ``(partition, start, stop)``."""
        return runs(self._partitioner.vnodes(batch))

    @property
    def bytes_sent(self) -> int:
        """Bytes sent to other workers so far, as they are on the wire."""
        return sum(link.bytes_sent for link in self._node.sender.statistics().peers.values())


def node_name(worker: int) -> NodeId:
    """The node id of a worker."""
    return NodeId(f"worker-{worker}")
