"""A running count per word over four workers, each a process, with a snapshot at every barrier.

Every worker reads a quarter of the text and counts the words whose keys hash to it. After each
line it sends a barrier; when the barriers of all four have met, the counts are those of exactly
the lines before, on every worker: put together they are a count of that much of the text.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from multiprocessing.connection import Connection

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
)

WORKERS = [NodeId(f"worker-{number}") for number in range(4)]
LINES = 25
WORDS = ["the", "cow", "sees", "the", "moon", "and", "the", "stars"]


def line(worker: int, number: int) -> list[str]:
    """The words of one line of a worker's quarter."""
    return [WORDS[(worker + number * step) % len(WORDS)] for step in range(1, 40 + 20 * worker)]


async def work(me: int, parent: Connection) -> list[Counter[str]]:
    """Send the own lines, count the own words; the counts at each barrier."""
    name = WORKERS[me]
    async with ShuffleReceiver.bind(name) as receiver, ShuffleSender(name) as sender:
        parent.send(receiver.local_addr)
        addresses = await anyio.to_thread.run_sync(parent.recv)
        for peer in WORKERS:
            sender.register_peer(peer, addresses[peer])
        partitioner = HashPartitioner(["word"], WORKERS)
        words = Exchange("words", sender=sender, receiver=receiver, partitioner=partitioner)

        async def send() -> None:
            for number in range(LINES):
                await words.send(pa.record_batch({"word": line(me, number)}))
                await words.barrier(CheckpointBarrier(CheckpointId(number)))
            await words.end()

        counts: Counter[str] = Counter()
        snapshots = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            async for _, message in words:
                if isinstance(message, Data):
                    counts.update(str(word) for word in message.batch["word"].to_pylist())
                elif isinstance(message, Barrier):
                    snapshots.append(counts.copy())
        return snapshots


def run_worker(me: int, parent: Connection) -> None:
    """Be one of the processes."""
    parent.send(anyio.run(work, me, parent))


def main() -> None:
    """Start the workers, tell each where the others are, and check what they counted."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in WORKERS]
    processes = [
        context.Process(target=run_worker, args=(me, theirs))
        for me, (_, theirs) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    addresses = {name: ours.recv() for name, (ours, _) in zip(WORKERS, pipes, strict=True)}
    for ours, _ in pipes:
        ours.send(addresses)
    by_worker: list[list[Counter[str]]] = [ours.recv() for ours, _ in pipes]

    expected: Counter[str] = Counter()
    for number in range(LINES):
        expected.update(word for worker in range(len(WORKERS)) for word in line(worker, number))
        parts = [snapshots[number] for snapshots in by_worker]
        if sum(parts, Counter()) != expected or sum(map(len, parts)) != len(expected):
            raise SystemExit(f"wrong counts at barrier {number}")
    print(f"{LINES} snapshots of {len(WORKERS)} workers, each exactly the lines before it")
    print(f"{expected.total()} words in the end, {expected['the']} of them 'the'")


if __name__ == "__main__":
    main()
