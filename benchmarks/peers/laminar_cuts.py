"""Laminar workers that repartition through proxies, and check the order of what arrives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.child import Link
from benchmarks.peers.laminar import run, share
from laminar import Data, Exchange, HashPartitioner, ShuffleConfig, ShuffleReceiver, ShuffleSender
from laminar.model import NodeId

POSITION = "position"
"""Column with the running number of a row within its sender and channel."""


class Numbered:
    """Splits like its partitioner, and numbers the rows that go to each node."""

    def __init__(self, partitioner: HashPartitioner) -> None:
        self.nodes: tuple[NodeId, ...] = partitioner.nodes
        self._partitioner = partitioner
        self._next = [0] * len(partitioner.nodes)

    def split(self, batch: pa.RecordBatch) -> list[tuple[int, pa.RecordBatch]]:
        """The part of each node, with one more column."""
        return [(node, self._number(node, part)) for node, part in self._partitioner.split(batch)]

    def _number(self, node: int, part: pa.RecordBatch) -> pa.RecordBatch:
        start = self._next[node]
        self._next[node] = stop = start + part.num_rows
        return part.append_column(POSITION, pa.array(np.arange(start, stop)))


class OutOfOrder(Exception):
    """A row came twice, not at all, or not in its turn."""


def worker(
    link: Link,
    *,
    source: str,
    by: str,
    partitions: int,
    nodes: list[str],
    me: str,
    channels: int,
    batch_rows: int,
    config: dict[str, Any],
) -> None:
    """Load a share; when told a turn, exchange it, and when told a path, write what arrived."""
    batches = [
        batch.slice(start, batch_rows)
        for batch in share(Path(source), nodes.index(me), len(nodes))
        for start in range(0, batch.num_rows, batch_rows)
    ]
    partitioner = HashPartitioner([by], nodes, vnodes=partitions)

    async def main() -> None:
        limits = ShuffleConfig(**config)
        async with (
            ShuffleReceiver.bind(me, "127.0.0.1:0", config=limits) as receiver,
            ShuffleSender(me, config=limits) as sender,
        ):
            link.report(address=receiver.local_addr)
            for peer, address in (link.heard() or {}).items():
                sender.register_peer(peer, address)
            link.report(ready=True)
            arrived: list[pa.RecordBatch] = []
            while order := await anyio.to_thread.run_sync(link.heard):
                if "turn" not in order:
                    _write(arrived, order["path"])
                    link.report(written=True)
                    continue
                arrived.clear()
                exchanges = [
                    Exchange(
                        f"turn-{order['turn']}-{number}",
                        sender=sender,
                        receiver=receiver,
                        partitioner=Numbered(partitioner),
                    )
                    for number in range(channels)
                ]
                async with anyio.create_task_group() as tasks:
                    for number, exchange in enumerate(exchanges):
                        tasks.start_soon(_send, exchange, batches[number::channels])
                        tasks.start_soon(_take, exchange, arrived)
                connections = [peer.connections for peer in sender.statistics().peers.values()]
                link.report(
                    rows=sum(batch.num_rows for batch in arrived), connections=sum(connections)
                )

    run("asyncio", main)


async def _send(exchange: Exchange, batches: list[pa.RecordBatch]) -> None:
    for batch in batches:
        await exchange.send(batch)
    await exchange.end()


async def _take(exchange: Exchange, arrived: list[pa.RecordBatch]) -> None:
    """Keep what arrives. Raises :class:`OutOfOrder`."""
    following: dict[str, int] = {}
    async for node, event in exchange:
        if not isinstance(event, Data):
            continue
        positions = event.batch.column(POSITION).to_numpy()
        start = following.get(node, 0)
        following[node] = stop = start + len(positions)
        if not np.array_equal(positions, np.arange(start, stop)):
            raise OutOfOrder(f"{exchange.name}: not rows {start} to {stop} of {node}: {positions}")
        arrived.append(event.batch)


def _write(batches: list[pa.RecordBatch], path: str) -> None:
    """What arrived, as Parquet, without the numbers."""
    with pq.ParquetWriter(path, batches[0].schema.remove(_position(batches[0]))) as writer:
        for batch in _without_position(batches):
            writer.write_batch(batch)


def _without_position(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.remove_column(_position(batch))


def _position(batch: pa.RecordBatch) -> int:
    return batch.schema.get_field_index(POSITION)
