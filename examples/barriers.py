"""Two sources, one operator: a checkpoint is one moment for all of them, however unlike they are.

Both count from 1 and send a barrier after every tenth number; ``steady`` only starts when
``swift`` is under way. Yet at every barrier the operator has seen exactly what both had sent
before theirs, because what came early waited in the window of its channel.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import pyarrow as pa

from laminar import (
    Barrier,
    CheckpointBarrier,
    CheckpointId,
    Data,
    Exchange,
    HashPartitioner,
    NodeId,
    ShuffleReceiver,
    ShuffleSender,
    Watermark,
)

SOURCES = ["swift", "steady"]
CHECKPOINTS = 3
PER_CHECKPOINT = 10
TO_OPERATOR = HashPartitioner(["number"], [NodeId("operator")])


async def emit(exchange: Exchange) -> None:
    """Send the numbers, and a barrier and a watermark after every tenth."""
    for checkpoint in range(1, CHECKPOINTS + 1):
        stop = checkpoint * PER_CHECKPOINT + 1
        for number in range(stop - PER_CHECKPOINT, stop):
            await exchange.send(pa.record_batch({"number": [number]}))
        await exchange.barrier(CheckpointBarrier(CheckpointId(checkpoint)))
        await exchange.watermark(stop - 1)
    await exchange.end()


async def operate(exchange: Exchange, swift_is_under_way: anyio.Event) -> None:
    """Show at each barrier what has come from whom: all of it before, and nothing behind."""
    newest = dict.fromkeys(SOURCES, 0)
    async for peer, message in exchange:  # peer is None for what stands for all inputs
        match message:
            case Data(batch):
                newest[str(peer)] = batch["number"][-1].as_py()
                swift_is_under_way.set()
            case Barrier(barrier):
                print(f"checkpoint {barrier.checkpoint_id}: {newest}")
                done = int(barrier.checkpoint_id) * PER_CHECKPOINT
                assert newest == dict.fromkeys(SOURCES, done)  # noqa: S101
            case Watermark(timestamp):
                print(f"  nothing below {timestamp} comes from anybody any more")
    print(f"{exchange.statistics().aligned} checkpoints, none with a row too many or too few")


async def main() -> None:
    """Start the three nodes and let them run to the end."""
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(ShuffleSender("operator"))
        receiver = await stack.enter_async_context(ShuffleReceiver.bind("operator"))
        operator = Exchange(
            "numbers", sender=own, receiver=receiver, partitioner=TO_OPERATOR, inputs=SOURCES
        )
        sources = {}
        for name in SOURCES:
            sender = await stack.enter_async_context(ShuffleSender(name))
            sender.register_peer("operator", receiver.local_addr)
            at_source = await stack.enter_async_context(ShuffleReceiver.bind(name))
            sources[name] = Exchange(
                "numbers", sender=sender, receiver=at_source, partitioner=TO_OPERATOR, inputs=[]
            )
        swift_is_under_way = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(operate, operator, swift_is_under_way)
            tasks.start_soon(emit, sources["swift"])
            await swift_is_under_way.wait()
            tasks.start_soon(emit, sources["steady"])


if __name__ == "__main__":
    anyio.run(main)
