"""Laminar, through its public API and nothing else."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import anyio
import anyio.to_thread
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.child import Link
from benchmarks.workload import small_batches, stream_batches
from laminar import (
    Barrier,
    CheckpointBarrier,
    CheckpointId,
    Data,
    End,
    Exchange,
    HashPartitioner,
    NodeId,
    ShuffleConfig,
    ShuffleReceiver,
    ShuffleSender,
    TlsConfig,
    Watermark,
)
from laminar.shuffle.hash_partitioner import runs
from laminar.shuffle.messages import ChannelMessage

BATCH_ROWS = 65_536
BARRIER_BATCH_ROWS = 1000
BARRIER_CHANNEL = "rows"
CONFIG = ShuffleConfig(keys=(b"shared by all of the benchmarks",))
"""Peers that are known, as in a job: both sides prove that they have the key."""


def _config(node: str, certificates: str | None) -> ShuffleConfig:
    """With TLS instead of the key, when there is a folder of certificates."""
    if certificates is None:
        return CONFIG
    folder = Path(certificates)
    files = (folder / f"{node}.pem", folder / f"{node}-key.pem", folder / "authority.pem")
    return ShuffleConfig(tls=TlsConfig(*files))


def run(backend: str, main: Callable[[], Awaitable[None]]) -> None:
    loop, _, variant = backend.partition("+")
    anyio.run(main, backend=loop, backend_options={"use_uvloop": True} if variant else {})


def _receive(
    link: Link,
    backend: str,
    take: Callable[[ShuffleReceiver, int], Awaitable[None]],
    warm: int,
    count: int,
    config: ShuffleConfig = CONFIG,
) -> None:
    async def main() -> None:
        async with ShuffleReceiver.bind("b", "127.0.0.1:0", config=config) as receiver:
            link.report(address=receiver.local_addr)
            await take(receiver, warm)
            link.report(warm=True)
            await take(receiver, count)
            link.report(ended=time.monotonic())
            await anyio.to_thread.run_sync(link.heard)

    run(backend, main)


def _send(
    link: Link,
    backend: str,
    address: str,
    messages: Sequence[ChannelMessage],
    warm: int,
    count: int,
    config: ShuffleConfig = CONFIG,
) -> None:
    async def main() -> None:
        async with ShuffleSender("a", config=config) as sender:
            sender.register_peer("b", address)
            for message in islice(cycle(messages), warm):
                await sender.send_to("b", message)
            link.report(ready=True)
            await anyio.to_thread.run_sync(link.heard)
            link.report(started=time.monotonic())
            for message in islice(cycle(messages), count):
                await sender.send_to("b", message)
            await anyio.to_thread.run_sync(link.heard)

    run(backend, main)


async def _take_rows(receiver: ShuffleReceiver, rows: int) -> None:
    seen = 0
    while seen < rows:
        _, message = await receiver.recv()
        seen += message.batch.num_rows  # type: ignore[union-attr]


async def _take_messages(receiver: ShuffleReceiver, count: int) -> None:
    for _ in range(count):
        await receiver.recv()


def stream_receiver(
    link: Link,
    *,
    backend: str,
    rows: int,
    warm: int,
    count: int,
    certificates: str | None = None,
) -> None:
    """Receive ``warm`` and then ``count`` batches and count their rows."""
    config = _config("b", certificates)
    _receive(link, backend, _take_rows, warm * rows, count * rows, config)


def stream_sender(
    link: Link,
    *,
    backend: str,
    address: str,
    rows: int,
    warm: int,
    count: int,
    certificates: str | None = None,
) -> None:
    """Send ``warm`` and, when told, ``count`` batches."""
    messages = [Data(batch) for batch in stream_batches(rows)]
    _send(link, backend, address, messages, warm, count, _config("a", certificates))


def small_message_receiver(link: Link, *, backend: str, warm: int, count: int) -> None:
    """Receive small messages one by one."""
    _receive(link, backend, _take_messages, warm, count)


def small_message_sender(link: Link, *, backend: str, address: str, warm: int, count: int) -> None:
    """Send small messages one by one."""
    _send(link, backend, address, [Watermark(time) for time in range(1024)], warm, count)


def small_batch_receiver(link: Link, *, backend: str, warm: int, count: int) -> None:
    """Receive rows that were sent as a batch of four each."""
    _receive(link, backend, _take_rows, 4 * warm, 4 * count)


def small_batch_sender(link: Link, *, backend: str, address: str, warm: int, count: int) -> None:
    """Send 32 bytes of rows as a batch each."""
    _send(link, backend, address, [Data(batch) for batch in small_batches()], warm, count)


def repartition(
    link: Link, *, source: str, by: str, partitions: int, nodes: list[str], me: str, backend: str
) -> None:
    """One of the workers: load a share; then, every time when told, exchange it with the others."""
    batches = share(Path(source), nodes.index(me), len(nodes))
    partitioner = HashPartitioner(
        [by],
        nodes,
        vnodes=partitions,
        placement=[vnode % len(nodes) for vnode in range(partitions)],
    )

    async def main() -> None:
        async with (
            ShuffleReceiver.bind(me, "127.0.0.1:0", config=CONFIG) as receiver,
            ShuffleSender(me, config=CONFIG) as sender,
        ):
            link.report(address=receiver.local_addr)
            for peer, address in (link.heard() or {}).items():
                sender.register_peer(peer, address)
            link.report(ready=True)
            while order := await anyio.to_thread.run_sync(link.heard):
                exchange = Exchange(
                    f"orders-{order['turn']}",
                    sender=sender,
                    receiver=receiver,
                    partitioner=partitioner,
                )
                link.report(rows=await _exchange(exchange, partitioner, batches))

    run(backend, main)


def share(source: Path, index: int, count: int) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = []
    for path in sorted(source.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for group in range(index, file.num_row_groups, count):
                batches += file.read_row_group(group).to_batches(max_chunksize=BATCH_ROWS)
    return batches


async def _exchange(
    exchange: Exchange, partitioner: HashPartitioner, batches: list[pa.RecordBatch]
) -> list[int]:
    """Send everything and take what arrives, by partition; how many rows each one got."""
    rows = [0] * partitioner.vnode_count

    async def send() -> None:
        for batch in batches:
            await exchange.send(batch)
        await exchange.end()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        async for _, event in exchange:
            if isinstance(event, End):
                continue
            for vnode, start, stop in runs(partitioner.vnodes(event.batch)):
                rows[vnode] += event.batch.slice(start, stop - start).num_rows
    return rows


def barrier_operators(
    link: Link, *, operators: int, peers: list[str], backend: str, window_bytes: int
) -> None:
    """Operators that take, whenever told to, what comes until the next aligned barrier."""
    config = replace(CONFIG, window_bytes=window_bytes)

    async def main() -> None:
        exchanges, addresses = [], {}
        async with AsyncExitStack() as stack:
            for name in [f"operator-{number}" for number in range(operators)]:
                receiver = await stack.enter_async_context(
                    ShuffleReceiver.bind(name, "127.0.0.1:0", config=config)
                )
                sender = await stack.enter_async_context(ShuffleSender(name, config=config))
                partitioner = HashPartitioner(["id"], [NodeId(name)])
                exchange = Exchange(
                    BARRIER_CHANNEL,
                    sender=sender,
                    receiver=receiver,
                    partitioner=partitioner,
                    inputs=peers,
                )
                exchanges.append(exchange)
                addresses[name] = receiver.local_addr
            link.report(**addresses)
            while await anyio.to_thread.run_sync(link.heard):
                async with anyio.create_task_group() as tasks:
                    for exchange in exchanges:
                        tasks.start_soon(_take_to_barrier, exchange)
                link.report(aligned=time.monotonic())

    run(backend, main)


async def _take_to_barrier(exchange: Exchange) -> None:
    async for _, message in exchange:
        if isinstance(message, Barrier):
            return


def barrier_peers(
    link: Link,
    *,
    peers: list[str],
    addresses: dict[str, str],
    full: bool,
    backend: str,
    window_bytes: int,
) -> None:
    """Peers that fan a barrier out to all operators, whenever told to, all at once.

    With ``full`` they send as much as they can at all times, and wait for all windows to be
    full before they say that they are ready.
    """
    config = replace(CONFIG, window_bytes=window_bytes)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            senders = [
                await stack.enter_async_context(ShuffleSender(peer, config=config))
                for peer in peers
            ]
            tasks = await stack.enter_async_context(anyio.create_task_group())
            for sender in senders:
                for operator, address in addresses.items():
                    sender.register_peer(operator, address)
                    await sender.open_channel(operator, BARRIER_CHANNEL)
                    if full:
                        tasks.start_soon(_send_for_ever, sender, operator)
            while order := await anyio.to_thread.run_sync(link.heard):
                while full and not _are_full(senders, window_bytes):  # noqa: ASYNC110 - no event tells
                    await anyio.sleep(0.001)
                link.report(ready=True)
                await anyio.to_thread.run_sync(link.heard)
                barrier = CheckpointBarrier(CheckpointId(order["checkpoint"]))
                started = time.monotonic()
                async with anyio.create_task_group() as fan_out:
                    for sender in senders:
                        fan_out.start_soon(sender.fan_out_barrier, list(addresses), barrier)
                link.report(started=started)
            tasks.cancel_scope.cancel()

    run(backend, main)


async def _send_for_ever(sender: ShuffleSender, operator: str) -> None:
    for batch in cycle(stream_batches(BARRIER_BATCH_ROWS)):
        await sender.send_to(operator, Data(batch, BARRIER_CHANNEL))


def _are_full(senders: Sequence[ShuffleSender], window_bytes: int) -> bool:
    return all(
        peer.channels[BARRIER_CHANNEL].window_used_bytes > window_bytes * 15 // 16
        for sender in senders
        for peer in sender.statistics().peers.values()
    )
