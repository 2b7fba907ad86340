"""The worker's side of the fabric: rows go in by key, rows of the own partitions come out.

All that the job uses of :mod:`laminar.shuffle` while rows flow is in this module.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pyarrow as pa

from laminar.config import ShuffleConfig
from laminar.model import NodeId
from laminar.repartition.placement import owners
from laminar.shuffle.exchange import Exchange
from laminar.shuffle.messages import Data
from laminar.shuffle.partition import HashPartitioner, runs
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender

CHANNEL = "rows"


class Fabric:
    """One exchange among all workers; see :func:`open_fabric`."""

    def __init__(
        self, sender: ShuffleSender, exchange: Exchange, partitioner: HashPartitioner
    ) -> None:
        self._sender = sender
        self._exchange = exchange
        self._partitioner = partitioner

    async def send(self, batch: pa.RecordBatch) -> None:
        """Ship every row to the worker that owns its partition; waits for room."""
        await self._exchange.send(batch)

    async def end(self) -> None:
        """Tell all workers that nothing follows from here."""
        await self._exchange.end()

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        """What arrives, until every worker has ended. To be iterated in a task of its own."""
        async for event in self._exchange:
            if isinstance(event, Data):
                yield event.batch

    def runs(self, batch: pa.RecordBatch) -> list[tuple[int, int, int]]:
        """The stretches of one partition in an arrived batch: ``(partition, start, stop)``."""
        return runs(self._partitioner.vnodes(batch))

    @property
    def bytes_sent(self) -> int:
        """Bytes sent to other workers so far, as they are on the wire."""
        return sum(link.bytes_sent for link in self._sender.statistics().peers.values())


@asynccontextmanager
async def open_fabric(
    node: NodeId,
    receiver: ShuffleReceiver,
    addresses: Mapping[str, str],
    by: Sequence[str],
    partitions: int,
    config: ShuffleConfig,
) -> AsyncIterator[Fabric]:
    """Join the exchange of the workers at ``addresses`` (by node id, in order)."""
    nodes = [NodeId(name) for name in addresses]
    placement = owners(partitions, len(nodes))
    partitioner = HashPartitioner(by, nodes, vnodes=partitions, placement=placement)
    async with ShuffleSender(node, config=config) as sender:
        for peer, address in addresses.items():
            sender.register_peer(peer, address)
        exchange = Exchange(CHANNEL, sender=sender, receiver=receiver, partitioner=partitioner)
        yield Fabric(sender, exchange, partitioner)
